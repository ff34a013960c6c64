"""Operating point at which a condition holds: capacity, arrivals served, requests in flight."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import safe_log
from hwdse.serving.queues.operating_point import Arrivals, OperatingPoint, operating_point
from hwdse.serving.queues.request_means import RequestMeans
from hwdse.serving.queues.step_times import StepTime, StepTimes, step_times_around
from hwdse.specs.serving.serving_metrics import ReplicaLimits

NUM_POINTS = 4
"""Points at which the step model is evaluated, with and without prompts: 8 evaluations."""
NUM_ROOT_STEPS = 12
LOG_RANGE = 40.0
"""Range of ln r below capacity."""

Condition = Callable[[OperatingPoint], Scalar]
"""Zero at the operating point, negative at fewer requests per step."""


@struct.dataclass
class Replica:
    """Inputs of the batch of one replica, but for the times of its steps."""

    means: RequestMeans
    limits: ReplicaLimits
    arrivals: Arrivals

    def at(self, log_per_step: Scalar, times: StepTimes) -> OperatingPoint:
        """Operating point at requests per step."""
        return operating_point(jnp.exp(log_per_step), self.means, self.limits, self.arrivals, times)

    def kv_used_ratio(self, point: OperatingPoint) -> Scalar:
        """Tokens of KV cache in use over capacity, mean over time."""
        prefilling = point.slots - point.decode_sequences
        held = point.decode_sequences * self.means.held_tokens
        held = held + prefilling * self.means.held_prompt_tokens
        return held / self.limits.kv_capacity_tokens

    def beyond_capacity(self, point: OperatingPoint) -> Scalar:
        """ln of the most used limit: sequences, KV cache, tokens of a step; 0 at capacity."""
        tokens = point.per_step * (self.means.prompt_tokens + self.means.decode_steps)
        used = (
            point.slots / self.limits.max_sequences,
            self.kv_used_ratio(point),
            tokens / self.limits.token_budget,
        )
        return safe_log(jnp.max(jnp.stack([jnp.asarray(ratio) for ratio in used]), axis=0))

    def guess_at_capacity(self) -> tuple[Scalar, Scalar, Scalar]:
        """Requests per step, decoding sequences and prompt tokens near capacity."""
        means, limits = self.means, self.limits
        slots = jnp.minimum(limits.max_sequences, limits.kv_capacity_tokens / means.held_tokens)
        per_request = jnp.maximum(
            means.decode_steps / jnp.maximum(slots, 1.0),
            (means.prompt_tokens + means.decode_steps) / limits.token_budget,
        )
        per_step = 1.0 / per_request
        decoding = per_step * means.decode_steps
        room = jnp.maximum(limits.token_budget - decoding, 1.0)
        prompts = jnp.minimum(jnp.maximum(per_step, 1.0) * means.prompt_tokens, room)
        return per_step, jnp.maximum(decoding, 1.0), prompts


@struct.dataclass
class Start:
    """Capacity of a replica, and where the search for another point starts."""

    log_capacity: Scalar
    capacity: OperatingPoint
    times: StepTimes


def at_capacity(replica: Replica, step_time: StepTime) -> Start:
    """Point with a full batch, full KV cache or full steps; one point of evaluation."""
    per_step, decoding, prompts = _constant(replica.guess_at_capacity())
    times = step_times_around(step_time, replica.means, decoding, prompts)
    guess = jnp.log(per_step)
    root = _root(
        lambda x, given: given[0].beyond_capacity(given[0].at(x, given[1])),
        (replica, times),
        guess,
        guess - LOG_RANGE,
        guess + 2.0,
    )
    return Start(root, replica.at(root, times), times)


def point_where(
    condition: Callable[[OperatingPoint, Any], Scalar],
    given: Any,
    replica: Replica,
    step_time: StepTime,
    start: Start,
) -> OperatingPoint:
    """Operating point at which `condition(point, given)` is zero.

    The step model is evaluated at the current point and taken as linear around it; the solution is
    the next point. That is Newton's method on the step model alone: exact for step times that are
    piecewise linear once the piece is found. The derivative is that of the implicit function.
    """

    def residual(x: Scalar, inputs: Any) -> Scalar:
        inner, values, times = inputs
        return condition(inner.at(x, times), values)

    fixed_replica, fixed_given, first = _constant((replica, given, start.times))
    start_x = _constant(start.log_capacity)
    low, high = start_x - LOG_RANGE, start_x + 1.0

    def nearer(_: Any, state: tuple[Scalar, StepTimes]) -> tuple[Scalar, StepTimes]:
        x, times = state
        x = _root(residual, (fixed_replica, fixed_given, times), x, low, high)
        point = fixed_replica.at(x, times)
        around = step_times_around(
            step_time, fixed_replica.means, point.met_sequences, point.lump_tokens
        )
        return _constant((x, around))

    # A loop: the step model is compiled once for all of these points.
    x, times = jax.lax.fori_loop(0, NUM_POINTS - 2, nearer, _constant((start_x, first)))
    x = _constant(_root(residual, (fixed_replica, fixed_given, times), x, low, high))
    point = _constant(fixed_replica.at(x, times))
    times = step_times_around(step_time, replica.means, point.met_sequences, point.lump_tokens)
    x = _root(residual, (replica, given, times), x, low, high)
    return replica.at(x, times)


def _root(
    residual: Callable[[Scalar, Any], Scalar], given: Any, start: Scalar, low: Scalar, high: Scalar
) -> Scalar:
    """Root of an increasing function in a bracket by guarded Newton steps; implicit derivative."""
    fixed = _constant(given)
    kind = jnp.result_type(float)
    low, high = (jnp.asarray(_constant(end), kind) for end in (low, high))

    def valued(x: Scalar) -> tuple[Scalar, Scalar]:
        value, slope = jax.jvp(lambda z: residual(z, fixed), (x,), (jnp.ones_like(x),))
        return value, jnp.maximum(slope, 1e-3)

    def step(_: Any, state: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        x, below, above = state
        value, slope = valued(x)
        below, above = jnp.where(value < 0.0, x, below), jnp.where(value < 0.0, above, x)
        proposed = x - value / slope
        inside = (proposed > below) & (proposed < above)
        return jnp.where(inside, proposed, 0.5 * (below + above)), below, above

    first = jnp.clip(jnp.asarray(_constant(start), kind), low, high)
    x = jax.lax.fori_loop(0, NUM_ROOT_STEPS, step, (first, low, high))[0]
    x = jax.lax.stop_gradient(x)
    shift = residual(x, given) / jax.lax.stop_gradient(valued(x)[1])
    at_end = (x - low < 1e-6) | (high - x < 1e-6)
    return jnp.where(at_end, x, x - jnp.clip(shift, -1.0, 1.0))


def _constant(tree: Any) -> Any:
    """The same values without derivatives."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
