"""Shared functions of memoryless failures: safe ranges, logarithms of costs, the best interval.

Symbols as in `single_level_checkpoint`: job MTBF M, work between checkpoints tau, blocking write d,
restart R, failure-free downtime D, x = d / M, u = tau / M.
"""

import math

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

SHORTEST_S = 1e-12
LONGEST_S = 1e18
LARGEST_RATIO = 1e12
"""Range of times and of their quotients, so that squares fit into float32."""

NEWTON_STEPS = 4
SERIES_BELOW = 0.2
"""Bound on sqrt(2 x) below which the power series is more accurate, in float32 and float64."""
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


def bounded_time_s(value: Scalar, low: float = 0.0) -> Scalar:
    """Time in a range whose squares fit into float32 (s)."""
    return jnp.clip(value, low, LONGEST_S)


def bounded_mtbf_s(mtbf_s: Scalar, others_s: Scalar) -> Scalar:
    """MTBF at least the other times over `LARGEST_RATIO` (s)."""
    return jnp.maximum(bounded_time_s(mtbf_s, SHORTEST_S), others_s / LARGEST_RATIO)


def log_expm1_ratio(x: Scalar) -> Scalar:
    r"""$\ln((e^x - 1) / x) = x/2 + \ln(\sinh(x/2) / (x/2))$ for x >= 0, accurate at both ends.

    The even part is summed as a series below x = 1/2, where the closed form and especially its
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


def fraction_from_cost(log_cost: Scalar) -> Scalar:
    r"""$e^{-L}$, which levels off at the end of the float range instead of reaching zero.

    Exact up to $L_0 = |\ln(\text{tiny})| / 3$ (29 in float32, 236 in float64), then
    $L_0 + w (1 - 1 / (1 + (L - L_0) / w))$ with $w = L_0 / 3$. The reciprocal of the fraction and
    its gradient are therefore finite, and the slope keeps its sign.
    """
    start = -math.log(float(jnp.finfo(jnp.result_type(log_cost)).tiny)) / 3.0
    width = start / 3.0
    excess = jnp.maximum(log_cost - start, 0.0) / width
    levelled = start + width * (1.0 - 1.0 / (1.0 + excess))
    return jnp.exp(-jnp.where(log_cost < start, log_cost, levelled))


def log_recovery_ratio(
    restart_time_s: Scalar, downtime_s: Scalar, mtbf_s: Scalar, restart_can_fail: Scalar = 1.0
) -> Scalar:
    r"""$\ln$ of $(1 + D/M) e^{R/M}$, or of $1 + (D + R)/M$ if restarts cannot fail."""
    failing = jnp.log1p(downtime_s / mtbf_s) + restart_time_s / mtbf_s
    safe = jnp.log1p((downtime_s + restart_time_s) / mtbf_s)
    return jnp.where(jnp.asarray(restart_can_fail) > 0.5, failing, safe)


def log_mean_cost(weights: tuple[Scalar, ...], logs: tuple[Scalar, ...]) -> Scalar:
    r"""$\ln \sum_i w_i e^{\ell_i}$ for non-negative weights, at least one of them positive.

    Terms of zero weight have no effect, however large their logarithm.
    """
    used = [jnp.where(w > 0.0, log, -LONGEST_S) for w, log in zip(weights, logs, strict=True)]
    largest = used[0]
    for log in used[1:]:
        largest = jnp.maximum(largest, log)
    parts = [w * jnp.exp(log - largest) for w, log in zip(weights, used, strict=True)]
    return jnp.log(sum(parts)) + largest


def segment_counts(work_s: Scalar, interval_s: Scalar) -> tuple[Scalar, Scalar]:
    """Full segments before the last one, and the work of the last one, which may be shorter.

    A quotient above an integer by rounding error only does not add an empty segment.
    """
    slack = 1.0 - 4.0 * float(jnp.finfo(jnp.result_type(work_s)).eps)
    num_full = jnp.maximum(jnp.ceil(work_s / interval_s * slack) - 1.0, 0.0)
    return num_full, jnp.maximum(work_s - num_full * interval_s, 0.0)


@jax.custom_jvp
def best_work_ratio(write_ratio: Scalar) -> Scalar:
    """Solution u in (0, 1) of $e^{-(u + x)} = 1 - u$ for x > 0."""
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


@best_work_ratio.defjvp
def _best_work_ratio_jvp(primals, tangents):
    (write_ratio,), (write_ratio_dot,) = primals, tangents
    work = best_work_ratio(write_ratio)
    # Implicit derivative du/dx = (1 - u) / u; 1 - u is e^-(u + x) without cancellation.
    return work, write_ratio_dot * (jnp.exp(-(work + write_ratio)) / work)


def bounded_write_ratio(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    """x = d / M, kept above zero, where the slope of the optimum is infinite."""
    return jnp.maximum(write_time_s / mtbf_s, 1e-30)


def best_work_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""Best interval of a single level (s), $\tau^* = u M$ with $e^{-(u + d/M)} = 1 - u$.

    See `optimal_checkpoint_interval_s` in `single_level_checkpoint`.
    """
    write_time_s, mtbf_s = bounded_time_s(write_time_s), bounded_time_s(mtbf_s, SHORTEST_S)
    ratio = bounded_write_ratio(write_time_s, bounded_mtbf_s(mtbf_s, write_time_s))
    return mtbf_s * best_work_ratio(ratio)


def young_interval_s(write_time_s: Scalar, mtbf_s: Scalar) -> Scalar:
    r"""Young's interval $\sqrt{2 d M}$ (s), from the first-order waste $d/\tau + \tau/(2 M)$.

    Holds for d << M: 1.5 % too long at d/M = 0.001, 5 % at 0.01 (0.015 % of ETTR lost), 17 % at 0.1
    (0.5 % lost), 68 % at 1 (12 % lost). Source: Young, CACM 17(9), 1974.
    """
    return jnp.sqrt(jnp.maximum(2.0 * write_time_s, SHORTEST_S)) * jnp.sqrt(mtbf_s)
