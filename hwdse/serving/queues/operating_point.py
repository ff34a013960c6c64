r"""Batch, steps and waits of one replica, explicit in the requests that start per step.

The unknown of a steady state is $r = X \bar\tau$: requests per step (rate X, mean step time
$\bar\tau$). By Little's law $B = r (O - 1)$ sequences decode, and all other quantities follow in
closed form. A closed loop has the r at which its requests in flight add up, an open loop the r
whose rate is that of the arrivals.
"""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, num_tiles
from hwdse.serving.queues.latency_percentiles import Cumulants, gamma_like
from hwdse.serving.queues.queue_waits import prefill_backlog
from hwdse.serving.queues.request_means import RequestMeans
from hwdse.serving.queues.step_times import StepTimes
from hwdse.specs.serving.serving_metrics import ReplicaLimits

MAX_SLOPE_SHARE = 0.98
"""Upper bound of the share of a step that grows with the batch: its variance stays finite."""
SMALLEST_ROOM = 1.0
"""Tokens of a step that prompts get at least."""


@struct.dataclass
class Arrivals:
    """Arrivals at one replica, as the batch sees them."""

    population: Leaf
    """Requests in flight in a closed loop; 0 in an open one."""
    rate_per_s: Leaf
    """Offered arrivals of an open loop; 0 in a closed one."""
    spread_squared: Leaf
    """Squared relative standard deviation of the times between arrivals; 1 in a closed loop."""

    def either(self, closed: Leaf, opened: Leaf) -> Scalar:
        """The value of the loop that it is."""
        return jnp.where(jnp.asarray(self.population) > 0.0, closed, opened)

    def others_ratio(self, in_system: Scalar) -> Scalar:
        r"""Requests that a request meets, over the mean number in the system.

        1 for Poisson arrivals (arrivals see time averages); $1 - 1 / N$ in a closed loop (arrival
        theorem) and for even arrivals, where a request never meets itself.
        """
        alone = (1.0 - self.spread_squared) / jnp.maximum(in_system, 1.0)
        opened = jnp.where(
            in_system > 1.0, 1.0 - alone, self.spread_squared * jnp.ones_like(in_system)
        )
        return self.either(1.0 - 1.0 / jnp.maximum(self.population, 1.0), opened)

    def busy_fraction(self, in_system: Scalar) -> Scalar:
        """Probability that an arriving request finds the engine at work."""
        poisson, even = -jnp.expm1(-in_system), jnp.clip(in_system - 1.0, 0.0, 1.0)
        opened = even + jnp.minimum(self.spread_squared, 1.0) * (poisson - even)
        return self.either(jnp.clip(self.population - 1.0, 0.0, 1.0), opened)

    def step_spread_squared(self, per_step: Scalar) -> Scalar:
        """Variance over mean of the arrivals in a step."""
        even = jnp.maximum(1.0 - per_step, 0.0)
        return self.spread_squared + jnp.maximum(1.0 - self.spread_squared, 0.0) * even

    def life_spread_squared(self, means: RequestMeans) -> Scalar:
        """Variance over mean of the arrivals during the life of a request.

        In a closed loop each other user sends about one request in that time: the count varies
        with the lengths of outputs alone.
        """
        return self.either(jnp.minimum(means.output_spread_ratio, 1.0) ** 2, self.spread_squared)


@struct.dataclass
class OperatingPoint:
    """One replica at some requests per step; times in seconds, counts as means."""

    per_step: Leaf
    """Requests that start in a step."""
    decode_sequences: Leaf
    """Decoding sequences, mean over time."""
    met_sequences: Leaf
    """Decoding sequences in the steps of a token, itself included."""
    others_ratio: Leaf
    room_tokens: Leaf
    """Tokens of a step that prompts can get."""
    lump_tokens: Leaf
    """Prompt tokens of a step that has any."""
    num_chunks: Leaf
    """Steps of a prompt."""
    decode_step_s: Leaf
    mixed_step_s: Leaf
    prompt_s: Leaf
    """Time that one prompt adds to its steps."""
    tpot_s: Leaf
    """Mean step time that a decoding sequence meets."""
    step_spread_squared: Leaf
    """Squared relative standard deviation of the step time."""
    life_variance_s2: Leaf
    """Variance that prompts give to the sum of n steps, over n, for many steps."""
    batch_slope_s: Leaf
    """Change of the step time by decoding sequences."""
    batch_variance: Leaf
    """Variance of the decoding sequences without a limit of the batch."""
    rate_per_s: Leaf
    full_step_s: Leaf
    """Time of a step with all room given to prompts."""
    prefill: Cumulants
    """Own steps of a prompt."""
    backlog: Cumulants
    """Wait for prompts before it."""

    @property
    def slots(self) -> Scalar:
        """Sequences in the batch: those that decode and those whose prompt is processed."""
        return self.decode_sequences + self.rate_per_s * self.prefill.mean

    @property
    def prefill_step_fraction(self) -> Scalar:
        """Steps that process prompt tokens."""
        return jnp.minimum(self.per_step * self.prompt_s / self.lump_s, 1.0)

    @property
    def lump_s(self) -> Scalar:
        """Time that prompt tokens add to a step that has any."""
        return jnp.maximum(self.mixed_step_s - self.decode_step_s, SMALLEST)


def lump_tokens(per_step: Scalar, spread_squared: Scalar, prompt: Scalar, room: Scalar) -> Scalar:
    r"""Prompt tokens of a step that has any: those of all prompts that arrived in one step.

    $r / (1 - e^{-r})$ prompts for Poisson arrivals, $\max(r, 1)$ for even ones, within the room.
    """
    safe = jnp.maximum(per_step, 1e-4)
    poisson = jnp.where(per_step > 1e-4, safe / -jnp.expm1(-safe), 1.0 + 0.5 * per_step)
    even = jnp.maximum(per_step, 1.0)
    prompts = even + jnp.minimum(spread_squared, 1.0) * (poisson - even)
    return jnp.minimum(prompts * prompt, room)


def operating_point(
    per_step: Scalar,
    means: RequestMeans,
    limits: ReplicaLimits,
    arrivals: Arrivals,
    times: StepTimes,
) -> OperatingPoint:
    r"""Batch, step times and waits at r requests per step.

    Mean step of a token: $\bar\tau = \tau_0(B_m) + o r \gamma$, with the step time $\tau_0$ without
    prompts, the time $\gamma$ that a prompt adds, and o the share of other requests. A token meets
    $B_m = 1 + o B + \frac{\epsilon}{1 - \epsilon}$ sequences, $\epsilon = B \tau' / \tau(1 + B)$:
    exact for Poisson arrivals and step times linear in the batch, whose batch has a negative
    binomial distribution (a processor-sharing queue with state-dependent rate, Kelly, Reversibility
    and Stochastic Networks, 1979, section 3.3).

    In an open loop steps pass their length on: prompts that arrive in a long step make the next one
    long. With $\rho = X \gamma$ the variance of a step is $\gamma^2 r c^2 / (1 - \rho^2)$, c from
    arrivals and lengths. In a closed loop requests end, and start, by steps and not by time:
    $\rho = 0$.
    """
    decoding = per_step * means.decode_steps
    room = jnp.maximum(limits.token_budget - decoding, SMALLEST_ROOM)
    num_chunks = num_tiles(means.prompt_tokens, room)
    in_system = decoding + per_step * num_chunks
    others = arrivals.others_ratio(in_system)
    spread = arrivals.spread_squared
    lump = lump_tokens(others * per_step, spread, means.prompt_tokens, room)

    met, growth = _met_sequences(decoding, others, spread, limits, arrivals, times)
    decode_s, mixed_s = times.decoding_s(met), times.mixing_s(met, lump)
    lump_s = jnp.maximum(mixed_s - decode_s, 0.0)
    prompt_s = lump_s * means.prompt_tokens / lump
    other = others * per_step
    tpot_s = decode_s + other * prompt_s
    lengths = arrivals.step_spread_squared(per_step) + means.prompt_spread_ratio**2
    step_variance, life_variance = _step_variances(
        other, prompt_s, tpot_s, lengths, means, arrivals
    )
    more = (times.mixed_slope - times.decode_slope) * means.prompt_tokens / lump
    rate, full_s = per_step / tpot_s, decode_s + lump_s * room / lump
    spread_squared = step_variance / tpot_s**2
    gated = others * rate * tpot_s * arrivals.either(1.0, 1.0 + spread_squared)
    # The first step of a prompt has no token of its own request yet.
    alone_s = decode_s - times.decode_slope * (met - others * decoding)
    first_step = jnp.maximum(alone_s + lump_s, 0.5 * mixed_s) - lump_s
    in_full_step = others * arrivals.either(per_step, rate * full_s)
    return OperatingPoint(
        per_step=per_step,
        decode_sequences=decoding,
        met_sequences=met,
        others_ratio=others,
        room_tokens=room,
        lump_tokens=lump,
        num_chunks=num_chunks,
        decode_step_s=decode_s,
        mixed_step_s=mixed_s,
        prompt_s=prompt_s,
        tpot_s=tpot_s,
        step_spread_squared=spread_squared,
        life_variance_s2=life_variance,
        batch_slope_s=times.decode_slope + other * more,
        batch_variance=_batch_variance(decoding, growth, spread, means, arrivals),
        rate_per_s=rate,
        full_step_s=full_s,
        prefill=Cumulants(first_step + (num_chunks - 1.0) * decode_s)
        + gamma_like(prompt_s, means.prompt_spread_ratio)
        + _shared_prompts(gated, prompt_s, lengths, spread, arrivals),
        backlog=_backlog(in_full_step, room, full_s, lengths, means),
    )


def _backlog(
    prompts: Scalar, room: Scalar, full_s: Scalar, lengths: Scalar, means: RequestMeans
) -> Cumulants:
    """Wait for the prompts that arrive before, of which so many fall into a full step."""
    drift = room - prompts * means.prompt_tokens
    return prefill_backlog(drift, prompts * means.prompt_tokens**2 * lengths, full_s / room)


def _met_sequences(
    decoding: Scalar,
    others: Scalar,
    spread: Scalar,
    limits: ReplicaLimits,
    arrivals: Arrivals,
    times: StepTimes,
) -> tuple[Scalar, Scalar]:
    """Sequences that a token meets, and the growth of the batch by its own step times."""
    near = times.decoding_s(1.0 + decoding)
    share = jnp.clip(decoding * times.decode_slope / near, 0.0, MAX_SLOPE_SHARE)
    growth = share / (1.0 - share)
    met = 1.0 + others * decoding + arrivals.either(0.0, spread * growth)
    return jnp.minimum(met, jnp.maximum(limits.max_sequences, 1.0)), growth


def _step_variances(
    others_per_step: Scalar,
    prompt_s: Scalar,
    tpot_s: Scalar,
    lengths: Scalar,
    means: RequestMeans,
    arrivals: Arrivals,
) -> tuple[Scalar, Scalar]:
    """Variance of the step time, and of the sum of many steps over their number."""
    busy = jnp.minimum(others_per_step * prompt_s / tpot_s, MAX_SLOPE_SHARE)
    busy = arrivals.either(0.0, busy)
    of_prompts = prompt_s**2 * others_per_step
    of_life = arrivals.life_spread_squared(means) + means.prompt_spread_ratio**2
    return of_prompts * lengths / (1.0 - busy**2), of_prompts * of_life / (1.0 - busy) ** 2


def _batch_variance(
    decoding: Scalar, growth: Scalar, spread: Scalar, means: RequestMeans, arrivals: Arrivals
) -> Scalar:
    """Variance of the decoding sequences: binomial in a closed loop."""
    inside = decoding / jnp.maximum(arrivals.population, 1.0)
    evened = 1.0 + (spread - 1.0) / (1.0 + means.output_spread_ratio**2)
    ratio = arrivals.either(jnp.maximum(1.0 - inside, 0.0), evened * (1.0 + growth))
    return decoding * ratio


def _shared_prompts(
    gated: Scalar, prompt_s: Scalar, lengths: Scalar, spread: Scalar, arrivals: Arrivals
) -> Cumulants:
    """Time of the prompts that share the steps of a prompt."""
    met = arrivals.either(gated, jnp.maximum(gated - (1.0 - spread), 0.0))
    return Cumulants(met * prompt_s, met * prompt_s**2 * lengths, met * prompt_s**3 * lengths)
