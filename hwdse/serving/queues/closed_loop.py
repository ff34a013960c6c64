"""Closed loop: a fixed number of requests in flight."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import positive_part, safe_log
from hwdse.serving.queues.latency_percentiles import Cumulants
from hwdse.serving.queues.operating_point import Arrivals, OperatingPoint
from hwdse.serving.queues.request_means import request_means
from hwdse.serving.queues.state_of_point import serving_state
from hwdse.serving.queues.steady_point import Replica, at_capacity, point_where
from hwdse.serving.queues.step_times import StepTime
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState


def closed_loop_state(
    requests: Requests, step_time: StepTime, limits: ReplicaLimits, num_replicas: Scalar = 1.0
) -> ServingState:
    """Steady state of a fixed concurrency, spread evenly over replicas.

    By Little's law requests in flight equal rate times latency; requests beyond the batch wait for
    a sequence. Assumes that ends of requests are spread over time, as with lengths that differ.
    """
    population = requests.concurrency / num_replicas
    arrivals = Arrivals(population=population, spread_squared=1.0, is_closed=True)
    replica = Replica(request_means(requests, limits), limits, arrivals)
    start = at_capacity(replica, step_time)

    def beyond(point: OperatingPoint, given: tuple[Replica, Scalar]) -> Scalar:
        inner, in_flight = given
        waits_s = (
            inner.limits.request_host_s
            + _step_wait_s(point, inner)
            + point.backlog.mean
            + point.prefill.mean
        )
        held = point.decode_sequences + point.rate_per_s * waits_s
        return jnp.maximum(safe_log(held) - safe_log(in_flight), inner.beyond_capacity(point))

    point = point_where(beyond, (replica, population), replica, step_time, start)
    in_engine_s = point.backlog.mean + point.prefill.mean + limits.request_host_s
    cycle_s = population / point.rate_per_s
    wait_s = positive_part(cycle_s - replica.means.decode_steps * point.tpot_s - in_engine_s)
    step_wait_s = jnp.minimum(wait_s, _step_wait_s(point, replica))
    slot_wait_s = wait_s - step_wait_s
    spread = jnp.minimum(replica.means.output_spread_ratio, 1.0) ** 2
    return serving_state(
        point,
        replica,
        num_replicas,
        start.capacity.rate_per_s,
        point.rate_per_s,
        jnp.ones_like(point.rate_per_s),
        Cumulants(slot_wait_s, spread * slot_wait_s / point.rate_per_s),
        Cumulants(step_wait_s, point.step_spread_squared * step_wait_s**2),
    )


def _step_wait_s(point: OperatingPoint, replica: Replica) -> Scalar:
    """Wait for the running step. An answer comes at the end of a step, so the next request waits
    for the whole following one if it arrives during it, and for a residual one if it takes longer.
    """
    busy = replica.arrivals.busy_fraction(point.slots)
    residual_s = 0.5 * point.tpot_s * (1.0 + point.step_spread_squared)
    remaining_s = point.tpot_s - replica.limits.request_host_s
    return busy * jnp.maximum(remaining_s, residual_s)
