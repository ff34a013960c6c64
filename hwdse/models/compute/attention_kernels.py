"""Time of fused attention: scores, softmax and values in one kernel."""

import jax.numpy as jnp

from hwdse.models.compute.gemm_kernels import joined_s
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates


@struct.dataclass
class AttentionWork:
    """Attention of `batch` sequences: `q_len` new tokens each, against `kv_len` tokens in all.

    Absorbed MLA decode is `num_kv_heads` 1, `head_dim` 576, `v_head_dim` 512 and
    `is_value_in_key` 1: the values are the first columns of the keys and move once.
    """

    batch: Leaf
    """Sequences."""
    q_len: Leaf
    """New tokens per sequence; 1 in decode."""
    kv_len: Leaf
    """Tokens in all per sequence: cached and new."""
    num_heads: Leaf
    """Query heads of this rank."""
    num_kv_heads: Leaf
    """Key and value heads of this rank."""
    head_dim: Leaf
    """Dimension of queries and keys."""
    v_head_dim: Leaf
    """Dimension of values."""
    kv_bytes: Leaf = 2.0
    """Bytes per element of the cached keys and values."""
    math_bits: Leaf = 16.0
    """Width of the multiplications: 16 or 8 bits."""
    is_value_in_key: Leaf = 0.0
    """1 if the values are columns of the keys (absorbed MLA)."""
    window: Leaf = 1e18
    """Sliding window: tokens that a query sees at most."""


def attention_pairs(q_len: PerOp, kv_len: PerOp, window: PerOp) -> PerOp:
    r"""Pairs of query and key of one head under a causal mask and a sliding window.

    Query $i$ of $q$ sees $\min(kv - q + i, w)$ keys.
    """
    past = kv_len - q_len
    # queries before the window is full see one key more each
    growing = jnp.clip(window - past, 0.0, q_len)
    return (
        growing * past
        + 0.5 * growing * (growing + 1.0)
        + (q_len - growing) * jnp.minimum(window, kv_len)
    )


def attention_flop(work: AttentionWork) -> PerOp:
    """FLOP of scores and values: 2 b h (d + d_v) pairs."""
    pairs = attention_pairs(work.q_len, work.kv_len, work.window)
    return 2.0 * work.batch * work.num_heads * (work.head_dim + work.v_head_dim) * pairs


def attention_bytes(work: AttentionWork) -> PerOp:
    """Bytes of queries and results (2 per element), and of the keys and values that are seen."""
    per_query = 2.0 * work.num_heads * (work.head_dim + work.v_head_dim)
    v_columns = work.v_head_dim * (1.0 - work.is_value_in_key)
    per_key = work.num_kv_heads * (work.head_dim + v_columns) * work.kv_bytes
    seen = jnp.minimum(work.kv_len, work.window + work.q_len - 1.0)
    return work.batch * (work.q_len * per_query + seen * per_key)


def attention_time_s(work: AttentionWork, rates: KernelRates, costs: KernelCosts) -> PerOp:
    """Time of the fused kernel, prefill or decode, in a replayed graph."""
    peak = jnp.where(work.math_bits > 8.0, rates.matrix_flop_per_s, rates.matrix8_flop_per_s)
    rate = peak * costs.matrix_fraction * costs.attention_fraction
    compute_s = attention_flop(work) / rate
    memory_s = attention_bytes(work) / (rates.hbm_bytes_per_s * costs.hbm_fraction)
    return costs.attention_start_s + joined_s(compute_s, memory_s, costs.sharpness)
