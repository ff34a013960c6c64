"""Time of the feed-forward experts of one rank: grouped products, routing and permutation."""

import jax.numpy as jnp

from hwdse.models.compute.gemm_kernels import joined_s
from hwdse.models.compute.kernel_rates import matrix_rate_flop_per_s
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.kernel_formats import KernelFormat


@struct.dataclass
class ExpertWork:
    """Experts of one rank: a gated feed-forward network of `hidden` x `inner` per expert."""

    num_tokens: Leaf
    """Tokens that are routed among all experts of the layer."""
    experts_per_token: Leaf
    """Routed experts per token (top k)."""
    num_experts: Leaf
    """Experts of the layer."""
    hidden: Leaf
    """Model dimension."""
    inner: Leaf
    """Inner dimension of one expert, before tensor sharding."""
    expert_shards: Leaf = 1.0
    """Ranks that share the experts of the layer."""
    tensor_shards: Leaf = 1.0
    """Ranks that share the inner dimension of an expert."""
    skew: Leaf = 0.0
    """Exponent of a power law of expert popularity; 0 is balanced routing."""


def experts_touched(num_tokens: PerOp, experts_per_token: PerOp, num_experts: PerOp) -> PerOp:
    r"""Expected experts with a token under random routing: $E (1 - (1 - k / E)^T)$."""
    share = jnp.clip(experts_per_token / num_experts, 0.0, 1.0 - 1e-9)
    return -num_experts * jnp.expm1(num_tokens * jnp.log1p(-share))


def moe_flop(work: ExpertWork) -> PerOp:
    """FLOP of one rank under balanced routing: 6 T k / ep x hidden x inner / tp."""
    tokens = work.num_tokens * work.experts_per_token / work.expert_shards
    return 6.0 * tokens * work.hidden * work.inner / work.tensor_shards


def moe_ffn_time_s(
    work: ExpertWork, fmt: KernelFormat, rates: KernelRates, costs: KernelCosts
) -> PerOp:
    """Time of routing, permutation, both grouped products and the gated activation of one rank."""
    inner = work.inner / work.tensor_shards
    touched = experts_touched(work.num_tokens, work.experts_per_token, work.num_experts)
    touched = touched / work.expert_shards
    rows = work.num_tokens * work.experts_per_token / work.expert_shards
    hbm_bytes_per_s = rates.hbm_bytes_per_s * costs.hbm_fraction
    weights = 3.0 * touched * work.hidden * inner * fmt.weight_bytes
    activations = rows * (4.0 * work.hidden + 6.0 * inner)
    compute_s = moe_flop(work) / matrix_rate_flop_per_s(fmt, rates, costs)
    memory_s = (weights + activations) / hbm_bytes_per_s
    return 6.0 * costs.start_s + joined_s(compute_s, memory_s, costs.sharpness)
