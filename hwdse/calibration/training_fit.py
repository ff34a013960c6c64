"""Efficiencies of chips and costs of training stacks, fitted on published training runs.

    python -m hwdse.calibration.training_fit tests/data/measured_training_public.csv \
        tests/data/measured_vtrain_single_node_public.csv \
        tests/data/measured_training_2026_public.csv

Prints the constants of configs/chips and configs/software: one set per chip and one per stack,
none per row, model or size. Least squares of the logarithm of model over measurement, with equal
weight per source. A second fit on every other row gives the held-out errors.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.optimize import least_squares

from hwdse.config import load_software
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.validation.shared.reference_table import read_table
from hwdse.validation.training.training_cells import cell_number
from hwdse.validation.training.training_jobs import (
    SYSTEMS,
    Job,
    job_of,
    problem_of,
    software_name,
)
from hwdse.validation.training.training_times import batches_of
from hwdse.validation.training.vtrain import COMMON


@dataclass(frozen=True)
class Constant:
    """Fitted constant of a preset, with initial value and bounds."""

    preset: str
    """Preset of a chip or a stack."""
    path: str
    """Path in a design."""
    start: float
    low: float
    high: float


def _chips(*names: str, most: float = 1.0) -> list[Constant]:
    """Sustained matrix rate that chips share; what a power limit takes is not part of it."""
    return [Constant("|".join(names), "chip.matrix_efficiency_fraction", 0.75, 0.3, most)]


def _attention(*names: str) -> list[Constant]:
    """Rate of a fused attention kernel over that of products, which chips share."""
    return [Constant("|".join(names), "chip.attention_efficiency_fraction", 0.5, 0.1, 1.0)]


def _stack(name: str, *paths: str) -> list[Constant]:
    known = {
        "dispatch_time_s": (5e-4, 1e-6, 3e-3),
        "dispatch_spread_ratio": (0.05, 1e-3, 0.3),
        "expert_sync_s": (5e-3, 1e-5, 3e-2),
        "elementwise_traffic_ratio": (2.0, 0.5, 8.0),
        "matrix_efficiency_fraction": (0.8, 0.3, 1.0),
        "attention_efficiency_fraction": (0.5, 0.1, 1.0),
        "step_overhead_s": (5e-3, 1e-5, 0.1),
        "gather_network_fraction": (0.2, 0.05, 1.0),
    }
    return [Constant(name, f"software.{path}", *known[path]) for path in paths]


GROUPS: dict[str, list[Constant]] = {
    "A100": [
        *_chips("a100", "a100_40"),
        *_attention("a100", "a100_40"),
        *_stack("megatron_lm", "elementwise_traffic_ratio"),
        *_stack(
            "megatron_deepspeed",
            "dispatch_time_s",
            "dispatch_spread_ratio",
            "elementwise_traffic_ratio",
            "step_overhead_s",
        ),
        *_stack("llm_foundry", "dispatch_time_s", "elementwise_traffic_ratio"),
        *_stack("deepspeed_zero3", "gather_network_fraction"),
    ],
    "Hopper and Blackwell": [
        *_chips("h100", "h100_96gb", "h800", "h200", "gh200", "b200", "gb200", "b300", "gb300"),
        *_stack(
            "megatron_bridge",
            "dispatch_time_s",
            "expert_sync_s",
            "elementwise_traffic_ratio",
            "step_overhead_s",
        ),
        *_stack("mlperf_training", "elementwise_traffic_ratio", "step_overhead_s"),
        *_stack("llm_foundry_h100", "attention_efficiency_fraction"),
        *_stack("torchtitan", "attention_efficiency_fraction", "elementwise_traffic_ratio"),
        *_stack(
            "megatron_core",
            "dispatch_time_s",
            "matrix_efficiency_fraction",
            "elementwise_traffic_ratio",
        ),
    ],
    "CDNA 3 and 4": _chips("mi300x", "mi350x", "mi355x"),
    "TPU": [
        # Alone the 25 runs cannot tell the two constants apart. Assumed: at most that of GPUs.
        *_chips("tpu_v4", "tpu_v5p", "tpu_v6e", "tpu_v7x", most=0.8),
        *_attention("tpu_v4", "tpu_v5p", "tpu_v6e", "tpu_v7x"),
        *_stack("maxtext", "elementwise_traffic_ratio"),
    ],
}
"""Constants fitted together, on the runs of their chips. Stacks fitted in earlier groups are fixed
in later groups."""


LEFT_OUT = ("chip", "model")
"""Properties of runs whose groups are left out one by one."""
BY_MODEL = ("megatron_bridge", "mlperf_training_5.1", "tpu_recipes")
"""Sources with many models, repeated for each release of the software or submitter."""


@dataclass(frozen=True)
class FittedRun:
    """A measured run: job, chip, stack, source and step time."""

    job: Job
    chip: str
    software: str
    source: str
    model: str
    step_time_s: float

    @property
    def weight_key(self) -> str:
        """Runs that count as one: those of a source, or of a model of `BY_MODEL`."""
        return f"{self.source} {self.model}" if self.source in BY_MODEL else self.source


def read_runs(paths: Sequence[Path]) -> list[FittedRun]:
    """Rows with a step time and a micro-batch within the scope of the model."""
    runs = []
    for path in paths:
        table = read_table(path)
        is_single = "source_id" not in table.columns
        for cells in table.rows:
            row = {**COMMON, **cells} if is_single else cells
            if problem_of(row) or not row["step_time_s"]:
                continue
            if not row["micro_batch"] and row["source_id"] != "narayanan2021":
                continue
            chip = SYSTEMS[row["accelerator"]].chip
            time_s = cell_number(row["step_time_s"])
            source, model = row["source_id"], row["model"].partition(" ")[0]
            runs.append(FittedRun(job_of(row), chip, software_name(row), source, model, time_s))
    return runs


class Batch:
    """Runs as batches of one pytree structure each, with constants set by preset.

    Where a row takes a part of a constant of its stack, such as the host time that no graph
    replays, it takes the same part of another value.
    """

    def __init__(self, runs: Sequence[FittedRun]):
        self.runs = runs
        self.measured_s = np.array([run.step_time_s for run in runs])
        self.groups = batches_of([run.job for run in runs])

    def step_times_s(self, constants: Sequence[Constant], values: np.ndarray) -> np.ndarray:
        """Modeled step time of each run for given values of the constants (s)."""
        times = np.empty(len(self.runs))
        for indices, (design, workload) in self.groups:
            for constant, value in zip(constants, values, strict=True):
                parts = self._parts(constant)[indices]
                if not np.isnan(parts).all():
                    given = get_path(design, constant.path)
                    mixed = np.where(np.isnan(parts), given, parts * value)
                    design = set_path(design, constant.path, mixed)
            times[indices] = np.asarray(_step_times()(design, workload))
        return times

    @cache  # noqa: B019 - a batch lives as long as its fit
    def _parts(self, constant: Constant) -> np.ndarray:
        """Value of each run over that of its stack; NaN for runs of other presets."""
        names = constant.preset.split("|")
        root, _, field = constant.path.partition(".")
        parts = np.full(len(self.runs), np.nan)
        for index, run in enumerate(self.runs):
            if run.chip in names or run.software in names:
                parts[index] = 1.0
                own = _stack_value(run.software, field) if root == "software" else 0.0
                if own:
                    parts[index] = float(getattr(run.job.design.software, field)) / own
        return parts


@cache
def _stack_value(software: str, field: str) -> float:
    return float(getattr(load_software(software), field))


@cache
def _step_times() -> Callable[..., Any]:
    return quick_jit(jax.vmap(lambda d, w: evaluate(d, w, EXACT).step_time_s))


def fit(runs: Sequence[FittedRun], constants: Sequence[Constant]) -> np.ndarray:
    """Fitted values of the constants, with equal weight per source or model."""
    batch = Batch(runs)
    keys = [run.weight_key for run in runs]
    weights = np.array([1.0 / np.sqrt(keys.count(key)) for key in keys])
    bounds = [np.log([getattr(c, name) for c in constants]) for name in ("low", "high")]

    def residuals(logs: np.ndarray) -> np.ndarray:
        times_s = batch.step_times_s(constants, np.exp(logs))
        return weights * np.log(times_s / batch.measured_s)

    start = np.log([constant.start for constant in constants])
    found = least_squares(
        residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.02, diff_step=2e-3, max_nfev=40
    )
    return np.exp(found.x)


def errors(
    runs: Sequence[FittedRun], constants: Sequence[Constant], values: np.ndarray
) -> dict[str, tuple[int, float]]:
    """Number of rows and mean absolute error of each source."""
    batch = Batch(runs)
    error = np.abs(batch.step_times_s(constants, values) / batch.measured_s - 1.0)
    names = [f"{run.source} {run.chip}" for run in runs]
    return {
        name: (
            names.count(name),
            float(np.mean([e for e, n in zip(error, names, strict=True) if n == name])),
        )
        for name in sorted(set(names))
    }


def main(paths: Sequence[str]) -> None:
    """Fit every group and print constants and errors."""
    with jax.enable_x64(True):
        sys.stdout.writelines(f"{line}\n" for line in report(read_runs([Path(p) for p in paths])))


def report(runs: Sequence[FittedRun]) -> Iterator[str]:
    """Lines with the constants of every group, the fit errors and the held-out errors."""
    fitted: list[tuple[Constant, float]] = []
    for name, constants in GROUPS.items():
        chips = {n for c in constants if c.path.startswith("chip") for n in c.preset.split("|")}
        own = [run for run in runs if run.chip in chips]
        fixed, known = [c for c, _ in fitted], [v for _, v in fitted]
        values = fit_with(own, constants, fixed, known)
        yield f"{name}: {len(own)} runs"
        for constant, value in zip(constants, values, strict=True):
            yield f"  {constant.preset:20} {constant.path:38} {value:.4g}"
        yield _error_line("fitted on all", own, [*constants, *fixed], [*values, *known])
        half = fit_with(own[::2], constants, fixed, known)
        yield _error_line("every other, held out", own[1::2], [*constants, *fixed], [*half, *known])
        for kind in LEFT_OUT:
            yield from _left_out(kind, own, constants, fixed, known)
        fitted += list(zip(constants, values, strict=True))


def _left_out(
    kind: str,
    runs: Sequence[FittedRun],
    constants: Sequence[Constant],
    fixed: Sequence[Constant],
    known: Sequence[float],
) -> Iterator[str]:
    """Errors of the runs of each chip or model with constants fitted on the others."""
    runs = [run for run in runs if run.source in BY_MODEL]
    names = sorted({getattr(run, kind) for run in runs})
    if len(names) < 3:
        return
    found = []
    for name in names:
        rest = [run for run in runs if getattr(run, kind) != name]
        own = [run for run in runs if getattr(run, kind) == name]
        values = fit_with(rest, constants, fixed, known)
        times_s = Batch(own).step_times_s([*constants, *fixed], np.array([*values, *known]))
        error = times_s / np.array([run.step_time_s for run in own]) - 1.0
        found.append(error)
        mean = f"{np.abs(error).mean():.1%}, bias {error.mean():+.1%}"
        yield f"  {kind} {name} left out: {mean} ({len(own)})"
    size = np.abs(np.concatenate(found))
    yield f"  each {kind} left out: {size.mean():.1%}, median {np.median(size):.1%} ({len(size)})"


def fit_with(
    runs: Sequence[FittedRun],
    constants: Sequence[Constant],
    fixed: Sequence[Constant],
    known: Sequence[float],
) -> np.ndarray:
    """`fit` with the constants of earlier groups fixed."""
    frozen = [
        Constant(c.preset, c.path, v, v * 0.999, v * 1.001)
        for c, v in zip(fixed, known, strict=True)
    ]
    return fit(runs, [*constants, *frozen])[: len(constants)]


def _error_line(
    label: str, runs: Sequence[FittedRun], constants: Sequence[Constant], values: Sequence[float]
) -> str:
    table = errors(runs, constants, np.array(values))
    return f"  {label}: " + ", ".join(f"{n} {e:.1%} ({k})" for n, (k, e) in table.items())


if __name__ == "__main__":
    main(sys.argv[1:])
