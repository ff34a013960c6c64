"""Steady state of a service: batch, rates and latencies of a stream of requests."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import positive_part
from hwdse.serving.queues.latency_percentiles import Cumulants
from hwdse.serving.queues.operating_point import Arrivals, OperatingPoint
from hwdse.serving.queues.queue_waits import residual_step, slot_wait
from hwdse.serving.queues.request_means import request_means
from hwdse.serving.queues.state_of_point import serving_state
from hwdse.serving.queues.steady_point import MARGIN, Replica, steady_points
from hwdse.serving.queues.step_times import StepTime
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState


def steady_state(
    requests: Requests, step_time: StepTime, limits: ReplicaLimits, num_replicas: Leaf = 1.0
) -> ServingState:
    """Steady state of equal replicas that share the requests evenly.

    `step_time` gives the time of one step of a replica. A concurrency above zero makes a closed
    loop. Above capacity an open loop has no steady state: `is_served` is 0 and the state is that
    just below capacity, whose rate is the one that can be served.
    """
    population = requests.concurrency / num_replicas
    is_closed = jnp.asarray(population) > 0.0
    arrivals = Arrivals(
        population=population,
        rate_per_s=requests.arrival_rate_per_s / num_replicas,
        spread_squared=jnp.where(is_closed, 1.0, requests.arrival_spread_ratio**2),
    )
    replica = Replica(request_means(requests, limits), limits, arrivals)
    capacity, point = steady_points(replica, step_time)
    offered = arrivals.either(point.rate_per_s, arrivals.rate_per_s)
    below = point.rate_per_s * (1.0 + 2.0 * MARGIN)
    chance, opened_slot = _open_slot_wait(replica, capacity, point)
    closed_slot, closed_step = _closed_waits(replica, point)
    busy = arrivals.busy_fraction(point.slots) * (1.0 - chance)
    opened_step = residual_step(point.tpot_s, point.step_spread_squared, busy)
    return serving_state(
        point,
        replica,
        num_replicas,
        capacity.rate_per_s,
        offered,
        arrivals.either(1.0, jnp.where(arrivals.rate_per_s <= below, 1.0, 0.0)),
        _either(arrivals, closed_slot, opened_slot),
        _either(arrivals, closed_step, opened_step),
        requests.burst_fraction,
    )


def _either(arrivals: Arrivals, closed: Cumulants, opened: Cumulants) -> Cumulants:
    return Cumulants(
        arrivals.either(closed.mean, opened.mean),
        arrivals.either(closed.variance, opened.variance),
        arrivals.either(closed.third, opened.third),
    )


def _open_slot_wait(
    replica: Replica, capacity: OperatingPoint, point: OperatingPoint
) -> tuple[Scalar, Cumulants]:
    """Probability of a wait for a slot in an open loop, and the wait."""
    spare = capacity.rate_per_s - point.rate_per_s
    return slot_wait(
        capacity.slots - point.slots,
        point.batch_variance,
        jnp.maximum(spare, MARGIN * capacity.rate_per_s),
        replica.arrivals.spread_squared,
        replica.means.output_spread_ratio**2,
    )


def _closed_waits(replica: Replica, point: OperatingPoint) -> tuple[Cumulants, Cumulants]:
    """Waits for a slot and for the running step in a closed loop.

    By Little's law requests in flight equal rate times latency; requests beyond the batch wait for
    a sequence. Assumes that ends of requests are spread over time, as with lengths that differ.
    """
    means = replica.means
    in_engine_s = point.backlog.mean + point.prefill.mean + replica.limits.request_host_s
    cycle_s = replica.arrivals.population / point.rate_per_s
    wait_s = positive_part(cycle_s - means.decode_steps * point.tpot_s - in_engine_s)
    step_wait_s = jnp.minimum(wait_s, replica.step_wait_s(point))
    slot_wait_s = wait_s - step_wait_s
    spread = jnp.minimum(means.output_spread_ratio, 1.0) ** 2
    return (
        Cumulants(slot_wait_s, spread * slot_wait_s / point.rate_per_s),
        Cumulants(step_wait_s, point.step_spread_squared * step_wait_s**2),
    )
