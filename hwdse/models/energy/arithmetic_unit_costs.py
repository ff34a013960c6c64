"""Energy and area of multipliers and adders by operand width and node.

Anchors: Horowitz, 45 nm at 0.9 V (Computing's energy problem, ISSCC 2014). Other widths follow a
power law: in the significand M with its hidden bit for floating-point multipliers, in all bits for
adders and integers. A significand product has M^2 partial bits. The exponent of energy is lower
because the rest of the unit grows more slowly.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.hardware.process_nodes import log_interpolated, logic_density_mtr_per_mm2
from hwdse.specs.number_formats import FORMATS, NumberFormat


@struct.dataclass
class WidthLaw:
    """Power law through two anchors (width, value)."""

    width: Leaf
    value: Leaf
    exponent: Leaf

    def __call__(self, width: Scalar) -> Scalar:
        """Value at a width."""
        return self.value * jnp.exp(self.exponent * jnp.log(jnp.maximum(width, 1.0) / self.width))


def _through(low: tuple[float, float], high: tuple[float, float]) -> WidthLaw:
    exponent = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
    return WidthLaw(low[0], low[1], exponent)


MULTIPLY_J = _through((11.0, 1.1e-12), (24.0, 3.7e-12))
"""FP16 and FP32: exponent 1.55."""
MULTIPLY_MM2 = _through((11.0, 1640e-6), (24.0, 7700e-6))
"""Exponent 1.98."""
ADD_J = _through((16.0, 0.4e-12), (32.0, 0.9e-12))
"""Exponent 1.17."""
ADD_MM2 = _through((16.0, 1360e-6), (32.0, 4184e-6))
"""Exponent 1.62."""
INT_MULTIPLY_J = _through((8.0, 0.2e-12), (32.0, 3.1e-12))
INT_MULTIPLY_MM2 = _through((8.0, 282e-6), (32.0, 3495e-6))
INT_ADD_J = _through((8.0, 0.03e-12), (32.0, 0.1e-12))
INT_ADD_MM2 = _through((8.0, 36e-6), (32.0, 137e-6))
"""INT8 and INT32, all from the same table."""

ANCHOR_NM = 45.0
ENERGY_ANCHORS = ((45.0, 1.0), (7.0, 1.31 / 3.7), (5.0, 0.70 * 1.31 / 3.7))
"""Node (nm) and energy of the same unit relative to 45 nm. 7 nm: FP32 multiply 1.31 pJ (Jouppi et
al., ISCA 2021, table 2, its only corroborated datapath value; its other values are between x0.23
and x0.48). 5 nm: TSMC, power at equal speed."""
BELOW_5_NM = (3.0, 0.68)
"""N3E relative to N5, TSMC. Equal-voltage scaling laws (Stillmaker and Baas) are 3 to 4 times
lower."""
INTEGERS: Mapping[str, float] = MappingProxyType({"int8": 8.0, "int16": 16.0, "int32": 32.0})
"""Bits of integer formats."""
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "fp8": "fp8_e5m2",
        "mxfp8": "mxfp8_e4m3",
        "mxfp6": "mxfp6_e2m3",
        "mxfp4": "mxfp4_e2m1",
        "fp6": "mxfp6_e2m3",
        "fp4": "mxfp4_e2m1",
    }
)
"""Short names: FP8 is the format of larger range, as in FPnew; small formats are block-scaled."""


def format_of(name: str) -> NumberFormat:
    """Floating-point format by name or short name. Raises `KeyError` for others."""
    return FORMATS[ALIASES.get(name, name)]


def node_energy_ratio(node_nm: Scalar) -> Scalar:
    """Energy of a datapath relative to the same datapath at 45 nm."""
    three_nm = (BELOW_5_NM[0], ENERGY_ANCHORS[-1][1] * BELOW_5_NM[1])
    return log_interpolated(node_nm, (*ENERGY_ANCHORS, three_nm))


def node_area_ratio(node_nm: Scalar) -> Scalar:
    """Area of a datapath relative to 45 nm, by logic density; both densities are realized ones."""
    return logic_density_mtr_per_mm2(ANCHOR_NM) / logic_density_mtr_per_mm2(node_nm)


def mac_energy_j(
    significand_bits: Scalar, accumulator_bits: Scalar, energy_ratio: Scalar = 1.0
) -> Scalar:
    r"""Energy of a floating-point multiply of M significand bits and add of `accumulator_bits` (J).

    $(e_\times (M / 11)^{1.55} + e_+ (b / 16)^{1.17}) \cdot$ `energy_ratio`, which includes the node
    and, with $(V / V_n)^2$, the supply voltage. Datapath only: no operands, instructions or clock.
    """
    return energy_ratio * (MULTIPLY_J(significand_bits) + ADD_J(accumulator_bits))


def mac_area_mm2(
    significand_bits: Scalar, accumulator_bits: Scalar, area_ratio: Scalar = 1.0
) -> Scalar:
    r"""Cell area of the same unit, $a_\times (M / 11)^{1.98} + a_+ (b / 16)^{1.62}$ (mm²); no
    registers."""
    return area_ratio * (MULTIPLY_MM2(significand_bits) + ADD_MM2(accumulator_bits))


def int_mac_energy_j(bits: Scalar, accumulator_bits: Scalar, energy_ratio: Scalar = 1.0) -> Scalar:
    """Energy of an integer multiply and add (J)."""
    return energy_ratio * (INT_MULTIPLY_J(bits) + INT_ADD_J(accumulator_bits))


def int_mac_area_mm2(bits: Scalar, accumulator_bits: Scalar, area_ratio: Scalar = 1.0) -> Scalar:
    """Cell area of an integer multiplier and adder (mm²)."""
    return area_ratio * (INT_MULTIPLY_MM2(bits) + INT_ADD_MM2(accumulator_bits))


def format_mac_energy_j(
    number: NumberFormat, accumulator: NumberFormat, energy_ratio: Scalar = 1.0
) -> Scalar:
    """MAC energy of a number format (J).

    If a block of k elements shares a scale, the sum of a block is scaled once: an add of the scales
    and a multiply of the accumulator by a power of two, counted as one add of its width. Each
    element has $1 / k$ of both.
    """
    plain = mac_energy_j(number.significand_bits, accumulator.total_bits, energy_ratio)
    scales = INT_ADD_J(jnp.maximum(number.scale_bits, 1.0)) + ADD_J(accumulator.total_bits)
    is_scaled = jnp.asarray(number.scale_bits) > 0.0
    return plain + jnp.where(is_scaled, energy_ratio * scales / number.block_elements, 0.0)


def format_mac_area_mm2(
    number: NumberFormat, accumulator: NumberFormat, area_ratio: Scalar = 1.0
) -> Scalar:
    """MAC area of a number format (mm²), with one element's part of the block scaling."""
    plain = mac_area_mm2(number.significand_bits, accumulator.total_bits, area_ratio)
    scales = INT_ADD_MM2(jnp.maximum(number.scale_bits, 1.0)) + ADD_MM2(accumulator.total_bits)
    is_scaled = jnp.asarray(number.scale_bits) > 0.0
    return plain + jnp.where(is_scaled, area_ratio * scales / number.block_elements, 0.0)
