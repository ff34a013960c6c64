"""Formats of the operands of a product as kernels store and multiply them."""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class KernelFormat:
    """Stored bytes of the operands of a product, the width of its multiplications, its casts.

    All leaves: formats of several operators stack into arrays with one element per operator.
    """

    activation_bytes: Leaf
    """Bytes per element of the activations that the product reads."""
    weight_bytes: Leaf
    """Bytes per element of the weights, with their share of block scales."""
    output_bytes: Leaf
    """Bytes per element of the result."""
    math_bits: Leaf
    """Width of the multiplications: 16, 8 or 4 bits."""
    is_cast: Leaf = 0.0
    """1 if 16-bit activations are quantized before the product, by kernels of its own."""
    fixed_s: Leaf = 0.0
    """Fixed time beyond that of a plain product: further kernels, scales, host launch."""
    rate_ratio: Leaf = 1.0
    """Matrix rate over that of a plain product of this width."""
    is_eager: Leaf = 0.0
    """1 if the host launches the product alone, outside a graph."""
    is_split: Leaf = 1.0
    """1 if the library may split tiles along the inner dimension."""


KERNEL_FORMATS: Mapping[str, KernelFormat] = MappingProxyType(
    {
        "plain": KernelFormat(2.0, 2.0, 2.0, 16.0),
        "plain_eager": KernelFormat(2.0, 2.0, 2.0, 16.0, is_eager=1.0),
        "fp8_dynamic": KernelFormat(
            1.0, 1.0, 2.0, 8.0, is_cast=1.0, fixed_s=10.2e-6, rate_ratio=1.16
        ),
        "fp8_static": KernelFormat(
            1.0, 1.0, 2.0, 8.0, is_cast=1.0, fixed_s=11.9e-6, rate_ratio=1.06
        ),
        "fp8_block": KernelFormat(
            1.0, 1.0, 2.0, 8.0, is_cast=1.0, fixed_s=2.34e-6, rate_ratio=0.834, is_split=0.0
        ),
        "nvfp4": KernelFormat(0.5625, 0.5625, 2.0, 4.0, is_cast=1.0, fixed_s=4.05e-6, is_split=0.0),
        "int8_smoothquant": KernelFormat(1.0, 1.0, 2.0, 8.0, fixed_s=7.3e-6, rate_ratio=1.07),
        "int8_weight_only": KernelFormat(2.0, 1.0, 2.0, 16.0, fixed_s=8.81e-6, rate_ratio=1.04),
        "int4_weight_only": KernelFormat(2.0, 0.5, 2.0, 16.0, fixed_s=10.1e-6, rate_ratio=0.969),
    }
)
"""Formats of measured products by name. NVFP4 has a one-byte scale per 16 elements (NVIDIA, arXiv
2509.25149)."""
