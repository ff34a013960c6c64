"""Uncertain constants: distributions of factors on their nominal values, and samples of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.search.space.search_space import get_path, set_path

DISTRIBUTIONS = ("lognormal", "normal", "uniform", "triangular")
OUTER_SIGMAS = 1.6448536269514722
"""Standard deviations from the median to the 5 and 95 % points of a normal distribution."""
MIN_FACTOR = 1e-3
"""Lower bound of the factors: physical constants remain above zero."""
MAX_RELATIVE = 100.0
"""Upper bound of relative uncertainties: a factor of 100."""
_NODES = 20_000
"""Nodes of the midpoint rule for `log_sigma`."""


@dataclass(frozen=True)
class UncertainConstant:
    """Distribution of a leaf of the design, as factors of its nominal value.

    `low` and `high` are the 5 and 95 % points of a lognormal or normal distribution, or the ends
    of a uniform or triangular one. The mode of a triangular distribution is the nominal value.
    """

    path: str
    low: float
    high: float
    distribution: str = "lognormal"
    highest: float = math.inf
    """Maximum value of the leaf: 1 for a fraction."""
    lowest: float = 0.0
    """Minimum value of the leaf: 1 for an overhead ratio."""

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"{self.path}: distribution = {self.distribution!r}: expected one of "
                f"{', '.join(DISTRIBUTIONS)}"
            )
        if not (0.0 <= self.low <= 1.0 <= self.high and self.low < self.high < math.inf):
            raise ValueError(f"{self.path}: expected low <= nominal <= high and low < high")
        if self.distribution == "lognormal" and self.low <= 0.0:
            raise ValueError(f"{self.path}: a lognormal distribution requires low above 0")

    def factor(self, quantile: np.ndarray) -> np.ndarray:
        """Factor of the nominal value at a quantile of the distribution."""
        from scipy.special import ndtri  # not at the start of every command: 0.15 s

        u = np.asarray(quantile, float)
        low, high = self.low, self.high
        if self.distribution == "lognormal":
            return math.sqrt(low * high) * np.exp(self.log_sigma * ndtri(u))
        if self.distribution == "normal":
            sigma = (high - low) / (2.0 * OUTER_SIGMAS)
            return np.maximum(0.5 * (low + high) + sigma * ndtri(u), MIN_FACTOR)
        if self.distribution == "uniform":
            return np.maximum(low + u * (high - low), MIN_FACTOR)
        rising = low + np.sqrt(u * (high - low) * (1.0 - low))
        falling = high - np.sqrt((1.0 - u) * (high - low) * (high - 1.0))
        return np.maximum(np.where(u < (1.0 - low) / (high - low), rising, falling), MIN_FACTOR)

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the log of the factor; exact if lognormal, else by the midpoint
        rule over its quantiles."""
        if self.distribution == "lognormal":
            return math.log(self.high / self.low) / (2.0 * OUTER_SIGMAS)
        return float(np.log(self.factor(_quantiles())).std())

    def clipped_fraction(self, nominal: float) -> float:
        """Fraction of the samples around `nominal` that are set to an end of the range."""
        values = nominal * self.factor(_quantiles())
        return float(((values > self.highest) | (values < self.lowest)).mean())


def _quantiles() -> np.ndarray:
    """Midpoints of equally likely intervals."""
    return (np.arange(_NODES) + 0.5) / _NODES


def relative_uncertainty(
    path: str,
    relative: float,
    distribution: str = "lognormal",
    highest: float = math.inf,
    lowest: float = 0.0,
) -> UncertainConstant:
    """Constant with an uncertainty of +- `relative`.

    Lognormal: one standard deviation is the factor 1 + `relative`. Normal: one standard deviation
    is the fraction `relative`. Other distributions end at that distance from the nominal value.
    """
    if not 0.0 < relative < (MAX_RELATIVE if distribution == "lognormal" else 1.0):
        raise ValueError(
            f"{path}: expected a relative uncertainty above 0, and below "
            f"{100.0 * MAX_RELATIVE:,.0f} % (100 % unless lognormal)"
        )
    if distribution == "lognormal":
        factor = (1.0 + relative) ** OUTER_SIGMAS
        return UncertainConstant(path, 1.0 / factor, factor, distribution, highest, lowest)
    width = relative * (OUTER_SIGMAS if distribution == "normal" else 1.0)
    if width > 1.0:
        raise ValueError(
            f"{path}: expected a relative uncertainty with which a normal distribution stays above "
            f'zero, or distribution = "lognormal"'
        )
    return UncertainConstant(path, 1.0 - width, 1.0 + width, distribution, highest, lowest)


def sample_factors(
    uncertain_constants: Sequence[UncertainConstant], num_samples: int, seed: int
) -> np.ndarray:
    """Factors of each constant (columns) in each sample (rows): a Latin hypercube.

    Every column has one value in each of `num_samples` equally likely intervals, in random order.
    Source: McKay, Beckman, Conover, Technometrics 21(2), 1979.
    """
    generator = np.random.default_rng([seed, 0x51A])
    columns = []
    for constant in uncertain_constants:
        slices = generator.permutation(num_samples)
        columns.append(
            constant.factor((slices + generator.uniform(size=num_samples)) / num_samples)
        )
    return np.stack(columns, axis=1) if columns else np.ones((num_samples, 0))


def perturbed(
    design: Any, uncertain_constants: Sequence[UncertainConstant], factors: Sequence[Leaf] | Any
) -> Any:
    """Design with each uncertain leaf multiplied by its factor, inside its range."""
    for i, constant in enumerate(uncertain_constants):
        value = get_path(design, constant.path) * factors[i]
        if math.isfinite(constant.highest):
            value = jnp.minimum(value, constant.highest)
        if constant.lowest > 0.0:
            value = jnp.maximum(value, constant.lowest)
        design = set_path(design, constant.path, value)
    return design
