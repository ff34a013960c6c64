"""What a mapping does at each memory level, beside what it costs: reuse, bounds, ceilings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import flax.struct
import jax.numpy as jnp

from hwdse.core.mapper.chip_gemm_mapper import ENDLESS_BYTES_PER_S
from hwdse.core.ordered_loops import EDGE, TierLoops
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import total
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting, MappingCosts
from hwdse.workload.loops.operators import Operators


@flax.struct.dataclass
class LevelMetrics:
    """One memory level under the mapping of one operator."""

    distinct_bytes: Operands
    """Every word of the operator once, at this level's width; zero where it is not kept."""
    macs_per_byte: Operands
    """Multiply-accumulates for each byte read or written here; zero where none is."""
    accesses_per_distinct_ratio: Operands
    """Bytes read or written over distinct bytes; zero where the operand is not kept."""
    traffic_bytes: Leaf
    """Reads and writes of all operands."""
    lower_bound_bytes: Leaf
    """The fewest reads and writes with which this level can serve the operator."""
    traffic_over_bound_ratio: Leaf
    intensity_macs_per_byte: Leaf
    """Multiply-accumulates for each byte moved at this level; infinite where none is."""
    bandwidth_bytes_per_s: Leaf
    """Of the ports together at this mix of reads and writes; infinite where nothing moves, and
    where the level stands for one whose time is not counted."""
    attainable_macs_per_s: Leaf
    """What this level and the array allow at this intensity: the roof of the level."""
    time_fraction: Leaf
    """Time of the ports over the time of the operator."""
    energy_fraction: Leaf
    """Energy of the accesses over the energy of the operator."""


@flax.struct.dataclass
class MappingMetrics:
    """What the mapping of one operator reaches, as a whole and at each level."""

    levels: tuple[LevelMetrics, ...]
    """In the order of `Accelerator.levels`."""
    peak_macs_per_s: Leaf
    """Every element busy in every cycle."""
    array_macs_per_s: Leaf
    """The same under this mapping, were nothing to wait: some elements or cycles stay empty."""
    macs_per_s: Leaf
    utilization_fraction: Leaf
    """Rate over peak rate."""


def distinct_words(operators: Operators) -> Operands:
    r"""Words of each operand that the products touch, each once.

    Inputs are addressed by $p\,s + r\,d$. With $g = \gcd(s, d)$, the pairs (p, r) and
    $(p + d/g, r - s/g)$ meet in one word and no others do, which leaves
    $P R - \max(P - d/g, 0) \max(R - s/g, 0)$ words in a column; rows alike. Strides and
    dilations are whole numbers.
    """
    rows = _addresses(operators.p, operators.r, operators.stride_p, operators.dilation_r)
    cols = _addresses(operators.q, operators.s, operators.stride_q, operators.dilation_s)
    return Operands(
        weights=operators.r * operators.s * operators.c * operators.k,
        inputs=rows * cols * operators.c * operators.n,
        outputs=operators.p * operators.q * operators.k * operators.n,
    )


def _addresses(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    whole = (jnp.asarray(x, jnp.int32) for x in (stride, dilation))
    divisor = jnp.gcd(*whole) * jnp.ones_like(outputs)
    again = jnp.maximum(outputs - dilation / divisor, 0.0)
    return outputs * taps - again * jnp.maximum(taps - stride / divisor, 0.0)


def peak_macs_per_s(accelerator: Accelerator) -> Leaf:
    """Every multiplier busy in every cycle."""
    return accelerator.rows * accelerator.cols * accelerator.clock_hz


def mapping_metrics(
    costs: MappingCosts, operators: Operators, accelerator: Accelerator, accounting: Accounting
) -> MappingMetrics:
    """Figures of mappings, elementwise over operators (one operator: scalars)."""
    words = distinct_words(operators)
    peak = peak_macs_per_s(accelerator)
    rate = costs.traffic.num_macs / costs.time_s
    levels, seen = [], set()
    for index, level in enumerate(accelerator.levels):
        levels.append(_level_figures(costs, index, level, words, peak, seen, accounting))
        seen |= set(level.keeps)
    return MappingMetrics(
        levels=tuple(levels),
        peak_macs_per_s=peak,
        array_macs_per_s=costs.traffic.num_macs / costs.compute_s,
        macs_per_s=rate,
        utilization_fraction=rate / peak,
    )


def _level_figures(
    costs: MappingCosts,
    index: int,
    level: Level,
    words: Operands,
    peak_macs_per_s: Leaf,
    outer: set[str],
    accounting: Accounting,
) -> LevelMetrics:
    """`outer` are the operands that a level further out keeps."""
    traffic, macs = costs.traffic.levels[index], costs.traffic.num_macs
    moved, busy_s = total(traffic.reads) + total(traffic.writes), costs.level_s[index]
    bandwidth = _ratio(moved, busy_s, jnp.inf)
    distinct = _kept(level, {o: getattr(words, o) * getattr(level.word_bytes, o) for o in OPERANDS})
    least = sum(
        _least_passes(operand, operand in outer, accounting) * getattr(distinct, operand)
        for operand in level.keeps
    )
    each = {o: getattr(traffic.reads, o) + getattr(traffic.writes, o) for o in OPERANDS}
    shares = {o: _ratio(each[o], getattr(distinct, o), 0.0) for o in OPERANDS}
    return LevelMetrics(
        distinct_bytes=distinct,
        macs_per_byte=_kept(level, {o: _ratio(macs, each[o], 0.0) for o in OPERANDS}),
        accesses_per_distinct_ratio=_kept(level, shares),
        traffic_bytes=moved,
        lower_bound_bytes=least,
        traffic_over_bound_ratio=_ratio(moved, least, 1.0),
        intensity_macs_per_byte=_ratio(macs, moved, jnp.inf),
        bandwidth_bytes_per_s=jnp.where(bandwidth < 0.5 * ENDLESS_BYTES_PER_S, bandwidth, jnp.inf),
        attainable_macs_per_s=jnp.minimum(peak_macs_per_s, _ratio(macs, busy_s, jnp.inf)),
        time_fraction=busy_s / costs.time_s,
        energy_fraction=costs.level_j[index] / costs.energy_j,
    )


def _least_passes(operand: str, has_outer: bool, accounting: Accounting) -> float:
    """Accesses of a distinct word that no mapping saves: fills, and reads on the way out.

    The level where an operand begins (or ends, for outputs) sees each word once. One further in
    is filled and then read; outputs are written there, and read once more where they drain.
    """
    if operand == "outputs":
        return 2.0 if has_outer and accounting.drains_outputs else 1.0
    return 2.0 if has_outer else 1.0


def _kept(level: Level, values: dict[str, Leaf]) -> Operands:
    """`values` of the operands that a level keeps, zero for the others."""
    return Operands(**{o: values[o] if o in level.keeps else 0.0 * values[o] for o in OPERANDS})


def _ratio(over: Leaf, under: Leaf, otherwise: float) -> Leaf:
    """Quotient, or `otherwise` where the divisor is zero."""
    return jnp.where(under > 0.0, over / jnp.where(under > 0.0, under, 1.0), otherwise)


def ranked_resources(costs: MappingCosts, accelerator: Accelerator) -> list[tuple[str, float]]:
    """What can limit one operator, the array or a level by its name, with its time in s.

    The slowest comes first; of those as long, up to rounding, the array, then the outer level.
    """
    names = (level.name for level in accelerator.levels)
    times = {"array": costs.compute_s, **dict(zip(names, costs.level_s, strict=True))}
    slowest = float(costs.time_s)
    return sorted(
        ((name, float(time_s)) for name, time_s in times.items()),
        key=lambda item: -round(item[1] / slowest, 6),
    )


@dataclass(frozen=True)
class CapacityViolation:
    """Something that a mapping takes more of than there is."""

    place: str
    """A level's name, `rows` or `columns`."""
    needed: float
    available: float
    unit: str
    """`B`, or `1` for elements."""

    @property
    def ratio(self) -> float:
        """How many times what there is would be needed."""
        return self.needed / self.available


def capacity_violations(
    costs: MappingCosts, accelerator: Accelerator, tree: Sequence[TierLoops] = ()
) -> list[CapacityViolation]:
    """What one mapping breaks, the worst first: memories, and with the nest rows and columns."""
    found = [
        CapacityViolation(
            level.name, float(ratio * level.capacity_bytes), float(level.capacity_bytes), "B"
        )
        for level, ratio in zip(accelerator.levels, costs.used_ratio, strict=True)
        if ratio > 1.0 + EDGE and has_capacity(level, accelerator)
    ]
    for place, used, available in (
        ("rows", unrolled(tree, "rows"), accelerator.rows),
        ("columns", unrolled(tree, "cols"), accelerator.cols),
    ):
        if used > available * (1.0 + EDGE):
            found.append(CapacityViolation(place, used, float(available), "1"))
    return sorted(found, key=lambda shortage: -shortage.ratio)


def has_capacity(level: Level, accelerator: Accelerator) -> bool:
    """Whether the capacity of a level is a limit of its own.

    Registers come with their elements. Where what is stated for all of them has not even room for
    a word in each, it was stated for another array, and a mapping is not held to it.
    """
    width = min(float(getattr(level.word_bytes, operand)) for operand in level.keeps)
    least = float(accelerator.rows * accelerator.cols) * width
    return level.banks != "pes" or float(level.capacity_bytes) >= least * (1.0 - EDGE)


def unrolled(tree: Sequence[TierLoops], place: str) -> float:
    """Rows (`rows`) or columns (`cols`) of the array that a nest uses at once, at most."""
    return float(math.prod(loop.steps for tier in tree for loop in getattr(tier, place)))
