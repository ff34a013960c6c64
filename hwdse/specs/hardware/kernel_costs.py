"""What the kernels of a chip run on, and the constants of its kernel library.

`KernelRates` are published peaks of a chip; a hypothetical chip has them too. `KernelCosts` are
fitted on measured kernels of chips that exist; other chips take those of a class.
"""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class KernelRates:
    """Peaks of a chip as its kernels see them."""

    matrix_flop_per_s: Leaf
    """Dense 16-bit peak of the matrix engines. Typical: 989 TFLOP/s (H100)."""
    matrix8_flop_per_s: Leaf
    """Dense 8-bit peak. Typical: 1979 TFLOP/s (H100)."""
    matrix4_flop_per_s: Leaf
    """Dense 4-bit peak; of chips without 4-bit units the 8-bit peak."""
    vector_flop_per_s: Leaf
    """FP32 peak of the vector engines. Typical: 31 TFLOP/s without counting a multiply-add twice
    (H100)."""
    hbm_bytes_per_s: Leaf
    """Peak HBM bandwidth. Typical: 3.35 TB/s (H100)."""
    cache_bytes: Leaf
    """Last-level cache shared by all units. Typical: 50 MiB (H100)."""
    num_units: Leaf
    """Units that run a tile each: SMs, compute units, cores. Typical: 132 (H100)."""
    clock_hz: Leaf
    """Clock of the units. Typical: 1.83 GHz (H100)."""


@struct.dataclass
class KernelCosts:
    """Constants of the kernels of one chip."""

    start_s: Leaf
    """Fixed time of a kernel in a replayed graph. Typical: 2.8 µs (H100)."""
    depth_s: Leaf
    """Latency per unit of the inner dimension of a product. Typical: 0.2 ns."""
    matrix_fraction: Leaf
    """Sustained over peak 16-bit matrix rate. Typical: 0.8."""
    matrix8_fraction: Leaf
    """The same of 8-bit products. Typical: 0.7."""
    matrix4_fraction: Leaf
    """The same of 4-bit products. Typical: 0.5."""
    hbm_fraction: Leaf
    """Sustained over peak HBM bandwidth. Typical: 0.85."""
    sharpness: Leaf
    """Power of the norm that joins compute and memory time; infinite is a roofline. Typical: 3."""
    launch_s: Leaf
    """Host launch of a kernel outside a graph (eager). Typical: 20 µs."""
    attention_fraction: Leaf
    """Matrix rate of fused attention over that of large products. Typical: 0.7."""
    attention_start_s: Leaf
    """Fixed time of a fused attention kernel. Typical: 8 µs."""
    units_per_array: Leaf
    """Units that run a tile each, per array of the chip. Typical: 4 (H100: 33 arrays, 132 SMs)."""


PROVISIONAL = KernelCosts(
    start_s=2.8e-6,
    depth_s=0.2e-9,
    matrix_fraction=0.8,
    matrix8_fraction=0.7,
    matrix4_fraction=0.5,
    hbm_fraction=0.84,
    sharpness=3.0,
    launch_s=20e-6,
    attention_fraction=0.7,
    attention_start_s=8e-6,
    units_per_array=4.0,
)
"""Constants until the fit is in `configs/libraries/kernels.csv`."""
