"""How an operator is run on a core: loop nests, and what they cost."""

from dataclasses import dataclass

import flax.struct

from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.accelerator import Operands


@dataclass(frozen=True)
class Accounting:
    """Rules of counting in which mapping models differ; hashable, a static argument."""

    fractional_edges: bool
    """A ragged last pass of the array counts by its share (AccelForge), not as a whole one."""
    elides_first_read: bool
    """The first product of a sum reads no partial sum."""
    drains_outputs: bool
    """Finished sums are read from the level that kept them before they move outwards."""
    halo: str = "kept"
    """What becomes of inputs that tiles share: an entry of `workload.input_windows.HALO_RESETS`."""
    writes_returning_sums: bool = True
    """Unfinished sums that come back from outside are written to the tier that keeps them."""


@flax.struct.dataclass
class NestTier:
    """A place in a loop nest: from here on inwards, `memory` keeps a tile of these operands.

    A memory may stand at several places, with another operand at each (uneven residency).
    """

    memory: str = flax.struct.field(pytree_node=False)
    keeps: tuple[str, ...] = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class LoopNest:
    """Loops of a mapping, by tier (outermost first) and dimension (`workload.operators.DIMS`).

    Loops of a tier run inside its tile of data and around the tier below. All arrays end in the
    axes `[tiers, 7]`; axes before these are operators or designs. A bound of one is no loop.
    """

    temporal: Leaf
    """Bounds of loops in time, at least one; fractions stand for a ragged last tile."""
    position: Leaf
    """Place of each temporal loop in its tier, 0 being outermost."""
    spatial: Leaf
    """Bounds of loops unrolled over rows or columns, between this tier and the next."""
    tiers: tuple[NestTier, ...] = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class LevelTraffic:
    """Bytes read from and written to one level, and bytes kept there, by operand."""

    reads: Operands
    writes: Operands
    used: Operands


@flax.struct.dataclass
class NestTraffic:
    """What a mapping moves and how long its multipliers are busy, for one operator."""

    levels: tuple[LevelTraffic, ...]
    """In the order of `Accelerator.levels`."""
    compute_cycles: Leaf
    """Cycles of the array when nothing waits: ragged edges included, fill and drain not."""
    num_macs: Leaf


@flax.struct.dataclass
class MappingCosts:
    """Time and energy of one operator under a mapping."""

    traffic: NestTraffic
    compute_s: Leaf
    level_s: tuple[Leaf, ...]
    """Time of each level's ports."""
    time_s: Leaf
    """The slowest of these: perfect overlap."""
    mac_j: Leaf
    level_j: tuple[Leaf, ...]
    energy_j: Leaf
    used_ratio: tuple[Leaf, ...]
    """Bytes kept over capacity of each level; over 1 the mapping does not fit."""
