r"""RTL runs of Gemmini: mappings, cycles and the executed loops of each mapping.

A harness converted each mapping to tile sizes of Gemmini's loops; the executed loops can differ
from the mapping. `executed` applies the same rules. Source:
github.com/ucb-bar/gemmini-rocc-tests, `gemmini-data-collection/layers/extract_data_csv.py`,
`gemmini-data-collection/templates/` and `include/gemmini.h` (`tiled_conv_dosa`,
`tiled_matmul_outer`):

- the loops of the outermost level run on the host, with all levels below as one tile;
- a convolution has square outputs and filters: the rows follow the columns, of which there are
  $\lfloor (P s - R + 2 \lfloor R / 2 \rfloor) / s \rfloor + 1$, one more than P for even filters;
- a GEMM, $Q = R = S = 1$, has tiles of full array blocks: a tile of $t$ becomes
  $\max(\lfloor t / 16 \rfloor, 1)$ blocks;
- the array has `PE_DIM` rows and columns. Neither file nor harness states the value; the cycles
  imply the larger spatial factor, rounded up to a power of two. With 16 x 16 for all, the model
  would be up to ten times too fast for mappings with smaller factors.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.models.compute.tile_overheads import GEMMINI_COSTS, TileCosts, TiledCycles, tiled_cycles
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.validation.shared.reference_table import ReferenceTable, read_table
from hwdse.workload.loops.operators import DIMS, Operators

STEP_COLUMNS = ("Wstride", "Hstride", "Wdilation", "Hdilation")
COLUMNS = ("set", "rtl_cycles", "mapping", *DIMS, *STEP_COLUMNS)
PRESET = "gemmini"
TIERS = parse_nest("L3[WIO] N1 - L2[WI] N1 - L1[O] N1 - L0[W] N1").tiers
"""Tiers of a mapping: DRAM, scratchpad, accumulator and registers."""
BLOCK = 16.0
"""Tile extent that becomes one block of a GEMM tile."""


@dataclass(frozen=True)
class Runs:
    """Rows of a file, each with the mapping as written and as executed."""

    cycles: np.ndarray
    sets: tuple[str, ...]
    layers: tuple[str, ...]
    """Layer name, equal for rows with the same sizes, strides and dilations."""
    operators: Operators
    nest: LoopNest
    run_operators: Operators
    run_nest: LoopNest
    accelerator: Accelerator
    """Preset with `rows` x `cols` of the array of each row."""


def read_runs(path: Path) -> Runs:
    """Read a file with `COLUMNS`; a bad cell raises an error with its position."""
    table = read_table(path, COLUMNS)
    sets = tuple(table.text("set"))
    sizes = {d: table.numbers(d, at_least=1.0, whole=True) for d in DIMS}
    steps = [table.numbers(name, at_least=1.0, whole=True) for name in STEP_COLUMNS]
    nest = _nests(table, np.stack(list(sizes.values()), axis=-1))
    operators = _operators(sizes, steps)
    array_size = np.exp2(np.ceil(np.log2(nest.spatial.max(axis=(1, 2)))))
    run_operators, run_nest = executed(operators, nest, array_size)
    keys = zip(*(table.text(name) for name in (*DIMS, *STEP_COLUMNS)), strict=True)
    return Runs(
        cycles=table.numbers("rtl_cycles", at_least=1.0),
        sets=sets,
        layers=tuple(" ".join(key) for key in keys),
        operators=operators,
        nest=nest,
        run_operators=run_operators,
        run_nest=run_nest,
        accelerator=replace(load_accelerator(PRESET), rows=array_size, cols=array_size),
    )


def executed(
    operators: Operators, nest: LoopNest, array_size: np.ndarray
) -> tuple[Operators, LoopNest]:
    """Executed operators, and the loop nest with the executed outermost bounds.

    Only the outermost tier changes; its bounds are quotients of sizes and tiles.
    """
    is_gemm = np.asarray(operators.q * operators.r * operators.s) == 1.0
    stride, filter_size = operators.stride_p, operators.r
    padded = operators.p * stride - filter_size + 2.0 * np.floor(filter_size / 2.0)
    outputs = np.where(is_gemm, operators.p, np.floor(padded / stride) + 1.0)
    run = replace(
        operators,
        p=outputs,
        q=np.where(is_gemm, 1.0, outputs),
        s=filter_size,
        stride_q=stride,
        dilation_s=operators.dilation_r,
    )
    sizes = np.stack([getattr(run, letter.lower()) for letter in DIMS], axis=-1)
    tiles = np.prod(nest.temporal[:, 1:], axis=1) * np.prod(nest.spatial, axis=1)
    blocked = np.maximum(np.floor(tiles / BLOCK), 1.0) * array_size[:, None]
    is_blocked = np.array([letter in "PCK" for letter in DIMS])
    tiles = np.where(is_gemm[:, None] & is_blocked, blocked, tiles)
    bounds = np.maximum(sizes / tiles, 1.0)
    temporal = np.concatenate([bounds[:, None, :], nest.temporal[:, 1:]], axis=1)
    return run, replace(nest, temporal=temporal)


def _operators(sizes: dict[str, np.ndarray], steps: list[np.ndarray]) -> Operators:
    """Rows of a file as operators with count 1; W and H are image columns and rows."""
    stride_w, stride_h, dilation_w, dilation_h = steps
    return Operators(
        **{letter.lower(): size for letter, size in sizes.items()},
        stride_p=stride_w,
        stride_q=stride_h,
        dilation_r=dilation_w,
        dilation_s=dilation_h,
        count=np.ones_like(stride_w),
        names=(),
    )


def _nests(table: ReferenceTable, sizes: np.ndarray) -> LoopNest:
    """Mappings of all rows as one nest of arrays; the loops must cover the sizes."""
    nests = []
    for row, text in enumerate(table.text("mapping")):
        try:
            nest = parse_nest(text)
        except ValueError as error:
            raise ValueError(f"{table.path}, line {table.lines[row]}: {error}") from error
        if nest.tiers != TIERS:
            raise table.error(row, "mapping", "the levels L3[WIO], L2[WI], L1[O] and L0[W]")
        covered = np.prod(nest.temporal, axis=0) * np.prod(nest.spatial, axis=0)
        if not np.array_equal(covered, sizes[row]):
            wanted = " ".join(f"{d}{x:g}" for d, x in zip(DIMS, sizes[row], strict=True))
            raise table.error(row, "mapping", f"loops that multiply to {wanted}")
        nests.append(nest)
    stacked = (
        np.stack([np.asarray(values) for values in arrays])
        for arrays in zip(*((n.temporal, n.position, n.spatial) for n in nests), strict=True)
    )
    return LoopNest(*stacked, tiers=TIERS)


def run_cycles(runs: Runs, costs: TileCosts = GEMMINI_COSTS) -> TiledCycles:
    """Cycles of all runs by `models/compute/tile_overheads.py`, in float64."""
    with jax.enable_x64(True):
        return _tiled_cycles(*tiled_cycles_arguments(runs), costs)


def tiled_cycles_arguments(runs: Runs) -> tuple[LoopNest, Operators, Accelerator]:
    """Arguments of `tiled_cycles`: loop nests, operators and core of the runs."""
    return runs.run_nest, runs.run_operators, runs.accelerator


_tiled_cycles = quick_jit(tiled_cycles)
