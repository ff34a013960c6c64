"""Open loop: requests arrive at a rate, whatever the server does."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import safe_log
from hwdse.serving.queues.operating_point import Arrivals
from hwdse.serving.queues.queue_waits import residual_step, slot_wait
from hwdse.serving.queues.request_means import request_means
from hwdse.serving.queues.state_of_point import serving_state
from hwdse.serving.queues.steady_point import Replica, at_capacity, point_where
from hwdse.serving.queues.step_times import StepTime
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState

MAX_LOAD = 1.0 - 1e-6
"""A load above capacity gets the latencies at this share of it."""


def open_loop_state(
    requests: Requests, step_time: StepTime, limits: ReplicaLimits, num_replicas: Scalar = 1.0
) -> ServingState:
    """Steady state at an arrival rate, spread evenly over replicas.

    Above capacity no steady state exists: `is_served` is 0 and the state is that just below
    capacity, whose rate is the one that can be served.
    """
    arrivals = Arrivals(
        population=0.0, spread_squared=requests.arrival_spread_ratio**2, is_closed=False
    )
    replica = Replica(request_means(requests, limits), limits, arrivals)
    start = at_capacity(replica, step_time)
    offered = requests.arrival_rate_per_s / num_replicas
    highest = MAX_LOAD * start.capacity.rate_per_s
    rate = jnp.minimum(offered, highest)
    point = point_where(
        lambda point, rate: safe_log(point.rate_per_s) - safe_log(rate),
        rate,
        replica,
        step_time,
        start,
    )
    service_spread = replica.means.output_spread_ratio**2
    chance, wait = slot_wait(
        start.capacity.slots - point.slots,
        point.batch_variance,
        start.capacity.rate_per_s - rate,
        arrivals.spread_squared,
        service_spread,
    )
    busy = arrivals.busy_fraction(point.slots) * (1.0 - chance)
    return serving_state(
        point,
        replica,
        num_replicas,
        start.capacity.rate_per_s,
        offered,
        jnp.where(offered <= highest, 1.0, 0.0),
        wait,
        residual_step(point.tpot_s, point.step_spread_squared, busy),
    )
