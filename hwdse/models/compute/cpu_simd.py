"""Time and memory traffic of matrix multiplication on the vector units of a CPU.

A vector unit has no neighbor that forwards operands: each multiply-accumulate reads its factors and
its sum from registers. A program keeps a block of C of m_r x n_r elements in registers and streams
a column of A and a row of B past it. L1 is read 1 / m_r + 1 / n_r times per multiply-accumulate.
The scratchpad of an R x C array is read 1 / R + 1 / C times. Registers bound the block; die area
bounds the array.

Sources: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3),
2008; Low, Igual, Smith and Quintana-Orti, Analytical Modeling Is Enough for High-Performance BLIS,
ACM TOMS 43(2), 2016.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, floor_ste, maximum, num_tiles
from hwdse.specs.hardware.cpu import (
    Cache,
    CacheBlocks,
    RegisterBlock,
    SimdCosts,
    SimdEngine,
    SimdWords,
)
from hwdse.workload.gemms import Gemms

RESIDENT_FRACTION = 0.5
"""Fraction of a cache for its resident block; the remainder holds streamed data. Source: Goto and
van de Geijn, TOMS 2008, section 6.3 (about half of L1 and of the next level)."""
MAX_REGISTERS = 64
"""Largest number of registers for which blocks are enumerated."""


def lanes(engine: SimdEngine, bytes_per_element: PerOp) -> PerOp:
    """Elements per vector register."""
    return engine.vector_bytes / bytes_per_element


def simd_peak_flop_per_s(engine: SimdEngine, bytes_per_element: PerOp) -> PerOp:
    """Peak rate of all cores (FLOP/s), $2 P v N f$: P pipes of v lanes in each of N cores."""
    macs_per_cycle = engine.num_fma_ports * lanes(engine, bytes_per_element) * engine.num_cores
    return 2.0 * macs_per_cycle * engine.clock_hz


def ideal_register_block(num_registers: PerOp, num_lanes: PerOp) -> RegisterBlock:
    r"""Real-valued block with the fewest L1 reads for a number of registers.

    The block, a column of A and a row of B must fit: $(m_r n_r + m_r + n_r) / v \le V$, or
    $(m_r + 1)(n_r + 1) \le V v + 1$. The minimum of $1 / m_r + 1 / n_r$ is the square,
    $m_r = n_r = \sqrt{V v + 1} - 1$. Assumes that one lane of B can be an operand (NEON, SVE), and
    no registers for prefetched values.
    """
    side = jnp.sqrt(num_registers * num_lanes + 1.0) - 1.0
    return RegisterBlock(side, side)


def _integer_block(num_registers: PerOp, num_lanes: PerOp) -> RegisterBlock:
    """Best block of whole vectors; ties go to the block with fewer rows. No gradient."""
    vectors = np.arange(1.0, MAX_REGISTERS)[:, None]
    cols = np.arange(1.0, MAX_REGISTERS)[None, :]
    registers, width = (jnp.asarray(x, float)[..., None, None] for x in (num_registers, num_lanes))
    rows = vectors * width
    row_vectors = jnp.ceil((cols - 0.5) / width)
    is_whole = (cols < width) | (jnp.abs(row_vectors * width - cols) < 0.5)
    fits = vectors * cols + vectors + row_vectors <= registers + 1e-3
    words = jnp.where(fits & is_whole, 1.0 / rows + 1.0 / cols, jnp.inf)
    flat = jnp.reshape(words, (*words.shape[:-2], -1))
    # Slightly favors earlier entries, so that rounding errors do not break ties.
    order = 1.0 + 1e-6 * np.arange(flat.shape[-1]) / flat.shape[-1]
    index = jnp.argmin(flat * order, axis=-1)
    best_vectors, best_cols = jnp.divmod(index, cols.shape[-1])
    return RegisterBlock((best_vectors + 1.0) * num_lanes, best_cols + 1.0)


def register_block(
    engine: SimdEngine, bytes_per_element: PerOp, relaxation: Relaxation = EXACT
) -> RegisterBlock:
    r"""Block of C that a kernel keeps in registers.

    Exact: the best block with rows of whole vectors and columns of whole vectors or fewer than one,
    under $a n_r + a + \lceil n_r / v \rceil \le V$ with $a = m_r / v$. For 32 registers of 128 bits
    it is 8 x 12 in FP32, 6 x 8 in FP64 and 8 x 24 in FP16. Its gradient is that of
    `ideal_register_block`; a smooth relaxation interpolates between the two.
    """
    arguments = engine.num_registers, lanes(engine, bytes_per_element)
    ideal = ideal_register_block(*arguments)
    rounded = _integer_block(*jax.lax.stop_gradient(arguments))

    def blended(exact: PerOp, relaxed: PerOp) -> PerOp:
        shift = exact - jax.lax.stop_gradient(relaxed)
        return relaxed + shift * (1.0 if relaxation.is_exact else 1.0 - relaxation.temperature)

    return RegisterBlock(blended(rounded.rows, ideal.rows), blended(rounded.cols, ideal.cols))


def step_cycles(
    block: RegisterBlock,
    engine: SimdEngine,
    bytes_per_element: PerOp,
    relaxation: Relaxation = EXACT,
) -> PerOp:
    r"""Cycles of the multiply-accumulates of one k: $\max(m_r n_r / (v P), L)$.

    Each sum is updated once per step, so a step takes at least the latency L. A block needs
    $m_r n_r \ge v L P$ elements to keep the pipes busy. Source: Low et al., eq. (1).
    """
    vectors = block.rows * block.cols / lanes(engine, bytes_per_element)
    return maximum(vectors / engine.num_fma_ports, engine.fma_latency_cycles, relaxation)


def _clipped_integer(extent: PerOp, least: PerOp, most: PerOp) -> PerOp:
    """`extent` as an integer from `least` to `most`; `most` takes precedence."""
    return jnp.minimum(jnp.maximum(floor_ste(extent * (1.0 + 1e-6)), least), most)


def cache_blocks(
    gemms: Gemms, engine: SimdEngine, bytes_per_element: PerOp, block: RegisterBlock
) -> CacheBlocks:
    """Blocks that fill half of each cache: $k_c n_r$ in L1, $m_c k_c$ in L2, $k_c n_c$ in the LLC.

    Source: Goto and van de Geijn, TOMS 2008, section 6; Van Zee and van de Geijn, BLIS, TOMS 2015.
    """

    def elements(cache: Cache) -> PerOp:
        return RESIDENT_FRACTION * cache.capacity_bytes / bytes_per_element

    k = _clipped_integer(elements(engine.l1) / block.cols, 1.0, gemms.k)
    m = _clipped_integer(elements(engine.l2) / k, block.rows, gemms.m)
    n = _clipped_integer(elements(engine.llc) / k, block.cols, gemms.n)
    return CacheBlocks(k=k, m=m, n=n)


def _kept_fraction(elements: PerOp, cache: Cache, bytes_per_element: PerOp) -> PerOp:
    """Fraction of a block that fits into the resident part of a cache."""
    room = RESIDENT_FRACTION * cache.capacity_bytes / bytes_per_element
    return jnp.minimum(room / jnp.maximum(elements, 1.0), 1.0)


def simd_words(
    gemms: Gemms, engine: SimdEngine, bytes_per_element: PerOp, relaxation: Relaxation = EXACT
) -> SimdWords:
    r"""Elements of A, B and C moved at each level by a cache-blocked GEMM, all counts.

    | level | A | B | C |
    | --- | --- | --- | --- |
    | registers | each MAC | each MAC | each MAC, read and written |
    | L1 | $\lceil n / n_r \rceil$ | $\lceil m / m_r \rceil$ | $2 \lceil k / k_c \rceil - 1$ |
    | L2 | $\lceil n / n_r \rceil$ | $\lceil m / m_c \rceil$ | $2 \lceil k / k_c \rceil - 1$ |
    | LLC | $\lceil n / n_c \rceil$ | $\lceil m / m_c \rceil$ | $2 \lceil k / k_c \rceil - 1$ |
    | DRAM | $\lceil n / n_c \rceil$ | 1 | $2 \lceil k / k_c \rceil - 1$ |

    times the elements of the operand. Data that fits into a cache is not fetched again: the block
    of A in L1 and the strip of C in the LLC, each by its fitting fraction. Packing of A and B into
    contiguous panels is left out: it reads A $\lceil n / n_c \rceil$ more times and B once more.
    """
    block = register_block(engine, bytes_per_element, relaxation)
    blocks = cache_blocks(gemms, engine, bytes_per_element, block)
    a, b, c = gemms.m * gemms.k, gemms.k * gemms.n, gemms.m * gemms.n
    a_outer = num_tiles(gemms.n, blocks.n, relaxation)
    a_inner = num_tiles(gemms.n, block.cols, relaxation)
    b_outer = num_tiles(gemms.m, blocks.m, relaxation)
    b_inner = num_tiles(gemms.m, block.rows, relaxation)
    c_passes = 2.0 * num_tiles(gemms.k, blocks.k, relaxation) - 1.0
    a_kept = _kept_fraction(blocks.m * blocks.k, engine.l1, bytes_per_element)
    # The strip of C is m x n_c; n_c k_c fills the cache's resident part unless n is smaller.
    c_kept = jnp.maximum(
        _kept_fraction(c, engine.llc, bytes_per_element), jnp.minimum(blocks.k / gemms.m, 1.0)
    )
    a_to_l1 = a * (a_kept * a_outer + (1.0 - a_kept) * a_inner)
    c_beyond = c * (c_kept + (1.0 - c_kept) * c_passes)
    c_stores = 0.5 * (c_passes + 1.0) * c
    macs, loads = gemms.m * gemms.k * gemms.n, a * a_inner + b * b_inner
    words = SimdWords(
        register_reads=3.0 * macs + c_stores,
        register_writes=macs + loads + c_passes * c - c_stores,
        l1=loads + c_passes * c,
        l2=a_to_l1 + b * b_outer + c_passes * c,
        llc=a * a_outer + b * b_outer + c_passes * c,
        dram=a * a_outer + b + c_beyond,
    )
    return jax.tree.map(lambda x: gemms.count * x, words)


def simd_costs(
    gemms: Gemms, engine: SimdEngine, bytes_per_element: PerOp, relaxation: Relaxation = EXACT
) -> SimdCosts:
    r"""Words and time of GEMMs on all cores: the slowest of pipes and levels, all overlapped.

    Register blocks are distributed over cores, $\lceil \lceil m / m_r \rceil \lceil n / n_r \rceil
    \cdot count / N \rceil$ to the busiest, each with k steps of `step_cycles`. A partial block
    costs as much as a full one. Private caches serve busy cores only. Assumes that cores share a
    block of A if there are fewer blocks than cores (Smith et al., IPDPS 2014: threads inside the
    macro-kernel), and that prefetching hides latencies.
    """
    block = register_block(engine, bytes_per_element, relaxation)
    row_blocks = num_tiles(gemms.m, block.rows, relaxation)
    col_blocks = num_tiles(gemms.n, block.cols, relaxation)
    num_blocks = row_blocks * col_blocks * gemms.count
    rounds = num_tiles(num_blocks, engine.num_cores, relaxation)
    fma_cycles = rounds * gemms.k * step_cycles(block, engine, bytes_per_element, relaxation)
    words = simd_words(gemms, engine, bytes_per_element, relaxation)
    busy_hz = num_blocks / rounds * engine.clock_hz

    def cache_s(moved: PerOp, cache: Cache) -> PerOp:
        return moved * bytes_per_element / (busy_hz * cache.bytes_per_cycle)

    parts = {
        "fma_s": fma_cycles / engine.clock_hz,
        "l1_s": cache_s(words.l1, engine.l1),
        "l2_s": cache_s(words.l2, engine.l2),
        "llc_s": cache_s(words.llc, engine.llc),
        "dram_s": words.dram * bytes_per_element / engine.dram_bandwidth_bytes_per_s,
    }
    time_s = parts["fma_s"]
    for part_s in list(parts.values())[1:]:
        time_s = maximum(time_s, part_s, relaxation)
    return SimdCosts(words=words, time_s=time_s, **parts)
