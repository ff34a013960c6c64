"""How many dies a wafer has."""

import math

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar


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
