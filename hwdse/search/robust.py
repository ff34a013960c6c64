"""Costs that hold under uncertain constants: mean, worst or a quantile over one fixed sample."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics import Reading
from hwdse.search.spreads import Spread, perturbed, sample_factors

Costs = Callable[[Any, Reading], tuple[Any, Any]]
"""Design and reading to the logs of objectives and of the constraints' value over limit."""

RULES = ("mean", "worst", "quantile")
DEFAULT_SAMPLES = 16


@dataclass(frozen=True)
class Robust:
    """How figures of a sample become one: a rule of `RULES`, and the share of a quantile."""

    rule: str
    share: float = 0.5
    num_samples: int = DEFAULT_SAMPLES

    @property
    def text(self) -> str:
        """As a search file has it."""
        return f"quantile {self.share:g}" if self.rule == "quantile" else self.rule


def parse_robust(text: str, num_samples: int = DEFAULT_SAMPLES) -> Robust:
    """`mean`, `worst` or `quantile 0.9`; raises `ValueError` whose text says what is allowed."""
    rule, *rest = text.split() or [""]
    if rule in ("mean", "worst") and not rest:
        return Robust(rule, num_samples=num_samples)
    try:
        share = float(rest[0]) if rule == "quantile" and len(rest) == 1 else math.nan
    except ValueError:
        share = math.nan
    if not 0.0 < share < 1.0:
        raise ValueError('one of mean, worst, "quantile Q" with Q between 0 and 1')
    return Robust(rule, share, num_samples)


def robust_costs(costs: Costs, spreads: Sequence[Spread], robust: Robust, seed: int) -> Costs:
    r"""Costs over a sample of the constants, which is the same for every design and seed alike.

    Mean: $\ln \overline{v}$; worst: the largest; quantile: linear between the two samples beside
    it. Constraints take the same rule: "worst" holds in every sample, "quantile 0.9" in 90 % of
    them. Common random numbers (the same sample for all designs) leave differences between designs
    far less noisy than either figure: Glasserman, Monte Carlo Methods, 2003, section 7.2.
    """
    factors = sample_factors(spreads, robust.num_samples, seed)

    def merged(logs: Any) -> Any:
        if robust.rule == "mean":
            return jax.nn.logsumexp(logs, axis=0) - math.log(robust.num_samples)
        if robust.rule == "worst":
            return jnp.max(logs, axis=0)
        return jnp.quantile(logs, robust.share, axis=0)

    def over_sample(design: Any, reading: Reading) -> tuple[Any, Any]:
        def one(row: Any) -> tuple[Any, Any]:
            return costs(perturbed(design, spreads, row), reading)

        values, broken = jax.vmap(one)(jnp.asarray(factors, float))
        return merged(values), merged(broken)

    return over_sample
