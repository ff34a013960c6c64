"""HBM traffic of tiled matrix products, and the roofline of what an operator waits for."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, floor_ste, materialize, maximum, num_tiles
from hwdse.specs.hardware.chip import Memory
from hwdse.workload.gemms import Gemms

RESIDENT_FRACTION = 0.75
"""Share of the scratchpad for the tile that stays; the rest double-buffers what streams past."""
ACCUMULATOR_BYTES = 4.0
"""Partial sums are fp32."""


@flax.struct.dataclass
class Tiling:
    """One way to cut a product over the scratchpads of a chip and to keep a tile of it there.

    Flags are 0 or 1. `split_m` and `split_n` divide those extents over scratchpads; with neither,
    whole products are dealt out. `keeps_rows` holds a block of rows of A and streams B past it,
    `keeps_cols` a block of columns of B and streams A; with neither a tile of C accumulates, as
    near to a square as its extents allow.
    """

    split_m: Leaf
    split_n: Leaf
    keeps_rows: Leaf
    keeps_cols: Leaf


RESIDENCIES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "rows of A stay": (1.0, 0.0),
        "columns of B stay": (0.0, 1.0),
        "tile of C stays": (0.0, 0.0),
    }
)
"""`keeps_rows` and `keeps_cols` of a `Tiling`."""

SPLITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"rows split": (1.0, 0.0), "columns split": (0.0, 1.0), "products dealt": (0.0, 0.0)}
)
"""`split_m`, `split_n` of a `Tiling`. `hbm_traffic_bytes` takes the least of every pair."""


def tile_extents(
    m: PerOp, k: PerOp, n: PerOp, tile_bytes: PerOp, bytes_per_element: PerOp, tiling: Tiling
) -> tuple[PerOp, PerOp]:
    """Rows of A and columns of B that a resident tile of `tile_bytes` spans, whole numbers.

    A block of rows (columns) has the depth k; a tile of C holds fp32 sums. What one extent does
    not need is given to the other. Below one row (column) the block does not fit: see
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
    """Whole rows or columns of a tile, at least one.

    A quotient that misses a whole number by rounding only (as m does in $s / (s / m)$) must not
    lose a row, which would read an operand once more.
    """
    slack = 4.0 * float(jnp.finfo(jnp.result_type(extent, float)).eps)
    return jnp.maximum(floor_ste(extent * (1.0 + slack)), 1.0)


def tiling_traffic_bytes(
    gemms: Gemms,
    sram_bytes: PerOp,
    num_scratchpads: PerOp,
    bytes_per_element: PerOp,
    tiling: Tiling,
    relaxation: Relaxation = EXACT,
) -> PerOp:
    r"""HBM bytes of one of `count` products under one tiling.

    Each of $s$ scratchpads has $1/s$ of the capacity and works on its part $m' \times n'$ alone:
    $e\,(a\,m' k \lceil n' / t_n \rceil + b\,k n' \lceil m' / t_m \rceil + c\,m' n')$ times the
    number of parts, with a, b, c telling which operands live in HBM.

    A tiling that cannot be held (a block of less than one row; fewer products to deal than
    scratchpads) costs as many times more as it misses, so that a minimum passes over it and the
    value stays finite. Tiles are whole numbers. Source: the classic residency choices, as in
    Timeloop's GEMM mappings with one buffer level.
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
        gemms.a_in_hbm * m * gemms.k * reads_of_a
        + gemms.b_in_hbm * gemms.k * n * reads_of_b
        + gemms.c_in_hbm * m * n
    )
    dealt = jnp.maximum(1.0 - tiling.split_m - tiling.split_n, 0.0)
    idle = jnp.maximum(num_scratchpads / gemms.count, 1.0)
    # No scratchpad may be starved, and no block may be thinner than one row or column.
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
    """The pair of `SPLITS` and `RESIDENCIES` with the least traffic, for each row; no gradient."""
    arguments = jax.lax.stop_gradient((gemms, sram_bytes, num_scratchpads, bytes_per_element))
    relaxation = jax.lax.stop_gradient(relaxation)
    best, winner, index = None, None, 0.0
    for split in SPLITS.values():
        for residency in RESIDENCIES.values():
            traffic = tiling_traffic_bytes(*arguments, Tiling(*split, *residency), relaxation)
            if best is None or winner is None:
                best, winner = traffic, 0.0 * traffic
                continue
            index += 1.0
            winner = jnp.where(traffic < best, index, winner)
            best = jnp.minimum(traffic, best)
    return _tiling_of_index(materialize(winner))


def _tiling_of_index(index: PerOp) -> Tiling:
    """Fields of the tiling with this place in the order of `SPLITS`, then `RESIDENCIES`."""
    split = jnp.floor((index + 0.5) / len(RESIDENCIES))
    residency = index - split * len(RESIDENCIES)

    def look_up(table: list[float], place: PerOp) -> PerOp:
        found = 0.0 * place
        for i, value in enumerate(table):
            found = jnp.where(jnp.abs(place - i) < 0.5, value, found)
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
    """HBM bytes of the products of each row, all counts: the least over tilings.

    The gradient is the winner's (envelope theorem), which costs one evaluation instead of one
    for each candidate. Never below the distinct words that live in HBM.
    """
    tiling = best_tiling(gemms, sram.capacity_bytes, num_scratchpads, bytes_per_element, relaxation)
    product = tiling_traffic_bytes(
        gemms, sram.capacity_bytes, num_scratchpads, bytes_per_element, tiling, relaxation
    )
    return materialize(gemms.count * product)


def roofline_time_s(
    matrix_s: PerOp, vector_s: PerOp, sram_s: PerOp, hbm_s: PerOp, relaxation: Relaxation = EXACT
) -> PerOp:
    """Time of an operator whose engines and memories overlap perfectly: the slowest of them.

    Source: Williams, Waterman, Patterson, CACM 52(4), 2009, with a ceiling for each engine.
    """
    engines = maximum(matrix_s, vector_s, relaxation)
    return maximum(engines, maximum(sram_s, hbm_s, relaxation), relaxation)
