"""Unit counts of a published die: cores with their units and memories, caches, interfaces."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class DieUnitCounts:
    """Units on the die, disabled spare units included. Values: `configs/dies/published.csv`."""

    node_nm: Leaf
    """Process node in nm. Typical: 5 (H100)."""
    num_cores: Leaf
    """Streaming multiprocessors, compute units or TPU TensorCores. Typical: 144 (H100)."""
    lanes_per_core: Leaf
    """Element operations issued per core and cycle outside the matrix engines."""
    fp32_per_core: Leaf
    """FP32 units per core. Typical: 128 (H100)."""
    int32_per_core: Leaf
    """INT32 units per core. Typical: 64 (H100)."""
    fp64_per_core: Leaf
    """FP64 units per core. Typical: 64 (H100)."""
    macs_per_core: Leaf
    """16-bit multiply-accumulate units of the matrix engines per core. Typical: 2048 (H100)."""
    mac_area_mm2: Leaf
    """Published area of one of these with its registers; 0: derived from transistor counts."""
    local_bytes_per_core: Leaf
    """Registers, scratchpads and first-level caches per core. Typical: 512 KiB (H100)."""
    shared_bytes: Leaf
    """Last-level cache or shared memory. Typical: 60 MiB (H100)."""
    shared_area_mm2_per_byte: Leaf
    """Published area of the shared memory; 0: modeled as a cache."""
    hbm2e: Leaf
    """HBM interfaces of any generation, one per stack. Typical: 6 (H100)."""
    nvlink3: Leaf
    """NVLink 3 links."""
    nvlink4: Leaf
    """NVLink 4 links. Typical: 18 (H100)."""
    infinity_fabric: Leaf
    """Infinity Fabric links."""
    pcie4: Leaf
    """PCIe 4 lanes."""
    pcie5: Leaf
    """PCIe 5 lanes. Typical: 16 (H100)."""
    other_fraction: Leaf
    """Published fraction of the die taken by units that are not counted."""
