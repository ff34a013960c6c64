"""Dies per wafer and fraction of good dies: the classic defect laws."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

SERIES_BELOW = 1e-3
"""Mean defects per die below which $(1 - e^{-a}) / a$ is summed as a series."""


def gross_dies_per_wafer(
    die_area_mm2: Scalar, wafer_diameter_mm: Scalar = 300.0, scribe_mm: Scalar = 0.0
) -> Scalar:
    r"""Whole dies per wafer, $\pi (D/2)^2 / A - \pi D / \sqrt{2 A}$, at least 1.

    A includes the scribe lane, $A + 2 s \sqrt{A} + s^2$. Two conventions: D = 300 mm without scribe
    lane (814 mm²: 63.5 dies), and Chiplet Actuary with an edge of 5 mm, so D = 290 mm, and s = 0.2
    mm (57.6 dies; `dies_per_wafer` in `cost`). Assumes square dies; exact counts differ by one or
    two dies. Source: de Vries, IEEE Trans. Semicond. Manuf. 18(1), 2005.
    """
    area = die_area_mm2 + 2.0 * scribe_mm * jnp.sqrt(die_area_mm2) + scribe_mm**2
    dies = math.pi * (wafer_diameter_mm / 2.0) ** 2 / area
    return jnp.maximum(dies - math.pi * wafer_diameter_mm / jnp.sqrt(2.0 * area), 1.0)


YieldFn = Callable[[Scalar, Scalar], Scalar]


def poisson_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    """Poisson yield $e^{-a}$ for $a = A D_0$ independent mean defects per die: the lower bound.

    Source: Murphy, Proc. IEEE 52(12), 1964, section II.
    """
    return jnp.exp(-defects)


def murphy_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    """Murphy yield $((1 - e^{-a}) / a)^2$: triangular distribution of the defect density.

    One at a = 0. Source: Murphy, Proc. IEEE 52(12), 1964.
    """
    is_small = defects < SERIES_BELOW
    safe = jnp.where(is_small, 1.0, defects)
    series = 1.0 - 0.5 * defects + defects * defects / 6.0
    return jnp.where(is_small, series, -jnp.expm1(-safe) / safe) ** 2


def seeds_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    """Seeds yield $1 / (1 + a)$: exponential distribution of the defect density, strong clustering.

    The negative binomial of shape 1. Source: Seeds, IEDM 1967.
    """
    return 1.0 / (1.0 + defects)


def negative_binomial_yield_fraction(defects: Scalar, shape: Scalar) -> Scalar:
    r"""Negative-binomial yield $(1 + a / \alpha)^{-\alpha}$: gamma-distributed defect density.

    Shape alpha: Poisson for large alpha, Seeds at 1. Source: Stapper, IEEE Trans. Electron Devices
    20(7), 1973.
    """
    return jnp.exp(-shape * jnp.log1p(defects / shape))


def bose_einstein_yield_fraction(defects: Scalar, shape: Scalar) -> Scalar:
    """Bose-Einstein yield $(1 + a)^{-k}$: k critical layers with a defects each.

    Seeds in every layer; `defects` are those of one layer. Source: Price, Proc. IEEE 58(8), 1970.
    """
    return jnp.exp(-shape * jnp.log1p(defects))


YIELDS: Mapping[str, YieldFn] = MappingProxyType(
    {
        "poisson": poisson_yield_fraction,
        "murphy": murphy_yield_fraction,
        "seeds": seeds_yield_fraction,
        "negative_binomial": negative_binomial_yield_fraction,
        "bose_einstein": bose_einstein_yield_fraction,
    }
)
"""Yield by name, from the mean defects per die (area times density) and a shape: clustering of the
negative binomial, layers of Bose-Einstein, unused by the others."""


def die_yield_fraction(die_area_mm2: Scalar, defects_per_mm2: Scalar, clustering: Scalar) -> Scalar:
    r"""Negative-binomial yield of a die, $(1 + A D / \alpha)^{-\alpha}$ (Poisson for large alpha).

    814 mm² at 0.11 defects per cm² and clustering 10 gives 0.424. Source: Stapper; as used by
    Chiplet Actuary (Feng and Ma, DAC 2022).
    """
    return jnp.exp(-clustering * jnp.log1p(die_area_mm2 * defects_per_mm2 / clustering))
