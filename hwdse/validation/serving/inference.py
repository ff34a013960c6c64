"""Time to first token and time per output token of closed loops against measurements."""

from pathlib import Path
from typing import Any

import numpy as np

from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.validation.serving.job_groups import JobRow, by_model
from hwdse.validation.serving.served_jobs import loop_job, preset_parts
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError
from hwdse.workload.serving.serving_task import ServingTask
from hwdse.workload.transformer.model_config import Transformer

COLUMNS = (
    "device", "model", "framework", "precision", "mode", "isl", "osl", "concurrency", "num_chips",
    "tp", "pp", "attn_dp", "moe_tp", "moe_ep", "ttft_ms", "tpot_ms",
)  # fmt: skip
CLOSED = "agg"
"""Mode of the rows with a closed loop on one kind of workers."""


def loop_times(model: Transformer, row: JobRow) -> Any:
    """Mean time to first token and per output token."""
    found = evaluate_serving(row.design, ServingTask(model, row.requests))
    return found.ttft_s, found.tpot_s


def validate(path: Path) -> ValidationReport:
    """Error table of a file."""
    table = read_table(path, COLUMNS)
    parts = preset_parts()
    cells = {name: table.text(name) for name in table.columns}
    jobs, index, skipped = [], [], {}
    for i in range(len(table)):
        try:
            if cells["mode"][i] != CLOSED:
                raise NoModelError(f"mode {cells['mode'][i]}")
            jobs.append(loop_job({name: cells[name][i] for name in cells}, parts))
            index.append(i)
        except NoModelError as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
    ttft_s, tpot_s = by_model(jobs, loop_times)
    comparisons = {}
    for name, column, own in (("ttft", "ttft_ms", ttft_s), ("tpot", "tpot_ms", tpot_s)):
        full = np.full(len(table), np.nan)
        full[index] = own
        measured = 1e-3 * table.numbers(column, at_least=0.0, may_be_empty=True)
        comparisons[name] = Comparison(measured, full)
    return build_report(
        "inference",
        path,
        comparisons,
        rows_skipped=skipped,
        group_by={
            "framework": cells["framework"],
            "device": cells["device"],
            "model": [f"{d} {m}" for d, m in zip(cells["device"], cells["model"], strict=True)],
        },
    )
