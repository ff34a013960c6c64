"""HBM traffic of tiled GEMMs, and roofline time of an operator."""

from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import (
    EXACT,
    Relaxation,
    floor_ste,
    largest,
    materialize,
    num_tiles,
)
from hwdse.specs.hardware.chip import Memory
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.unrolled_inputs import input_words

RESIDENT_FRACTION = 0.375
"""Fraction of the scratchpad for the resident tile in use: three quarters of one half. The other
half receives the next tile and streamed data. Assumed."""
ACCUMULATOR_BYTES = 4.0
"""Bytes per partial sum: FP32."""


@struct.dataclass
class Tiling:
    """Division of a GEMM over the scratchpads of a chip, and the tile that each scratchpad keeps.

    Flags are 0 or 1. `split_m` and `split_n` divide these extents over scratchpads; with neither,
    whole GEMMs are distributed. `keeps_rows` keeps a block of rows of A and streams B past it,
    `keeps_cols` keeps a block of columns of B and streams A. With neither a tile of C accumulates,
    as nearly square as its extents allow.
    """

    split_m: Leaf
    split_n: Leaf
    keeps_rows: Leaf
    keeps_cols: Leaf


RESIDENCIES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "resident rows of A": (1.0, 0.0),
        "resident columns of B": (0.0, 1.0),
        "resident tile of C": (0.0, 0.0),
    }
)
"""`keeps_rows` and `keeps_cols` of a `Tiling`."""

SPLITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"rows split": (1.0, 0.0), "columns split": (0.0, 1.0), "GEMMs distributed": (0.0, 0.0)}
)
"""`split_m`, `split_n` of a `Tiling`. `hbm_traffic_bytes` is the minimum over all pairs."""


def tile_extents(
    m: PerOp, k: PerOp, n: PerOp, tile_bytes: PerOp, bytes_per_element: PerOp, tiling: Tiling
) -> tuple[PerOp, PerOp]:
    """Rows of A and columns of B spanned by a resident tile of `tile_bytes`, not rounded.

    A block of rows (columns) has the depth k; a tile of C holds FP32 sums. Capacity that one extent
    does not need is given to the other. Below one row (column) the block does not fit: see
    `tiling_traffic_bytes`.
    """
    block = tile_bytes / (k * bytes_per_element)
    sums = tile_bytes / ACCUMULATOR_BYTES
    tile_m = jnp.minimum(jnp.sqrt(sums), jnp.minimum(m, sums))
    tile_n = jnp.minimum(sums / jnp.maximum(tile_m, 1.0), n)
    tile_m = jnp.minimum(sums / jnp.maximum(tile_n, 1.0), m)
    rows = jnp.where(tiling.keeps_rows > 0.5, block, jnp.where(tiling.keeps_cols > 0.5, m, tile_m))
    cols = jnp.where(tiling.keeps_cols > 0.5, block, jnp.where(tiling.keeps_rows > 0.5, n, tile_n))
    return rows, cols


def _whole_extent(extent: PerOp) -> PerOp:
    """Integer rows or columns of a tile, at least one.

    A quotient below an integer by rounding error only (as m in $s / (s / m)$) must not lose a row,
    which would add one more read of an operand.
    """
    slack = 4.0 * float(jnp.finfo(jnp.result_type(extent, float)).eps)
    return jnp.maximum(floor_ste(extent * (1.0 + slack)), 1.0)


def scratchpads_per_gemm(num_scratchpads: PerOp, count: PerOp) -> PerOp:
    """Scratchpads per whole GEMM, at least 1; above 1 some are idle.

    No GEMMs at all (absent shared experts) count as one, so that the gradient stays finite.
    """
    return jnp.maximum(num_scratchpads / jnp.where(count > 0.0, count, 1.0), 1.0)


def tiling_traffic_bytes(
    gemms: Gemms,
    sram_bytes: PerOp,
    num_scratchpads: PerOp,
    bytes_per_element: PerOp,
    tiling: Tiling,
    relaxation: Relaxation = EXACT,
) -> PerOp:
    r"""HBM bytes of one of `count` GEMMs under one tiling.

    Each of $s$ scratchpads has $1/s$ of the capacity and computes its part $m' \times n'$ alone:
    $e\,(a\,m' k \lceil n' / t_n \rceil + b\,k n' \lceil m' / t_m \rceil + c\,m' n')$ bytes times
    the number of parts. e is bytes per element; a, b, c are the fractions of the operands in HBM.
    Of a convolution, $m' k$ is the number of inputs that its windows cover, with a halo for each of
    the $\lceil m' / t_m \rceil$ blocks (`input_words`). Resident rows of A are held unrolled.

    An infeasible tiling (a block of less than one row; fewer GEMMs than scratchpads) has a penalty
    factor proportional to the shortfall, so that a minimum rejects it and the value stays finite.
    Tiles are integers. Source: the classic residency choices, as in Timeloop's GEMM mappings with
    one buffer level.
    """
    parts_m = jnp.where(tiling.split_m > 0.5, num_scratchpads, 1.0)
    parts_n = jnp.where(tiling.split_n > 0.5, num_scratchpads, 1.0)
    m = num_tiles(gemms.m, parts_m, relaxation)
    n = num_tiles(gemms.n, parts_n, relaxation)
    tile_bytes = RESIDENT_FRACTION * sram_bytes / num_scratchpads
    rows, cols = tile_extents(m, gemms.k, n, tile_bytes, bytes_per_element, tiling)
    reads_of_b = num_tiles(m, _whole_extent(rows), relaxation)
    reads_of_a = num_tiles(n, _whole_extent(cols), relaxation)
    elements = (
        gemms.a_in_hbm * input_words(gemms, m, reads_of_b) * reads_of_a
        + gemms.b_in_hbm * gemms.k * n * reads_of_b
        + gemms.c_in_hbm * m * n
    )
    dealt = jnp.maximum(1.0 - tiling.split_m - tiling.split_n, 0.0)
    idle = scratchpads_per_gemm(num_scratchpads, gemms.count)
    # Every scratchpad needs a GEMM, and a block at least one row or column.
    missing = 1.0 / jnp.minimum(jnp.minimum(rows, cols), 1.0)
    penalty = jnp.where(dealt * idle > 1.0, 1e3 * idle, 1.0) * jnp.where(
        missing > 1.0, 1e3 * missing, 1.0
    )
    return parts_m * parts_n * bytes_per_element * elements * penalty


def best_tiling(
    gemms: Gemms,
    sram_bytes: PerOp,
    num_scratchpads: PerOp,
    bytes_per_element: PerOp,
    relaxation: Relaxation = EXACT,
) -> Tiling:
    """Pair of `SPLITS` and `RESIDENCIES` with the least traffic, per operator; no gradient."""
    arguments = jax.lax.stop_gradient((gemms, sram_bytes, num_scratchpads, bytes_per_element))
    relaxation = jax.lax.stop_gradient(relaxation)
    best, best_index, index = None, None, 0.0
    for split in SPLITS.values():
        for residency in RESIDENCIES.values():
            traffic = tiling_traffic_bytes(*arguments, Tiling(*split, *residency), relaxation)
            if best is None or best_index is None:
                best, best_index = traffic, 0.0 * traffic
                continue
            index += 1.0
            best_index = jnp.where(traffic < best, index, best_index)
            best = jnp.minimum(traffic, best)
    return _tiling_of_index(materialize(best_index))


def _tiling_of_index(index: PerOp) -> Tiling:
    """Tiling with this index in the order of `SPLITS`, then `RESIDENCIES`."""
    split = jnp.floor((index + 0.5) / len(RESIDENCIES))
    residency = index - split * len(RESIDENCIES)

    def look_up(table: list[float], position: PerOp) -> PerOp:
        found = 0.0 * position
        for i, value in enumerate(table):
            found = jnp.where(jnp.abs(position - i) < 0.5, value, found)
        return found

    of_split = [look_up([flags[i] for flags in SPLITS.values()], split) for i in range(2)]
    of_residency = [
        look_up([flags[i] for flags in RESIDENCIES.values()], residency) for i in range(2)
    ]
    return Tiling(*of_split, *of_residency)


def hbm_traffic_bytes(
    gemms: Gemms,
    sram: Memory,
    num_scratchpads: PerOp,
    bytes_per_element: PerOp,
    relaxation: Relaxation = EXACT,
) -> PerOp:
    """HBM bytes of GEMM operators, all counts: the minimum over tilings.

    The gradient is that of the best tiling (envelope theorem), which costs one evaluation instead
    of one per candidate. At least the distinct words in HBM.

    Against the mapper (`core/mapper/chip_gemm_mapper`) on 80 GEMMs of extents 128 to 32,768 on the
    8 cores of Trainium2: equal traffic in the median from 4 MiB on. Roofline times: equal with 56
    and 224 MiB of SRAM; with 16 MiB 6 % longer in the mean, with 2 MiB 66 %, since the mapper keeps
    partial sums in accumulators of 2 MiB per array, not in the scratchpad. Below 1 MiB the traffic
    is too low: tiles may be smaller than the array. Test:
    `pytest tests/core/test_chip_gemm_mapper.py -k error_of_the_closed_form`.
    """
    tiling = best_tiling(gemms, sram.capacity_bytes, num_scratchpads, bytes_per_element, relaxation)
    product = tiling_traffic_bytes(
        gemms, sram.capacity_bytes, num_scratchpads, bytes_per_element, tiling, relaxation
    )
    return materialize(gemms.count * product)


def roofline_time_s(*times_s: PerOp, relaxation: Relaxation = EXACT) -> PerOp:
    """Time of an operator with perfect overlap: the slowest of its engines and memories (s).

    Source: Williams, Waterman, Patterson, CACM 52(4), 2009, with one ceiling per engine.
    """
    return largest(times_s, relaxation)
