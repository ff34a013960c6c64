"""Vector units of CPU cores, which take every operand from registers."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class Cache:
    """A cache as one core sees it."""

    capacity_bytes: Leaf
    """Of one core's cache where it is private, of the whole where cores share it."""
    bytes_per_cycle: Leaf
    """What one core takes from it in a cycle of its clock."""


@flax.struct.dataclass
class SimdEngine:
    """Equal CPU cores with `num_fma_ports` vector pipes each, and the caches behind them."""

    num_cores: Leaf
    num_fma_ports: Leaf
    """Vector multiply-accumulates that a core starts in a cycle."""
    vector_bytes: Leaf
    """Width of a vector register and of a pipe."""
    num_registers: Leaf
    """Vector registers that a program can name."""
    fma_latency_cycles: Leaf
    """Cycles until a sum can be added to again."""
    clock_hz: Leaf
    l1: Cache
    """Private; its rate is that of the load pipes."""
    l2: Cache
    """Private."""
    llc: Cache
    """Shared by all cores."""
    dram_bandwidth_bytes_per_s: Leaf


@flax.struct.dataclass
class RegisterBlock:
    """Tile of C that stays in a core's vector registers while A and B stream past (m_r, n_r)."""

    rows: Leaf
    cols: Leaf


@flax.struct.dataclass
class CacheBlocks:
    """Blocks of a product in the caches: of A, m_c x k_c, and a panel of B, k_c x n_c."""

    k: Leaf
    m: Leaf
    n: Leaf


@flax.struct.dataclass
class SimdWords:
    """Elements that a product moves, all counts; each level's towards the registers and back."""

    register_reads: Leaf
    register_writes: Leaf
    l1: Leaf
    """Between L1 and registers."""
    l2: Leaf
    """Between L2 and L1."""
    llc: Leaf
    """Between the last-level cache and L2."""
    dram: Leaf


@flax.struct.dataclass
class SimdCosts:
    """Words and time of a product; `time_s` is the slowest part, all overlapped."""

    words: SimdWords
    fma_s: Leaf
    l1_s: Leaf
    l2_s: Leaf
    llc_s: Leaf
    dram_s: Leaf
    time_s: Leaf
