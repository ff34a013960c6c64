"""Constants of training on Trainium1, fitted on published throughputs.

    python -m hwdse.calibration.neuron_fit tests/data/aws_training_public.csv

Four constants for all models, releases and sizes: the sustained matrix rate of the chip
(configs/chips/trainium1.toml), the minimum times of a layer pass and of a step
and the slices of its products whose TP collectives overlap (configs/software/neuron.toml). Least
squares of the logarithm of model over measurement,
with equal weight per model. Held-out errors: every other row, and each model family with the
constants of the others.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from hwdse.calibration.training_fit import Batch, Constant, FittedRun, fit
from hwdse.validation.aws.aws_training import measured_runs
from hwdse.validation.aws.neuron_jobs import SOFTWARE, job_of
from hwdse.validation.aws.neuron_models import plain_name

CHIP = "trainium1"
CONSTANTS = [
    Constant(CHIP, "chip.matrix_efficiency_fraction", 0.7, 0.3, 1.0),
    Constant(SOFTWARE, "software.dispatch_time_s", 1e-3, 1e-5, 1e-2),
    Constant(SOFTWARE, "software.step_overhead_s", 0.05, 1e-4, 1.0),
    Constant(SOFTWARE, "software.num_tensor_slices", 1.4, 1.01, 50.0),
]
FAMILIES = ("gpt3", "llama", "bert", "vit")


def read_runs(path: Path) -> list[FittedRun]:
    """Runs with a throughput or a step time within the model; the source of a run is its model.

    MFU rows repeat throughputs and are left out.
    """
    return [
        FittedRun(
            job_of(row), CHIP, SOFTWARE, plain_name(row["model"]), plain_name(row["model"]), time_s
        )
        for row, time_s in measured_runs(path)
        if row["chip"].lower() == CHIP
    ]


def errors_of(runs: Sequence[FittedRun], values: np.ndarray) -> np.ndarray:
    """Modeled over published throughput minus one, of each run."""
    batch = Batch(runs)
    return batch.measured_s / batch.step_times_s(CONSTANTS, values) - 1.0


def _line(label: str, errors: np.ndarray) -> str:
    size = np.abs(errors)
    return (
        f"{label}: median {np.median(size):.1%}, mean {size.mean():.1%}, largest {size.max():.1%}"
        f" ({len(size)} rows)"
    )


def held_out_errors(runs: Sequence[FittedRun]) -> dict[str, np.ndarray]:
    """Errors on rows excluded from the fit, by excluded group."""
    found = {"every other": errors_of(runs[1::2], fit(runs[::2], CONSTANTS))}
    for family in FAMILIES:
        own = [run for run in runs if run.source.startswith(family)]
        others = [run for run in runs if not run.source.startswith(family)]
        if own and others:
            found[family] = errors_of(own, fit(others, CONSTANTS))
    return found


def report(runs: Sequence[FittedRun]) -> Iterator[str]:
    """Lines with the constants, the fit errors and the held-out errors."""
    values = fit(runs, CONSTANTS)
    for constant, value in zip(CONSTANTS, values, strict=True):
        yield f"{constant.preset:10} {constant.path:38} {value:.4g}"
    yield _line("fitted on all", errors_of(runs, values))
    for name, errors in held_out_errors(runs).items():
        yield _line(f"held out, {name}", errors)


def main(paths: Sequence[str]) -> None:
    """Fit the constants and print them with the errors."""
    with jax.enable_x64(True):
        runs = [run for path in paths for run in read_runs(Path(path))]
        sys.stdout.writelines(f"{line}\n" for line in report(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
