r"""Time of the routed experts of one rank: grouped products, routing and permutation.

All experts with a token run in one grouped kernel per projection. The tokens of an expert are
padded to tiles, a tile at most half empty on average; every expert with a token moves its weights
once: $t = t_0 + (t_c^p + t_m^p)^{1/p}$.
"""

from hwdse.models.compute.gemm_times import cached_share, joined_s
from hwdse.models.compute.kernel_rates import matrix_rate_flop_per_s
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.kernel_formats import KernelFormat

PADDED_ROWS = 41.6
"""Rows that an expert with a token is padded by on average, at most. Fitted."""


@struct.dataclass
class ExpertWork:
    """Routed experts of one layer on one rank."""

    touched: Leaf
    """Experts with at least one token."""
    rows: Leaf
    """Tokens, counted once for each of their experts of the rank."""
    hidden: Leaf
    """Width of the layer."""
    inner: Leaf
    """Inner size of an expert on the rank."""
    num_matrices: Leaf = 3.0
    """Matrices of an expert: 3 with a gate."""


def padded_rows(work: ExpertWork) -> PerOp:
    """Rows of the grouped products. Experts with few tokens are padded by as many at most."""
    each = work.rows / work.touched
    return work.rows + work.touched * PADDED_ROWS * each / (each + PADDED_ROWS)


def expert_bytes(work: ExpertWork, fmt: KernelFormat) -> tuple[PerOp, PerOp]:
    """Bytes of the weights, and of activations: in and out of both products, permuted once."""
    weights = work.num_matrices * work.touched * work.hidden * work.inner * fmt.weight_bytes
    inner = (work.num_matrices - 1.0) * work.inner
    return weights, 2.0 * work.rows * (4.0 * work.hidden + inner + work.inner)


def expert_flop(work: ExpertWork) -> PerOp:
    """FLOP of all products without padding."""
    return 2.0 * work.num_matrices * work.rows * work.hidden * work.inner


def expert_time_s(
    work: ExpertWork,
    fmt: KernelFormat,
    rates: KernelRates,
    costs: KernelCosts,
    is_replayed: PerOp = 0.0,
) -> PerOp:
    """Time of routing, permutation, grouped products and activation of one layer on one rank.

    `is_replayed`: 1 for a benchmark that repeats the layer, whose weights may stay in the cache.
    """
    flop = 2.0 * work.num_matrices * padded_rows(work) * work.hidden * work.inner
    rate = fmt.rate_ratio * matrix_rate_flop_per_s(fmt, rates, costs)
    compute_s = flop / (rate * costs.expert_fraction)
    weights, activations = expert_bytes(work, fmt)
    hbm_bytes_per_s = rates.hbm_bytes_per_s * costs.expert_hbm_fraction
    near = is_replayed * cached_share(weights + activations, rates)
    weights = weights * (1.0 - near + near / costs.kv_cache_ratio)
    moved = weights + activations * (1.0 - cached_share(activations, rates))
    return costs.expert_start_s + joined_s(compute_s, moved / hbm_bytes_per_s)
