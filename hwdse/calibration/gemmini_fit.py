"""Six fitted constants of the tile overhead model, from RTL cycles of Gemmini.

`GEMMINI_COSTS` of `models/compute/tile_overheads.py` is the result of `fit` on all 930 rows of
`tests/data/gemmini_rtl_public.csv`, both sets together; a test repeats the fit. `held_out_cycles`
returns cycles of layers excluded from the fit. The form of the model and the rules of
`gemmini_runs.py` were chosen with all rows known, so held-out errors are slightly optimistic.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from hwdse.models.compute.tile_overheads import GEMMINI_COSTS, TileCosts, tiled_cycles
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.validation.measured.gemmini_runs import Runs, run_cycles, tiled_cycles_arguments
from hwdse.workload.loops.operators import Operators

FITTED = (
    "convolution_issue_cycles",
    "gemm_issue_cycles",
    "read_row_cycles",
    "write_row_cycles",
    "dram_bytes_per_cycle",
    "start_cycles",
)
"""Fitted fields of `TileCosts`."""
START = (250.0, 125.0, 1.0, 1.0, 8.0, 100.0)
"""Initial values: near the fewest cycles per tile in the file for the two issue costs, round
numbers for the others."""
INLIER_LOG_ERROR = 0.1
"""Errors above this value count linearly, not squared (soft L1). A few runs took up to a hundred
times the modeled cycles: tiles that contain only padding, where a hardware loop counter seems to
wrap around."""
NUM_FOLDS = 10


@dataclass(frozen=True)
class HeldOut:
    """Cycles of each run with constants fitted to other layers, and these constants."""

    cycles: np.ndarray
    folds: tuple[TileCosts, ...]


def fit(runs: Runs, chosen: np.ndarray | None = None) -> TileCosts:
    """Constants fitted to the `chosen` runs (default: all), in logarithms of cycles.

    Deterministic: one start, a trust region with exact derivatives, float64.
    """
    rows = np.ones(len(runs.cycles), dtype=bool) if chosen is None else chosen
    measured = np.log(runs.cycles)[rows]

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.asarray(_log_cycles(logs, *tiled_cycles_arguments(runs)))[rows] - measured

    def slopes(logs: np.ndarray) -> np.ndarray:
        return np.asarray(_log_slopes(logs, *tiled_cycles_arguments(runs)))[rows]

    jac: Any = slopes  # scipy's stubs know strings only
    with jax.enable_x64(True):
        result = least_squares(
            errors, np.log(START), jac=jac, loss="soft_l1", f_scale=INLIER_LOG_ERROR
        )
    return _costs(np.exp(result.x).tolist())


def held_out_cycles(runs: Runs, num_folds: int = NUM_FOLDS) -> HeldOut:
    """Cross-validation by layer; a fold contains all mappings of its layers, of both sets."""
    layers = sorted(set(runs.layers))
    order = np.random.default_rng(0).permutation(len(layers))
    fold_of_layer = {layers[index]: rank % num_folds for rank, index in enumerate(order)}
    fold = np.array([fold_of_layer[layer] for layer in runs.layers])
    folds = tuple(fit(runs, fold != index) for index in range(num_folds))
    cycles = np.stack([np.asarray(run_cycles(runs, costs).total_cycles) for costs in folds])
    return HeldOut(cycles[fold, np.arange(len(fold))], folds)


def _costs(values: Leaf) -> TileCosts:
    return replace(GEMMINI_COSTS, **dict(zip(FITTED, values, strict=True)))


def _cycles_of_logs(
    logs: Leaf, nest: LoopNest, operators: Operators, accelerator: Accelerator
) -> Leaf:
    """Logarithms of cycles as a function of the logarithms of the fitted constants."""
    costs = _costs(jnp.exp(logs))
    return jnp.log(tiled_cycles(nest, operators, accelerator, costs).total_cycles)


_log_cycles = quick_jit(_cycles_of_logs)
_log_slopes = quick_jit(jax.jacfwd(_cycles_of_logs))
