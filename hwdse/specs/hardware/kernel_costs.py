"""Peaks of a chip as its kernels see them, and the constants of its kernel library.

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

    units_per_array: Leaf = 1.0
    """Units that run a tile each, per array of the chip. Typical: 1 (SM with one array)."""
    start_s: Leaf = 3e-6
    """Fixed time of a kernel in a replayed graph. Typical: 2.2 µs (H100)."""
    matrix_fraction: Leaf = 0.85
    """Sustained over peak 16-bit matrix rate of a full tile. Typical: 0.9."""
    matrix8_fraction: Leaf = 0.75
    """The same of 8-bit products. Typical: 0.8."""
    matrix4_fraction: Leaf = 0.75
    """The same of 4-bit products."""
    depth8_s: Leaf = 0.14e-9
    """Time that a tile adds per unit of the inner dimension in 8-bit products: scales, operands.
    Typical: 0.1 to 0.9 ns."""
    depth4_s: Leaf = 1.45e-9
    """The same of 4-bit products."""
    tile_overhead_cycles: Leaf = 350.0
    """Prologue and epilogue of a tile. Typical: 300 to 500."""
    hbm_fraction: Leaf = 0.83
    """Sustained over peak HBM bandwidth of products. Typical: 0.83."""
    cache_ratio: Leaf = 1.2
    """Bandwidth of operands in the last-level cache over the peak of the HBM, beside other traffic
    of a product. Typical: 1; 4 with GDDR (L40S)."""
    stream_start_s: Leaf = 3e-6
    """Fixed time of an elementwise kernel. Typical: 3 µs."""
    stream_fraction: Leaf = 0.85
    """Sustained over peak HBM bandwidth of elementwise kernels. Typical: 0.85."""
    stream_cache_ratio: Leaf = 2.0
    """Bandwidth of elementwise kernels on data in the last-level cache over that from HBM."""
    expert_start_s: Leaf = 50e-6
    """Fixed time of the routed experts of a layer: routing, permutation, grouped products. Typical:
    50 µs."""
    expert_fraction: Leaf = 0.6
    """Matrix rate of grouped products over that of large products. Typical: 0.6."""
    expert_hbm_fraction: Leaf = 0.7
    """Sustained over peak HBM bandwidth of grouped products. Typical: 0.7."""
    launch_s: Leaf = 20e-6
    """Host launch of a kernel outside a graph (eager). Typical: 20 µs."""
    decode_start_s: Leaf = 8e-6
    """Fixed time of an attention kernel that decodes. Typical: 8 µs."""
    prefill_start_s: Leaf = 12e-6
    """Fixed time of an attention kernel for prompts. Typical: 12 µs."""
    kv_fraction: Leaf = 0.9
    """Sustained over peak HBM bandwidth of keys and values. Typical: 0.9."""
    kv_cache_ratio: Leaf = 2.0
    """Bandwidth of keys and values in the last-level cache over their HBM bandwidth."""
    kv_block_s: Leaf = 3e-9
    """Time of one unit per cached key of one KV head (512 B), at the pace of its latency. Typical:
    3 ns."""
    attention_fraction: Leaf = 0.8
    """Sustained over peak matrix rate of the products of 16-bit attention. Typical: 0.8."""
    attention8_fraction: Leaf = 0.6
    """The same of 8-bit attention."""
    softmax_pairs_per_cycle: Leaf = 12.0
    """Pairs of query and key whose softmax one unit computes per cycle. Typical: 12."""
