"""Single-level checkpoint and restart of a job: ETTR, best interval, classic approximations.

Symbols of the formulas: job MTBF M, work between checkpoints tau, blocking write d, restart R (can
itself fail), failure-free downtime D, x = d / M, u = tau / M. Failures are memoryless, are detected
at once, and also occur during checkpoints.
"""

import jax.numpy as jnp

from hwdse.models.reliability.exponential_failures import (
    LARGEST_RATIO,
    SHORTEST_S,
    best_work_ratio,
    best_work_s,
    bounded_mtbf_s,
    bounded_time_s,
    bounded_write_ratio,
    fraction_from_cost,
    log_expm1_ratio,
    log_mean_cost,
    log_recovery_ratio,
    segment_counts,
    young_interval_s,
)
from hwdse.numerics.array_types import Scalar

SECONDS_PER_DAY = 86400.0


def job_mtbf_s(chip_mtbf_s: Scalar, num_chips: Scalar) -> Scalar:
    """Mean time between failures of a job that stops if any of its chips fails (s).

    $M = M_{chip} / N$: independent exponential failures, rates add up.
    """
    return chip_mtbf_s / num_chips


def chip_mtbf_s(failures_per_1000_node_days: Scalar, chips_per_node: Scalar) -> Scalar:
    r"""MTBF of one chip from the failure rate of nodes in fleet statistics (s).

    $M_{chip} = 1000 \cdot 86400 \, c / r$ seconds for r > 0 failures in 1000 days of a node of c
    chips. Assumes equal chips that fail independently. Llama 3: 419 unexpected interruptions of
    2048 nodes in 54 days, 3.789 (arXiv 2407.21783, section 3.3.4).
    """
    return 1000.0 * SECONDS_PER_DAY * chips_per_node / failures_per_1000_node_days


def ettr_fraction(
    interval_s: Scalar,
    write_time_s: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
) -> Scalar:
    r"""ETTR, work over wall time of a long job with blocking single-level checkpoints.

    $\eta = \tau / ((M + D) e^{R/M} (e^{(\tau + d)/M} - 1))$, exact: first-step analysis of
    memoryless failures during work, writes and restarts, but not in the downtime. Computed as $-\ln
    \eta = \ln(1 + d/\tau) + \ln((e^s - 1)/s) + \ln(1 + D/M) + R/M$ with $s = (\tau + d)/M$, so that
    it neither overflows nor cancels. Values below about 1e-12 in float32 (1e-102 in float64) level
    off, see `fraction_from_cost`.

    Assumes available spares and many intervals. Equals the complete model of Daly, FGCS 22(3),
    2006, for D = 0.
    """
    write_time_s, restart_time_s = bounded_time_s(write_time_s), bounded_time_s(restart_time_s)
    downtime_s = bounded_time_s(downtime_s)
    interval_s = jnp.maximum(bounded_time_s(interval_s, SHORTEST_S), write_time_s / LARGEST_RATIO)
    span_s = interval_s + write_time_s
    mtbf_s = bounded_mtbf_s(mtbf_s, span_s + restart_time_s + downtime_s)
    log_cost = (
        jnp.log1p(write_time_s / interval_s)
        + log_expm1_ratio(span_s / mtbf_s)
        + log_recovery_ratio(restart_time_s, downtime_s, mtbf_s)
    )
    return fraction_from_cost(log_cost)


def finite_job_ettr_fraction(
    work_s: Scalar,
    interval_s: Scalar,
    write_time_s: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
    restart_can_fail: Scalar = 1.0,
    has_final_checkpoint: Scalar = 1.0,
) -> Scalar:
    r"""Work over expected wall time of a job of `work_s` seconds of work; exact.

    $E[T] = K ((n - 1)(e^{(\tau + d)/M} - 1) + e^{(\tau_n + d_n)/M} - 1)$ with
    $n = \lceil W/\tau \rceil$ segments, a last one of $\tau_n = W - (n - 1) \tau$, whose write
    $d_n$ is $d$, or zero without a final checkpoint. $K = (M + D) e^{R/M}$, or $M + D + R$ if
    restarts cannot fail. The two flags are 0 or 1. Converges to `ettr_fraction` for long jobs,
    under the same assumptions.
    """
    work_s = bounded_time_s(work_s, SHORTEST_S)
    write_time_s, restart_time_s = bounded_time_s(write_time_s), bounded_time_s(restart_time_s)
    downtime_s = bounded_time_s(downtime_s)
    interval_s = jnp.clip(interval_s, jnp.maximum(work_s, write_time_s) / LARGEST_RATIO, work_s)
    num_full, last_s = segment_counts(work_s, interval_s)
    last_span_s = last_s + jnp.where(jnp.asarray(has_final_checkpoint) > 0.5, write_time_s, 0.0)
    full_span_s = jnp.where(num_full > 0.0, interval_s + write_time_s, last_span_s)
    others_s = jnp.maximum(full_span_s, last_span_s) + restart_time_s + downtime_s
    mtbf_s = bounded_mtbf_s(mtbf_s, others_s)
    log_full = log_expm1_ratio(full_span_s / mtbf_s)
    log_last = log_expm1_ratio(last_span_s / mtbf_s)
    cost = log_mean_cost(
        (num_full * (full_span_s / work_s), last_span_s / work_s), (log_full, log_last)
    )
    recovery = log_recovery_ratio(restart_time_s, downtime_s, mtbf_s, restart_can_fail)
    return fraction_from_cost(cost + recovery)


def optimal_checkpoint_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""Work between checkpoints that maximizes `ettr_fraction` (s); independent of restarts.

    $\tau^* = u M$ with $e^{-(u + x)} = 1 - u$, $x = d/M$, that is
    $\tau^* = M (1 + W_0(-e^{-1 - d/M}))$, by Newton's method (a power series below x = 0.02) and
    with the implicit derivative $du/dx = (1 - u)/u$. Relative error below 1e-6 in float32 and 1e-14
    in float64. Source: derivative of the exact model; perturbation series in Daly, FGCS 22(3),
    2006.
    """
    return best_work_s(write_time_s, mtbf_s)


def best_ettr_fraction(
    write_time_s: Scalar, restart_time_s: Scalar, downtime_s: Scalar, mtbf_s: Scalar
) -> Scalar:
    r"""ETTR at the best interval, in closed form.

    $\eta^* = (1 - u) M / (M + D) e^{-R/M}$ with u of `optimal_checkpoint_interval_s`; evaluated
    with $1 - u = e^{-(u + x)}$. Source: the optimum inserted into the exact model.
    """
    write_time_s, restart_time_s = bounded_time_s(write_time_s), bounded_time_s(restart_time_s)
    downtime_s = bounded_time_s(downtime_s)
    mtbf_s = bounded_mtbf_s(mtbf_s, write_time_s + restart_time_s + downtime_s)
    ratio = bounded_write_ratio(write_time_s, mtbf_s)
    log_cost = best_work_ratio(ratio) + ratio
    return fraction_from_cost(log_cost + log_recovery_ratio(restart_time_s, downtime_s, mtbf_s))


def daly_first_order_interval_s(
    write_time_s: Scalar, restart_time_s: Scalar, mtbf_s: Scalar
) -> Scalar:
    r"""Daly's first-order interval, $\sqrt{2 d (M + R)} - d$ (s); negative for d > 2 (M + R).

    Holds for d << M, as Young's. Source: Daly, ICCS 2003 (first order).
    """
    return young_interval_s(write_time_s, mtbf_s + restart_time_s) - write_time_s


def daly_higher_order_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""Daly's higher-order interval (s), $\sqrt{2 d M} (1 + s/3 + s^2/9) - d$.

    $s = \sqrt{d / (2 M)}$, for d < 2 M, else M. Within 2 % of the exact optimum up to d = M, 5 %
    too long near d = 2 M. Source: Daly, FGCS 22(3), 2006, equation 37.
    """
    half_ratio = write_time_s / (2.0 * mtbf_s)
    root = jnp.sqrt(jnp.maximum(half_ratio, SHORTEST_S))
    series = 1.0 + root / 3.0 + root**2 / 9.0
    interval_s = young_interval_s(write_time_s, mtbf_s) * series - write_time_s
    return jnp.where(half_ratio < 1.0, interval_s, mtbf_s)
