"""Waits of a request: for a place in the batch, for the running step, for prompts before it."""

import jax.numpy as jnp
from jax.scipy.stats import norm

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST
from hwdse.serving.queues.latency_percentiles import Cumulants, from_moments, rare_exponential

OVERSHOOT = 0.5826
"""Mean overshoot of a normal random walk over a barrier, in standard deviations of a step."""
SMALLEST_VARIANCE = 1e-6


def slot_wait(
    free_slots: Scalar,
    used_variance: Scalar,
    spare_rate_per_s: Scalar,
    arrival_spread_squared: Scalar,
    service_spread_squared: Scalar,
) -> tuple[Scalar, Cumulants]:
    r"""Probability of a wait for a slot, and the wait in an open loop.

    Halfin and Whitt: with $\beta$ = free slots over the standard deviation of those in use without
    a limit, a request waits with probability $\phi(\beta) / (\phi(\beta) + \beta \Phi(\beta))$.
    The wait is then exponential with the mean $\frac{c_a^2 + c_s^2}{2 (X_{max} - \lambda)}$ of
    Allen and Cunneen, where $X_{max}$ is the rate with all slots in use.

    Sources: Halfin and Whitt, Operations Research 29(3), 1981, theorem 1; Allen, Probability,
    Statistics and Queueing Theory, 1990, section 5.3.
    """
    deviation = jnp.sqrt(jnp.maximum(used_variance, SMALLEST_VARIANCE))
    beta = jnp.clip(free_slots / deviation, 0.0, 12.0)
    density = norm.pdf(beta)
    probability = density / (density + beta * norm.cdf(beta))
    spread = 0.5 * (arrival_spread_squared + service_spread_squared)
    scale = spread / jnp.maximum(spare_rate_per_s, SMALLEST)
    return probability, rare_exponential(probability, scale)


def residual_step(mean_s: Scalar, spread_squared: Scalar, busy_fraction: Scalar) -> Cumulants:
    r"""Remaining time of the running step at a random time, zero if the engine is idle.

    Moments of the residual: $E[S^{k+1}] / ((k + 1) E[S])$, with those of a gamma distribution,
    $E[S^k] = E[S]^k \prod_{j < k} (1 + j c^2)$. Source: Cox, Renewal Theory, 1962, section 5.2.
    """
    second = mean_s * (1.0 + spread_squared)
    third = second * mean_s * (1.0 + 2.0 * spread_squared)
    fourth = third * mean_s * (1.0 + 3.0 * spread_squared)
    return from_moments(
        busy_fraction * second / 2.0, busy_fraction * third / 3.0, busy_fraction * fourth / 4.0
    )


def prefill_backlog(spare_tokens: Scalar, variance_tokens: Scalar, token_s: Scalar) -> Cumulants:
    r"""Wait for prompts that did not fit into the token budget of steps before.

    The backlog is a random walk reflected at zero that loses $\delta$ tokens a step in the mean,
    with variance $\sigma^2$. Its stationary law is close to
    $P(M > x) = e^{-2 \delta (x + 0.583 \sigma) / \sigma^2}$: exact in heavy traffic, and it
    vanishes where steps have room. Source: Siegmund, Sequential Analysis, 1985, chapter 10.
    """
    variance = jnp.maximum(variance_tokens, SMALLEST_VARIANCE)
    scale = 0.5 * variance / jnp.maximum(spare_tokens, SMALLEST_VARIANCE)
    distance = 2.0 * OVERSHOOT * spare_tokens / jnp.sqrt(variance)
    return rare_exponential(jnp.exp(-jnp.maximum(distance, 0.0)), scale * token_s)
