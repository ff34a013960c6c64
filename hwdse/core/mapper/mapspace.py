"""The tiles that a search for the best mapping tries, by number."""

from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.memory.largest_tile import (
    Grain,
    channels_that_fit,
    rows_beside_block,
    rows_that_fit,
)
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.specs.mappings.tiles import RESIDENCIES, Residency, Tile
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import either

EVERY_COUNT = 32
"""Up to here every number of tiles is tried, then numbers that lie this much apart."""
SPACING = 1.15
LARGEST_COUNT = 2.0**24


def _counts() -> np.ndarray:
    counts = [float(count) for count in range(1, EVERY_COUNT + 1)]
    while counts[-1] < LARGEST_COUNT:
        counts.append(np.ceil(counts[-1] * SPACING))
    return np.array(counts)


COUNTS = _counts()
"""Numbers of tiles that an extent is cut into."""
NUM_COUNTS = np.int32(len(COUNTS))
HALVINGS = 2.0 ** np.arange(25)
"""Numbers of strips that columns of outputs, or images, are cut into."""
NARROW_COUNTS = 8
"""Numbers of parts that one pass over the columns is cut into."""


@flax.struct.dataclass
class Method:
    """One way to number tiles; truth values, or arrays of them where operators differ."""

    residency: Residency
    counts_rows: Leaf
    """Tiles along the rows of outputs are counted and as wide as fits, not the other way around."""
    has_whole_passes: Leaf
    """Blocks are as wide as passes over all columns; else passes are as even as can be."""
    has_narrow_blocks: Leaf
    """A block of weights is as wide as one pass over the columns; parts of it are counted."""
    has_row_tiles: Leaf
    """A block of inputs is cut into tiles of outputs; these are counted."""


def methods(accounting: Accounting, is_perfect: bool) -> tuple[tuple[int, Method], ...]:
    """All methods, each with the number of its residency in `RESIDENCIES`.

    With more capacity the tile of a method and number never costs more. Blocks of whole passes
    are left out where a last pass counts by its share (AccelForge has even tiles only) and where
    sizes must divide. Passes over a part of the columns are tried where both operands come in
    blocks of one pass only: other tiles need accumulators of many rows for each column.
    """
    has_whole = not (accounting.fractional_edges or is_perfect)
    found = []
    for number, held in enumerate(RESIDENCIES.values()):
        if held.inputs_once or (held.weights_once and not held.whole_inputs):
            has_row_tiles = held.inputs_once and held.whole_weights
            found.append((number, Method(held, False, False, True, has_row_tiles)))
        if not held.inputs_once:
            ways = [(False, False), *[(False, True)] * has_whole, (True, has_whole)]
            found += [(number, Method(held, *way, False, False)) for way in ways]
    return tuple(found)


def num_choices(operators: Operators, method: Method) -> tuple[Leaf, Leaf]:
    """How many counts, and how many strips, there are to try for the largest operator."""
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
    """Steps from the largest extent down to one, both included."""
    halvings = jnp.asarray(HALVINGS, jnp.result_type(extent))
    return jnp.searchsorted(halvings, jnp.max(extent), side="left") + 1


def _strip(operators: Operators, number: Leaf, grain: Grain) -> tuple[PerOp, PerOp]:
    """Columns of outputs and images: parts of the columns of one image, then whole images."""
    images = number - _num_halvings(operators.q)
    q = grain.part(
        operators.q, _entry(HALVINGS, jnp.where(images < 0, number, 0), operators.q), "q"
    )
    n = grain.part(operators.n, _entry(HALVINGS, jnp.maximum(images, 0), operators.n), "n")
    return q, jnp.where(images < 0, 1.0, n)


def _entry(table: np.ndarray, place: Leaf, like: PerOp) -> PerOp:
    """Entries of a table, in the float type of `like`; places lie in it."""
    return jnp.asarray(table, jnp.result_type(like)).at[place].get(mode="promise_in_bounds")


def numbered_tile(
    operators: Operators,
    accelerator: Accelerator,
    method: Method,
    number: Leaf,
    accounting: Accounting,
    grain: Grain,
) -> Tile:
    """Tile `number` (int32) of a method: strip times `NUM_COUNTS`, plus the place of its count."""
    strip, place = jax.lax.div(number, NUM_COUNTS), jax.lax.rem(number, NUM_COUNTS)
    count, strip = _entry(COUNTS, place, operators.k), _strip(operators, strip, grain)
    tile = _first_tile(operators, accelerator, method, count, strip, grain)
    cut = either(method.has_narrow_blocks, tile.cols, operators.k)
    width = grain.part(cut, either(method.has_row_tiles, 1.0, count), "k")
    fitting = grain.largest(channels_that_fit(operators, tile, accelerator), operators.k, "k")
    width = either(method.counts_rows, fitting, width)
    block_k, cols = _block_width(operators, accelerator, width, method, accounting, grain)
    k = either(method.residency.whole_inputs, cols, block_k)
    wide = replace(tile, k=k, block_k=block_k, cols=cols)
    tiles = either(method.has_row_tiles, grain.largest(count, operators.p, "p"), 1.0)
    fits = _rows(operators, accelerator, wide, tiles, grain)
    p = either(method.counts_rows, tile.p, fits)
    found = replace(wide, p=p, block_p=jnp.minimum(tiles * p, operators.p))
    # Evenness costs nothing here, but it does where whole tiles are charged.
    if accounting.fractional_edges and grain.relaxation.is_exact:
        return even_rows(operators, found, grain)
    return found


def _rows(
    operators: Operators, accelerator: Accelerator, tile: Tile, tiles: PerOp, grain: Grain
) -> PerOp:
    """Rows of outputs in a tile; `tiles` of them are a block, or all rows where they cover it."""
    everything = replace(tile, block_p=operators.p)
    beside = rows_beside_block(operators, everything, accelerator)
    covers = grain.largest(beside, operators.p, "p") * tiles >= operators.p
    limit = jnp.where(covers, beside, rows_that_fit(operators, tile, accelerator, tiles))
    return grain.largest(limit, num_tiles(operators.p, tiles), "p")


def even_rows(operators: Operators, tile: Tile, grain: Grain) -> Tile:
    """The tile with its rows of outputs even: as many tiles and blocks, that need less room."""
    if grain.divisors is not None:
        return tile
    is_cut = tile.block_p < operators.p
    tiles = jnp.where(is_cut, num_tiles(tile.block_p, tile.p, grain.relaxation), 1.0)
    blocks = num_tiles(operators.p, tiles * tile.p, grain.relaxation)
    p = num_tiles(operators.p, tiles * blocks, grain.relaxation)
    block_p = jnp.where(is_cut, jnp.minimum(tiles * p, operators.p), tile.block_p)
    return replace(tile, p=p, block_p=block_p)


def _first_tile(
    operators: Operators,
    accelerator: Accelerator,
    method: Method,
    count: PerOp,
    strip: tuple[PerOp, PerOp],
    grain: Grain,
) -> Tile:
    """A tile as wide as one pass, with the rows of outputs cut into `count`."""
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
    """Channels of a block about `width` wide, and of a pass: blocks are made of whole passes."""
    if grain.divisors is not None:
        return width, grain.even(width, accelerator.cols, "k")
    if accounting.fractional_edges:
        width = grain.even(operators.k, width, "k")
        return width, grain.even(width, accelerator.cols, "k")
    even = grain.even(width, accelerator.cols, "k")
    cols = either(method.has_whole_passes, jnp.minimum(accelerator.cols, width), even)
    passes = num_tiles(width, cols, grain.relaxation)
    fewer = grain.largest(width / cols, passes, "k")
    passes = either(method.counts_rows, fewer, passes)
    return jnp.where(width < operators.k, jnp.minimum(cols * passes, operators.k), width), cols
