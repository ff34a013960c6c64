"""Step times and memory of published training runs.

The file has one run per row, with the columns of `training_jobs.py` (chip, number of chips, model
config, batch, degrees, recomputation, data-parallel sharding) and any of `step_time_s`,
`tokens_per_s`, `mfu_fraction` and `peak_memory_bytes`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.training.training_cells import cell_number, cell_text
from hwdse.validation.training.training_jobs import (
    PACKED,
    Job,
    job_of,
    problem_of,
    software_name,
)
from hwdse.validation.training.training_times import Result, results_of

COLUMNS = (
    "source_id",
    "scope",
    "accelerator",
    "chips_per_node",
    "num_chips",
    "number_format",
    "model",
    "num_layers",
    "hidden",
    "feedforward",
    "mlp_matrices",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "vocab",
    "seq_len",
    "global_batch",
    "micro_batch",
    "tp",
    "pp",
    "dp",
    "cp",
    "ep",
    "pp_interleave",
    "recompute",
    "sequence_parallel",
    "data_sharding",
    "step_time_s",
    "tokens_per_s",
    "mfu_fraction",
    "peak_memory_bytes",
)
TEXTS = (
    "source_id",
    "scope",
    "accelerator",
    "number_format",
    "model",
    "recompute",
    "sequence_parallel",
    "data_sharding",
)
MEASURED = ("step_time_s", "tokens_per_s", "mfu_fraction", "peak_memory_bytes")
SIZES = tuple(name for name in COLUMNS if name not in (*TEXTS, *MEASURED))
"""Columns with counts: chips, layers, ranks."""
MICRO_BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Candidates if a row states none; the fastest that fits is used."""


def validate(path: Path) -> ValidationReport:
    """Error table of step time, of MFU for rows without a time, and of peak memory.

    Rows that are not one iteration, or whose chip has no preset, are skipped and counted.
    """
    table = read_table(path, COLUMNS)
    for name in (*SIZES, *MEASURED):
        table.numbers(name, at_least=1.0 if name in SIZES else 0.0, may_be_empty=True)
    return report_of("training", path, table, table.rows)


def report_of(
    kind: str, path: Path, table: ReferenceTable, rows: Sequence[dict[str, str]]
) -> ValidationReport:
    """Error table of rows with the columns of a training file."""
    problems = [problem_of(row) for row in rows]
    chosen = [i for i, problem in enumerate(problems) if problem is None]
    if not chosen:
        raise ValueError(f"{path}: no row that the model can express")
    results = _best_results([rows[i] for i in chosen])
    nothing = np.full(len(rows), np.nan)
    time_s, utilization, memory = nothing.copy(), nothing.copy(), nothing.copy()
    for i, result in zip(chosen, results, strict=True):
        time_s[i], utilization[i] = result.step_time_s, result.mfu_fraction
        memory[i] = result.memory_bytes
    tokens = _column(rows, "seq_len") * _column(rows, "global_batch")
    printed_s = _column(rows, "step_time_s")
    measured_s = np.where(np.isnan(printed_s), tokens / _column(rows, "tokens_per_s"), printed_s)
    stated = np.where(np.isnan(measured_s), _column(rows, "mfu_fraction"), np.nan)
    comparisons = {
        "step_time": Comparison(measured_s, time_s),
        "utilization_without_time": Comparison(stated, utilization),
        "peak_memory": Comparison(_column(rows, "peak_memory_bytes"), memory),
    }
    pairs = list(zip(rows, problems, strict=True))
    given = {name: c for name, c in comparisons.items() if np.any(c.is_scored)}
    return build_report(
        kind,
        path,
        given,
        rows_skipped=Counter(problem for problem in problems if problem),
        group_by={
            "source": [row["source_id"] for row in rows],
            "accelerator": [row["accelerator"] for row in rows],
            "kind": [_kind(row) for row in rows],
            "format": [row["number_format"] or "not stated" for row in rows],
            "stack": ["" if problem else software_name(row) for row, problem in pairs],
        },
    )


def _kind(row: dict[str, str]) -> str:
    """Kind of the model and of the training of a row."""
    model = cell_text(row, "model_kind").partition(",")[0] or "not stated"
    return f"{model}, {row['scope'].partition(' ')[0]}" if row["scope"] in PACKED else model


def _column(rows: Sequence[dict[str, str]], name: str) -> np.ndarray:
    return np.array([cell_number(row.get(name, "")) for row in rows])


def _best_results(rows: Sequence[dict[str, str]]) -> list[Result]:
    """Result of each row, with the fastest fitting micro-batch if the row states none."""
    tried: list[list[Job]] = []
    for row in rows:
        sizes = (row["micro_batch"],) if row["micro_batch"] else _possible(row)
        tried.append([job_of({**row, "micro_batch": str(size)}) for size in sizes])
    flat = iter(results_of([job for jobs in tried for job in jobs]))
    found = []
    for jobs in tried:
        results = [next(flat) for _ in jobs]
        fitting = [result for result in results if result.fits] or results
        found.append(min(fitting, key=lambda result: result.step_time_s))
    return found


def _possible(row: dict[str, str]) -> tuple[float, ...]:
    """Micro-batches that divide the batch of a replica."""
    ranks = 1.0
    for name in ("tp", "pp", "cp"):
        ranks *= cell_number(row[name], 1.0)
    share = cell_number(row["global_batch"]) * ranks / cell_number(row["num_chips"])
    return tuple(size for size in MICRO_BATCHES if share % size == 0.0) or (1.0,)
