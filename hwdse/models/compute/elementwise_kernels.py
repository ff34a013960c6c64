"""Time of kernels that multiply no matrices: norms, activations, rotary embedding, casts."""

from hwdse.models.compute.gemm_kernels import joined_s
from hwdse.numerics.array_types import PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates


def elementwise_time_s(
    num_bytes: PerOp,
    rates: KernelRates,
    costs: KernelCosts,
    vector_flop: PerOp = 0.0,
    num_kernels: PerOp = 1.0,
) -> PerOp:
    """Time of `num_kernels` kernels that move `num_bytes` in all, in a replayed graph.

    A fixed time per kernel, and the longer of vector and memory time.
    """
    memory_s = num_bytes / (rates.hbm_bytes_per_s * costs.hbm_fraction)
    vector_s = vector_flop / rates.vector_flop_per_s
    return num_kernels * costs.start_s + joined_s(memory_s, vector_s, costs.sharpness)


def eager_time_s(time_s: PerOp, num_kernels: PerOp, costs: KernelCosts) -> PerOp:
    """Time with the host launch of each kernel, outside a graph."""
    return time_s + num_kernels * costs.launch_s
