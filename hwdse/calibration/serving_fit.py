"""Constants of serving engines, fitted on measured servers, with errors of groups left out.

    python -m hwdse.calibration.serving_fit windows measured_serving_energy_public.csv
    python -m hwdse.calibration.serving_fit loops   measured_inference_public.csv

Windows: median inter-token latency of servers at a known batch, one engine. Loops: mean time per
output token and, at half its weight, mean time to first token of closed loops, one fit per engine.
Least squares of the logarithm of model over
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
FIRST_TOKEN_WEIGHT = 0.4
LONGEST_FIRST_S = 20.0
"""Longer times to the first token are waits for a place in the batch, which are not fitted."""
PRIOR_WEIGHT = 0.05
STARTS = {
    "step_host_s": (1e-3, 1.0),
    "sequence_s": (2e-5, 1.0),
    "logit_s": (5e-11, 1.5),
    "block_s": (3e-6, 1.0),
    "quantization_s": (5e-6, 1.0),
    "expert_parallel_s": (1e-5, 1.0),
    "prefill_block_s": (3e-4, 1.0),
    "prefill_ratio": (1.0, 0.5),
    "request_host_s": (1e-2, 1.0),
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
    first_s: np.ndarray
    """Measured time to first token; nan where it is not fitted."""
    groups: np.ndarray
    """Index of the group that is left out together."""
    time_s: Callable[..., Any]
    """Statistic of the steps: `mean_step_s` or `median_step_s`."""

    def predicted_s(self, engine: ServingEngine) -> np.ndarray:
        """Times with the constants of an engine."""
        mixtures = stacked([job.steps for job in self.jobs])
        return np.asarray(self.time_s(mixtures, *self.steps_s(engine)))

    def steps_s(self, engine: ServingEngine) -> tuple[np.ndarray, np.ndarray]:
        """Times of the steps without and with prompts."""
        return self.without.step_s(engine), self.with_prompts.step_s(engine)

    def predicted_first_s(self, engine: ServingEngine) -> np.ndarray:
        """Times to first token of loops whose requests find a place in the batch.

        The queue model (`queues.steady_state`) with its load at the steps of the row: wait for the
        running step, own prompt and those that arrive meanwhile, and the start of the run.
        """
        decode_s, mixed_s = self.steps_s(engine)
        mixtures = stacked([job.steps for job in self.jobs])
        sequences = mixtures.without.decode_sequences
        step_s = np.asarray(mean_step_s(mixtures, decode_s, mixed_s))
        column = [
            (j.requests.concurrency / j.design.num_replicas, j.requests.input_tokens,
             j.requests.output_tokens, j.requests.burst_fraction, j.design.engine.token_budget)
            for j in self.jobs
        ]  # fmt: skip
        users, prompt, output, burst, budget = np.array(column, float).T
        token_s = np.maximum(mixed_s - decode_s, 0.0) / mixtures.with_prompts.prefill_tokens
        host_s = float(engine.request_host_s)
        wait_s = np.clip(users - 1.0, 0.0, 1.0) * np.maximum(step_s - host_s, 0.5 * step_s)
        others = (1.0 - 1.0 / np.maximum(users, 1.0)) * sequences / output
        steady_s = host_s + wait_s + mixed_s + others * prompt * token_s
        room = np.maximum(budget - sequences, 1.0)
        tokens = np.maximum(users, 1.0) * prompt
        full_s = decode_s + token_s * np.minimum(tokens, room)
        burst_s = host_s + 0.5 * full_s * (np.maximum(tokens / room, 1.0) + 1.0)
        return (1.0 - burst) * steady_s + burst * burst_s

    def chosen(self, rows: np.ndarray) -> "Served":
        """Some of the rows."""
        first, second = (
            jax.tree.map(lambda x: x[rows], one) for one in (self.without, self.with_prompts)
        )
        jobs = [self.jobs[row] for row in rows]
        return Served(
            jobs,
            first,
            second,
            self.measured_s[rows],
            self.first_s[rows],
            self.groups[rows],
            self.time_s,
        )


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

    has_first = np.isfinite(served.first_s)

    def residuals(free: np.ndarray) -> np.ndarray:
        engine = engine_of(free)
        errors = np.log(served.predicted_s(engine) / served.measured_s)
        ratio = served.predicted_first_s(engine)[has_first] / served.first_s[has_first]
        return np.concatenate([errors, FIRST_TOKEN_WEIGHT * np.log(ratio), weights * free])

    found = least_squares(residuals, np.zeros(len(STARTS)), loss="soft_l1", f_scale=SOFTNESS)
    return engine_of(found.x)


def left_out(served: Served) -> np.ndarray:
    """Times of all rows, per output token and to the first one, by fits without their group."""
    found = np.empty((2, len(served.jobs)))
    for fold in range(NUM_FOLDS):
        rows = np.flatnonzero(served.groups % NUM_FOLDS == fold)
        others = np.flatnonzero(served.groups % NUM_FOLDS != fold)
        if rows.size and others.size:
            engine, own = fitted(served.chosen(others)), served.chosen(rows)
            found[:, rows] = own.predicted_s(engine), own.predicted_first_s(engine)
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
    first = np.full(len(table), np.nan)
    if not is_window:
        given = 1e-3 * table.numbers("ttft_ms", at_least=0.0, may_be_empty=True)
        first = np.where(given < LONGEST_FIRST_S, given, np.nan)
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
                first[[rows[k] for k in chosen]],
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
        others = left_out(served)
        yield f"  fitted:   {scores(served.predicted_s(engine), served.measured_s)}"
        yield f"  left out: {scores(others[0], served.measured_s)}"
        if np.isfinite(served.first_s).any():
            found = served.predicted_first_s(engine)
            yield f"  first token, fitted:   {scores(found, served.first_s)}"
            yield f"  first token, left out: {scores(others[1], served.first_s)}"


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
