r"""Asynchronous checkpoints: a short blocking snapshot, then a persist overlapped with work.

After work tau a snapshot blocks for d. Its persist then takes P of wall time, during which work
runs at the rate 1 - s. The checkpoint is valid at the end of the persist. One persist runs at a
time: work that finishes earlier waits. A cycle takes $L = \max(P, \tau + s P)$ and d. A failure
before P rolls back two snapshots, a later failure one. MTBF M, restart R (can fail), downtime D.

First-step analysis has a closed form: a cycle takes

    G = (M + D) e^{(R + P + tau + d)/M} (1 - e^{-(L + d)/M}),

and for P = 0 it is the single-level model (derived here). Implementations: CheckFreq (Mohan et al.,
FAST 2021) and ByteCheckpoint (arXiv 2407.20143).
"""

import jax.numpy as jnp

from hwdse.models.reliability.exponential_failures import (
    LARGEST_RATIO,
    SHORTEST_S,
    best_work_s,
    bounded_mtbf_s,
    bounded_time_s,
    fraction_from_cost,
    log_expm1_ratio,
    log_mean_cost,
    log_recovery_ratio,
    segment_counts,
    young_interval_s,
)
from hwdse.numerics.array_types import Scalar

SMALLEST_RATE = 1e-6
"""Smallest work rate during a persist, so that the last segment of a job ends."""


def ettr_fraction(
    interval_s: Scalar,
    snapshot_time_s: Scalar,
    persist_time_s: Scalar,
    slowdown_fraction: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
) -> Scalar:
    r"""ETTR, work over wall time of a long job: $\eta = \tau / G$ of the module's equation.

    Computed as $-\ln \eta = \ln((1 + D/M) e^{R/M}) + \ln((e^y - 1)/y) + \ln((L + d)/\tau) +
    \min(\tau, (1 - s) P)/M$ with $y = (L + d)/M$, which neither overflows nor cancels. Exact for
    memoryless failures, available spares and many intervals. One slope is discontinuous where the
    persist begins to stall the work, at $\tau = (1 - s) P$.
    """
    snapshot_s, persist_s = bounded_time_s(snapshot_time_s), bounded_time_s(persist_time_s)
    restart_s, downtime_s = bounded_time_s(restart_time_s), bounded_time_s(downtime_s)
    least_s = (snapshot_s + persist_s) / LARGEST_RATIO
    interval_s = jnp.maximum(bounded_time_s(interval_s, SHORTEST_S), least_s)
    beside_s = jnp.minimum(interval_s, (1.0 - slowdown_fraction) * persist_s)
    # max(P, tau + s P) is tau + P less the work done beside the persist.
    cycle_s = interval_s + (persist_s - beside_s) + snapshot_s
    mtbf_s = bounded_mtbf_s(mtbf_s, cycle_s + restart_s + downtime_s)
    log_cost = (
        log_recovery_ratio(restart_s, downtime_s, mtbf_s)
        + log_expm1_ratio(cycle_s / mtbf_s)
        + jnp.log(cycle_s / interval_s)
        + beside_s / mtbf_s
    )
    return fraction_from_cost(log_cost)


def finite_job_ettr_fraction(
    work_s: Scalar,
    interval_s: Scalar,
    snapshot_time_s: Scalar,
    persist_time_s: Scalar,
    slowdown_fraction: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
    restart_can_fail: Scalar = 1.0,
) -> Scalar:
    r"""Work over expected wall time of a job of `work_s` seconds of work; exact.

    N segments, the last one shorter if W is not a multiple. The first has no concurrent persist. A
    snapshot follows each segment but the last; the job ends with the work of the last segment, with
    or without a completed persist. With $A = (M + D) e^{R/M}$ (or M + D + R if restarts cannot
    fail), N > 1, and the last segment's wall time $L_N = \min(\tau_N/(1 - s), \tau_N + s P)$,
    $P_N = \min(P, L_N)$:

    $E[T]/A = e^{(\tau + d)/M} - 1 + (N - 2) G/A + (e^{P_N/M} - 1) e^{(\tau + d)/M} + (1 - e^{-(L_N
    - P_N)/M}) e^{\tau_N/M}$.
    """
    work_s = bounded_time_s(work_s, SHORTEST_S)
    snapshot_s, persist_s = bounded_time_s(snapshot_time_s), bounded_time_s(persist_time_s)
    restart_s, downtime_s = bounded_time_s(restart_time_s), bounded_time_s(downtime_s)
    largest_s = jnp.maximum(work_s, snapshot_s + persist_s)
    interval_s = jnp.clip(interval_s, largest_s / LARGEST_RATIO, work_s)
    num_before, last_s = segment_counts(work_s, interval_s)
    rate = jnp.maximum(1.0 - slowdown_fraction, SMALLEST_RATE)
    beside_s = jnp.minimum(interval_s, rate * persist_s)
    cycle_s = interval_s + (persist_s - beside_s) + snapshot_s
    last_beside_s = jnp.minimum(last_s, rate * persist_s)
    persisting_s, alone_s = last_beside_s / rate, last_s - last_beside_s
    first_s = interval_s + snapshot_s
    mtbf_s = bounded_mtbf_s(mtbf_s, cycle_s + persisting_s + work_s + restart_s + downtime_s)
    is_one = num_before == 0.0
    opening_s = jnp.where(is_one, last_s, first_s)
    spans = (
        (opening_s, 1.0, 0.0 * last_s),
        (cycle_s, jnp.maximum(num_before - 1.0, 0.0), beside_s),
        (persisting_s, jnp.where(is_one, 0.0, 1.0), first_s),
        (alone_s, jnp.where(is_one, 0.0, 1.0), last_s - alone_s),
    )
    cost = log_mean_cost(
        tuple(number * span_s / work_s for span_s, number, _ in spans),
        tuple(log_expm1_ratio(span_s / mtbf_s) + again_s / mtbf_s for span_s, _, again_s in spans),
    )
    recovery = log_recovery_ratio(restart_s, downtime_s, mtbf_s, restart_can_fail)
    return fraction_from_cost(cost + recovery)


def best_interval_s(
    snapshot_time_s: Scalar,
    persist_time_s: Scalar,
    slowdown_fraction: Scalar,
    mtbf_s: Scalar,
) -> Scalar:
    r"""Interval that maximizes `ettr_fraction` (s); exact, independent of restart and downtime.

    $\tau^* = \max(\tau_1, \min((1 - s) P, M))$, where $\tau_1$ is the single-level optimum with
    write d + s P. Without a stall the cost of a cycle is the single-level cost with that write.
    While the persist stalls the work, more work costs only $\tau/M$. The interval therefore extends
    to the end of the stall, or to M if the stall is longer.
    """
    snapshot_s, persist_s = bounded_time_s(snapshot_time_s), bounded_time_s(persist_time_s)
    free_s = best_work_s(snapshot_s + slowdown_fraction * persist_s, mtbf_s)
    return jnp.maximum(free_s, jnp.minimum((1.0 - slowdown_fraction) * persist_s, mtbf_s))


def first_order_ettr_fraction(
    interval_s: Scalar,
    snapshot_time_s: Scalar,
    persist_time_s: Scalar,
    slowdown_fraction: Scalar,
    restart_time_s: Scalar,
    downtime_s: Scalar,
    mtbf_s: Scalar,
) -> Scalar:
    r"""First-order ETTR, $\eta \approx \tau/(L + d) / (1 + ((L + d)/2 + P + R + D)/M)$.

    Half a cycle, the persist and the recovery are lost per failure. Error up to 0.9 % above an ETTR
    of 0.86, 3 % at (tau + P)/M = 0.35, 23 % at P near M/2.
    """
    cycle_s = jnp.maximum(persist_time_s, interval_s + slowdown_fraction * persist_time_s)
    cycle_s = cycle_s + snapshot_time_s
    lost_s = 0.5 * cycle_s + persist_time_s + restart_time_s + downtime_s
    return (interval_s / cycle_s) / (1.0 + lost_s / mtbf_s)


def first_order_interval_s(
    snapshot_time_s: Scalar, persist_time_s: Scalar, mtbf_s: Scalar
) -> Scalar:
    r"""First-order interval without stalls (s): $\max(P, \sqrt{2 d M})$, Young's rule.

    Young's rule applies to the snapshot. Holds for d, P << M and little slowdown, whose cost s P it
    leaves out.
    """
    return jnp.maximum(persist_time_s, young_interval_s(snapshot_time_s, mtbf_s))
