"""Robust objectives under uncertain constants: mean, worst case or a quantile over one fixed
sample."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.relaxation import Relaxation
from hwdse.search.evaluation.search_result import ObjectivesFn
from hwdse.search.uncertainty.uncertain_constants import (
    UncertainConstant,
    perturbed,
    sample_factors,
)

RULES = ("mean", "worst", "quantile")
"""Rules that reduce a sample to one value."""
DEFAULT_SAMPLES = 16
SAMPLES_AT_ONCE = 64
"""Samples of a design evaluated in parallel; further samples follow sequentially in the same
memory."""


@dataclass(frozen=True)
class Robust:
    """Rule that reduces the values of a sample to one: a name of `RULES`, and the level of a
    quantile."""

    rule: str
    share: float = 0.5
    num_samples: int = DEFAULT_SAMPLES

    @property
    def text(self) -> str:
        """Text of the rule in a search file."""
        return f"quantile {self.share:g}" if self.rule == "quantile" else self.rule

    def merged(self, logs: Any) -> Any:
        """Log of the reduced value, from the logs of each sample (first axis)."""
        if self.rule == "mean":
            return _log_mean(logs)
        if self.rule == "worst":
            return jnp.max(logs, axis=0)
        return jnp.quantile(logs, self.share, axis=0)


def parse_robust(text: str, num_samples: int = DEFAULT_SAMPLES) -> Robust:
    """Rule of the text `mean`, `worst` or `quantile 0.9`; raises `ValueError` with the allowed
    values."""
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


@dataclass(frozen=True)
class RobustObjectivesFn:
    r"""Robust objectives over a sample of the constants that is fixed for all designs of a seed.

    Mean: $\ln \overline{v}$; worst: the largest value; quantile: linear between the two adjacent
    samples. Constraints take the same rule: "worst" is feasible in every sample, "quantile 0.9" in
    90 % of them. With common random numbers (the same sample for all designs), differences between
    designs are far less noisy than the values: Glasserman, Monte Carlo Methods, 2003, section 7.2.

    Instances with equal fields are equal, which keys the cache of compiled programs.
    """

    objectives_fn: ObjectivesFn
    uncertain_constants: tuple[UncertainConstant, ...]
    robust: Robust
    seed: int

    def __call__(self, design: Any, relaxation: Relaxation) -> tuple[Any, Any]:
        """Reduced logs of the objectives, and reduced constraint values."""
        factors = sample_factors(self.uncertain_constants, self.robust.num_samples, self.seed)
        values, broken = over_sample(
            lambda varied: self.objectives_fn(varied, relaxation),
            design,
            self.uncertain_constants,
            factors,
        )
        return self.robust.merged(values), self.robust.merged(broken)


def over_sample(
    function: Callable[[Any], Any],
    design: Any,
    uncertain_constants: tuple[UncertainConstant, ...],
    factors: np.ndarray,
) -> Any:
    """Values of a function of the design under each sample of the constants; `factors` has one row
    per sample.

    One vmapped program in parts of `SAMPLES_AT_ONCE`, so that memory does not grow with the number
    of samples.
    """

    def one(row: Any) -> Any:
        return function(perturbed(design, uncertain_constants, row))

    num_samples = len(factors)
    if num_samples <= SAMPLES_AT_ONCE:
        return jax.vmap(one)(jnp.asarray(factors, float))
    num_turns = -(-num_samples // SAMPLES_AT_ONCE)
    rows = np.resize(factors, (num_turns * SAMPLES_AT_ONCE, factors.shape[1]))
    turns = jnp.asarray(rows, float).reshape(num_turns, SAMPLES_AT_ONCE, -1)
    outcome = jax.lax.map(jax.vmap(one), turns)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_samples], outcome)


def _log_mean(logs: Any) -> Any:
    """Log of the mean over the first axis.

    Pairwise summation: the rounding error grows with the logarithm of the number of samples,
    within the margin of the float32 screening pass.
    """
    largest = jax.lax.stop_gradient(jnp.max(logs, axis=0))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    terms = jnp.exp(logs - largest)
    while len(terms) > 1:
        half = len(terms) // 2
        terms = jnp.concatenate((terms[:half] + terms[half : 2 * half], terms[2 * half :]))
    return jnp.log(terms[0]) + largest - math.log(len(logs))
