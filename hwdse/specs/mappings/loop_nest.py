"""Mapping of an operator onto a core as a loop nest, with its traffic and costs."""

from dataclasses import dataclass

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.accelerator import Operands


@dataclass(frozen=True)
class Accounting:
    """Counting rules that differ between mapping models; hashable, a static argument."""

    fractional_edges: bool
    """True if a ragged last pass of the array counts by its fraction (AccelForge), not as a full
    pass."""
    elides_first_read: bool
    """True if the first product of a sum reads no partial sum."""
    drains_outputs: bool
    """True if finished sums are read from the level that keeps them before they move outwards."""
    halo: str = "kept"
    """Treatment of inputs shared by consecutive tiles: entry of
    `workload.loops.input_halos.HALO_RESETS`."""
    writes_returning_sums: bool = True
    """True if unfinished sums that return from outside are written to the tier that keeps them."""


@struct.dataclass
class NestTier:
    """Tier of a loop nest: `memory` keeps a tile of the operands `keeps` for all loops inside it.

    A memory may form several tiers with different operands (uneven residency).
    """

    memory: str = struct.field(pytree_node=False)
    """Name of the memory level."""
    keeps: tuple[str, ...] = struct.field(pytree_node=False)
    """Operands with a tile in this tier."""


@struct.dataclass
class LoopNest:
    """Loops of a mapping by tier (outermost first) and dimension (`workload.loops.operators.DIMS`).

    The loops of a tier are inside its tile and around the next tier. All arrays end in the axes
    `[tiers, 7]`; leading axes are operators or designs. A bound of 1 means no loop.
    """

    temporal: Leaf
    """Bounds of temporal loops, at least 1. Fractional bounds represent a ragged last tile."""
    position: Leaf
    """Order of each temporal loop in its tier; 0 is outermost."""
    spatial: Leaf
    """Bounds of spatial loops over rows or columns, between this tier and the next."""
    tiers: tuple[NestTier, ...] = struct.field(pytree_node=False)
    """Tiers, outermost first."""


@struct.dataclass
class LevelTraffic:
    """Traffic and footprint of one memory level, by operand."""

    reads: Operands
    """Bytes read from the level."""
    writes: Operands
    """Bytes written to the level."""
    used: Operands
    """Footprint: bytes kept in the level."""


@struct.dataclass
class NestTraffic:
    """Traffic per level and compute cycles of one operator under a mapping."""

    levels: tuple[LevelTraffic, ...]
    """Traffic per level, in the order of `Accelerator.levels`."""
    compute_cycles: Leaf
    """Cycles of the array without stalls, ragged edges included, fill and drain excluded."""
    num_macs: Leaf
    """Multiply-accumulates."""


@struct.dataclass
class MappingCosts:
    """Time and energy of one operator under a mapping."""

    traffic: NestTraffic
    """Traffic and compute cycles."""
    compute_s: Leaf
    """Time of the array."""
    level_s: tuple[Leaf, ...]
    """Time of the ports of each level."""
    time_s: Leaf
    """Largest of these times: full overlap."""
    mac_j: Leaf
    """Energy of the multiply-accumulates."""
    level_j: tuple[Leaf, ...]
    """Access energy of each level."""
    energy_j: Leaf
    """Total energy."""
    used_ratio: tuple[Leaf, ...]
    """Footprint over capacity of each level; above 1 the mapping does not fit."""
