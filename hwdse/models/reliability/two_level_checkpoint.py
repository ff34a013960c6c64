r"""Two-level checkpoints: a cheap local one every interval, a remote one every n-th.

Failures of type 1 (mean time M1 between them) leave local copies intact, failures of type 2 (M2)
destroy them. A segment is work tau and a local write c1; the n-th adds the remote write c2. A
failure of type 1 costs a downtime D1 and a restore r1 and rolls back to the last local copy. A
failure of type 2 costs D2 and r2 and rolls back to the last remote copy. Failures also occur during
writes and restores, but not in downtimes.

First-step analysis over the two types has a closed form. With $l = 1/M_1 + 1/M_2$,
$p_i = 1/(l M_i)$ and $\theta = \ln(M_1/M_2) + l r_1$, a span s without a failure of type 2 costs
$\lambda(s) = \ln(1 + \sigma(\theta)(e^{l s} - 1))$, and a pattern of n segments takes

    T = C (e^L - 1),   L = (n - 1) \lambda(tau + c1) + \lambda(tau + c1 + c2),
    C = M2 [p1 (1 + l D1) + p2 (1 + l D2) e^{l r2}].

The solved recursion over attempts (derived here), smooth in n. Idea: Moody et al., SC 2010.
"""

import math

import jax
import jax.numpy as jnp

from hwdse.models.reliability.exponential_failures import (
    LARGEST_RATIO,
    SHORTEST_S,
    best_work_ratio,
    bounded_mtbf_s,
    bounded_time_s,
    fraction_from_cost,
    log_expm1_ratio,
    log_mean_cost,
    segment_counts,
    young_interval_s,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.implicit_root import bracketed_root

LARGEST_ARGUMENT = 30.0
"""Above it, $e^x - 1$ equals $e^x$ in both float types, and squares of it fit into float32."""
SMALLEST_RATIO = 1e-12
"""Smallest ratio of writes to the MTBF in the search for the best interval."""
LARGEST_COUNT = 1e9
"""Largest returned n; the slope of much larger ones does not fit into float32."""


@struct.dataclass
class TwoLevelTimes:
    """Costs and failure intervals of two checkpoint levels, in seconds."""

    local_write_s: Leaf
    remote_write_s: Leaf
    """In addition to the local write."""
    local_restart_s: Leaf
    remote_restart_s: Leaf
    local_downtime_s: Leaf
    remote_downtime_s: Leaf
    local_mtbf_s: Leaf
    """MTBF of failures that local copies survive (type 1)."""
    remote_mtbf_s: Leaf
    """MTBF of failures that destroy local copies (type 2)."""


def split_mtbf_s(mtbf_s: Scalar, local_fraction: Scalar) -> tuple[Scalar, Scalar]:
    """MTBF of failures that local copies survive, and of failures that destroy them (s).

    $M_1 = M/f$ and $M_2 = M/(1 - f)$; a fraction below 1e-12 counts as 1e-12. SCR's local copies
    survived 85 % of the failures (Moody et al., SC 2010).
    """
    smallest = 1.0 / LARGEST_RATIO
    return (
        mtbf_s / jnp.maximum(local_fraction, smallest),
        mtbf_s / jnp.maximum(1.0 - local_fraction, smallest),
    )


def _bounded(times: TwoLevelTimes, span_s: Scalar) -> TwoLevelTimes:
    """Times in range: MTBFs at most `LARGEST_RATIO` apart and bounded relative to the other
    times."""
    bounded = jax.tree.map(bounded_time_s, times)
    costs_s = span_s + bounded.local_restart_s + bounded.remote_restart_s
    costs_s = costs_s + bounded.local_downtime_s + bounded.remote_downtime_s
    local_s = bounded_mtbf_s(times.local_mtbf_s, costs_s)
    remote_s = bounded_mtbf_s(times.remote_mtbf_s, costs_s)
    return bounded.replace(
        local_mtbf_s=jnp.minimum(local_s, remote_s * LARGEST_RATIO),
        remote_mtbf_s=jnp.minimum(remote_s, local_s * LARGEST_RATIO),
    )


def _mtbf_s(times: TwoLevelTimes) -> Scalar:
    """1/l, the mean time between failures of any type, without products of times."""
    ratio = times.local_mtbf_s / times.remote_mtbf_s
    return times.local_mtbf_s / (1.0 + ratio)


def _log_odds(times: TwoLevelTimes, restart_can_fail: Scalar = 1.0) -> Scalar:
    r"""$\theta$: log odds that a failure ends in a recovery from the remote copy."""
    odds = jnp.log(times.local_mtbf_s) - jnp.log(times.remote_mtbf_s)
    retries = times.local_restart_s / _mtbf_s(times)
    return odds + jnp.where(jnp.asarray(restart_can_fail) > 0.5, retries, 0.0)


def _log_hazard(span_ratio: Scalar, log_odds: Scalar) -> Scalar:
    r"""$\ln(1 + \sigma(\theta)(e^x - 1))$ for x >= 0, accurate for small x and without overflow."""
    small = jnp.minimum(span_ratio, LARGEST_ARGUMENT)
    direct = jnp.log1p(jax.nn.sigmoid(log_odds) * jnp.expm1(small))
    large = jnp.maximum(span_ratio, LARGEST_ARGUMENT)
    return jnp.where(
        span_ratio < LARGEST_ARGUMENT,
        direct,
        jax.nn.softplus(large + jax.nn.log_sigmoid(log_odds)),
    )


def _log_recovery(times: TwoLevelTimes, restart_can_fail: Scalar = 1.0) -> Scalar:
    r"""$\ln(C/M_2)$: cost of recoveries, zero without downtimes and restores."""
    mtbf_s = _mtbf_s(times)
    log_ratio = jnp.log(times.local_mtbf_s) - jnp.log(times.remote_mtbf_s)
    fails = jnp.asarray(restart_can_fail) > 0.5
    first_s = times.local_downtime_s + jnp.where(fails, 0.0, times.local_restart_s)
    second_s = times.remote_downtime_s + jnp.where(fails, 0.0, times.remote_restart_s)
    repeated = jnp.where(fails, times.remote_restart_s / mtbf_s, 0.0)
    return jnp.logaddexp(
        jax.nn.log_sigmoid(-log_ratio) + jnp.log1p(first_s / mtbf_s),
        jax.nn.log_sigmoid(log_ratio) + jnp.log1p(second_s / mtbf_s) + repeated,
    )


def ettr_fraction(interval_s: Scalar, remote_every_count: Scalar, times: TwoLevelTimes) -> Scalar:
    r"""ETTR, work over wall time of a long job: $\eta = n \tau / T$ of the module's equation.

    Smooth in the interval and in n, which is real (at least 1). Computed as $-\ln \eta = \ln(C/M_2)
    + \ln((e^L - 1)/L) + \ln(M_2 L/(n \tau))$, which neither overflows nor cancels; levels off as
    the single-level model does. Exact for memoryless failures, available spares and many patterns;
    one pattern more or less changes a short job by up to 0.3 %.
    """
    interval_s = bounded_time_s(interval_s, SHORTEST_S)
    writes_s = bounded_time_s(times.local_write_s) + bounded_time_s(times.remote_write_s)
    interval_s = jnp.maximum(interval_s, writes_s / LARGEST_RATIO)
    times = _bounded(times, interval_s + writes_s)
    count = jnp.clip(remote_every_count, 1.0, LARGEST_RATIO)
    mtbf_s, log_odds = _mtbf_s(times), _log_odds(times)
    local_s = interval_s + times.local_write_s
    local = _log_hazard(local_s / mtbf_s, log_odds)
    last = _log_hazard((local_s + times.remote_write_s) / mtbf_s, log_odds)
    mean = local + (last - local) / count
    log_cost = (
        _log_recovery(times)
        + log_expm1_ratio(count * mean)
        + jnp.log(mean)
        + (jnp.log(times.remote_mtbf_s) - jnp.log(interval_s))
    )
    return fraction_from_cost(log_cost)


def finite_job_ettr_fraction(
    work_s: Scalar,
    interval_s: Scalar,
    remote_every_count: Scalar,
    times: TwoLevelTimes,
    restart_can_fail: Scalar = 1.0,
    has_final_checkpoint: Scalar = 1.0,
) -> Scalar:
    r"""Work over expected wall time of a job of `work_s` seconds of work; exact for integer n.

    $\lceil W/\tau \rceil$ segments, the last one shorter if W is not a multiple; full patterns of
    n, then a last, partial pattern. Its last segment writes both levels, or none without a final
    checkpoint. Every pattern is a renewal: $E[T] = C \sum_i (e^{L_i} - 1)$. A failure of type 2
    before the first remote copy rolls back to the beginning, at the same costs.
    """
    work_s = bounded_time_s(work_s, SHORTEST_S)
    writes_s = bounded_time_s(times.local_write_s) + bounded_time_s(times.remote_write_s)
    interval_s = jnp.clip(interval_s, jnp.maximum(work_s, writes_s) / LARGEST_RATIO, work_s)
    times = _bounded(times, interval_s + writes_s)
    mtbf_s, log_odds = _mtbf_s(times), _log_odds(times, restart_can_fail)
    num_before, last_s = segment_counts(work_s, interval_s)
    count = jnp.maximum(remote_every_count, 1.0)
    num_patterns = jnp.floor(num_before / count)
    num_left = num_before - num_patterns * count
    final_s = jnp.where(jnp.asarray(has_final_checkpoint) > 0.5, writes_s, 0.0)
    local = _log_hazard((interval_s + times.local_write_s) / mtbf_s, log_odds)
    remote = _log_hazard((interval_s + writes_s) / mtbf_s, log_odds)
    full = (count - 1.0) * local + remote
    left = num_left * local + _log_hazard((last_s + final_s) / mtbf_s, log_odds)
    cost = log_mean_cost(
        (num_patterns * full, left), (log_expm1_ratio(full), log_expm1_ratio(left))
    )
    # In logarithms: the derivative of a quotient squares times, which may be very short.
    scale = jnp.log(times.remote_mtbf_s) - jnp.log(work_s)
    return fraction_from_cost(cost + scale + _log_recovery(times, restart_can_fail))


def _ratios(times: TwoLevelTimes) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """MTBF of all failures, both writes relative to it, and the log odds of a remote recovery."""
    times = _bounded(times, times.local_write_s + times.remote_write_s)
    mtbf_s = _mtbf_s(times)
    local = jnp.maximum(times.local_write_s / mtbf_s, SMALLEST_RATIO)
    remote = jnp.maximum(times.remote_write_s / mtbf_s, SMALLEST_RATIO)
    return mtbf_s, local, remote, _log_odds(times)


def _slope_at_count(log_work: Scalar, parameters: tuple[Scalar, ...]) -> Scalar:
    r"""$\ln(\tau L' / (1 - e^{-L}))$ of a pattern of n, which increases through zero.

    In logarithms, since the derivative of a quotient squares values as small as 1e-24.
    """
    count, local, remote, log_odds = parameters
    first = jnp.exp(log_work) + local
    cost = (count - 1.0) * _log_hazard(first, log_odds) + _log_hazard(first + remote, log_odds)
    slope = (count - 1.0) * jax.nn.sigmoid(log_odds + first)
    slope = slope + jax.nn.sigmoid(log_odds + first + remote)
    return log_work + jnp.log(slope) - jnp.log(cost) + (cost - log_expm1_ratio(cost))


def best_interval_s(remote_every_count: Scalar, times: TwoLevelTimes) -> Scalar:
    r"""Interval that maximizes `ettr_fraction` for a given n (s); exact.

    Root of $\tau L'(\tau) = 1 - e^{-L}$, unique since $e^L$ is convex in tau; derivative as in
    `bracketed_root`. For n = 1 the single-level interval with write c1 + c2.
    """
    mtbf_s, local, remote, log_odds = _ratios(times)
    count = jnp.clip(remote_every_count, 1.0, LARGEST_RATIO)
    least = (count - 1.0) * _log_hazard(local, log_odds) + _log_hazard(local + remote, log_odds)
    low = jnp.log(-jnp.expm1(-least) / count) - 1.0
    high = -jax.nn.log_sigmoid(log_odds) - jnp.log(count) + 1.0
    root = bracketed_root(_slope_at_count, low, high, (count, local, remote, log_odds))
    return mtbf_s * jnp.exp(root)


def _relaxed_count(work: Scalar, local: Scalar, remote: Scalar, log_odds: Scalar) -> Scalar:
    r"""Best real n at an interval: $n \lambda_1 = u$ with $e^{-(u + d)} = 1 - u$.

    $d = \lambda_2 - \lambda_1$: the single-level optimum of writes d.
    """
    first = work + local
    waste = best_work_ratio(_log_hazard(remote, log_odds + first))
    log_count = jnp.log(waste) - jnp.log(_log_hazard(first, log_odds))
    return jnp.exp(jnp.minimum(log_count, math.log(LARGEST_COUNT)))


def _slope_at_best_count(log_work: Scalar, parameters: tuple[Scalar, ...]) -> Scalar:
    r"""`_slope_at_count` at the best n, $\ln(\tau d'/u(d) + \tau \lambda_1'/\lambda_1)$."""
    local, remote, log_odds = parameters
    first = jnp.exp(log_work) + local
    log_sigmoid = jax.nn.log_sigmoid
    log_rise = log_sigmoid(log_odds + first + remote) + log_sigmoid(-log_odds - first)
    log_rise = log_rise + jnp.log(-jnp.expm1(-remote))
    waste = best_work_ratio(_log_hazard(remote, log_odds + first))
    log_rate = log_sigmoid(log_odds + first) - jnp.log(_log_hazard(first, log_odds))
    return log_work + jnp.logaddexp(log_rise - jnp.log(waste), log_rate)


def best_schedule(times: TwoLevelTimes) -> tuple[Scalar, Scalar]:
    """Interval (s) and n (real, at least 1) that maximize `ettr_fraction`; exact.

    Both slopes are zero at the root of one equation in tau, `_slope_at_best_count`. If n would be
    below 1, every checkpoint is remote and the optimum is that of a single level. In both cases
    there is one root, below that of the single level with both writes (checked numerically over
    writes of 1e-6 to 10 MTBF and odds of e^-15 to e^6; not proven).
    """
    mtbf_s, local, remote, log_odds = _ratios(times)
    single = best_work_ratio(local + remote)
    is_single = _relaxed_count(single, local, remote, log_odds) <= 1.0
    least_waste = best_work_ratio(_log_hazard(remote, log_odds + local))
    low = -jnp.log(1.0 / least_waste + 1.0 / _log_hazard(local, log_odds)) - 1.0
    root = bracketed_root(
        _slope_at_best_count, low, jnp.log(single) + 1e-6, (local, remote, log_odds)
    )
    work = jnp.where(is_single, single, jnp.exp(root))
    count = _relaxed_count(work, local, remote, log_odds)
    return mtbf_s * work, jnp.where(is_single, 1.0, count)


def best_integer_schedule(times: TwoLevelTimes) -> tuple[Scalar, Scalar]:
    """Interval (s) and integer n that maximize `ettr_fraction`.

    The better integer neighbor of the real optimum, with the best interval for it.
    """
    count = best_schedule(times)[1]
    below = jnp.maximum(jnp.floor(count), 1.0)
    options = [(best_interval_s(n, times), n) for n in (below, below + 1.0)]
    values = [ettr_fraction(interval_s, n, times) for interval_s, n in options]
    is_below = values[0] >= values[1]
    return (
        jnp.where(is_below, options[0][0], options[1][0]),
        jnp.where(is_below, options[0][1], options[1][1]),
    )


def nested_young_schedule(times: TwoLevelTimes) -> tuple[Scalar, Scalar]:
    r"""Young's rule for each level, $\tau = \sqrt{2 c_1 M_1}$ (s) and $n \tau = \sqrt{2 c_2 M_2}$.

    First order: holds for c1 << M1 and c2 << M2 and n well above 1 (4 % from the optimum at an ETTR
    of 0.94, where it loses 0.001 %). At least one segment per pattern. The waste sum behind it errs
    by 0.1 to 0.7 % above an ETTR of 0.8, by 10 % and more below 0.6.
    """
    interval_s = young_interval_s(times.local_write_s, times.local_mtbf_s)
    pattern_s = young_interval_s(times.remote_write_s, times.remote_mtbf_s)
    return interval_s, jnp.maximum(pattern_s / interval_s, 1.0)
