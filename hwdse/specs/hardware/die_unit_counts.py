"""What is built on a die, by counts: cores with their units and memories, caches, interfaces."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class DieUnitCounts:
    """Units that are built, spare ones included, not those that are sold."""

    node_nm: Leaf
    num_cores: Leaf
    """Streaming multiprocessors, compute units, tensor cores of a TPU."""
    lanes_per_core: Leaf
    """Element operations that a core issues in a cycle beside its matrix engines."""
    fp32_per_core: Leaf
    int32_per_core: Leaf
    fp64_per_core: Leaf
    macs_per_core: Leaf
    """16-bit multiply-adds of the matrix engines."""
    mac_area_mm2: Leaf
    """Of one of them with its registers, where it is published; 0: by transistors."""
    local_bytes_per_core: Leaf
    """Registers, scratchpads and first-level caches."""
    shared_bytes: Leaf
    """Last-level cache or shared memory."""
    shared_area_mm2_per_byte: Leaf
    """Where it is published; 0: as a cache."""
    hbm2e: Leaf
    """Interfaces of one stack, of any generation."""
    nvlink3: Leaf
    nvlink4: Leaf
    infinity_fabric: Leaf
    pcie4: Leaf
    pcie5: Leaf
    """Lanes."""
    other_fraction: Leaf
    """Share of the die for units that are not counted, where it is published."""
