"""Formats of the operands of a product as kernels store and multiply them."""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class KernelFormat:
    """Stored bytes of the operands of a product and the width of its multiplications.

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
    num_casts: Leaf = 0.0
    """Kernels that quantize the activations before the product: 0 if they come quantized."""
    is_dequantized: Leaf = 0.0
    """1 if weights are widened to `math_bits` inside the product."""


KERNEL_FORMATS: Mapping[str, KernelFormat] = MappingProxyType(
    {
        "bf16": KernelFormat(2.0, 2.0, 2.0, 16.0),
        "fp16": KernelFormat(2.0, 2.0, 2.0, 16.0),
        "fp8": KernelFormat(1.0, 1.0, 2.0, 8.0),
        "fp8_static": KernelFormat(1.0, 1.0, 2.0, 8.0, num_casts=1.0),
        "fp8_dynamic": KernelFormat(1.0, 1.0, 2.0, 8.0, num_casts=2.0),
        "fp8_block": KernelFormat(1.0, 1.0, 2.0, 8.0, num_casts=1.0),
        "nvfp4": KernelFormat(0.5625, 0.5625, 2.0, 4.0, num_casts=1.0),
        "int8_smoothquant": KernelFormat(1.0, 1.0, 2.0, 8.0, num_casts=1.0),
        "int8_weight_only": KernelFormat(2.0, 1.0, 2.0, 16.0, is_dequantized=1.0),
        "int4_weight_only": KernelFormat(2.0, 0.5, 2.0, 16.0, is_dequantized=1.0),
    }
)
"""Formats by name. NVFP4 has a one-byte scale per 16 elements (NVIDIA, arXiv 2509.25149)."""
