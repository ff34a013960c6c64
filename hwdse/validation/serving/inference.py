"""Time to first token and time per output token of closed loops against measurements."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.validation.serving.job_groups import JobRow, for_all
from hwdse.validation.serving.served_jobs import ServedJob, loop_job, preset_parts, table_jobs
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    at_rows,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError
from hwdse.workload.serving.serving_task import ServingTask

COLUMNS = (
    "device", "model", "framework", "precision", "mode", "isl", "osl", "concurrency", "num_chips",
    "tp", "pp", "attn_dp", "moe_tp", "moe_ep", "ttft_ms", "tpot_ms",
)  # fmt: skip
CLOSED = "agg"
"""Mode of the rows with a closed loop on one kind of workers."""


def loop_times(row: JobRow) -> Any:
    """Mean time to first token and per output token."""
    found = evaluate_serving(row.design, ServingTask(row.model, row.requests))
    return found.ttft_s, found.tpot_s


def validate(path: Path) -> ValidationReport:
    """Error table of a file."""
    table = read_table(path, COLUMNS)
    parts = preset_parts()

    def job_of(row: Mapping[str, str]) -> ServedJob:
        if row["mode"] != CLOSED:
            raise NoModelError(f"mode {row['mode']}")
        return loop_job(row, parts)

    jobs, index, skipped = table_jobs(table, job_of)
    ttft_s, tpot_s = for_all(jobs, loop_times)
    comparisons = {}
    for name, column, own in (("ttft", "ttft_ms", ttft_s), ("tpot", "tpot_ms", tpot_s)):
        measured = 1e-3 * table.numbers(column, at_least=0.0, may_be_empty=True)
        comparisons[name] = Comparison(measured, at_rows(len(table), index, own))
    devices, models = table.text("device"), table.text("model")
    return build_report(
        "inference",
        path,
        comparisons,
        rows_skipped=skipped,
        group_by={
            "framework": table.text("framework"),
            "device": devices,
            "model": [f"{d} {m}" for d, m in zip(devices, models, strict=True)],
        },
    )
