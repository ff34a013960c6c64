"""Operating points of a replica: at capacity, and at its load."""

import dataclasses
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

NUM_POINTS = 3
"""Loads at which the step model is evaluated before the last one."""
NUM_ROOT_STEPS = 12
LOG_RANGE = 40.0
"""Range of ln r below capacity."""
MARGIN = 1e-6
"""Distance of an open loop from capacity: more load gets the latencies at this share below it."""
AT_LOAD = 1
"""Row of the point at the load; row 0 is the one at capacity."""
MANY = 1e9
"""Requests in flight of a closed loop at capacity."""


@struct.dataclass
class Replica:
    """Inputs of the batch of one replica, but for the times of its steps."""

    means: RequestMeans
    limits: ReplicaLimits
    arrivals: Arrivals

    def at(self, log_per_step: Scalar, times: StepTimes, row: Scalar) -> OperatingPoint:
        """Operating point at requests per step."""
        arrivals = self.arrivals
        population = jnp.where(row == AT_LOAD, arrivals.population, arrivals.either(MANY, 0.0))
        arrivals = dataclasses.replace(arrivals, population=population)
        return operating_point(jnp.exp(log_per_step), self.means, self.limits, arrivals, times)

    def residual(self, log_per_step: Scalar, times: StepTimes, row: Scalar) -> Scalar:
        """Zero at the operating point of a row, negative at fewer requests per step.

        At its load a closed loop has its requests in flight, by Little's law; an open one has the
        rate of its arrivals. Both end at capacity.
        """
        point = self.at(log_per_step, times, row)
        beyond = self.beyond_capacity(point)
        held = point.decode_sequences + point.rate_per_s * self.in_engine_s(point)
        in_flight = safe_log(held) - safe_log(self.arrivals.population)
        offered = safe_log(point.rate_per_s) - safe_log(self.arrivals.rate_per_s)
        loaded = self.arrivals.either(in_flight, offered)
        margin = self.arrivals.either(0.0, MARGIN)
        return jnp.where(row == AT_LOAD, jnp.maximum(loaded, beyond + margin), beyond)

    def in_engine_s(self, point: OperatingPoint) -> Scalar:
        """Mean time of a request of a closed loop outside of the batch and in its prefill."""
        waits_s = self.limits.request_host_s + self.step_wait_s(point)
        return waits_s + point.backlog.mean + point.prefill.mean

    def step_wait_s(self, point: OperatingPoint) -> Scalar:
        """Wait of a closed loop for the running step.

        An answer comes at the end of a step, so the next request waits for the whole following one
        if it arrives during it, and for a residual one if it takes longer.
        """
        busy = self.arrivals.busy_fraction(point.slots)
        residual_s = 0.5 * point.tpot_s * (1.0 + point.step_spread_squared)
        return busy * jnp.maximum(point.tpot_s - self.limits.request_host_s, residual_s)

    def kv_used_ratio(self, point: OperatingPoint) -> Scalar:
        """Tokens of KV cache in use over capacity, mean over time."""
        prefilling = point.slots - point.decode_sequences
        held = point.decode_sequences * self.means.held_tokens
        held = held + prefilling * self.means.held_prompt_tokens
        return held / self.limits.kv_capacity_tokens

    def beyond_capacity(self, point: OperatingPoint) -> Scalar:
        """ln of the most used limit: sequences, KV cache, tokens of a step; 0 at capacity."""
        tokens = point.per_step * (self.means.prompt_tokens + self.means.decode_steps)
        used = jnp.maximum(point.slots / self.limits.max_sequences, self.kv_used_ratio(point))
        # Pairwise: the derivative of a reduction is 0/0 if XLA computes its inputs twice.
        return safe_log(jnp.maximum(used, tokens / self.limits.token_budget))

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


def steady_points(replica: Replica, step_time: StepTime) -> tuple[OperatingPoint, OperatingPoint]:
    """Points with the batch, the KV cache or the steps full, and at the load of the arrivals.

    The step model is evaluated at the current points and taken as linear around them; the solutions
    are the next points. That is Newton's method on the step model alone: exact for step times that
    are piecewise linear once the piece is found. Derivatives are those of the implicit function.
    """
    rows = jnp.arange(2)
    fixed = _constant(replica)
    per_step, decoding, prompts = fixed.guess_at_capacity()
    kind = jnp.result_type(float)
    guess = jnp.full(2, safe_log(per_step), kind)

    def times_around(inner: Replica, loads: tuple[Scalar, Scalar]) -> StepTimes:
        return jax.vmap(lambda load: step_times_around(step_time, inner.means, *load))(loads)

    def nearer(
        _: Any, state: tuple[Scalar, tuple[Scalar, Scalar]]
    ) -> tuple[Scalar, tuple[Scalar, Scalar]]:
        x, loads = state
        times = times_around(fixed, loads)
        found = jax.vmap(lambda x, start, times, row: _root(fixed, x, start, times, row))(
            x, guess, times, rows
        )
        points = jax.vmap(fixed.at)(found, times, rows)
        return _constant((found, (points.met_sequences, points.lump_tokens)))

    # A loop: the step model is compiled once for all of these points.
    loads = jnp.full(2, decoding, kind), jnp.full(2, prompts, kind)
    x, loads = _constant(jax.lax.fori_loop(0, NUM_POINTS, nearer, _constant((guess, loads))))
    times = times_around(replica, loads)
    x = jax.vmap(lambda x, times, row: _newton_step(replica, x, times, row))(x, times, rows)
    points = jax.vmap(replica.at)(x, times, rows)
    capacity, load = (jax.tree.map(lambda leaf, row=row: leaf[row], points) for row in (0, 1))
    return capacity, load


def _newton_step(replica: Replica, x: Scalar, times: StepTimes, row: Scalar) -> Scalar:
    """Root near x; its derivative is that of the implicit function."""
    slope = _valued(_constant(replica), x, _constant(times), row)[1]
    shift = replica.residual(x, times, row) / jax.lax.stop_gradient(slope)
    return x - jnp.clip(shift, -1.0, 1.0)


def _valued(replica: Replica, x: Scalar, times: StepTimes, row: Scalar) -> tuple[Scalar, Scalar]:
    """Residual with its slope."""
    value, slope = jax.jvp(lambda z: replica.residual(z, times, row), (x,), (jnp.ones_like(x),))
    return value, jnp.maximum(slope, 1e-3)


def _root(replica: Replica, x: Scalar, guess: Scalar, times: StepTimes, row: Scalar) -> Scalar:
    """Root of the residual by guarded Newton steps from x, near a guess of the capacity."""

    def step(_: Any, state: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        x, below, above = state
        value, slope = _valued(replica, x, times, row)
        below, above = jnp.where(value < 0.0, x, below), jnp.where(value < 0.0, above, x)
        proposed = x - value / slope
        inside = (proposed > below) & (proposed < above)
        return jnp.where(inside, proposed, 0.5 * (below + above)), below, above

    first = x, guess - LOG_RANGE, guess + 2.0
    return jax.lax.fori_loop(0, NUM_ROOT_STEPS, step, first)[0]


def _constant(tree: Any) -> Any:
    """The same values without derivatives."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
