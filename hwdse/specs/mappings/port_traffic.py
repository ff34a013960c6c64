"""How tiles of data come and go at the ports of a core's memories, and what waits for them."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class LoopOrder:
    """Loops of a nest in time on a last axis, outermost first, seven to each tier."""

    bounds: Leaf
    dims: Leaf
    """Places in `workload.operators.DIMS`."""
    num_tiers: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class TileReplacements:
    """How often the tile of an operand in a memory makes room for the next one."""

    num: Leaf
    """Tiles one after the other over the whole operator, at least one."""
    sweeps: Leaf
    """Times that a tile is gone through; each part may be replaced from the last time on."""
    slices: Leaf
    """Equal parts of a tile that are used one after the other, each for the last time."""


@flax.struct.dataclass
class Stream:
    """Bursts of one operand through the ports of a memory, one at each change of a tile."""

    num_bursts: Leaf
    """At least one; the first one of loads and the last one of results stand outside the run."""
    period_cycles: Leaf
    """Cycles of the array from one burst to the next."""
    window_cycles: Leaf
    """Part of a period in which a burst may run without making the array wait."""
    burst_cycles: Leaf
    """Cycles of the port that a burst takes; zero where nothing is moved."""


@flax.struct.dataclass
class PortStalls:
    """What ports cost beyond the cycles of the array, each part by itself."""

    level_stall_s: tuple[Leaf, ...]
    """Waiting for the ports of each level, in the order of `Accelerator.levels`."""
    stall_s: Leaf
    """The longest of these: ports of different levels wait at the same time."""
    load_s: Leaf
    """First tiles of weights and inputs, before the array can start."""
    unload_s: Leaf
    """Last tile of outputs, after the array has stopped."""
