"""Checkpoint and restart of one job: useful time, best interval, classic approximations.

Symbols of the formulas: job MTBF M, useful work between checkpoints tau, blocking write d,
restart R (can fail itself), failure-free downtime D, x = d / M, u = tau / M. Failures are
memoryless, are noticed at once, and strike during checkpoints as well.
"""

import math

import jax
import jax.numpy as jnp

from hwdse.shapes import Scalar

SHORTEST_S = 1e-12
LONGEST_S = 1e18
LARGEST_RATIO = 1e12
"""Times and their quotients are kept in this range, so that squares fit into float32."""

NEWTON_STEPS = 4
SERIES_BELOW = 0.2
"""In sqrt(2 x): below it the power series is the more accurate one, in float32 and float64."""
# Powers 1 to 10 of s = sqrt(2 x) in the solution u of -u - ln(1 - u) = x; these are the
# coefficients behind Stirling's series (Marsaglia and Marsaglia, Am. Math. Monthly 97, 1990).
_SERIES = (
    1.0,
    -1.0 / 3.0,
    1.0 / 36.0,
    1.0 / 270.0,
    1.0 / 4320.0,
    -1.0 / 17010.0,
    -139.0 / 5443200.0,
    -1.0 / 204120.0,
    -571.0 / 2351462400.0,
    281.0 / 1515591000.0,
)


def job_mtbf_s(chip_mtbf_s: Scalar, num_chips: Scalar) -> Scalar:
    """Mean time between failures of a job that stops when any of its chips does.

    $M = M_{chip} / N$: independent exponential failures, rates add up.
    """
    return chip_mtbf_s / num_chips


def _time_s(value: Scalar, low: float = 0.0) -> Scalar:
    return jnp.clip(value, low, LONGEST_S)


def _mtbf_s(mtbf_s: Scalar, others_s: Scalar) -> Scalar:
    """MTBF such that quotients of the other times by it stay below `LARGEST_RATIO`."""
    return jnp.maximum(_time_s(mtbf_s, SHORTEST_S), others_s / LARGEST_RATIO)


def _log_expm1_ratio(x: Scalar) -> Scalar:
    r"""$\ln((e^x - 1) / x) = x/2 + \ln(\sinh(x/2) / (x/2))$ for x >= 0, accurate at both ends.

    The even part is summed as a series below x = 1/2, where the closed form and above all its
    derivative cancel.
    """
    half = 0.5 * x
    is_small = half < 0.25
    square = jnp.where(is_small, half, 0.0) ** 2
    series = square * (
        1 / 6 + square * (-1 / 180 + square * (1 / 2835 + square * (-1 / 37800 + square / 467775)))
    )
    large = jnp.where(is_small, 1.0, half)
    closed = large + jnp.log1p(-jnp.exp(-2.0 * large)) - jnp.log(2.0 * large)
    return half + jnp.where(is_small, series, closed)


def _fraction_from_cost(log_cost: Scalar) -> Scalar:
    r"""$e^{-L}$, which levels off where float arithmetic ends instead of reaching zero.

    Exact up to $L_0 = |\ln(\text{tiny})| / 3$ (29 in float32, 236 in float64), from there
    $L_0 + w (1 - 1 / (1 + (L - L_0) / w))$ with $w = L_0 / 3$, so that the reciprocal of the
    fraction and its gradient are finite, and the slope keeps its sign.
    """
    start = -math.log(float(jnp.finfo(jnp.result_type(log_cost)).tiny)) / 3.0
    width = start / 3.0
    excess = jnp.maximum(log_cost - start, 0.0) / width
    levelled = start + width * (1.0 - 1.0 / (1.0 + excess))
    return jnp.exp(-jnp.where(log_cost < start, log_cost, levelled))


def _log_recovery_ratio(
    restart_time_s: Scalar, downtime_s: Scalar, mtbf_s: Scalar, restart_can_fail: Scalar = 1.0
) -> Scalar:
    r"""$\ln$ of $(1 + D/M) e^{R/M}$, or of $1 + (D + R)/M$ where restarts cannot fail."""
    failing = jnp.log1p(downtime_s / mtbf_s) + restart_time_s / mtbf_s
    safe = jnp.log1p((downtime_s + restart_time_s) / mtbf_s)
    return jnp.where(jnp.asarray(restart_can_fail) > 0.5, failing, safe)


def useful_time_fraction(
    interval_s: Scalar,
    write_time_s: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
) -> Scalar:
    r"""Useful work over wall time of a long job with blocking single-level checkpoints.

    $\eta = \tau / ((M + D) e^{R/M} (e^{(\tau + d)/M} - 1))$, exact: first-step analysis of
    memoryless failures that strike during work, writes and restarts, but not in the downtime.
    Computed as $-\ln \eta = \ln(1 + d/\tau) + \ln((e^s - 1)/s) + \ln(1 + D/M) + R/M$ with
    $s = (\tau + d)/M$, so that it neither overflows nor cancels; values below about 1e-12 in
    float32 (1e-102 in float64) level off, see `_fraction_from_cost`.
    Assumes spares at hand and many intervals. Equals the complete model of Daly, FGCS 22(3),
    2006, for D = 0.
    """
    write_time_s, restart_time_s = _time_s(write_time_s), _time_s(restart_time_s)
    downtime_s = _time_s(downtime_s)
    interval_s = jnp.maximum(_time_s(interval_s, SHORTEST_S), write_time_s / LARGEST_RATIO)
    span_s = interval_s + write_time_s
    mtbf_s = _mtbf_s(mtbf_s, span_s + restart_time_s + downtime_s)
    log_cost = (
        jnp.log1p(write_time_s / interval_s)
        + _log_expm1_ratio(span_s / mtbf_s)
        + _log_recovery_ratio(restart_time_s, downtime_s, mtbf_s)
    )
    return _fraction_from_cost(log_cost)


def finite_job_useful_time_fraction(
    work_s: Scalar,
    interval_s: Scalar,
    write_time_s: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
    restart_can_fail: Scalar = 1.0,
    has_final_checkpoint: Scalar = 1.0,
) -> Scalar:
    r"""Work over expected wall time of a job of `work_s` useful seconds; exact.

    $E[T] = K ((n - 1)(e^{(\tau + d)/M} - 1) + e^{(\tau_n + d_n)/M} - 1)$ with
    $n = \lceil W/\tau \rceil$ segments, a last one of $\tau_n = W - (n - 1) \tau$, whose write
    $d_n$ is $d$, or zero without a final checkpoint. $K = (M + D) e^{R/M}$, or $M + D + R$
    where restarts cannot fail. The two flags are 0 or 1. Tends to `useful_time_fraction` for
    long jobs; assumptions as there.
    """
    work_s = _time_s(work_s, SHORTEST_S)
    write_time_s, restart_time_s = _time_s(write_time_s), _time_s(restart_time_s)
    downtime_s = _time_s(downtime_s)
    interval_s = jnp.clip(interval_s, jnp.maximum(work_s, write_time_s) / LARGEST_RATIO, work_s)
    # A quotient that misses a whole number by rounding only must not add an empty segment.
    slack = 1.0 - 4.0 * float(jnp.finfo(jnp.result_type(work_s)).eps)
    num_full = jnp.maximum(jnp.ceil(work_s / interval_s * slack) - 1.0, 0.0)
    last_s = jnp.maximum(work_s - num_full * interval_s, 0.0)
    last_span_s = last_s + jnp.where(jnp.asarray(has_final_checkpoint) > 0.5, write_time_s, 0.0)
    full_span_s = jnp.where(num_full > 0.0, interval_s + write_time_s, last_span_s)
    others_s = jnp.maximum(full_span_s, last_span_s) + restart_time_s + downtime_s
    mtbf_s = _mtbf_s(mtbf_s, others_s)
    log_full = _log_expm1_ratio(full_span_s / mtbf_s)
    log_last = _log_expm1_ratio(last_span_s / mtbf_s)
    larger = jnp.maximum(log_full, log_last)
    cost = num_full * (full_span_s / work_s) * jnp.exp(log_full - larger) + (
        last_span_s / work_s
    ) * jnp.exp(log_last - larger)
    recovery = _log_recovery_ratio(restart_time_s, downtime_s, mtbf_s, restart_can_fail)
    return _fraction_from_cost(jnp.log(cost) + larger + recovery)


@jax.custom_jvp
def _best_work_ratio(write_ratio: Scalar) -> Scalar:
    r"""Solution u in (0, 1) of $e^{-(u + x)} = 1 - u$ for x > 0."""
    root = jnp.sqrt(2.0 * write_ratio)
    work = jnp.where(write_ratio < 0.5, root * (1.0 - root / 3.0), -jnp.expm1(-1.0 - write_ratio))
    for _ in range(NEWTON_STEPS):
        decay = jnp.expm1(-(work + write_ratio))
        work = work + (work + decay) / decay
    small = jnp.minimum(root, SERIES_BELOW)
    series = jnp.zeros_like(small)
    for coefficient in reversed(_SERIES):
        series = small * (coefficient + series)
    return jnp.where(root < SERIES_BELOW, series, work)


@_best_work_ratio.defjvp
def _best_work_ratio_jvp(primals, tangents):
    (write_ratio,), (write_ratio_dot,) = primals, tangents
    work = _best_work_ratio(write_ratio)
    # Implicit derivative du/dx = (1 - u) / u; 1 - u is e^-(u + x) without cancellation.
    return work, write_ratio_dot * (jnp.exp(-(work + write_ratio)) / work)


def _write_ratio(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    return jnp.maximum(write_time_s / mtbf_s, 1e-30)


def best_checkpoint_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""Work between checkpoints that maximizes `useful_time_fraction`; restarts do not matter.

    $\tau^* = u M$ with $e^{-(u + x)} = 1 - u$, $x = d/M$, that is
    $\tau^* = M (1 + W_0(-e^{-1 - d/M}))$, by Newton's method (a power series below x = 0.02)
    and with the implicit derivative $du/dx = (1 - u)/u$. Relative error below 1e-6 in float32
    and 1e-14 in float64. Source: derivative of the exact model; Daly, FGCS 22(3), 2006, has
    its perturbation series.
    """
    write_time_s, mtbf_s = _time_s(write_time_s), _time_s(mtbf_s, SHORTEST_S)
    ratio = _write_ratio(write_time_s, _mtbf_s(mtbf_s, write_time_s))
    return mtbf_s * _best_work_ratio(ratio)


def best_useful_time_fraction(
    write_time_s: Scalar, restart_time_s: Scalar, downtime_s: Scalar, mtbf_s: Scalar
) -> Scalar:
    r"""Useful time at the best interval, in closed form.

    $\eta^* = (1 - u) M / (M + D) e^{-R/M}$ with u of `best_checkpoint_interval_s`; evaluated
    with $1 - u = e^{-(u + x)}$. Follows from putting the optimum into the exact model.
    """
    write_time_s, restart_time_s = _time_s(write_time_s), _time_s(restart_time_s)
    downtime_s = _time_s(downtime_s)
    mtbf_s = _mtbf_s(mtbf_s, write_time_s + restart_time_s + downtime_s)
    ratio = _write_ratio(write_time_s, mtbf_s)
    log_cost = _best_work_ratio(ratio) + ratio
    return _fraction_from_cost(log_cost + _log_recovery_ratio(restart_time_s, downtime_s, mtbf_s))


def young_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""$\sqrt{2 d M}$; 17 % too long at d/M = 0.1. Source: Young, CACM 17(9), 1974."""
    return jnp.sqrt(jnp.maximum(2.0 * write_time_s, SHORTEST_S)) * jnp.sqrt(mtbf_s)


def daly_first_order_interval_s(
    write_time_s: Scalar, restart_time_s: Scalar, mtbf_s: Scalar
) -> Scalar:
    r"""$\sqrt{2 d (M + R)} - d$; negative, so of no use, where d > 2 (M + R).

    Source: Daly, ICCS 2003 (first order).
    """
    return young_interval_s(write_time_s, mtbf_s + restart_time_s) - write_time_s


def daly_higher_order_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""$\sqrt{2 d M} (1 + s/3 + s^2/9) - d$, $s = \sqrt{d / (2 M)}$, for d < 2 M, else M.

    Within 2 % of the exact optimum up to d = M, 5 % too long near d = 2 M.
    Source: Daly, FGCS 22(3), 2006, equation 37.
    """
    half_ratio = write_time_s / (2.0 * mtbf_s)
    root = jnp.sqrt(jnp.maximum(half_ratio, SHORTEST_S))
    series = 1.0 + root / 3.0 + root**2 / 9.0
    interval_s = young_interval_s(write_time_s, mtbf_s) * series - write_time_s
    return jnp.where(half_ratio < 1.0, interval_s, mtbf_s)
