"""Percentile intervals of metrics under uncertain constants, and the variance contribution of each
constant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.search.uncertainty.uncertain_constants import (
    UncertainConstant,
    perturbed,
    sample_factors,
)

MetricsFn = Callable[[Any], Any]
"""Maps a design to a vector of metrics, each above zero."""

QUANTILES = (0.05, 0.5, 0.95)
BATCH = 256


@dataclass(frozen=True)
class VarianceBudget:
    r"""Linear variance budget: variance of $\ln v$ as $\sum_p (e_p \sigma_p)^2$."""

    elasticities: np.ndarray
    """d ln(metric) / d ln(constant): metrics by constants."""
    log_sigmas: np.ndarray
    """Standard deviation of the log of each constant."""

    @property
    def variances(self) -> np.ndarray:
        """Contribution of each constant to the variance of the log of each metric."""
        return (self.elasticities * self.log_sigmas) ** 2

    @property
    def total_sigmas(self) -> np.ndarray:
        """Standard deviation of the log of each metric."""
        return np.sqrt(self.variances.sum(axis=1))

    @property
    def shares(self) -> np.ndarray:
        """Variance contribution of each constant as a fraction; zero if the variance is zero."""
        total = self.variances.sum(axis=1, keepdims=True)
        return self.variances / np.where(total > 0.0, total, 1.0)


def sample_metrics(
    metrics_fn: MetricsFn,
    base: Any,
    uncertain_constants: Sequence[UncertainConstant],
    *,
    num_samples: int,
    seed: int,
) -> np.ndarray:
    """Metrics (columns) of the design under each sample (rows) of the constants.

    One vmapped program in batches; deterministic for a seed. Runs in the float type in scope.
    """
    factors = sample_factors(uncertain_constants, num_samples, seed)
    evaluate = quick_jit(
        jax.vmap(lambda row: metrics_fn(perturbed(base, uncertain_constants, row)))
    )
    rows = []
    for start in range(0, num_samples, BATCH):
        part = factors[start : start + BATCH]
        padded = np.concatenate((part, np.repeat(part[-1:], BATCH - len(part), axis=0)))
        rows.append(np.asarray(evaluate(jnp.asarray(padded, float)), np.float64)[: len(part)])
    return np.concatenate(rows)


def percentiles(samples: np.ndarray) -> np.ndarray:
    """5, 50 and 95 % points (rows) of each metric."""
    return np.quantile(samples, QUANTILES, axis=0)


def variance_budget(
    metrics_fn: MetricsFn, base: Any, uncertain_constants: Sequence[UncertainConstant]
) -> VarianceBudget:
    """Linear variance budget of metrics at the nominal constants, by one backward pass per
    metric."""

    def logs(log_factors: Any) -> Any:
        return jnp.log(metrics_fn(perturbed(base, uncertain_constants, jnp.exp(log_factors))))

    slopes = quick_jit(jax.jacrev(logs))(jnp.zeros(len(uncertain_constants)))
    sigmas = np.asarray([constant.log_sigma for constant in uncertain_constants])
    return VarianceBudget(np.asarray(slopes, np.float64), sigmas)
