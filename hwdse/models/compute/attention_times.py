r"""Time of fused attention: scores, softmax and values in one kernel, prefill or decode.

Decode: the units share the KV heads of all sequences, and split long contexts. A unit passes keys
at the pace of its latency $\lambda$, each split adds a step $\rho$ to the sum of the parts; keys
and values stream from HBM: $t = t_0 + t_m + t_c + t_b + L \lambda / s + \rho s$. Prefill: blocks
of query rows are dealt to the units; matrix products and softmax of a block follow one another, and
the longest block bounds the time of few blocks. Forms and shared constants were fitted on all
public rows together (`experiments/kernel_times`).
"""

import jax.numpy as jnp

from hwdse.models.compute.gemm_times import cached_share, tiles_of
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.attention_work import AttentionWork
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates

BLOCK_ROWS = 128.0
"""Query rows of a block of prefill."""
HEAD_ROWS = 16.0
"""Rows of a matrix instruction: query heads of a KV head are padded to them in decode."""
KEY_BYTES = 512.0
"""Bytes of a key and a value of a head of dimension 128 in 16 bits, the unit of `kv_block_s`."""
SPLIT_S = 1.6e-6
"""Time that each split of a context adds in decode. Fitted."""
HEAD_WAVE_S = 1.16e-6
"""Time of one KV head of one sequence on a unit, beyond its keys. Fitted."""
QUERY_HEAD_S = 0.066e-6
"""The same for each of its query heads. Fitted."""
LATENT_START_RATIO = 0.25
"""Longer start of a decode kernel for latent attention. Fitted."""
BLOCK_S = 3.42e-6
"""Start of a block of prefill. Fitted."""
KEY_STEP_S = 0.54e-6
"""Latency of a step over `BLOCK_ROWS` keys in a block of prefill. Fitted."""
CRITICAL_SHARPNESS = 2.0
"""Power of the norm that joins the load of all units and the longest block. Assumed."""


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


def seen_keys(work: AttentionWork) -> PerOp:
    """Keys of a sequence that any of its new tokens sees."""
    return jnp.minimum(work.kv_len, work.window + work.q_len - 1.0)


def key_bytes(work: AttentionWork) -> PerOp:
    """Bytes of keys and values per token of one KV head."""
    v_columns = work.v_head_dim * (1.0 - work.is_value_in_key)
    return (work.head_dim + v_columns) * work.kv_bytes


def attention_bytes(work: AttentionWork) -> PerOp:
    """Bytes of queries and results (2 per element), and of the keys and values that are seen."""
    per_query = 2.0 * work.num_heads * (work.head_dim + work.v_head_dim)
    per_key = work.num_kv_heads * key_bytes(work)
    return work.batch * (work.q_len * per_query + seen_keys(work) * per_key)


def attention_time_s(
    work: AttentionWork, rates: KernelRates, costs: KernelCosts, *, is_mean_load: bool = False
) -> PerOp:
    """Time of the fused kernel in a replayed graph.

    `is_mean_load`: sizes are means of prompts that vary; blocks of queries are not rounded.
    """
    num_bytes = attention_bytes(work)
    near = work.is_replayed * cached_share(num_bytes, rates)
    slow_s = num_bytes / (rates.hbm_bytes_per_s * costs.kv_fraction)
    memory_s = slow_s * (1.0 - near + near / costs.kv_cache_ratio)
    eight = rates.matrix8_flop_per_s * costs.attention8_fraction
    wide = rates.matrix_flop_per_s * costs.attention_fraction
    unit_rate = jnp.where(work.math_bits > 8.0, wide, eight) / rates.num_units
    decode_s = _decode_s(work, rates, costs, wide)
    prefill_s = _prefill_s(work, rates, costs, unit_rate, is_mean=is_mean_load)
    return memory_s + jnp.where(work.is_decode > 0.0, decode_s, prefill_s)


def _decode_s(
    work: AttentionWork, rates: KernelRates, costs: KernelCosts, flop_per_s: PerOp
) -> PerOp:
    """Start, matrix products, heads and splits of a decode kernel."""
    heads = work.batch * work.num_kv_heads
    group = work.q_len * work.num_heads / work.num_kv_heads
    keys = seen_keys(work)
    per_key_s = costs.kv_block_s * key_bytes(work) / KEY_BYTES
    # The number of splits with the least time, within the idle units.
    best = jnp.sqrt(keys * per_key_s / SPLIT_S)
    splits = jnp.clip(best, 1.0, jnp.maximum(rates.num_units / heads, 1.0))
    along_s = keys / splits * per_key_s + SPLIT_S * splits
    heads_s = heads / rates.num_units * (HEAD_WAVE_S + QUERY_HEAD_S * group)
    rows = num_tiles(group, HEAD_ROWS) * HEAD_ROWS
    flop = 2.0 * heads * rows * keys * (work.head_dim + work.v_head_dim)
    start_s = costs.decode_start_s * (1.0 + LATENT_START_RATIO * work.is_value_in_key)
    return start_s + flop / flop_per_s + heads_s + along_s


def _prefill_s(
    work: AttentionWork,
    rates: KernelRates,
    costs: KernelCosts,
    unit_rate: PerOp,
    *,
    is_mean: bool,
) -> PerOp:
    """Start and blocks of a prefill kernel."""
    blocks = tiles_of(work.q_len, BLOCK_ROWS, is_mean=is_mean)
    padded = blocks * BLOCK_ROWS
    # A block computes all its rows up to its last key; half a block of them is masked.
    short = tiles_of(work.q_len, 0.5 * BLOCK_ROWS, is_mean=is_mean) * 0.5 * BLOCK_ROWS
    rows = jnp.where(blocks > 1.0, padded, jnp.minimum(short, padded))
    pairs = attention_pairs(work.q_len, work.kv_len, work.window)
    pairs = pairs * rows / work.q_len + 0.5 * BLOCK_ROWS * rows * jnp.where(blocks > 1.0, 1.0, 0.0)
    per_pair_s = 2.0 * (work.head_dim + work.v_head_dim) / unit_rate
    per_pair_s = per_pair_s + 1.0 / (costs.softmax_pairs_per_cycle * rates.clock_hz)
    units = rates.num_units
    tasks = blocks * work.batch * work.num_heads
    load_s = work.batch * work.num_heads * pairs / units * per_pair_s + tasks / units * BLOCK_S
    keys = seen_keys(work)
    longest_s = BLOCK_ROWS * keys * per_pair_s + keys / BLOCK_ROWS * KEY_STEP_S
    both = jnp.maximum(load_s, longest_s)
    ratio = jnp.minimum(load_s, longest_s) / both
    joined = both * (1.0 + ratio**CRITICAL_SHARPNESS) ** (1.0 / CRITICAL_SHARPNESS)
    return costs.prefill_start_s + joined
