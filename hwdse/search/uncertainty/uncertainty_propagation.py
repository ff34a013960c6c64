"""Bands of figures under uncertain constants, and which constant is to blame."""

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
"""Design to a vector of figures, each above zero."""

QUANTILES = (0.05, 0.5, 0.95)
BATCH = 256


@dataclass(frozen=True)
class VarianceBudget:
    r"""Linear error budget: variance of $\ln v$ as $\sum_p (e_p \sigma_p)^2$."""

    elasticities: np.ndarray
    """d ln(figure) / d ln(constant): figures by constants."""
    log_sigmas: np.ndarray
    """Standard deviation of the logarithm of each constant."""

    @property
    def variances(self) -> np.ndarray:
        """Each constant's part of the variance of the logarithm of each figure."""
        return (self.elasticities * self.log_sigmas) ** 2

    @property
    def total_sigmas(self) -> np.ndarray:
        """Standard deviation of the logarithm of each figure."""
        return np.sqrt(self.variances.sum(axis=1))

    @property
    def shares(self) -> np.ndarray:
        """Each constant's share of the variance; zero where nothing varies."""
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
    """Figures (columns) of the design under each sample (row) of the constants, from one vmapped
    program in batches; the same for the same seed. Runs in the float type in scope."""
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
    """5, 50 and 95 % points (rows) of each figure."""
    return np.quantile(samples, QUANTILES, axis=0)


def variance_budget(
    metrics_fn: MetricsFn, base: Any, uncertain_constants: Sequence[UncertainConstant]
) -> VarianceBudget:
    """The linear error budget of figures at the nominal constants, by one backward pass each."""

    def logs(log_factors: Any) -> Any:
        return jnp.log(metrics_fn(perturbed(base, uncertain_constants, jnp.exp(log_factors))))

    slopes = quick_jit(jax.jacrev(logs))(jnp.zeros(len(uncertain_constants)))
    sigmas = np.asarray([constant.log_sigma for constant in uncertain_constants])
    return VarianceBudget(np.asarray(slopes, np.float64), sigmas)
