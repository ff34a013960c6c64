r"""Time of one matrix product on a real chip, from a single row of activations up.

Tiles of $b_m \times b_n$ outputs are dealt to the units of a chip in waves; a tile takes
$k (2 b_m b_n / r + \lambda) + o$ with the rate r of a unit, the latency $\lambda$ per unit of the
inner dimension and an overhead o. Few tiles may be split along k, which costs a sum. The fastest
tile counts. Operands stream from HBM, activations that fit from the shared cache.
$t = t_0 + (t_c^p + t_m^p)^{1/p}$. The constants that chips do not share are `KernelCosts`; those
below are fitted on all public rows together (`experiments/kernel_times`).
"""

import jax.numpy as jnp

from hwdse.models.compute.kernel_rates import matrix_rate_flop_per_s
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.kernel_formats import KernelFormat

TILES = ((64.0, 64.0), (128.0, 128.0), (128.0, 256.0))
"""Rows and columns of the tiles of a kernel library. Assumed."""
SPLIT_S = 4.18e-6
"""Time that the sum of split tiles adds. Fitted."""
LEAST_DEPTH = 53.0
"""Least part of the inner dimension that a unit gets. Fitted."""
SHARPNESS = 2.51
"""Power of the norm that joins matrix and memory time; a roofline is infinite. Fitted."""
CACHED_SHARE = 0.7
"""Share of the cache at which half of the activations still find room. Assumed."""
CACHE_SHARPNESS = 3.0
"""Power of the fall of the share of activations in the cache with their size. Assumed."""
NO_REUSE = 1e9
"""Copies of the weights that take turns where none is used twice in a row."""


def gemm_flop(m: PerOp, n: PerOp, k: PerOp) -> PerOp:
    """FLOP of a product of m x k activations and k x n weights: 2 m n k."""
    return 2.0 * m * n * k


def gemm_bytes(m: PerOp, n: PerOp, k: PerOp, fmt: KernelFormat) -> PerOp:
    """Bytes of a product when every operand moves once: m k a + n k w + m n c."""
    return m * k * fmt.activation_bytes + n * k * fmt.weight_bytes + m * n * fmt.output_bytes


def joined_s(first_s: PerOp, second_s: PerOp) -> PerOp:
    r"""Time of two overlapped parts: $(a^p + b^p)^{1/p}$, between their maximum and their sum."""
    longest = jnp.maximum(first_s, second_s)
    ratio = jnp.minimum(first_s, second_s) / longest
    return longest * (1.0 + ratio**SHARPNESS) ** (1.0 / SHARPNESS)


def cached_share(num_bytes: PerOp, rates: KernelRates) -> PerOp:
    """Share of data that is still in the shared cache after `num_bytes` of it, between 0 and 1."""
    room = CACHED_SHARE * rates.cache_bytes
    return 1.0 / (1.0 + (num_bytes / room) ** CACHE_SHARPNESS)


def depth_s(fmt: KernelFormat, costs: KernelCosts) -> PerOp:
    """Time of a tile per unit of the inner dimension beyond its rate; none in 16 bits."""
    narrow = jnp.where(fmt.math_bits > 4.0, costs.depth8_s, costs.depth4_s)
    return jnp.where(fmt.math_bits > 8.0, 0.0, narrow)


def tiles_of(extent: PerOp, tile: PerOp, *, is_mean: bool) -> PerOp:
    """Tiles that cover an extent. If it is the mean of a varying one: at least 1, not rounded."""
    return jnp.maximum(extent / tile, 1.0) if is_mean else num_tiles(extent, tile)


def matrix_time_s(
    m: PerOp,
    n: PerOp,
    k: PerOp,
    fmt: KernelFormat,
    rates: KernelRates,
    costs: KernelCosts,
    *,
    is_mean_m: bool = False,
) -> PerOp:
    """Time of the fastest tiling on the matrix engines, operands at hand.

    `is_mean_m`: m is the mean of a batch that varies from step to step; tiles and waves beyond the
    first ones of m grow with it without steps.
    """
    unit_rate = fmt.rate_ratio * matrix_rate_flop_per_s(fmt, rates, costs) / rates.num_units
    latency = depth_s(fmt, costs)
    overhead = costs.tile_overhead_cycles / rates.clock_hz
    found = []
    for rows, cols in TILES:
        columns = num_tiles(n, cols)
        tiles = tiles_of(m, rows, is_mean=is_mean_m) * columns
        per_depth = 2.0 * rows * cols / unit_rate + latency
        first = num_tiles(columns if is_mean_m else tiles, rates.num_units)
        waves = jnp.maximum(first, tiles / rates.num_units) if is_mean_m else first
        found.append(waves * (k * per_depth + overhead))
        share = tiles / rates.num_units
        depth = jnp.maximum(share * k, jnp.minimum(k, LEAST_DEPTH))
        split = depth * per_depth + overhead * jnp.maximum(share, 1.0) + SPLIT_S
        found.append(jnp.where(fmt.is_split > 0.0, split, found[-1]))
    fastest = found[0]
    for other in found[1:]:
        fastest = jnp.minimum(fastest, other)
    return fastest


def gemm_time_s(
    m: PerOp,
    n: PerOp,
    k: PerOp,
    fmt: KernelFormat,
    rates: KernelRates,
    costs: KernelCosts,
    weight_copies: PerOp = NO_REUSE,
    *,
    is_mean_m: bool = False,
) -> PerOp:
    """Time of a product, and of the quantization of its activations, in a replayed graph.

    `weight_copies`: sets of weights that take turns in a benchmark; small ones stay in the cache.
    `is_mean_m` as in `matrix_time_s`.
    """
    compute_s = matrix_time_s(m, n, k, fmt, rates, costs, is_mean_m=is_mean_m)
    hbm_bytes_per_s = rates.hbm_bytes_per_s * costs.hbm_fraction
    cache_bytes_per_s = rates.hbm_bytes_per_s * costs.cache_ratio
    beside = m * (k * fmt.activation_bytes + n * fmt.output_bytes)
    weights = n * k * fmt.weight_bytes
    near = cached_share(beside, rates)
    near_weights = cached_share(beside + weight_copies * weights, rates)
    fast = near * beside + near_weights * weights
    memory_s = (beside + weights - fast) / hbm_bytes_per_s + fast / cache_bytes_per_s
    source = cached_share(2.0 * m * k, rates)
    cast_bytes = fmt.is_cast * m * k * (4.0 + fmt.activation_bytes)
    cast_s = cast_bytes * ((1.0 - source) / hbm_bytes_per_s + source / cache_bytes_per_s)
    fixed_s = costs.start_s + fmt.fixed_s + fmt.is_eager * costs.launch_s
    return fixed_s + cast_s + joined_s(compute_s, memory_s)
