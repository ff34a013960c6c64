"""Share of good dies: the classic laws of defects."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

SERIES_BELOW = 1e-3
"""Of the defects of a die: below it $(1 - e^{-a}) / a$ is summed as a series."""


def gross_dies_per_wafer(
    die_area_mm2: Scalar, wafer_diameter_mm: Scalar = 300.0, scribe_mm: Scalar = 0.0
) -> Scalar:
    r"""Whole dies of a wafer, $\pi (D/2)^2 / A - \pi D / \sqrt{2 A}$, at least one.

    A includes the scribe lane, $A + 2 s \sqrt{A} + s^2$. Two conventions: the plain one has
    D = 300 mm and no scribe lane (814 mm2: 63.5 dies), Chiplet Actuary's an edge of 5 mm, so
    D = 290 mm, and s = 0.2 mm (57.6 dies; `models.cost.dies_per_wafer`). Square dies; exact
    counts differ by a die or two. Source: de Vries, IEEE Trans. Semicond. Manuf. 18(1), 2005.
    """
    area = die_area_mm2 + 2.0 * scribe_mm * jnp.sqrt(die_area_mm2) + scribe_mm**2
    dies = math.pi * (wafer_diameter_mm / 2.0) ** 2 / area
    return jnp.maximum(dies - math.pi * wafer_diameter_mm / jnp.sqrt(2.0 * area), 1.0)


YieldFn = Callable[[Scalar, Scalar], Scalar]


def poisson_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    r"""$e^{-a}$ for $a = A D_0$ mean defects of a die that fall independently: the lower bound.

    Source: Murphy, Proc. IEEE 52(12), 1964, section II.
    """
    return jnp.exp(-defects)


def murphy_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    r"""$((1 - e^{-a}) / a)^2$: defect density spread as a triangle around its mean.

    Source: Murphy, Proc. IEEE 52(12), 1964. One at a = 0.
    """
    is_small = defects < SERIES_BELOW
    safe = jnp.where(is_small, 1.0, defects)
    series = 1.0 - 0.5 * defects + defects * defects / 6.0
    return jnp.where(is_small, series, -jnp.expm1(-safe) / safe) ** 2


def seeds_yield_fraction(defects: Scalar, _shape: Scalar = 1.0) -> Scalar:
    r"""$1 / (1 + a)$: defect density spread exponentially, strong clustering.

    Source: Seeds, IEDM 1967. The negative binomial of shape 1.
    """
    return 1.0 / (1.0 + defects)


def negative_binomial_yield_fraction(defects: Scalar, shape: Scalar) -> Scalar:
    r"""$(1 + a / \alpha)^{-\alpha}$: defect density with a gamma distribution of shape alpha.

    Poisson as alpha grows, Seeds at 1. Source: Stapper, IEEE Trans. Electron Devices 20(7), 1973.
    """
    return jnp.exp(-shape * jnp.log1p(defects / shape))


def bose_einstein_yield_fraction(defects: Scalar, shape: Scalar) -> Scalar:
    r"""$(1 + a)^{-k}$ for k critical layers with a defects each: Seeds in every layer.

    Here `defects` are those of one layer. Source: Price, Proc. IEEE 58(8), 1970.
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
"""Yield by name, from the mean defects of a die (area times density) and a shape: clustering of
the negative binomial, layers of Bose-Einstein, unused by the others."""


def die_yield_fraction(die_area_mm2: Scalar, defects_per_mm2: Scalar, clustering: Scalar) -> Scalar:
    r"""Negative-binomial yield $(1 + A D / \alpha)^{-\alpha}$ (Poisson as alpha grows).

    814 mm2 at 0.11 defects a cm2 and clustering 10 gives 0.424. Source: Stapper; as used by
    Chiplet Actuary (Feng and Ma, DAC 2022).
    """
    return jnp.exp(-clustering * jnp.log1p(die_area_mm2 * defects_per_mm2 / clustering))
