"""Number formats and the division of the work of a job among them."""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class NumberFormat:
    """Bits of one element and of the scale shared by a block of elements, if any."""

    significand_bits: Leaf
    """Significand bits, hidden bit included: width of the multiplier."""
    exponent_bits: Leaf
    """Exponent bits."""
    total_bits: Leaf
    """Bits of one element, without the shared scale."""
    scale_bits: Leaf = 0.0
    """Bits of the scale of one block."""
    block_elements: Leaf = 1.0
    """Elements per block."""

    @property
    def stored_bits(self) -> Leaf:
        """Bits per element in memory, with its share of the block scale."""
        return self.total_bits + self.scale_bits / self.block_elements


_MX = {"scale_bits": 8.0, "block_elements": 32.0}

FORMATS: Mapping[str, NumberFormat] = MappingProxyType(
    {
        "fp64": NumberFormat(53.0, 11.0, 64.0),
        "fp32": NumberFormat(24.0, 8.0, 32.0),
        "tf32": NumberFormat(11.0, 8.0, 19.0),
        "fp16": NumberFormat(11.0, 5.0, 16.0),
        "bf16": NumberFormat(8.0, 8.0, 16.0),
        "fp8_e4m3": NumberFormat(4.0, 4.0, 8.0),
        "fp8_e5m2": NumberFormat(3.0, 5.0, 8.0),
        "mxfp8_e4m3": NumberFormat(4.0, 4.0, 8.0, **_MX),
        "mxfp8_e5m2": NumberFormat(3.0, 5.0, 8.0, **_MX),
        "mxfp6_e2m3": NumberFormat(4.0, 2.0, 6.0, **_MX),
        "mxfp6_e3m2": NumberFormat(3.0, 3.0, 6.0, **_MX),
        "mxfp4_e2m1": NumberFormat(2.0, 2.0, 4.0, **_MX),
        "nvfp4_e2m1": NumberFormat(2.0, 2.0, 4.0, scale_bits=8.0, block_elements=16.0),
    }
)
"""Number formats by name.

FP64, FP32, FP16: IEEE 754-2019, table 3.5. TF32: NVIDIA A100 whitepaper (19 bits used, 32
stored). FP8: OCP 8-bit floating point specification 1.0. Blocks of 32 elements with an 8-bit
power-of-two scale: OCP Microscaling Formats (MX) specification 1.0, table 1. NVFP4: blocks of 16
elements with an FP8 scale (NVIDIA, arXiv 2509.25149, section 2).
"""


@struct.dataclass
class PrecisionMix:
    """Fractions of the work of a job by number format; the remaining matrix work is 16-bit.

    Low precision is for products with weights: the attention core and the LM head are 16-bit, as
    in the recipes of Transformer Engine.
    """

    fp64_flop_fraction: Leaf
    """Fraction of all FLOP that requires FP64, in phases serialized with the other work. Typical:
    1e-4 (data pipeline, evaluation). Assumed."""
    fp8_flop_fraction: Leaf
    """Fraction of the GEMM FLOP in FP8. Typical: 0 (BF16 training)."""
    fp64_gemm_fraction: Leaf = 0.0
    """Fraction of the FP64 FLOP in large GEMMs, which the 16-bit engines can emulate."""
    fp64_traffic_bytes_per_flop: Leaf = 0.0
    """HBM bytes per FLOP of the other FP64 work: inverse arithmetic intensity; 0 if HBM does not
    bound it."""
    operand_activity_ratio: Leaf = 1.0
    """Energy of the matrix engines over that with random operands, by the bits that switch.
    Typical: 1 (training), 0.6 (GEMM of constant bytes on B300: 0.24 against 0.41 pJ/FLOP above
    clocks)."""
    fp4_flop_fraction: Leaf = 0.0
    """Fraction of the GEMM FLOP in FP4 (NVFP4, MXFP4). Typical: 0; at most what FP8 leaves."""


WIDE = PrecisionMix(fp64_flop_fraction=0.0, fp8_flop_fraction=0.0)
"""All work in 16 bits."""


@struct.dataclass
class JobPhases:
    """Phases of a job, as arrays with one entry per phase."""

    flop_fraction: Leaf
    """Fraction of all FLOP; the sum is 1."""
    traffic_bytes_per_flop: Leaf
    """HBM bytes per FLOP: inverse arithmetic intensity; 0 without traffic."""
    formats: tuple[str, ...] = struct.field(pytree_node=False)
    """Number format of each phase: entries of `FORMATS`."""
