"""Latencies of servers at a fixed request rate (open loop) against measurements.

A row with several rates ("8; 20") has means over the requests of stages of equal length: each rate
counts by its requests, and percentiles are those of the highest rate.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.validation.serving.job_groups import JobRow, for_all
from hwdse.validation.serving.served_jobs import ServedJob, preset_parts, rate_job, table_jobs
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    at_rows,
    build_report,
    read_table,
)
from hwdse.workload.serving.serving_task import ServingTask

COLUMNS = (
    "chip", "chips", "model", "precision", "tp", "max_num_batched_tokens", "max_num_seqs",
    "workload", "rate_per_s", "system_prompt_tokens", "mean_input_tokens", "output_tokens",
    "e2e_mean_ms", "ttft_mean_ms", "ttft_p90_ms", "ttft_p99_ms", "itl_mean_ms",
)  # fmt: skip
FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "ttft": "ttft_mean_ms",
        "ttft_p90": "ttft_p90_ms",
        "ttft_p99": "ttft_p99_ms",
        "itl": "itl_mean_ms",
        "e2e": "e2e_mean_ms",
    }
)
"""Columns of the compared figures."""
PERCENTILES = ("ttft_p90", "ttft_p99")


def rates_of(text: str) -> list[float]:
    """Rates of a row: "8; 20"."""
    return [float(part) for part in text.split(";")]


def _at_rate(job: ServedJob, rate_per_s: float) -> ServedJob:
    requests = dataclasses.replace(job.requests, arrival_rate_per_s=rate_per_s)
    return dataclasses.replace(job, requests=requests)


def latencies(row: JobRow) -> Any:
    """Latencies of a service in seconds by figure."""
    state = evaluate_serving(row.design, ServingTask(row.model, row.requests)).service.state
    return {
        "ttft": state.ttft.mean_s,
        "ttft_p90": state.ttft.p90_s,
        "ttft_p99": state.ttft.p99_s,
        "itl": state.tpot.mean_s,
        "e2e": state.latency.mean_s,
    }


def validate(path: Path) -> ValidationReport:
    """Error table of a file: mean TTFT, its percentiles, inter-token latency, end to end."""
    table = read_table(path, COLUMNS)
    parts = preset_parts()
    jobs, index, skipped = table_jobs(table, lambda row: rate_job(row, parts))
    rates = [rates_of(table.text("rate_per_s")[row]) for row in index]
    every = [
        (place, rate, _at_rate(job, rate))
        for place, (job, of_row) in enumerate(zip(jobs, rates, strict=True))
        for rate in of_row
    ]
    found = for_all([job for _, _, job in every], latencies)
    places = np.array([place for place, _, _ in every])
    weights = np.array([rate for _, rate, _ in every])
    comparisons = {}
    for name, column in FIGURES.items():
        measured = 1e-3 * table.numbers(column, at_least=0.0, may_be_empty=True)
        own = np.zeros(len(jobs))
        for place in range(len(jobs)):
            rows = np.flatnonzero(places == place)
            of_rates = found[name][rows]
            mean = np.average(of_rates, weights=weights[rows])
            own[place] = of_rates.max() if name in PERCENTILES else mean
        comparisons[name] = Comparison(measured, at_rows(len(table), index, own))
    return build_report(
        "serving_rates",
        path,
        comparisons,
        rows_skipped=skipped,
        group_by={"model": table.text("model"), "workload": table.text("workload")},
    )
