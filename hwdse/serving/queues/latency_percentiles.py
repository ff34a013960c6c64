r"""Percentiles of latencies from three cumulants.

A latency is a sum of independent parts: waits, steps, lengths. Cumulants of parts add. A Pearson
type III distribution (shifted gamma) with the same mean, variance and skewness has quantiles in
closed form by the approximation of Wilson and Hilferty.
"""

import functools
import operator

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST
from hwdse.specs.serving.serving_metrics import Latency

NORMAL_QUANTILES = (0.0, 1.2815515655, 2.3263478740)
"""Quantiles of the standard normal distribution at 50, 90 and 99 %."""
MAX_SKEWNESS = 4.0
"""The approximation holds to some per cent below 2 and loses the lower half above 4."""
SMALLEST_SKEWNESS = 1e-3
SMALLEST_VARIANCE = 1e-20
"""A tenth of a nanosecond, squared: roots of it have finite slopes in float32."""


@struct.dataclass
class Cumulants:
    """First three cumulants of a part of a latency: mean, variance, third central moment."""

    mean: Leaf
    variance: Leaf = 0.0
    third: Leaf = 0.0

    def __add__(self, other: "Cumulants") -> "Cumulants":
        """Cumulants of the sum of independent parts."""
        return Cumulants(
            self.mean + other.mean, self.variance + other.variance, self.third + other.third
        )

    def scaled(self, factor: Leaf) -> "Cumulants":
        """Cumulants of a multiple."""
        return Cumulants(factor * self.mean, factor**2 * self.variance, factor**3 * self.third)


def added(*parts: Cumulants) -> Cumulants:
    """Cumulants of a sum of independent parts."""
    return functools.reduce(operator.add, parts)


def mixed(share: Leaf, first: Cumulants, second: Cumulants) -> Cumulants:
    """Cumulants of a latency that is one of two, the first with probability `share`."""
    gap = first.mean - second.mean
    both = share * (1.0 - share)
    variance = share * first.variance + (1.0 - share) * second.variance
    third = share * first.third + (1.0 - share) * second.third
    return Cumulants(
        second.mean + share * gap,
        variance + both * gap**2,
        third
        + 3.0 * both * gap * (first.variance - second.variance)
        + both * (1.0 - 2.0 * share) * gap**3,
    )


def from_moments(first: Scalar, second: Scalar, third: Scalar) -> Cumulants:
    r"""Cumulants from moments about zero: $\mu_2 - \mu^2$, $\mu_3 - 3 \mu \mu_2 + 2 \mu^3$."""
    variance = jnp.maximum(second - first**2, 0.0)
    return Cumulants(first, variance, third - 3.0 * first * second + 2.0 * first**3)


def rare_exponential(probability: Scalar, scale: Scalar) -> Cumulants:
    """A wait that is exponential with this mean, with a probability, and zero otherwise.

    Moments about zero: $p k! s^k$.
    """
    return from_moments(
        probability * scale, 2.0 * probability * scale**2, 6.0 * probability * scale**3
    )


def gamma_like(mean: Scalar, spread_ratio: Scalar) -> Cumulants:
    r"""A positive quantity of a relative standard deviation c and the skewness $2 c^2$.

    Between a symmetric distribution (narrow ranges of lengths) and the exponential one, c = 1.
    """
    deviation = mean * spread_ratio
    return Cumulants(mean, deviation**2, 2.0 * spread_ratio**2 * deviation**3)


def standard_quantile(normal: float, skewness: Scalar) -> Scalar:
    r"""Quantile of a distribution of mean 0, variance 1 and a skewness.

    Wilson and Hilferty: $\frac{2}{s} [(1 + \frac{s z}{6} - \frac{s^2}{36})^3 - 1]$; z for s = 0.
    Source: Kite, Frequency and Risk Analyses in Hydrology, 1977, chapter 9.
    """
    size = jnp.clip(jnp.abs(skewness), SMALLEST_SKEWNESS, MAX_SKEWNESS)
    s = jnp.where(skewness < 0.0, -size, size)
    base = 1.0 + s * normal / 6.0 - s**2 / 36.0
    return 2.0 / s * (base**3 - 1.0)


def percentiles(cumulants: Cumulants, least: Scalar = 0.0) -> Latency:
    """Mean, median, 90th and 99th percentile, none below `least`."""
    variance = jnp.maximum(cumulants.variance, SMALLEST_VARIANCE)
    deviation = jnp.sqrt(variance)
    skewness = cumulants.third / (variance * deviation + SMALLEST)
    quantiles = [
        jnp.maximum(cumulants.mean + deviation * standard_quantile(z, skewness), least)
        for z in NORMAL_QUANTILES
    ]
    return Latency(cumulants.mean, *quantiles)
