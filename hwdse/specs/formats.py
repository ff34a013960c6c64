"""Number formats of a job."""

import flax.struct

from hwdse.shapes import Leaf


@flax.struct.dataclass
class PrecisionMix:
    """How the floating-point work of a job divides; the rest of the matrix work is 16-bit."""

    fp64_flop_fraction: Leaf
    """Share of all FLOP that needs fp64, in phases that run one after the other with the rest."""
    fp8_flop_fraction: Leaf
    """Share of the matrix products that runs in fp8."""
