"""Constants of serving engines, fitted on measured servers, with errors of groups left out.

    python -m hwdse.calibration.serving_fit windows measured_serving_energy_public.csv
    python -m hwdse.calibration.serving_fit loops   measured_inference_public.csv

Windows: median inter-token latency of servers at a known batch, one engine. Loops: mean time per
output token of closed loops, one fit per engine. Least squares of the logarithm of model over
measurement with a soft loss and weak priors; kernels and counts of a step do not depend on the
constants (`validation.serving.step_features`), so every row is evaluated once. Errors of rows whose
model (windows) or model and chip (loops) are left out of the fit: five folds.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import least_squares

from hwdse.calibration.kernel_fit import SOFTNESS, scores
from hwdse.numerics.stacking import stacked
from hwdse.serving.steps.step_mixture import mean_step_s, median_step_s
from hwdse.specs.serving.engine import ServingEngine
from hwdse.validation.serving.served_jobs import (
    ServedJob,
    loop_job,
    preset_parts,
    table_jobs,
    window_job,
)
from hwdse.validation.serving.step_features import StepFeatures, features_of
from hwdse.validation.shared.reference_table import ReferenceTable, read_table
from hwdse.validation.shared.row_predictions import NoModelError

NUM_FOLDS = 5
PRIOR_WEIGHT = 0.05
STARTS = {
    "step_host_s": (1e-3, 1.0),
    "sequence_s": (2e-5, 1.0),
    "logit_s": (5e-11, 1.5),
    "block_s": (3e-6, 1.0),
    "quantization_s": (5e-6, 1.0),
    "expert_parallel_s": (1e-5, 1.0),
    "prefill_block_s": (1e-4, 1.0),
    "collective_launch_s": (5e-6, 0.7),
    "exchange_launch_s": (9e-6, 0.7),
    "elementwise_ratio": (1.0, 0.7),
    "expert_start_ratio": (1.0, 0.7),
}
"""Start of each constant, and the width of its prior in logs."""


class Served(NamedTuple):
    """Rows of one engine with their steps."""

    jobs: list[ServedJob]
    without: StepFeatures
    with_prompts: StepFeatures
    measured_s: np.ndarray
    groups: np.ndarray
    """Index of the group that is left out together."""
    time_s: Callable[..., Any]
    """Statistic of the steps: `mean_step_s` or `median_step_s`."""

    def predicted_s(self, engine: ServingEngine) -> np.ndarray:
        """Times with the constants of an engine."""
        mixtures = stacked([job.steps for job in self.jobs])
        both = self.without.step_s(engine), self.with_prompts.step_s(engine)
        return np.asarray(self.time_s(mixtures, *both))

    def chosen(self, rows: np.ndarray) -> "Served":
        """Some of the rows."""
        first, second = (
            jax.tree.map(lambda x: x[rows], one) for one in (self.without, self.with_prompts)
        )
        jobs = [self.jobs[row] for row in rows]
        return Served(jobs, first, second, self.measured_s[rows], self.groups[rows], self.time_s)


def engine_of(free: np.ndarray) -> ServingEngine:
    """Engine of free parameters."""
    values = {
        name: start * float(np.exp(x))
        for (name, (start, _)), x in zip(STARTS.items(), free, strict=True)
    }
    return ServingEngine(**values)


def fitted(served: Served) -> ServingEngine:
    """Constants of least squares."""
    weights = np.array([PRIOR_WEIGHT / width for _, width in STARTS.values()])

    def residuals(free: np.ndarray) -> np.ndarray:
        errors = np.log(served.predicted_s(engine_of(free)) / served.measured_s)
        return np.concatenate([errors, weights * free])

    found = least_squares(residuals, np.zeros(len(STARTS)), loss="soft_l1", f_scale=SOFTNESS)
    return engine_of(found.x)


def left_out(served: Served) -> np.ndarray:
    """Times of all rows by fits without their group."""
    found = np.empty(len(served.jobs))
    for fold in range(NUM_FOLDS):
        rows = np.flatnonzero(served.groups % NUM_FOLDS == fold)
        others = np.flatnonzero(served.groups % NUM_FOLDS != fold)
        if rows.size and others.size:
            found[rows] = served.chosen(rows).predicted_s(fitted(served.chosen(others)))
    return found


def served_rows(kind: str, table: ReferenceTable) -> Iterator[tuple[str, Served]]:
    """Rows by engine."""
    is_window = kind == "windows"
    column = "median_itl_ms" if is_window else "tpot_ms"
    measured = 1e-3 * table.numbers(column, at_least=0.0, may_be_empty=True)
    parts = preset_parts()

    def job_of(row: Mapping[str, str]) -> ServedJob:
        is_used = row["quality"] == "ok" if is_window else row["mode"] == "agg"
        if not is_used or not row[column]:
            raise NoModelError("not fitted")
        return window_job(row, parts) if is_window else loop_job(row, parts)

    jobs, rows, _ = table_jobs(table, job_of)
    for engine in dict.fromkeys(job.engine for job in jobs):
        chosen = [k for k, job in enumerate(jobs) if job.engine == engine]
        own = [jobs[k] for k in chosen]
        names = [job.preset if is_window else f"{job.preset} {job.chip}" for job in own]
        known = sorted(set(names))
        yield (
            engine,
            Served(
                own,
                *features_of(own),
                measured[[rows[k] for k in chosen]],
                np.array([known.index(name) for name in names]),
                median_step_s if is_window else mean_step_s,
            ),
        )


def report(kind: str, table: ReferenceTable) -> Iterator[str]:
    """Lines with constants and errors by engine."""
    for name, served in served_rows(kind, table):
        engine = fitted(served)
        yield f"{name}: {len(served.jobs)} rows"
        for field in dataclasses.fields(engine):
            if field.name in STARTS:
                yield f"  {field.name} = {float(getattr(engine, field.name)):.3g}"
        yield f"  fitted:   {scores(served.predicted_s(engine), served.measured_s)}"
        yield f"  left out: {scores(left_out(served), served.measured_s)}"


def main(arguments: Sequence[str]) -> None:
    """Print the constants and errors of one kind of rows."""
    kind, file = arguments
    if kind not in ("windows", "loops"):
        raise SystemExit(f"{kind}: expected windows or loops")
    with jax.enable_x64(True):
        for line in report(kind, read_table(Path(file))):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
