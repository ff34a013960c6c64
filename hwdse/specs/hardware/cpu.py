"""CPU cores with vector units, which read all operands from registers."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class Cache:
    """One cache level as seen by one core."""

    capacity_bytes: Leaf
    """Capacity per core if the cache is private, in total if it is shared. Typical: 64 KiB (L1),
    1 MiB (L2), 32 MiB (last level, Graviton3)."""
    bytes_per_cycle: Leaf
    """Bandwidth to one core per cycle. Typical: 48 B (L1), 32 B (L2), 16 B (last level,
    Graviton3)."""


@struct.dataclass
class SimdEngine:
    """Equal CPU cores with `num_fma_ports` vector pipes each, and their caches."""

    num_cores: Leaf
    """CPU cores. Typical: 64 (Graviton3)."""
    num_fma_ports: Leaf
    """Vector multiply-accumulates issued per core and cycle. Typical: 4 (Graviton3)."""
    vector_bytes: Leaf
    """Width of a vector register and of a pipe. Typical: 128 bit (Graviton3, NEON)."""
    num_registers: Leaf
    """Architectural vector registers. Typical: 32 (Armv8-A)."""
    fma_latency_cycles: Leaf
    """Cycles between dependent additions to one sum. Typical: 4 (Graviton3)."""
    clock_hz: Leaf
    """Core clock. Typical: 2.6 GHz (Graviton3)."""
    l1: Cache
    """Private L1 data cache. Its bandwidth is that of the load pipes."""
    l2: Cache
    """Private L2 cache."""
    llc: Cache
    """Last-level cache, shared by all cores."""
    dram_bandwidth_bytes_per_s: Leaf
    """DRAM bandwidth of all cores together. Typical: 307.2 GB/s (Graviton3)."""


@struct.dataclass
class RegisterBlock:
    """Tile of C held in the vector registers of a core while A and B stream past (m_r, n_r)."""

    rows: Leaf
    """Rows of the tile (m_r)."""
    cols: Leaf
    """Columns of the tile (n_r)."""


@struct.dataclass
class CacheBlocks:
    """GEMM blocks held in the caches: m_c x k_c of A, a k_c x n_c panel of B."""

    k: Leaf
    """Reduction extent of both blocks (k_c)."""
    m: Leaf
    """Rows of the block of A (m_c)."""
    n: Leaf
    """Columns of the panel of B (n_c)."""


@struct.dataclass
class SimdWords:
    """Elements that a GEMM transfers between levels, in both directions, all executions."""

    register_reads: Leaf
    """Elements read from vector registers."""
    register_writes: Leaf
    """Elements written to vector registers."""
    l1: Leaf
    """Elements between L1 and registers."""
    l2: Leaf
    """Elements between L2 and L1."""
    llc: Leaf
    """Elements between the last-level cache and L2."""
    dram: Leaf
    """Elements between DRAM and the last-level cache."""


@struct.dataclass
class SimdCosts:
    """Traffic and time of a GEMM. `time_s` is the largest part: full overlap."""

    words: SimdWords
    """Elements transferred per level."""
    fma_s: Leaf
    """Time of the vector pipes."""
    l1_s: Leaf
    """Time of the transfers between L1 and registers."""
    l2_s: Leaf
    """Time of the transfers between L2 and L1."""
    llc_s: Leaf
    """Time of the transfers between last-level cache and L2."""
    dram_s: Leaf
    """Time of the DRAM transfers."""
    time_s: Leaf
    """Time of the GEMM."""
