"""Reuse, lower bounds and roofline of a mapping at each memory level, and exceeded capacities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from hwdse.core.mapper.chip_gemm_mapper import UNLIMITED_BYTES_PER_S
from hwdse.core.ordered_loops import EDGE, TierLoops
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import total
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting, MappingCosts
from hwdse.workload.loops.operators import Operators


@struct.dataclass
class LevelMetrics:
    """Metrics of one memory level under the mapping of one operator."""

    distinct_bytes: Operands
    """Every word of the operator once, at the word width of the level; zero if not stored here."""
    macs_per_byte: Operands
    """MACs per byte read or written here; zero without accesses."""
    accesses_per_distinct_ratio: Operands
    """Bytes read or written over distinct bytes; zero if the operand is not stored here."""
    traffic_bytes: Leaf
    """Reads and writes of all operands."""
    lower_bound_bytes: Leaf
    """Lower bound of the reads and writes of this level for the operator."""
    traffic_over_bound_ratio: Leaf
    intensity_macs_per_byte: Leaf
    """MACs per byte of traffic of this level; infinite without traffic."""
    bandwidth_bytes_per_s: Leaf
    """Bandwidth of all ports at this mix of reads and writes. Infinite without traffic, or for a
    level without a time model."""
    attainable_macs_per_s: Leaf
    """Roofline of the level: MAC rate allowed by level and array at this intensity."""
    time_fraction: Leaf
    """Time of the ports over time of the operator."""
    energy_fraction: Leaf
    """Energy of the accesses over energy of the operator."""


@struct.dataclass
class MappingMetrics:
    """MAC rates of the mapping of one operator, in total and at each level."""

    levels: tuple[LevelMetrics, ...]
    """In the order of `Accelerator.levels`."""
    peak_macs_per_s: Leaf
    """MAC rate with all PEs active in every cycle."""
    array_macs_per_s: Leaf
    """MAC rate of this mapping without memory limits; below peak if PEs or cycles are idle."""
    macs_per_s: Leaf
    utilization_fraction: Leaf
    """MAC rate over peak MAC rate."""


def distinct_words(operators: Operators) -> Operands:
    r"""Number of distinct words of each operand that the MACs use.

    Inputs have the address $p\,s + r\,d$ (stride s, dilation d). With $g = \gcd(s, d)$, only the
    pairs (p, r) and $(p + d/g, r - s/g)$ share a word. A column therefore has
    $P R - \max(P - d/g, 0) \max(R - s/g, 0)$ words; rows likewise. Assumes integer strides and
    dilations.
    """
    rows = _addresses(operators.p, operators.r, operators.stride_p, operators.dilation_r)
    cols = _addresses(operators.q, operators.s, operators.stride_q, operators.dilation_s)
    return Operands(
        weights=operators.r * operators.s * operators.c * operators.k,
        inputs=rows * cols * operators.c * operators.n,
        outputs=operators.p * operators.q * operators.k * operators.n,
    )


def _addresses(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    integers = (jnp.asarray(x, jnp.int32) for x in (stride, dilation))
    divisor = jnp.gcd(*integers) * jnp.ones_like(outputs)
    repeated = jnp.maximum(outputs - dilation / divisor, 0.0)
    return outputs * taps - repeated * jnp.maximum(taps - stride / divisor, 0.0)


def peak_macs_per_s(accelerator: Accelerator) -> Leaf:
    """MAC rate with all MAC units active in every cycle."""
    return accelerator.rows * accelerator.cols * accelerator.clock_hz


def mapping_metrics(
    costs: MappingCosts, operators: Operators, accelerator: Accelerator, accounting: Accounting
) -> MappingMetrics:
    """Metrics of mappings, elementwise over operators (scalars for one operator)."""
    words = distinct_words(operators)
    peak = peak_macs_per_s(accelerator)
    rate = costs.traffic.num_macs / costs.time_s
    levels, seen = [], set()
    for index, level in enumerate(accelerator.levels):
        levels.append(_level_metrics(costs, index, level, words, peak, seen, accounting))
        seen |= set(level.keeps)
    return MappingMetrics(
        levels=tuple(levels),
        peak_macs_per_s=peak,
        array_macs_per_s=costs.traffic.num_macs / costs.compute_s,
        macs_per_s=rate,
        utilization_fraction=rate / peak,
    )


def _level_metrics(
    costs: MappingCosts,
    index: int,
    level: Level,
    words: Operands,
    peak_macs_per_s: Leaf,
    outer: set[str],
    accounting: Accounting,
) -> LevelMetrics:
    """Metrics of one level; `outer` are the operands stored in an outer level."""
    traffic, macs = costs.traffic.levels[index], costs.traffic.num_macs
    num_bytes, busy_s = total(traffic.reads) + total(traffic.writes), costs.level_s[index]
    bandwidth = _ratio(num_bytes, busy_s, jnp.inf)
    distinct = _stored(
        level, {o: getattr(words, o) * getattr(level.word_bytes, o) for o in OPERANDS}
    )
    bound = sum(
        _min_accesses(operand, operand in outer, accounting) * getattr(distinct, operand)
        for operand in level.keeps
    )
    each = {o: getattr(traffic.reads, o) + getattr(traffic.writes, o) for o in OPERANDS}
    shares = {o: _ratio(each[o], getattr(distinct, o), 0.0) for o in OPERANDS}
    return LevelMetrics(
        distinct_bytes=distinct,
        macs_per_byte=_stored(level, {o: _ratio(macs, each[o], 0.0) for o in OPERANDS}),
        accesses_per_distinct_ratio=_stored(level, shares),
        traffic_bytes=num_bytes,
        lower_bound_bytes=bound,
        traffic_over_bound_ratio=_ratio(num_bytes, bound, 1.0),
        intensity_macs_per_byte=_ratio(macs, num_bytes, jnp.inf),
        bandwidth_bytes_per_s=jnp.where(
            bandwidth < 0.5 * UNLIMITED_BYTES_PER_S, bandwidth, jnp.inf
        ),
        attainable_macs_per_s=jnp.minimum(peak_macs_per_s, _ratio(macs, busy_s, jnp.inf)),
        time_fraction=busy_s / costs.time_s,
        energy_fraction=costs.level_j[index] / costs.energy_j,
    )


def _min_accesses(operand: str, has_outer: bool, accounting: Accounting) -> float:
    """Minimum accesses per distinct word in any mapping: fills and reads.

    The outermost level of an operand is accessed once per word. An inner level is filled and then
    read; outputs are written there, and read once more if they drain.
    """
    if operand == "outputs":
        return 2.0 if has_outer and accounting.drains_outputs else 1.0
    return 2.0 if has_outer else 1.0


def _stored(level: Level, values: dict[str, Leaf]) -> Operands:
    """`values` of the operands stored in a level, zero for others."""
    return Operands(**{o: values[o] if o in level.keeps else 0.0 * values[o] for o in OPERANDS})


def _ratio(over: Leaf, under: Leaf, otherwise: float) -> Leaf:
    """Quotient, or `otherwise` where the divisor is zero."""
    return jnp.where(under > 0.0, over / jnp.where(under > 0.0, under, 1.0), otherwise)


def ranked_resources(costs: MappingCosts, accelerator: Accelerator) -> list[tuple[str, float]]:
    """Resources of one operator (`array` or level names) with their times in s, slowest first.

    Ties, up to rounding, are ordered from the array over the outer to the inner levels.
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
    """Capacity that a mapping exceeds."""

    resource: str
    """Name of a level, `rows` or `columns`."""
    required: float
    available: float
    unit: str
    """`B`, or `1` for PEs."""

    @property
    def ratio(self) -> float:
        """Required over available capacity."""
        return self.required / self.available


def capacity_violations(
    costs: MappingCosts, accelerator: Accelerator, tree: Sequence[TierLoops] = ()
) -> list[CapacityViolation]:
    """Capacities exceeded by one mapping, worst first: memories and, with `tree`, the array."""
    found = [
        CapacityViolation(
            level.name, float(ratio * level.capacity_bytes), float(level.capacity_bytes), "B"
        )
        for level, ratio in zip(accelerator.levels, costs.used_ratio, strict=True)
        if ratio > 1.0 + EDGE and has_capacity(level, accelerator)
    ]
    for resource, used, available in (
        ("rows", unrolled(tree, "rows"), accelerator.rows),
        ("columns", unrolled(tree, "cols"), accelerator.cols),
    ):
        if used > available * (1.0 + EDGE):
            found.append(CapacityViolation(resource, used, float(available), "1"))
    return sorted(found, key=lambda violation: -violation.ratio)


def has_capacity(level: Level, accelerator: Accelerator) -> bool:
    """True if the capacity of a level limits a mapping.

    PE registers scale with the array. If their stated capacity is below one word per PE, it belongs
    to another array size and is no limit.
    """
    width = min(float(getattr(level.word_bytes, operand)) for operand in level.keeps)
    least = float(accelerator.rows * accelerator.cols) * width
    return level.banks != "pes" or float(level.capacity_bytes) >= least * (1.0 - EDGE)


def unrolled(tree: Sequence[TierLoops], axis: str) -> float:
    """Maximum number of array rows (`rows`) or columns (`cols`) that a nest uses at once."""
    return float(math.prod(loop.steps for tier in tree for loop in getattr(tier, axis)))
