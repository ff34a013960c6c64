"""Traffic and array cycles of one tile on a weight-stationary array.

The array holds weights in its registers: input channels C along the rows, whose partial sums are
added on the way, output channels K along the columns, which share each input. Filter taps R, S run
in time. A tile of outputs stays on chip during its summation, so partial sums do not go to DRAM.
For a GEMM C[m, n] = A[m, k] B[k, n]: P = m, C = k, K = n.
"""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, num_tiles
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting, LevelTraffic, NestTraffic
from hwdse.specs.mappings.tiles import Roles, Tile, roles
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import (
    either,
    operator_words,
    resident_inputs,
    resident_weights,
    sums_per_row,
    weights_per_channel,
    windows,
)

Words = dict[tuple[int, str], PerOp]
"""Words by level (index in `Accelerator.levels`) and operand."""


@struct.dataclass
class LoopTrips:
    """Trip counts of the loops around a tile for one operator, and passes of the array."""

    blocks_p: Leaf
    strips: Leaf
    """Tiles over Q and N."""
    tiles_q: Leaf
    loads: Leaf
    """Number of times that each weight is loaded into the array."""
    blocks_k: Leaf
    cols: Leaf
    """Passes over the columns for all output channels."""
    sums: Leaf
    """Sequential additions to an output: passes over the rows, for each tap."""


def even_width(extent: PerOp, limit: PerOp, relaxation: Relaxation = EXACT) -> PerOp:
    """Smallest width that covers `extent` in as few passes as a width of `limit`."""
    return num_tiles(extent, num_tiles(extent, limit, relaxation), relaxation)


def nested_trips(
    extent: PerOp, block: PerOp, tile: PerOp, accounting: Accounting, relaxation: Relaxation = EXACT
) -> PerOp:
    """Tiles in all blocks of an extent; the last block counts the tiles of its own size.

    With `fractional_edges` only the outermost loop is rounded, as in AccelForge.
    """
    blocks = num_tiles(extent, block, relaxation)
    if accounting.fractional_edges:
        return jnp.where(block < extent, blocks * block / tile, num_tiles(extent, tile, relaxation))
    last = extent - (blocks - 1.0) * block
    return (blocks - 1.0) * num_tiles(block, tile, relaxation) + num_tiles(last, tile, relaxation)


def loop_trips(
    operators: Operators, tile: Tile, accounting: Accounting, relaxation: Relaxation = EXACT
) -> LoopTrips:
    """Trip counts of the loops around one tile.

    Weights are loaded once per tile of outputs. If one pass over the rows completes a sum, they can
    stay for all tiles of a block instead.
    """
    tiles_q = num_tiles(operators.q, tile.q, relaxation)
    strips = tiles_q * num_tiles(operators.n, tile.n, relaxation)
    blocks_p = num_tiles(operators.p, tile.block_p, relaxation)
    sums = operators.r * operators.s * num_tiles(operators.c, tile.rows, relaxation)
    tiles = nested_trips(operators.p, tile.block_p, tile.p, accounting, relaxation) * strips
    held = tile.residency
    block_loads = either(held.weights_once, 1.0, blocks_p * strips)
    is_one_pass = either(held.inputs_once, True, tile.block_k <= tile.cols)
    stays = either(held.whole_weights, is_one_pass & (sums <= 1.0), False)
    return LoopTrips(
        blocks_p=blocks_p,
        strips=strips,
        tiles_q=tiles_q,
        loads=jnp.where(stays, block_loads, tiles),
        blocks_k=num_tiles(operators.k, tile.block_k, relaxation),
        cols=nested_trips(operators.k, tile.block_k, tile.cols, accounting, relaxation),
        sums=sums,
    )


def tile_traffic(
    operators: Operators,
    tile: Tile,
    accelerator: Accelerator,
    accounting: Accounting,
    relaxation: Relaxation = EXACT,
) -> NestTraffic:
    """Bytes by level and cycles of each operator under one tile and residency.

    Inputs are read once per pass over the columns, sums are read and written once per pass over the
    rows and filter tap. Weights are loaded into the registers `loop_trips(...).loads` times. A
    partial last tile counts by its size, a partial last pass of the array as a full one unless
    `fractional_edges`. Source of the counts: Parashar et al., Timeloop, ISPASS 2019, section V-B.
    """
    part, times = roles(accelerator), loop_trips(operators, tile, accounting, relaxation)
    points, filters = operators.p * operators.q * operators.n, weights_per_channel(operators)
    outputs = points * operators.k
    keeps_halo = getattr(accounting, "halo", "kept") != "reloaded"
    fetched = _fetched(operators, tile, times, keeps_halo)
    loaded = filters * operators.k * times.loads
    sums_read = times.sums - accounting.elides_first_read + accounting.drains_outputs
    reads = {
        (part.dram, "weights"): fetched["weights"],
        (part.dram, "inputs"): fetched["inputs"],
        (part.scratchpad, "weights"): loaded,
        (part.scratchpad, "inputs"): points * filters * times.cols,
        (part.accumulator, "outputs"): outputs * sums_read,
        (part.registers, "weights"): operators.num_macs * _edge_ratio(operators, tile, accounting),
    }
    writes = {
        (part.dram, "outputs"): outputs,
        (part.scratchpad, "weights"): fetched["weights"],
        (part.scratchpad, "inputs"): fetched["inputs"],
        (part.accumulator, "outputs"): outputs * times.sums,
        (part.registers, "weights"): loaded,
    }
    used = _used(operators, tile, part)
    levels = tuple(
        LevelTraffic(*(_bytes(words, index, level) for words in (reads, writes, used)))
        for index, level in enumerate(accelerator.levels)
    )
    cycles = points * times.sums * times.cols
    if accounting.fractional_edges:
        cycles = operators.num_macs / (tile.rows * tile.cols)
    return NestTraffic(levels=levels, compute_cycles=cycles, num_macs=operators.num_macs)


def _edge_ratio(operators: Operators, tile: Tile, accounting: Accounting) -> PerOp:
    """Register reads over products: AccelForge counts outermost tiles of outputs as full ones."""
    if not accounting.fractional_edges:
        return 1.0
    outermost = jnp.where(tile.block_p < operators.p, tile.block_p, tile.p)
    pairs = ((operators.p, outermost), (operators.q, tile.q), (operators.n, tile.n))
    ratio = 1.0
    for extent, part in pairs:
        ratio = ratio * num_tiles(extent, part) * part / extent
    return ratio


def _fetched(
    operators: Operators, tile: Tile, times: LoopTrips, keeps_halo: bool
) -> dict[str, PerOp]:
    """Words read from DRAM.

    Rows of inputs shared by two tiles stay if all channels are resident; the loop over rows of
    outputs is then the innermost around the tile. Shared columns stay if that loop has one trip.
    """
    held = tile.residency
    height, width = _heights(operators, times.blocks_p), _widths(operators, times.tiles_q)
    if keeps_halo:
        kept_height = jnp.minimum(height, _heights(operators, 1.0))
        kept_width = jnp.minimum(width, _widths(operators, 1.0))
        kept_width = jnp.where(times.blocks_p > 1.0, width, kept_width)
        height = either(held.whole_inputs, kept_height, height)
        width = either(held.whole_inputs, kept_width, width)
    weights = weights_per_channel(operators) * operators.k
    inputs = operators.n * operators.c * height * width
    return {
        "weights": weights * either(held.weights_once, 1.0, times.blocks_p * times.strips),
        "inputs": inputs * either(held.inputs_once, 1.0, times.blocks_k),
    }


def _heights(operators: Operators, tiles: PerOp) -> PerOp:
    """Rows of inputs for all rows of outputs, divided into tiles."""
    return windows(operators.p, tiles, operators.r, operators.stride_p, operators.dilation_r)


def _widths(operators: Operators, tiles: PerOp) -> PerOp:
    """Columns of inputs for all columns of outputs, divided into tiles."""
    return windows(operators.q, tiles, operators.s, operators.stride_q, operators.dilation_s)


def _used(operators: Operators, tile: Tile, part: Roles) -> Words:
    """Words kept in each level at a time: all of the operator in DRAM, one pass in the
    registers."""
    weights, inputs, outputs = operator_words(operators)
    return {
        (part.dram, "weights"): weights,
        (part.dram, "inputs"): inputs,
        (part.dram, "outputs"): outputs,
        (part.scratchpad, "weights"): resident_weights(operators, tile),
        (part.scratchpad, "inputs"): resident_inputs(operators, tile),
        (part.accumulator, "outputs"): tile.p * tile.k * sums_per_row(tile),
        (part.registers, "weights"): tile.rows * tile.cols,
    }


def _bytes(words: Words, index: int, level: Level) -> Operands:
    """Bytes of each operand at one level."""
    return Operands(
        *(
            words.get((index, operand), 0.0) * getattr(level.word_bytes, operand)
            for operand in OPERANDS
        )
    )
