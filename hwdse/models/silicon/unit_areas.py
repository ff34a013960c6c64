"""Areas of arithmetic units from transistor counts, and of SRAM macros from bit cells."""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics.array_types import Scalar

FP64_UNIT_MTR = 0.6853
INT32_UNIT_MTR = 0.17769
"""Million transistors of a multiply-add (LLMCompass, cost_model.py: Ariane, OpenPiton)."""
BITS_PER_BYTE = 8.0
MACRO_EFFICIENCY_FRACTION = 0.70
"""Cell area over total area of an SRAM macro (WikiChip on IEDM 2022: 31.8 Mib/mm² at N3E)."""
BITCELL_UM2: Mapping[float, float] = MappingProxyType(
    {16.0: 0.074, 7.0: 0.027, 5.0: 0.021, 3.0: 0.021, 2.0: 0.0175}
)
"""High-density cells by node (µm²; TSMC at IEDM 2014, 2016, 2019, 2022 and ISSCC 2025): no shrink
to N3E."""


def float_unit_mtr(mantissa_bits: Scalar) -> Scalar:
    """Million transistors of a floating-point multiply-add, $0.6853 (m / 52)^2$.

    m bits of mantissa without the hidden bit. Source: LLMCompass, cost_model.py.
    """
    return FP64_UNIT_MTR * (mantissa_bits / 52.0) ** 2


def macro_area_mm2_per_byte(bitcell_um2: Scalar) -> Scalar:
    """Area of SRAM macros per byte: 0.324 mm²/MiB at N7."""
    return BITS_PER_BYTE * bitcell_um2 * 1e-6 / MACRO_EFFICIENCY_FRACTION
