"""Training runs on Trainium against published throughput, step time and utilization.

The file has one metric of one run per row, in the columns of `COLUMNS`; rows of other domains than
"training" are skipped. Runs are modeled in NeuronCores (`neuron_jobs.py`), with one set of
constants for all models and releases. The same run became faster in later releases; errors are
therefore also grouped by early and later releases.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hwdse.validation.aws.neuron_jobs import (
    degree,
    job_of,
    problem_of,
    published_flop_per_s,
    server_name,
)
from hwdse.validation.aws.neuron_models import plain_name
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)
from hwdse.validation.training.training_cells import cell_number
from hwdse.validation.training.training_jobs import Job
from hwdse.validation.training.training_times import results_of
from hwdse.workload.transformer.dense_transformer import layer_parameters

COLUMNS = (
    "case_id",
    "domain",
    "model",
    "detail",
    "chip",
    "instance",
    "nodes",
    "chips",
    "cores",
    "parallelism",
    "precision",
    "batch",
    "global_batch",
    "seq_len",
    "metric",
    "value",
    "unit",
    "software",
    "notes",
)
NUMBERS = ("nodes", "chips", "cores", "batch", "global_batch", "seq_len", "value")
FIRST_LATER_RELEASE = (2, 14)
"""First release of the group that contains most runs of the newest published tables."""


def _utilization_percent(step_time_s: float, row: Mapping[str, str], job: Job) -> float:
    """MFU (%) in the convention of the Neuron documentation.

    $(6 P + 12 L h s) s$ FLOP per sequence, with the parameters P of the layers only and attention
    to all positions, over the published peak. It reproduces the tables for BERT-Large (0.1 %) and
    for Llama-2 7B and 13B on 16 nodes (0.5 %); some later rows count 5 % less.
    """
    model, tokens = job.workload.model, float(job.workload.seq_len)
    layers = float(model.num_layers)
    attention = 12.0 * layers * float(model.num_heads * model.head_dim) * tokens
    flop = (6.0 * layers * float(layer_parameters(model)) + attention) * tokens
    peak = published_flop_per_s(server_name(row)) * cell_number(row["chips"])
    return 100.0 * flop * cell_number(row["global_batch"]) / (step_time_s * peak)


MetricFn = Callable[[float, Mapping[str, str], Job], float]
METRICS: Mapping[tuple[str, str], MetricFn] = MappingProxyType(
    {
        ("throughput", "seq/s"): lambda time_s, row, job: cell_number(row["global_batch"]) / time_s,
        ("step_time", "s"): lambda time_s, row, job: time_s,
        ("mfu", "percent"): _utilization_percent,
    }
)
"""Modeled metric from the step time, by metric and unit in the file."""


def validate(path: Path) -> ValidationReport:
    """Error table of throughput, step time and MFU, with reasons of skipped rows."""
    table = read_table(path, COLUMNS)
    chosen, skipped = _choose(table)
    if not chosen:
        raise ValueError(f"{path}: no training row that the model can express; {dict(skipped)}")
    model = np.full(len(table), math.nan)
    jobs = [job_of(table.rows[i]) for i in chosen]
    for i, job, result in zip(chosen, jobs, results_of(jobs), strict=True):
        row = table.rows[i]
        model[i] = METRICS[row["metric"], row["unit"]](result.step_time_s, row, job)
    return build_report(
        "aws training",
        path,
        _comparisons(table, model),
        rows_skipped=skipped,
        group_by={
            "model": [plain_name(row["model"]) or "-" for row in table.rows],
            "nodes": [row["nodes"] or "-" for row in table.rows],
            "release": [release_group(row["software"]) for row in table.rows],
        },
    )


def measured_runs(path: Path) -> list[tuple[dict[str, str], float]]:
    """Modeled rows with a throughput or a step time, and the measured step time of each (s)."""
    table = read_table(path, COLUMNS)
    found = []
    for index in _choose(table)[0]:
        row = table.rows[index]
        value = cell_number(row["value"])
        if row["metric"] == "throughput":
            found.append((row, cell_number(row["global_batch"]) / value))
        elif row["metric"] == "step_time":
            found.append((row, value))
    return found


def _choose(table: ReferenceTable) -> tuple[list[int], Counter[str]]:
    """Indices of rows with a model, and counts of the other rows by reason."""
    chosen: list[int] = []
    skipped: Counter[str] = Counter()
    for index, row in enumerate(table.rows):
        if row["domain"] != "training":
            skipped[f"domain {row['domain']}: no training"] += 1
            continue
        metric, unit = row["metric"], row["unit"]
        problem = problem_of(row)
        if problem is None and (metric, unit) not in METRICS:
            problem = f"no rule for the metric {metric} in {unit}"
        if problem is None:
            _check_numbers(table, index)
            problem = _batch_problem(row)
        if problem is None:
            chosen.append(index)
        else:
            skipped[problem] += 1
    return chosen, skipped


def _check_numbers(table: ReferenceTable, index: int) -> None:
    """Raise an error if a used cell is not a positive number."""
    for column in NUMBERS:
        cell = table.rows[index][column]
        if not cell and column in ("seq_len", "nodes"):
            continue
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0.0):
            raise table.error(index, column, "a number above 0")


def _batch_problem(row: Mapping[str, str]) -> str | None:
    """Reason why the batch does not match the strategy; None if it does."""
    replicas = degree(row, "DP")
    if cell_number(row["global_batch"]) < replicas * cell_number(row["batch"]):
        return "the global batch has fewer sequences than one micro-batch of every replica"
    return None


def _comparisons(table: ReferenceTable, model: np.ndarray) -> dict[str, Comparison]:
    """Reference and model by metric."""
    is_scored = ~np.isnan(model)
    cells = [row["value"] if used else "" for row, used in zip(table.rows, is_scored, strict=True)]
    reference = np.array([cell_number(cell) for cell in cells])
    metrics = np.array([row["metric"] for row in table.rows])
    found = {}
    for metric in sorted(set(metrics[is_scored])):
        of_metric = metrics == metric
        found[metric] = Comparison(
            np.where(of_metric, reference, math.nan),
            np.where(of_metric, model, math.nan),
            printed_resolution(cells),
        )
    return found


def release_group(software: str) -> str:
    """Early or later releases of Neuron by the column `software` (`Neuron 2.18.0`)."""
    found = re.search(r"(\d+)\.(\d+)", software)
    if found is None:
        return "not named"
    is_later = (int(found.group(1)), int(found.group(2))) >= FIRST_LATER_RELEASE
    name = ".".join(map(str, FIRST_LATER_RELEASE))
    return f"{name} on" if is_later else f"before {name}"
