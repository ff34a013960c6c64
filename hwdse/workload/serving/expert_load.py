r"""Load of the routed experts of a layer: experts with a token, on the mean and busiest rank.

Popularity of experts is uneven: the rate at which an expert is chosen follows a gamma distribution
of mean 1 and shape a over the experts. T tokens that each choose k of E experts leave an expert
without a token with the probability $(1 + x / a)^{-a}$, $x = -T \ln(1 - k / E)$. With
$a \to \infty$ routing is uniform, $(1 - k / E)^T$.
"""

from typing import NamedTuple

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp

SMALLEST = 1e-12


class RankLoad(NamedTuple):
    """Routed experts of one rank."""

    touched: PerOp
    """Experts with at least one token."""
    rows: PerOp
    """Rows of their products: tokens, counted once for each expert of the rank."""


def touched_fraction(
    tokens: PerOp, experts_per_token: PerOp, num_experts: PerOp, shape: PerOp
) -> PerOp:
    """Expected share of the experts of a layer that get at least one of `tokens` tokens."""
    share = jnp.clip(experts_per_token / num_experts, 0.0, 1.0 - 1e-9)
    rate = -tokens * jnp.log1p(-share)
    return -jnp.expm1(-shape * jnp.log1p(rate / shape))


def mean_rank_load(
    tokens: PerOp, experts_per_token: PerOp, num_experts: PerOp, shape: PerOp, ranks: PerOp
) -> RankLoad:
    """Load of the mean of `ranks` groups with different experts."""
    fraction = touched_fraction(tokens, experts_per_token, num_experts, shape)
    rows = tokens * experts_per_token / ranks
    return RankLoad(fraction * num_experts / ranks, rows)


def busiest_rank_load(
    tokens: PerOp,
    experts_per_token: PerOp,
    num_experts: PerOp,
    shape: PerOp,
    ranks: PerOp,
    spread_ratio: PerOp = 1.0,
) -> RankLoad:
    r"""Load of the busiest of `ranks` groups with different experts.

    $\mu + \sigma \sqrt{2 \ln r}$, the expected maximum of r independent normal values: experts
    with a token are binomial, their rows have the variance of Poisson counts with gamma rates. At
    most all experts of the rank, and all tokens. `spread_ratio` scales the excess over the mean.
    """
    fraction = touched_fraction(tokens, experts_per_token, num_experts, shape)
    mean = mean_rank_load(tokens, experts_per_token, num_experts, shape, ranks)
    local = num_experts / ranks
    spread = spread_ratio * jnp.sqrt(2.0 * jnp.log(jnp.maximum(ranks, 1.0)) + SMALLEST)
    variance = local * fraction * (1.0 - fraction)
    all_rows = tokens * jnp.minimum(experts_per_token, local)
    touched = mean.touched + spread * jnp.sqrt(variance + SMALLEST)
    touched = jnp.minimum(jnp.minimum(touched, local), jnp.maximum(all_rows, mean.touched))
    row_variance = mean.rows * (1.0 + mean.rows / (local * shape))
    rows = jnp.minimum(mean.rows + spread * jnp.sqrt(row_variance + SMALLEST), all_rows)
    return RankLoad(touched, jnp.maximum(rows, mean.rows))
