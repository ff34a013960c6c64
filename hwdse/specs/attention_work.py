"""Work of one fused attention kernel."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class AttentionWork:
    """Attention of `batch` sequences: `q_len` new tokens each, against `kv_len` tokens in all.

    Absorbed MLA decode is `num_kv_heads` 1, `head_dim` 576, `v_head_dim` 512 and
    `is_value_in_key` 1: the values are the first columns of the keys and move once.
    """

    batch: Leaf
    """Sequences."""
    q_len: Leaf
    """New tokens per sequence; few in decode."""
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
    is_decode: Leaf = 1.0
    """1 for a kernel that decodes, 0 for one that processes prompts."""
    is_replayed: Leaf = 0.0
    """1 for a benchmark that repeats the kernel on the same keys, which may stay in the cache."""
