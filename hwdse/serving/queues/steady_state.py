"""Steady state of a service: batch, rates and latencies of a stream of requests."""

import functools

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.serving.queues.closed_loop import closed_loop_state
from hwdse.serving.queues.open_loop import open_loop_state
from hwdse.serving.queues.step_times import StepTime
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState


def steady_state(
    requests: Requests, step_time: StepTime, limits: ReplicaLimits, num_replicas: Scalar = 1.0
) -> ServingState:
    """Steady state of equal replicas that share the requests evenly.

    `step_time` gives the time of one step of a replica. A concurrency of plain 0.0 makes an open
    loop of the requests, an arrival rate of plain 0.0 a closed loop; if both are traced, both are
    computed and the one above zero is returned.
    """
    if is_known(requests.concurrency, 0.0):
        return open_loop_state(requests, step_time, limits, num_replicas)
    closed = closed_loop_state(requests, step_time, limits, num_replicas)
    if is_known(requests.arrival_rate_per_s, 0.0):
        return closed
    opened = open_loop_state(requests, step_time, limits, num_replicas)
    is_open = jnp.asarray(requests.arrival_rate_per_s) > 0.0
    return jax.tree.map(functools.partial(jnp.where, is_open), opened, closed)
