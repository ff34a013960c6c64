r"""Prompts and decoding on separate replicas: two queues in a row, and the KV cache between them.

Requests first pass a replica that processes prompts alone, which also gives their first token. The
KV cache of the prompt then moves to a replica that decodes alone. Both pools see the rate
$\lambda$ of all requests as Poisson arrivals (an open loop each). A closed loop of N requests has
the rate at which $\lambda L(\lambda) = N$ with the mean latency L of both pools and the transfer.
The transfer starts when the prompt is processed, and hides behind nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.models.network.hierarchical_collectives import place_on_cluster, placed_time_s
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import safe_log
from hwdse.serving.served_task import ServedTask, served_task, service_state
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.serving_metrics import Latency, ServingState
from hwdse.workload.serving.serving_memory import sequence_bytes
from hwdse.workload.serving.serving_task import ServingTask

NUM_RATES = 20
"""Rates at which a closed loop is evaluated to find its own."""
SHORTEST_S = 1e-6
"""Latency that no request goes below."""
LOG_RANGE = 40.0
"""Range of ln of the rate of a closed loop."""
LEAST_SLOPE = 0.5
"""Lower bound of the slope of ln of the requests in flight by ln of the rate; 1 without waits."""


@struct.dataclass
class ServedApart:
    """Both pools of a service, and the state that its users see."""

    state: ServingState
    prefill: ServedTask
    decode: ServedTask
    transfer_s: Leaf
    """Transfer of the KV cache of one request."""


def served_apart(design: ServingDesign, task: ServingTask) -> ServedApart:
    """Steady state of a task on a design whose strategy has `prefill_pool_ratio`."""
    requests = task.requests
    transfer_s = cache_transfer_s(design, task)
    designs, tasks = _pools(design, task)

    def both(log_rate: Scalar) -> ServedTask:
        rate = jnp.exp(log_rate)
        return jax.vmap(lambda d, t: served_task(d, _at_rate(t, rate)))(designs, tasks)

    def excess(log_rate: Scalar, latency: Latency) -> Scalar:
        in_flight = log_rate + safe_log(jnp.sum(latency.mean_s) + transfer_s)
        return in_flight - safe_log(requests.concurrency)

    def latencies(log_rate: Scalar) -> Latency:
        rate = jnp.exp(log_rate)
        state = jax.vmap(lambda d, t: service_state(d, _at_rate(t, rate))[0])(designs, tasks)
        return state.latency

    is_closed = jnp.asarray(requests.concurrency) > 0.0
    found, slope = _closed_rate(lambda x: excess(x, latencies(x)), requests.concurrency)
    offered = safe_log(requests.arrival_rate_per_s)
    start = jnp.where(is_closed, found, offered)

    def improved(log_rate: Scalar, _: None) -> tuple[Scalar, ServedTask]:
        # The second pass is at the root with the derivative of the implicit function.
        served = both(log_rate)
        shift = jnp.clip(excess(log_rate, served.state.latency) / slope, -1.0, 1.0)
        return jnp.where(is_closed, log_rate - shift, offered), served

    log_rate, passes = jax.lax.scan(improved, start, None, length=2)
    prefill, decode = (jax.tree.map(lambda leaf, row=row: leaf[1, row], passes) for row in (0, 1))
    state = _joined(prefill.state, decode.state, transfer_s, jnp.exp(log_rate), is_closed, task)
    return ServedApart(state, prefill, decode, transfer_s)


def cache_transfer_s(design: ServingDesign, task: ServingTask) -> Scalar:
    """Time to send the KV cache of a prompt, every rank of a replica its own part."""
    strategy, cluster = design.strategy.decoding, design.cluster
    size = sequence_bytes(task.model, design.formats, strategy, task.requests.input_tokens)
    pair = place_on_cluster(2.0, strategy.replica_chips, cluster)
    return placed_time_s("point_to_point", size, pair, design.chip, cluster, None)


def _pools(design: ServingDesign, task: ServingTask) -> tuple[ServingDesign, ServingTask]:
    """Designs and tasks of the pools, stacked: prompts first.

    A pool of prompts answers with one token. The other one gets requests whose prompt is in its
    memory but for the first token, which it processes as one more decoding sequence, and answers
    with the rest.
    """
    strategy, requests = design.strategy, task.requests
    num_replicas = design.num_replicas
    parts = []
    in_graph = dataclasses.replace(
        design.engine, request_host_s=0.0, prefill_block_s=0.0, prefill_ratio=1.0
    )
    for own, replicas, engine in (
        (strategy.prefilling, strategy.prefill_pool_ratio * num_replicas, design.engine),
        (strategy.decoding, num_replicas, in_graph),
    ):
        cluster = dataclasses.replace(design.cluster, num_chips=replicas * own.replica_chips)
        filled = dataclasses.replace(own, expert_tensor=own.expert_shards)
        parts.append(dataclasses.replace(design, strategy=filled, cluster=cluster, engine=engine))
    first = dataclasses.replace(
        requests, output_tokens=1.0, output_spread_ratio=0.0, concurrency=0.0
    )
    rest = dataclasses.replace(
        requests,
        input_tokens=requests.input_tokens + 1.0,
        cached_input_tokens=requests.input_tokens,
        input_spread_ratio=0.0,
        output_tokens=jnp.maximum(requests.output_tokens - 1.0, 1.0),
        concurrency=0.0,
    )
    tasks = [dataclasses.replace(task, requests=one) for one in (first, rest)]
    return _stacked(parts), _stacked(tasks)


def _stacked(items: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x, float) for x in leaves]), *items)


def _at_rate(task: ServingTask, rate_per_s: Scalar) -> ServingTask:
    requests = dataclasses.replace(task.requests, arrival_rate_per_s=rate_per_s)
    return dataclasses.replace(task, requests=requests)


def _closed_rate(excess: Callable[[Scalar], Scalar], population: Scalar) -> tuple[Scalar, Scalar]:
    """ln of the rate at which `excess`, ln of requests in flight over the population, is zero.

    With the slope of `excess` there; both without derivatives. Latencies grow without bound near
    capacity, so that the rate is always below it.
    """
    high = safe_log(jax.lax.stop_gradient(population)) - jnp.log(SHORTEST_S)
    low = high - LOG_RANGE

    def nearer(_: Any, state: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        x, below, above, last_x, last_value, _ = state
        value = excess(x)
        below, above = jnp.where(value < 0.0, x, below), jnp.where(value < 0.0, above, x)
        moved = jnp.where(jnp.abs(x - last_x) > 1e-12, x - last_x, 1.0)
        slope = jnp.maximum((value - last_value) / moved, LEAST_SLOPE)
        proposed = x - value / slope
        inside = (proposed > below) & (proposed < above)
        new = jnp.where(inside, proposed, 0.5 * (below + above))
        settled = jnp.abs(value) < 1e-10
        return jax.lax.stop_gradient(
            tuple(
                jnp.where(settled, old, one)
                for old, one in zip(state, (new, below, above, x, value, slope), strict=True)
            )
        )

    zero = jnp.zeros_like(high)
    start = (high - jnp.log(1.0 / SHORTEST_S), low, high, low, zero - LOG_RANGE, zero + 1.0)
    found = jax.lax.fori_loop(0, NUM_RATES, nearer, jax.lax.stop_gradient(start))
    return found[0], found[5]


def _joined(
    prefill: ServingState,
    decode: ServingState,
    transfer_s: Scalar,
    rate: Scalar,
    is_closed: Scalar,
    task: ServingTask,
) -> ServingState:
    """State that users see; deviations of percentiles from the means add as independent ones."""
    requests = task.requests
    steps = jnp.maximum(requests.output_tokens - 1.0, 1.0)
    later_s = transfer_s + decode.ttft.mean_s - decode.tpot.mean_s
    capacity = jnp.minimum(prefill.capacity_rate_per_s, decode.capacity_rate_per_s)
    served = jnp.minimum(prefill.request_rate_per_s, decode.request_rate_per_s)
    tokens = served * requests.output_tokens
    return dataclasses.replace(
        decode,
        prefill_tokens=prefill.prefill_tokens,
        prefill_step_fraction=prefill.prefill_step_fraction,
        prefill_step_time_s=prefill.prefill_step_time_s,
        request_rate_per_s=served,
        output_tokens_per_s=tokens,
        total_tokens_per_s=tokens + served * requests.input_tokens,
        capacity_rate_per_s=capacity,
        utilization_ratio=rate / capacity,
        is_served=jnp.where(is_closed, 1.0, prefill.is_served * decode.is_served),
        ttft=prefill.ttft,
        ttft_parts=prefill.ttft_parts,
        tpot=_later(decode.tpot, later_s / steps),
        latency=_sum(prefill.ttft, decode.latency, transfer_s),
    )


def _later(latency: Latency, seconds: Scalar) -> Latency:
    return jax.tree.map(lambda one: one + seconds, latency)


def _sum(first: Latency, second: Latency, between_s: Scalar) -> Latency:
    mean = first.mean_s + second.mean_s + between_s

    def quantile(name: str) -> Scalar:
        parts = [getattr(one, name) - one.mean_s for one in (first, second)]
        # Signed squares: medians lie below their means.
        squares = sum(jnp.sign(part) * part**2 for part in parts)
        root = jnp.sign(squares) * jnp.sqrt(jnp.abs(squares) + 1e-24)
        return mean + root

    return Latency(mean, quantile("p50_s"), quantile("p90_s"), quantile("p99_s"))
