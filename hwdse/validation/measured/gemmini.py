"""Tile overhead model and plain rooflines against RTL cycles of Gemmini (FireSim).

The file has one mapping and its measured cycles per row, in the columns of
`gemmini_runs.COLUMNS`; `gemmini_runs.py` describes the executed code of each mapping. The six
constants of the model (`models/compute/tile_overheads.py`, `GEMMINI_COSTS`) were fitted to all
rows of `tests/data/gemmini_rtl_public.csv`, so `rtl_cycles` is a fit on that file.
`held_out_cycles` of `calibration/gemmini_fit.py` returns held-out errors.
"""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.models.memory.loop_nest_traffic import TIMELOOP, nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.mappings.loop_nest import LoopNest, MappingCosts
from hwdse.validation.measured.gemmini_runs import PRESET, Runs, read_runs, run_cycles
from hwdse.validation.shared.reference_table import Comparison, ValidationReport, build_report
from hwdse.workload.loops.operators import Operators


def validate(path: Path) -> ValidationReport:
    """Error table of `rtl_cycles` by three models, all in float64.

    - `rtl_cycles`: tile overhead model with array fill, issue and start-up, on the executed code
    - `engines_only`: the larger of its array and DRAM times, without overheads
    - `roofline_as_written`: the mapping in the file, on the preset `gemmini` with 16 x 16 PEs,
      under Timeloop's counting rules

    Groups: sets of the file, GEMMs and convolutions.
    """
    runs = read_runs(path)
    predicted = run_cycles(runs)
    models = {
        "rtl_cycles": predicted.total_cycles,
        "rtl_cycles_by_engines_only": np.maximum(predicted.array_cycles, predicted.dram_cycles),
        "rtl_cycles_by_roofline_as_written": roofline_cycles(runs),
    }
    sizes = runs.operators
    is_gemm = np.asarray(sizes.q * sizes.r * sizes.s) == 1.0
    return build_report(
        "gemmini",
        path,
        {name: Comparison(runs.cycles, np.asarray(cycles)) for name, cycles in models.items()},
        group_by={
            "set": runs.sets,
            "kind": ["gemm" if gemm else "conv" for gemm in is_gemm],
        },
    )


def roofline_cycles(runs: Runs) -> np.ndarray:
    """Cycles of the mappings as written, with full overlap of all engines of the preset."""
    core = load_accelerator(PRESET)
    pairs = zip(runs.nest.tiers, core.levels, strict=True)
    nest = replace(runs.nest, tiers=tuple(replace(t, memory=level.name) for t, level in pairs))

    def costs(nest: LoopNest, operators: Operators) -> MappingCosts:
        return mapping_costs(nest_traffic(nest, operators, core, TIMELOOP), core)

    with jax.enable_x64(True):
        return np.asarray(quick_jit(costs)(nest, runs.operators).time_s) * core.clock_hz
