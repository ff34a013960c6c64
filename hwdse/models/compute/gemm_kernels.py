"""Time of one matrix product on a real chip, from a single row of activations up."""

import jax.numpy as jnp

from hwdse.models.compute.kernel_rates import matrix_rate_flop_per_s
from hwdse.numerics.array_types import PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.kernel_formats import KernelFormat


def gemm_flop(m: PerOp, n: PerOp, k: PerOp) -> PerOp:
    """FLOP of a product of m x k activations and k x n weights: 2 m n k."""
    return 2.0 * m * n * k


def gemm_bytes(m: PerOp, n: PerOp, k: PerOp, fmt: KernelFormat) -> PerOp:
    """Bytes of a product when every operand moves once: m k a + n k w + m n c."""
    return m * k * fmt.activation_bytes + n * k * fmt.weight_bytes + m * n * fmt.output_bytes


def joined_s(first_s: PerOp, second_s: PerOp, sharpness: PerOp) -> PerOp:
    r"""Time of two overlapped parts: $(a^p + b^p)^{1/p}$, between their maximum and their sum."""
    longest = jnp.maximum(first_s, second_s)
    ratio = jnp.minimum(first_s, second_s) / longest
    return longest * (1.0 + ratio**sharpness) ** (1.0 / sharpness)


def gemm_time_s(
    m: PerOp, n: PerOp, k: PerOp, fmt: KernelFormat, rates: KernelRates, costs: KernelCosts
) -> PerOp:
    r"""Time of a product and of the quantization of its activations, in a replayed graph.

    $t = t_0 + \lambda k + (t_c^p + t_m^p)^{1/p}$ with the matrix time $t_c$ at the sustained rate
    and the memory time $t_m$ of `gemm_bytes`.
    """
    compute_s = gemm_flop(m, n, k) / matrix_rate_flop_per_s(fmt, rates, costs)
    hbm_bytes_per_s = rates.hbm_bytes_per_s * costs.hbm_fraction
    memory_s = gemm_bytes(m, n, k, fmt) / hbm_bytes_per_s
    cast_s = fmt.num_casts * (
        costs.start_s + m * k * (2.0 + fmt.activation_bytes) / hbm_bytes_per_s
    )
    return (
        costs.start_s + costs.depth_s * k + joined_s(compute_s, memory_s, costs.sharpness) + cast_s
    )
