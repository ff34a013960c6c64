"""Time of kernels that multiply no matrices: norms, activations, rotary embedding, casts."""

from hwdse.models.compute.gemm_times import cached_share, joined_s
from hwdse.numerics.array_types import PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates


def elementwise_time_s(
    num_bytes: PerOp,
    rates: KernelRates,
    costs: KernelCosts,
    vector_flop: PerOp = 0.0,
    num_kernels: PerOp = 1.0,
    traffic_ratio: PerOp = 1.0,
) -> PerOp:
    """Time of `num_kernels` kernels that move `num_bytes` in all, in a replayed graph.

    A fixed time per kernel, and the longer of vector and memory time; data that another kernel has
    just written come from the shared cache as far as they fit. `traffic_ratio`: time on the memory
    over that of a copy of as many bytes.
    """
    near = cached_share(num_bytes, rates)
    slow_s = traffic_ratio * num_bytes / (rates.hbm_bytes_per_s * costs.stream_fraction)
    memory_s = slow_s * (1.0 - near + near / costs.stream_cache_ratio)
    vector_s = vector_flop / rates.vector_flop_per_s
    return num_kernels * costs.stream_start_s + joined_s(memory_s, vector_s)
