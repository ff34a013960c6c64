"""Cycles of tiles beyond a roofline: array fill, instruction issue, DMA and start-up.

A host processor runs the loops of a nest's outermost tier. In each step it issues one tile, which
the core expands into instructions. Tiles of inputs and weights are read, blocks of weights are
loaded into the array one by one and multiplied, and outputs are written after the last step of a
sum. Two tiles are in flight, so reads and writes of one tile overlap with the multiplication of
another. The first read and the last write have no overlap.

Assumes a weight-stationary array with input channels along its rows and output channels along its
columns, channels innermost in memory, and both operands read again for each tile. Source: Gemmini
(Genc et al., DAC 2021), github.com/ucb-bar/gemmini, BSD-3-Clause, the files `LoopConv.scala`,
`LoopMatmul.scala` and `ExecuteController.scala`.
"""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, maximum, num_tiles, positive_part
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.workload.loops.operators import DIMS, Operators, extents


@struct.dataclass
class TileCosts:
    """Cycles of a tile in addition to its multiplications."""

    convolution_issue_cycles: Leaf
    """Host cycles to issue the instructions of one tile of a convolution."""
    gemm_issue_cycles: Leaf
    """The same for a GEMM, which has three loops instead of seven and no padding."""
    read_row_cycles: Leaf
    """DMA cycles to read one scratchpad row: one value per array column."""
    write_row_cycles: Leaf
    """DMA cycles to write one row of results."""
    dram_bytes_per_cycle: Leaf
    start_cycles: Leaf
    """Once per operator: first requests with cold caches, and the wait for the last ones."""
    min_pass_cycles: Leaf
    """Minimum number of cycles between two passes of the array."""


GEMMINI_COSTS = TileCosts(
    convolution_issue_cycles=274.8,
    gemm_issue_cycles=129.0,
    read_row_cycles=1.577,
    write_row_cycles=4.717,
    dram_bytes_per_cycle=6.740,
    start_cycles=625.2,
    min_pass_cycles=4.0,
)
"""Gemmini with a Rocket host. All values but the last are fitted on all 930 rows of both sets of
`tests/data/gemmini_rtl_public.csv` by `calibration/gemmini_fit.py`. The last is in the RTL: two
writes to one accumulator address are four cycles apart (`ExecuteController.scala`)."""


@struct.dataclass
class TileEvents:
    """Instructions and data rows of one tile; mean over full and partial tiles."""

    num_tiles: Leaf
    read_rows: Leaf
    """Scratchpad rows of inputs and weights, as wide as the array."""
    write_rows: Leaf
    """Rows of results, averaged over all steps of their sum."""
    num_preloads: Leaf
    """Weight blocks loaded into the array."""
    num_passes: Leaf
    """Streams of inputs through the array, with at most as many pixels as the array has rows."""
    pass_pixels: Leaf
    """Pixels of one pass, all in one row of the image."""


@struct.dataclass
class TiledCycles:
    """Cycles of an operator run tile by tile: per engine and in total."""

    issue_cycles: Leaf
    read_cycles: Leaf
    write_cycles: Leaf
    dram_cycles: Leaf
    array_cycles: Leaf
    fill_cycles: Leaf
    exposed_cycles: Leaf
    """Cycles before the first and after the last multiplication, without overlap."""
    total_cycles: Leaf


def tile_events(
    nest: LoopNest, operators: Operators, accelerator: Accelerator, relaxation: Relaxation = EXACT
) -> TileEvents:
    r"""Instructions and rows of the mean tile of each operator.

    A tile of $e_d$ in each dimension reads $e_N h w \lceil e_C / R \rceil$ rows of inputs, where
    $h = (e_P - 1) s + (e_R - 1) \delta + 1$ and $w$ alike, and $e_R e_S e_C \lceil e_K / L \rceil$
    rows of weights; R rows and L columns of the array. It loads
    $e_R e_S \lceil e_C / R \rceil \lceil e_K / L \rceil$ blocks of weights, with
    $e_N e_Q \lceil e_P / R \rceil$ passes per block.
    """
    sizes = extents(operators)
    bounds = nest.temporal[..., 0, :]
    steps = num_tiles(sizes, sizes / bounds, relaxation)
    e = dict(zip(DIMS, jnp.moveaxis(sizes / steps, -1, 0), strict=True))
    n = dict(zip(DIMS, jnp.moveaxis(jnp.asarray(steps), -1, 0), strict=True))

    blocks_c = num_tiles(e["C"], accelerator.rows, relaxation)
    blocks_k = num_tiles(e["K"], accelerator.cols, relaxation)
    blocks_p = num_tiles(e["P"], accelerator.rows, relaxation)
    height = (e["P"] - 1.0) * operators.stride_p + (e["R"] - 1.0) * operators.dilation_r + 1.0
    width = (e["Q"] - 1.0) * operators.stride_q + (e["S"] - 1.0) * operators.dilation_s + 1.0
    taps = e["R"] * e["S"]
    num_preloads = taps * blocks_c * blocks_k
    return TileEvents(
        num_tiles=jnp.prod(steps, axis=-1),
        read_rows=e["N"] * height * width * blocks_c + taps * e["C"] * blocks_k,
        write_rows=e["N"] * e["P"] * e["Q"] * blocks_k / (n["R"] * n["S"] * n["C"]),
        num_preloads=num_preloads,
        num_passes=num_preloads * e["N"] * e["Q"] * blocks_p,
        pass_pixels=e["P"] / blocks_p,
    )


def array_cycles(events: TileEvents, costs: TileCosts) -> PerOp:
    """Cycles of one tile in the array: one per pixel, with a minimum per pass."""
    return events.num_passes * jnp.maximum(events.pass_pixels, costs.min_pass_cycles)


def array_fill_cycles(events: TileEvents, accelerator: Accelerator, costs: TileCosts) -> PerOp:
    """Cycles per tile in which the array waits for weights.

    A block takes one cycle per row, overlapped with one pass of the previous block.
    """
    hidden = jnp.maximum(events.pass_pixels, costs.min_pass_cycles)
    return events.num_preloads * positive_part(accelerator.rows - hidden)


def issue_cycles(operators: Operators, costs: TileCosts) -> PerOp:
    """Host cycles per tile; operators with one filter tap and one column are GEMMs."""
    is_gemm = operators.r * operators.s * operators.q == 1.0
    return jnp.where(is_gemm, costs.gemm_issue_cycles, costs.convolution_issue_cycles)


def dram_cycles(operators: Operators, accelerator: Accelerator, costs: TileCosts) -> PerOp:
    """DRAM cycles of an operator: each operand is transferred once, a cache serves repeated
    reads."""
    o, word = operators, accelerator.levels[0].word_bytes
    height = (o.p - 1.0) * o.stride_p + (o.r - 1.0) * o.dilation_r + 1.0
    width = (o.q - 1.0) * o.stride_q + (o.s - 1.0) * o.dilation_s + 1.0
    weights = o.r * o.s * o.c * o.k * word.weights
    inputs = o.n * height * width * o.c * word.inputs
    outputs = o.n * o.p * o.q * o.k * word.outputs
    return (weights + inputs + outputs) / costs.dram_bytes_per_cycle


def tiled_cycles(
    nest: LoopNest,
    operators: Operators,
    accelerator: Accelerator,
    costs: TileCosts,
    relaxation: Relaxation = EXACT,
) -> TiledCycles:
    r"""Cycles of operators whose outermost loops are issued tile by tile.

    $T = t_0 + h + m + a + (n - 1) \max(h, m, a)$ for n tiles: h cycles to issue a tile, m to move
    it (the larger of DMA rows and DRAM bytes), a to multiply it, array fills included. The caller
    multiplies by `count`.
    """
    events = tile_events(nest, operators, accelerator, relaxation)
    issue = issue_cycles(operators, costs)
    read = events.read_rows * costs.read_row_cycles
    write = events.write_rows * costs.write_row_cycles
    dram = dram_cycles(operators, accelerator, costs) / events.num_tiles
    stream = array_cycles(events, costs)
    fill = array_fill_cycles(events, accelerator, costs)
    move = maximum(read + write, dram, relaxation)
    multiply = stream + fill
    slowest = maximum(maximum(issue, move, relaxation), multiply, relaxation)
    exposed = costs.start_cycles + issue + move + multiply - slowest
    n = events.num_tiles
    return TiledCycles(
        issue_cycles=n * issue,
        read_cycles=n * read,
        write_cycles=n * write,
        dram_cycles=n * dram,
        array_cycles=n * stream,
        fill_cycles=n * fill,
        exposed_cycles=exposed,
        total_cycles=exposed + n * slowest,
    )
