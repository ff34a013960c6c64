"""Mapspace of the mapper: numbered tiles of an operator on a core."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.memory.largest_tile import (
    Grain,
    channels_that_fit,
    rows_beside_block,
    rows_that_fit,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.specs.mappings.tiles import RESIDENCIES, Residency, Tile
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import either

MAX_CONSECUTIVE_COUNT = 32
"""Up to this number of tiles every count is in the mapspace."""
SPACING = 1.15
"""Ratio of consecutive counts above `MAX_CONSECUTIVE_COUNT`."""
MAX_COUNT = 2.0**24


def _counts() -> np.ndarray:
    counts = [float(count) for count in range(1, MAX_CONSECUTIVE_COUNT + 1)]
    while counts[-1] < MAX_COUNT:
        counts.append(np.ceil(counts[-1] * SPACING))
    return np.array(counts)


COUNTS = _counts()
"""Numbers of tiles that an extent is divided into."""
NUM_COUNTS = np.int32(len(COUNTS))
HALVINGS = 2.0 ** np.arange(25)
"""Numbers of strips that output columns, or images, are divided into."""
NARROW_COUNTS = 8
"""Numbers of parts that one pass over the array columns is divided into."""


@struct.dataclass
class Method:
    """One numbering of tiles; booleans, or boolean arrays where operators differ."""

    residency: Residency
    counts_rows: Leaf
    """The number of tiles along output rows is enumerated and their width is maximal; else the
    reverse."""
    has_whole_passes: Leaf
    """Blocks consist of passes over all array columns; otherwise passes have equal width."""
    has_narrow_blocks: Leaf
    """A weight block has the width of one pass over the columns; its parts are enumerated."""
    has_row_tiles: Leaf
    """An input block is divided into output tiles; their number is enumerated."""


def methods(accounting: Accounting, is_perfect: bool) -> tuple[tuple[int, Method], ...]:
    """All methods, each with the index of its residency in `RESIDENCIES`.

    The cost of the tile of a method and number never rises with capacity. Blocks of full passes are
    omitted if a partial last pass counts fractionally (AccelForge has even tiles only) and if sizes
    must divide. Passes over part of the columns are included only if both operands come in blocks
    of one pass: other tiles need accumulators of many rows per column.
    """
    has_whole = not (accounting.fractional_edges or is_perfect)
    found = []
    for index, residency in enumerate(RESIDENCIES.values()):
        if residency.inputs_once or (residency.weights_once and not residency.whole_inputs):
            has_row_tiles = residency.inputs_once and residency.whole_weights
            found.append((index, Method(residency, False, False, True, has_row_tiles)))
        if not residency.inputs_once:
            ways = [(False, False), *[(False, True)] * has_whole, (True, has_whole)]
            found += [(index, Method(residency, *way, False, False)) for way in ways]
    return tuple(found)


def num_choices(operators: Operators, method: Method) -> tuple[Leaf, Leaf]:
    """Number of counts and number of strips in the mapspace of the largest operator."""
    counts = jnp.asarray(COUNTS, jnp.result_type(operators.k))
    along_p, along_k = (
        jnp.searchsorted(counts, jnp.max(extent)) + 1 for extent in (operators.p, operators.k)
    )
    across = either(method.has_narrow_blocks, jnp.minimum(along_k, NARROW_COUNTS), along_k)
    is_along_p = method.counts_rows | method.has_row_tiles
    has_images = jnp.max(operators.n) > 1.0
    images = jnp.where(has_images, _num_halvings(operators.n) - 1, 0)
    return either(is_along_p, along_p, across), _num_halvings(operators.q) + images


def _num_halvings(extent: PerOp) -> Leaf:
    """Number of halvings from the largest extent down to 1, both included."""
    halvings = jnp.asarray(HALVINGS, jnp.result_type(extent))
    return jnp.searchsorted(halvings, jnp.max(extent), side="left") + 1


def _strip(operators: Operators, number: Leaf, grain: Grain) -> tuple[PerOp, PerOp]:
    """Output columns and images of a strip: parts of one image, then several whole images."""
    images = number - _num_halvings(operators.q)
    q = grain.part(
        operators.q, _entry(HALVINGS, jnp.where(images < 0, number, 0), operators.q), "q"
    )
    n = grain.part(operators.n, _entry(HALVINGS, jnp.maximum(images, 0), operators.n), "n")
    return q, jnp.where(images < 0, 1.0, n)


def _entry(table: np.ndarray, index: Leaf, like: PerOp) -> PerOp:
    """Entries of a table in the float type of `like`; indices are in bounds."""
    return jnp.asarray(table, jnp.result_type(like)).at[index].get(mode="promise_in_bounds")


def numbered_tile(
    operators: Operators,
    accelerator: Accelerator,
    method: Method,
    number: Leaf,
    accounting: Accounting,
    grain: Grain,
) -> Tile:
    """Tile `number` (int32) of a method: strip times `NUM_COUNTS` plus the index of its count."""
    strip, index = jax.lax.div(number, NUM_COUNTS), jax.lax.rem(number, NUM_COUNTS)
    count, strip = _entry(COUNTS, index, operators.k), _strip(operators, strip, grain)
    tile = _first_tile(operators, accelerator, method, count, strip, grain)
    extent = either(method.has_narrow_blocks, tile.cols, operators.k)
    width = grain.part(extent, either(method.has_row_tiles, 1.0, count), "k")
    max_width = grain.largest(channels_that_fit(operators, tile, accelerator), operators.k, "k")
    width = either(method.counts_rows, max_width, width)
    block_k, cols = _block_width(operators, accelerator, width, method, accounting, grain)
    k = either(method.residency.whole_inputs, cols, block_k)
    wide = replace(tile, k=k, block_k=block_k, cols=cols)
    tiles = either(method.has_row_tiles, grain.largest(count, operators.p, "p"), 1.0)
    max_rows = _rows(operators, accelerator, wide, tiles, grain)
    p = either(method.counts_rows, tile.p, max_rows)
    found = replace(wide, p=p, block_p=jnp.minimum(tiles * p, operators.p))
    # Even tiles are free with fractional edges, but not where partial tiles count as full.
    if accounting.fractional_edges and grain.relaxation.is_exact:
        return even_rows(operators, found, grain)
    return found


def _rows(
    operators: Operators, accelerator: Accelerator, tile: Tile, tiles: PerOp, grain: Grain
) -> PerOp:
    """Output rows of a tile, for blocks of `tiles` tiles, or for one block of all rows."""
    one_block = replace(tile, block_p=operators.p)
    beside = rows_beside_block(operators, one_block, accelerator)
    covers = grain.largest(beside, operators.p, "p") * tiles >= operators.p
    limit = jnp.where(covers, beside, rows_that_fit(operators, tile, accelerator, tiles))
    return grain.largest(limit, num_tiles(operators.p, tiles), "p")


def even_rows(operators: Operators, tile: Tile, grain: Grain) -> Tile:
    """Tile with even output rows: equal numbers of tiles and blocks, less capacity."""
    if grain.divisors is not None:
        return tile
    is_split = tile.block_p < operators.p
    tiles = jnp.where(is_split, num_tiles(tile.block_p, tile.p, grain.relaxation), 1.0)
    blocks = num_tiles(operators.p, tiles * tile.p, grain.relaxation)
    p = num_tiles(operators.p, tiles * blocks, grain.relaxation)
    block_p = jnp.where(is_split, jnp.minimum(tiles * p, operators.p), tile.block_p)
    return replace(tile, p=p, block_p=block_p)


def _first_tile(
    operators: Operators,
    accelerator: Accelerator,
    method: Method,
    count: PerOp,
    strip: tuple[PerOp, PerOp],
    grain: Grain,
) -> Tile:
    """Tile with the width of one pass and the output rows divided into `count` tiles."""
    p = grain.part(operators.p, count, "p")
    k = grain.even(operators.k, accelerator.cols, "k")
    rows = grain.even(operators.c, accelerator.rows, "c")
    q, n = strip
    return Tile(p, q, n, k, p, k, rows, k, method.residency)


def _block_width(
    operators: Operators,
    accelerator: Accelerator,
    width: PerOp,
    method: Method,
    accounting: Accounting,
    grain: Grain,
) -> tuple[PerOp, PerOp]:
    """Channels of a block of about `width`, and of a pass: blocks are multiples of passes."""
    if grain.divisors is not None:
        return width, grain.even(width, accelerator.cols, "k")
    if accounting.fractional_edges:
        width = grain.even(operators.k, width, "k")
        return width, grain.even(width, accelerator.cols, "k")
    even = grain.even(width, accelerator.cols, "k")
    cols = either(method.has_whole_passes, jnp.minimum(accelerator.cols, width), even)
    passes = num_tiles(width, cols, grain.relaxation)
    max_passes = grain.largest(width / cols, passes, "k")
    passes = either(method.counts_rows, max_passes, passes)
    return jnp.where(width < operators.k, jnp.minimum(cols * passes, operators.k), width), cols
