"""Constants of services on Trainium and Inferentia, fitted on published latencies.

    python -m hwdse.calibration.neuron_serving_fit tests/data/aws_inference_public.csv

Static batches of dense models of one release of the Neuron stack (`validate aws --kind inference`);
mixtures and Trainium3 are not fitted. The constants of the kernels are those of row `trainium` of
configs/libraries/kernels.csv, the others those of configs/serving_engines/neuron.toml. Least
squares of the logarithm of model over measurement with a soft loss and weak priors; errors of each
model by a fit of the others.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from hwdse.calibration.kernel_fit import SOFTNESS, scores
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.stacking import stacked
from hwdse.validation.aws.aws_inference import COLUMNS, EACH, FIRST, BatchJob, job_of, times_s
from hwdse.validation.shared.reference_table import read_table
from hwdse.validation.shared.row_predictions import NoModelError

PRIOR_WEIGHT = 0.05
FIRST_TOKEN_WEIGHT = 0.4
STARTS = {
    "kernels.hbm_fraction": (0.6, 0.3),
    "kernels.kv_fraction": (0.5, 0.7),
    "kernels.matrix_fraction": (0.7, 0.3),
    "engine.step_host_s": (1e-4, 1.0),
    "engine.sequence_s": (2e-5, 1.0),
    "engine.block_s": (2e-5, 1.0),
    "engine.collective_launch_s": (2e-5, 0.7),
    "engine.prefill_ratio": (1.5, 0.7),
    "engine.request_host_s": (5e-3, 1.0),
}
"""Start of each constant, and the width of its prior in logs."""
FITTED_CHIPS = ("inferentia2", "trainium1")


class Fit:
    """Rows with their compiled model."""

    def __init__(self, path: Path) -> None:
        table = read_table(path, COLUMNS)
        cells = {name: table.text(name) for name in table.columns}
        self.jobs: list[BatchJob] = []
        self.measured_s, self.is_first, self.models = [], [], []
        for i in range(len(table)):
            row = {name: texts[i] for name, texts in cells.items()}
            is_named = row["metric"] in (*FIRST, *EACH) and row["chip"].lower() in FITTED_CHIPS
            if not is_named or re.search("suspect|inconsistent", row["notes"]):
                continue
            try:
                self.jobs.append(job_of(row))
            except NoModelError:
                continue
            self.measured_s.append(1e-3 * float(row["value"]))
            self.is_first.append(row["metric"] in FIRST)
            self.models.append(row["model"])
        self.measured = np.array(self.measured_s)
        self.first = np.array(self.is_first)
        rows = stacked(self.jobs)

        def times(free: Any, rows: Any) -> Any:
            return jax.vmap(lambda job: times_s(with_constants(job, free)))(rows)

        self._times = functools.partial(quick_jit(times), rows=rows)

    def predicted(self, free: np.ndarray) -> np.ndarray:
        """Times of all rows with the constants of free parameters."""
        first, each = self._times(jnp.asarray(free))
        return np.where(self.first, np.asarray(first), np.asarray(each))

    def fitted(self, rows: np.ndarray) -> np.ndarray:
        """Free parameters of least squares over some rows."""
        weights = np.array([PRIOR_WEIGHT / width for _, width in STARTS.values()])
        importance = np.where(self.first, FIRST_TOKEN_WEIGHT, 1.0)[rows]

        def residuals(free: np.ndarray) -> np.ndarray:
            errors = np.log(self.predicted(free)[rows] / self.measured[rows])
            return np.concatenate([importance * errors, weights * free])

        start = np.zeros(len(STARTS))
        return least_squares(residuals, start, loss="soft_l1", f_scale=SOFTNESS).x


def with_constants(job: BatchJob, free: Any) -> BatchJob:
    """Job with the constants of free parameters."""
    values = {
        name: start * jnp.exp(x) for (name, (start, _)), x in zip(STARTS.items(), free, strict=True)
    }
    parts = {
        part: dataclasses.replace(
            getattr(job.design, part),
            **{n.split(".")[1]: v for n, v in values.items() if n.startswith(part)},
        )
        for part in ("kernels", "engine")
    }
    return job._replace(design=dataclasses.replace(job.design, **parts))


def report(fit: Fit) -> Iterator[str]:
    """Lines with constants and errors."""
    every = np.arange(len(fit.jobs))
    free = fit.fitted(every)
    yield f"{len(every)} rows"
    for (name, (start, _)), x in zip(STARTS.items(), free, strict=True):
        yield f"  {name} = {start * np.exp(x):.3g}"
    found, left = fit.predicted(free), np.zeros(len(every))
    for model in dict.fromkeys(fit.models):
        own = np.array([name == model for name in fit.models])
        left[own] = fit.predicted(fit.fitted(np.flatnonzero(~own)))[own]
    for name, kind in (("first token", fit.first), ("per token", ~fit.first)):
        yield f"  {name}, fitted:   {scores(found[kind], fit.measured[kind])}"
        yield f"  {name}, left out: {scores(left[kind], fit.measured[kind])}"


def main(arguments: Sequence[str]) -> None:
    """Print the constants and errors."""
    with jax.enable_x64(True):
        for line in report(Fit(Path(arguments[0]))):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
