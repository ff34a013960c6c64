"""Tile transfers through the ports of a core's memories, and the stalls that they cause."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class LoopOrder:
    """Temporal loops of a nest on the last axis, outermost first, seven per tier."""

    bounds: Leaf
    """Loop bounds; 1 means no loop."""
    dims: Leaf
    """Indices into `workload.loops.operators.DIMS`."""
    num_tiers: int = struct.field(pytree_node=False)
    """Tiers of the nest."""


@struct.dataclass
class TileReplacements:
    """Replacements of the tile of one operand in a memory by the next tile."""

    num: Leaf
    """Successive tiles over the operator, at least 1."""
    sweeps: Leaf
    """Passes over a tile. Its slices can be replaced during the last pass."""
    slices: Leaf
    """Equal slices of a tile, used in sequence in the last pass."""


@struct.dataclass
class Stream:
    """Bursts of one operand through the ports of a memory, one per tile replacement."""

    num_bursts: Leaf
    """Bursts, at least 1. The first load and the last store are outside the compute phase."""
    period_cycles: Leaf
    """Array cycles from one burst to the next."""
    window_cycles: Leaf
    """Cycles of a period in which a burst does not stall the array."""
    burst_cycles: Leaf
    """Port cycles per burst; 0 without traffic."""


@struct.dataclass
class PortStalls:
    """Port stalls, in addition to the compute time of the array."""

    level_stall_s: tuple[Leaf, ...]
    """Stall time per level, in the order of `Accelerator.levels`."""
    stall_s: Leaf
    """Largest of these: stalls of different levels overlap."""
    load_s: Leaf
    """Time to load the first tiles of weights and inputs, before the array starts."""
    unload_s: Leaf
    """Time to store the last tile of outputs, after the array stops."""
