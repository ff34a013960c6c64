"""Number formats: what their bits are for, and how the work of a job divides among them."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class NumberFormat:
    """Bits of one element, and of the scale that a block of elements shares, if any."""

    significand_bits: Leaf
    """The hidden bit included: the width of the multiplier."""
    exponent_bits: Leaf
    total_bits: Leaf
    scale_bits: Leaf = 0.0
    """Bits of the scale of a block."""
    block_elements: Leaf = 1.0
    """Elements that share it."""

    @property
    def stored_bits(self) -> Leaf:
        """Bits that an element takes in memory, with its share of the block's scale."""
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
    }
)
"""fp64, fp32, fp16: IEEE 754-2019, table 3.5. tf32: NVIDIA A100 whitepaper (19 bits are used, 32
stored). fp8: OCP 8-bit floating point specification 1.0. Blocks of 32 elements with an 8-bit
power-of-two scale: OCP Microscaling Formats (MX) specification 1.0, table 1."""


@flax.struct.dataclass
class PrecisionMix:
    """How the floating-point work of a job divides; the rest of the matrix work is 16-bit."""

    fp64_flop_fraction: Leaf
    """Share of all FLOP that needs fp64, in phases that run one after the other with the rest."""
    fp8_flop_fraction: Leaf
    """Share of the matrix products that runs in fp8."""
    fp64_gemm_fraction: Leaf = 0.0
    """Share of the fp64 work in large matrix products, which the 16-bit engines may emulate."""
    fp64_traffic_bytes_per_flop: Leaf = 0.0
    """HBM bytes of a flop of the other fp64 work, the inverse of its arithmetic intensity; 0
    where HBM does not bound it."""


@flax.struct.dataclass
class JobPhases:
    """Phases of a job: arrays with one entry a phase, and its number format (of `FORMATS`)."""

    flop_fraction: Leaf
    """Share of all FLOP; they sum to one."""
    traffic_bytes_per_flop: Leaf
    """Memory bytes of a flop, the inverse of the arithmetic intensity; 0 for none."""
    formats: tuple[str, ...] = flax.struct.field(pytree_node=False)
