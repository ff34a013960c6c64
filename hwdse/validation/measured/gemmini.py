"""Tile-by-tile law and bare rooflines against RTL cycles of Gemmini (FireSim).

The file has one mapping and its measured cycles a row, in the columns of
`calibration.gemmini_runs.COLUMNS`; that module says what was run for each mapping. The six
constants of the law (`models.startup.GEMMINI_COSTS`) were fitted to all rows of
`tests/data/gemmini_rtl_public.csv`, so on that file `rtl_cycles` is a fit;
`calibration.gemmini_rtl.held_out_cycles` gives the errors on layers left out of it.
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

    `rtl_cycles`: the law of `models.startup`, with array fill, issue and start-up, on what was
    run. `engines_only`: the larger of its array and DRAM times, nothing else counted.
    `roofline_as_written`: the mapping as it is in the file, on the preset `gemmini` of 16 x 16
    elements by the rules of Timeloop. The first two differ by the explicit terms, the last two by
    what was run. Groups are the sets of the file, and products against convolutions.
    """
    runs = read_runs(path)
    law = run_cycles(runs)
    models = {
        "rtl_cycles": law.total_cycles,
        "rtl_cycles_by_engines_only": np.maximum(law.array_cycles, law.dram_cycles),
        "rtl_cycles_by_roofline_as_written": roofline_cycles(runs),
    }
    one = runs.operators
    is_product = np.asarray(one.q * one.r * one.s) == 1.0
    return build_report(
        "gemmini",
        path,
        {name: Comparison(runs.cycles, np.asarray(cycles)) for name, cycles in models.items()},
        group_by={
            "set": runs.sets,
            "kind": ["gemm" if product else "conv" for product in is_product],
        },
    )


def roofline_cycles(runs: Runs) -> np.ndarray:
    """Cycles of the mappings as written if all engines of the preset overlapped perfectly."""
    core = load_accelerator(PRESET)
    pairs = zip(runs.nest.tiers, core.levels, strict=True)
    nest = replace(runs.nest, tiers=tuple(replace(t, memory=level.name) for t, level in pairs))

    def costs(nest: LoopNest, operators: Operators) -> MappingCosts:
        return mapping_costs(nest_traffic(nest, operators, core, TIMELOOP), core)

    with jax.enable_x64(True):
        return np.asarray(quick_jit(costs)(nest, runs.operators).time_s) * core.clock_hz
