r"""Optimal split of an area or power budget over the units of any number of formats.

A job has fractions w_i of its FLOP in format i, each on separate units. The units of format i have
the fraction a_i of the budget; one FLOP/s of them takes kappa_i times the budget of one FLOP/s in
the reference format. Times are relative to all FLOP in the reference format on the full budget:
$t_i = \kappa_i w_i / a_i$, and $T = (\sum t_i^p)^{1/p}$ with overlap power p: 1 for serialized
phases, large for overlapped phases. `kappa` is a ratio of areas under an area budget, and a ratio
of energies under a power budget for units that may be busy together.
"""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import SMALLEST, SMALLEST_DIVISOR


def significand_area_ratio(significand_bits: PerOp, reference_bits: PerOp) -> PerOp:
    """Area of a multiplier relative to another: $(M / M_0)^2$, the number of partial products.

    FP64 over FP16: 23.2. Excludes adders. Source: LLMCompass (ISCA 2024) scales its units in this
    way, with the stored bits (27.0).
    """
    return (significand_bits / reference_bits) ** 2


def _weights(work_fraction: PerOp, cost_ratio: PerOp, overlap_power: Scalar) -> PerOp:
    r"""$(\kappa_i w_i)^{p/(p+1)}$ over the largest; best fractions are proportional to it.

    At least 1e-18, so that the slopes of a phase without work stay finite.
    """
    exponent = overlap_power / (overlap_power + 1.0)
    logs = exponent * jnp.log(jnp.maximum(cost_ratio * work_fraction, SMALLEST))
    relative = logs - jax.lax.stop_gradient(jnp.max(logs, axis=-1, keepdims=True))
    return jnp.maximum(jnp.exp(relative), SMALLEST_DIVISOR)


def job_time_ratio(phase_times: PerOp, overlap_power: Scalar) -> Scalar:
    r"""$(\sum t_i^p)^{1/p}$ over the last axis: from the sum of all times (p = 1) to the
    longest."""
    log_times = jnp.log(jnp.maximum(phase_times, SMALLEST))
    return jnp.exp(jax.nn.logsumexp(overlap_power * log_times, axis=-1) / overlap_power)


def phase_time_ratios(
    budget_fraction: PerOp, work_fraction: PerOp, cost_ratio: PerOp, memory_time: PerOp
) -> PerOp:
    r"""Phase times bounded by units or memory: $w_i \max(\kappa_i / a_i, c_i)$.

    `memory_time` is $c_i = P_0 b_i / B$: the time to move the bytes of a FLOP (b of them) relative
    to the time of a FLOP at the peak of the full budget in the reference format; 0 without a memory
    bound.
    """
    share = jnp.maximum(budget_fraction, SMALLEST_DIVISOR)
    return work_fraction * jnp.maximum(cost_ratio / share, memory_time)


def best_budget_fractions(work_fraction: PerOp, cost_ratio: PerOp, overlap_power: Scalar) -> PerOp:
    r"""Budget fractions of the fastest split without memory bounds; they sum to 1.

    $a_i \propto (\kappa_i w_i)^{p/(p+1)}$: Lagrange's condition for $\sum (\kappa_i w_i / a_i)^p$
    with $\sum a_i = 1$.
    """
    weights = _weights(work_fraction, cost_ratio, overlap_power)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def best_job_time_ratio(work_fraction: PerOp, cost_ratio: PerOp, overlap_power: Scalar) -> Scalar:
    r"""Time of the fastest split without memory bounds.

    $T = (\sum (\kappa_i w_i)^q)^{1/q}$, $q = p/(p+1)$; for p = 1 $(\sum \sqrt{\kappa_i w_i})^2$,
    for $p \to \infty$ $\sum \kappa_i w_i$.
    """
    exponent = overlap_power / (overlap_power + 1.0)
    log_work = jnp.log(jnp.maximum(cost_ratio * work_fraction, SMALLEST))
    return jnp.exp(jax.nn.logsumexp(exponent * log_work, axis=-1) / exponent)


def best_capped_budget_fractions(
    work_fraction: PerOp, cost_ratio: PerOp, memory_time: PerOp, overlap_power: Scalar
) -> PerOp:
    r"""Budget fractions of the fastest split with memory bounds; no unit exceeds its useful size.

    Units of phase i gain nothing above $a_i = \kappa_i / c_i$, where memory takes as long (see
    `phase_time_ratios`). The optimum is $a_i = \min(\kappa_i / c_i, \lambda v_i)$ with the weights
    v of `best_budget_fractions` and sum 1 (Karush, Kuhn, Tucker: the problem is convex). One
    iteration per phase finds the set of capped phases, in order of $\kappa_i / (c_i v_i)$. If all
    are capped, the remaining budget is not useful and the fractions sum to less than 1.
    """
    weights = _weights(work_fraction, cost_ratio, overlap_power)
    largest = cost_ratio / jnp.maximum(memory_time, SMALLEST_DIVISOR)
    level = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
    for _ in range(jnp.shape(weights)[-1]):
        is_full = largest <= level * weights
        left = 1.0 - jnp.sum(jnp.where(is_full, largest, 0.0), axis=-1, keepdims=True)
        open_weight = jnp.sum(jnp.where(is_full, 0.0, weights), axis=-1, keepdims=True)
        has_open = open_weight > 0.0
        level = jnp.where(has_open, left / jnp.where(has_open, open_weight, 1.0), level)
    return jnp.minimum(largest, level * weights)


def peak_ratios(budget_fraction: PerOp, cost_ratio: PerOp) -> PerOp:
    r"""Peak of each format relative to the full budget in the reference format:
    $a_i / \kappa_i$."""
    return budget_fraction / cost_ratio


def job_energy_ratio(work_fraction: PerOp, energy_ratio: PerOp) -> Scalar:
    r"""Energy of the units relative to all FLOP in the reference format: $\sum \kappa_i w_i$.

    Independent of the area split. Equal to the time of perfect overlap under a power budget.
    """
    return jnp.sum(work_fraction * energy_ratio, axis=-1)


def phase_times_s(
    flop: PerOp, peak_flop_per_s: PerOp, traffic_bytes_per_flop: PerOp, bytes_per_s: Scalar
) -> PerOp:
    r"""Times of the phases of a job on a given chip: $F_i \max(1 / P_i, b_i / B)$ (s).

    One roofline per phase with F FLOP, P FLOP/s, b bytes per FLOP, B B/s. Assumes that no phase
    shares its units or the memory while it runs.
    """
    rate = jnp.maximum(peak_flop_per_s, SMALLEST_DIVISOR)
    return flop * jnp.maximum(1.0 / rate, traffic_bytes_per_flop / bytes_per_s)


def useful_peak_flop_per_s(traffic_bytes_per_flop: PerOp, bytes_per_s: Scalar) -> PerOp:
    """Peak above which memory bounds a phase: $B / b = B I$ (FLOP/s); very large without
    traffic."""
    return bytes_per_s / jnp.maximum(traffic_bytes_per_flop, SMALLEST_DIVISOR)


def balanced_intensity_flop_per_byte(peak_flop_per_s: PerOp, bytes_per_s: Scalar) -> PerOp:
    """Arithmetic intensity at which peak and memory take equal time: $I = P / B$ (FLOP/B)."""
    return peak_flop_per_s / bytes_per_s
