"""Metrics of a service from the operating point of one replica and the waits of its requests."""

import jax.numpy as jnp
from jax.scipy.special import ndtri

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST
from hwdse.serving.queues.latency_percentiles import Cumulants, added, mixed, percentiles
from hwdse.serving.queues.operating_point import OperatingPoint
from hwdse.serving.queues.steady_point import Replica
from hwdse.specs.serving.serving_metrics import FirstTokenParts, Latency, ServingState

LIFE_AVERAGE = 2.0 / 3.0
"""Variance of the batch that remains in its mean over the life of a request: its correlation falls
linearly over a service time of fixed length."""


def serving_state(
    point: OperatingPoint,
    replica: Replica,
    num_replicas: Scalar,
    capacity_per_s: Scalar,
    offered_per_s: Scalar,
    is_served: Scalar,
    slot_wait: Cumulants,
    step_wait: Cumulants,
    burst_fraction: Scalar,
) -> ServingState:
    """Rates and latencies; rates are given and returned for one and for all replicas."""
    means, host_s = replica.means, replica.limits.request_host_s
    steady = added(Cumulants(host_s), slot_wait, step_wait, point.backlog, point.prefill)
    at_once = added(Cumulants(host_s), slot_wait, _burst(point, replica))
    burst_fraction = replica.arrivals.either(burst_fraction, 0.0)
    first = mixed(burst_fraction, at_once, steady)
    rest = 1.0 - burst_fraction
    step = _request_steps(point, replica)
    token = step.scaled(1.0 / replica.limits.tokens_per_step)
    steps = means.decode_steps
    spread_s = (steps + 1.0) * means.output_spread_ratio * point.tpot_s
    decoding = Cumulants(
        steps * step.mean,
        steps**2 * step.variance + spread_s**2,
        steps**3 * step.third + 2.0 * means.output_spread_ratio**2 * spread_s**3,
    )
    rate = num_replicas * point.rate_per_s
    outputs = means.output_tokens
    least_s = host_s + point.decode_step_s
    return ServingState(
        decode_sequences=point.decode_sequences,
        prefill_tokens=point.per_step * means.prompt_tokens,
        prefill_step_fraction=point.prefill_step_fraction,
        step_time_s=point.tpot_s,
        decode_step_time_s=point.decode_step_s,
        prefill_step_time_s=point.mixed_step_s,
        request_rate_per_s=rate,
        output_tokens_per_s=rate * outputs,
        total_tokens_per_s=rate * (outputs + means.input_tokens),
        capacity_rate_per_s=num_replicas * capacity_per_s,
        utilization_ratio=offered_per_s / jnp.maximum(capacity_per_s, SMALLEST),
        is_served=is_served,
        kv_used_ratio=replica.kv_used_ratio(point),
        recomputed_ratio=jnp.zeros_like(point.rate_per_s),
        ttft=percentiles(first, least_s),
        ttft_parts=FirstTokenParts(
            host_s=rest * host_s,
            slot_wait_s=rest * slot_wait.mean,
            step_wait_s=rest * step_wait.mean,
            prefill_wait_s=rest * point.backlog.mean,
            prefill_s=rest * point.prefill.mean,
            burst_s=burst_fraction * at_once.mean,
        ),
        tpot=percentiles(
            token,
            jnp.minimum(point.decode_step_s / replica.limits.tokens_per_step, token.mean),
        ),
        itl=_token_gaps(point, replica),
        latency=percentiles(first + decoding, least_s),
    )


def _burst(point: OperatingPoint, replica: Replica) -> Cumulants:
    """Time to the first token of requests that all users send at once to an idle replica.

    Their prompts fill one step after another; first tokens come at the ends of the steps.
    """
    prompts = jnp.minimum(replica.arrivals.population, replica.limits.max_sequences)
    tokens = jnp.maximum(prompts, 1.0) * replica.means.prompt_tokens
    steps = jnp.maximum(tokens / point.room_tokens, 1.0)
    token_s = point.lump_s / point.lump_tokens
    step_s = point.decode_step_s + token_s * jnp.minimum(tokens, point.room_tokens)
    width = step_s * (steps - 1.0)
    return Cumulants(step_s + 0.5 * width, width**2 / 12.0)


def _request_steps(point: OperatingPoint, replica: Replica) -> Cumulants:
    r"""Mean step time over the life of one request.

    Prompts of others hit its steps: variance of the sum over n steps, over n^2. The batch changes
    slowly and keeps `LIFE_AVERAGE` of its variance.
    """
    steps = jnp.maximum(replica.means.decode_steps, 1.0)
    short = 1.0 + replica.means.output_spread_ratio**2
    free = jnp.maximum(replica.limits.max_sequences - point.decode_sequences, 0.0)
    batch = jnp.minimum(point.batch_variance, free**2)
    variance = (
        point.life_variance_s2 * short / steps + LIFE_AVERAGE * point.batch_slope_s**2 * batch
    )
    return Cumulants(point.tpot_s, variance)


def _token_gaps(point: OperatingPoint, replica: Replica) -> Latency:
    r"""Inter-token latency over tokens: a step without prompts, or one with those that arrived.

    Tokens of accepted drafts come with the one before them, without a gap. A step with prompts has
    $m = r / (1 - e^{-r})$ of them, with variance $m (1 + r - m)$ and that of their lengths.
    Quantiles within each kind are normal, in the prompts or in the batch.
    """
    prefilling = jnp.clip(point.others_ratio * point.prefill_step_fraction, 1e-6, 1.0 - 1e-6)
    deviation = jnp.abs(point.batch_slope_s) * jnp.sqrt(jnp.maximum(point.batch_variance, 1e-6))
    room = point.room_tokens / replica.means.prompt_tokens
    prompts = jnp.minimum(point.lump_tokens / replica.means.prompt_tokens, room)
    variance = prompts * jnp.maximum(1.0 + point.per_step - prompts, 0.0)
    variance = variance + prompts * replica.means.prompt_spread_ratio**2
    prompt_deviation = jnp.sqrt(jnp.maximum(variance, 1e-6))

    per_step = replica.limits.tokens_per_step

    def quantile(of_tokens: float) -> Scalar:
        share = 1.0 - per_step * (1.0 - of_tokens)
        inner = jnp.clip(share / (1.0 - prefilling), 1e-3, 1.0 - 1e-3)
        short_s = point.decode_step_s + deviation * ndtri(inner)
        inner = jnp.clip((share - (1.0 - prefilling)) / prefilling, 1e-3, 1.0 - 1e-3)
        met = jnp.clip(prompts + prompt_deviation * ndtri(inner), 0.0, room)
        long_s = point.decode_step_s + met * point.prompt_s
        gap_s = jnp.where(share > 1.0 - prefilling, long_s, short_s)
        return jnp.where(share > 0.0, gap_s, 0.0)

    return Latency(point.tpot_s / per_step, quantile(0.5), quantile(0.9), quantile(0.99))
