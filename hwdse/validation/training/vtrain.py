"""Iteration times of small GPT models on one node of A100 (the single-node file of vTrain).

Columns: `num_chips`, `global_batch`, `micro_batch`, `hidden`, `num_heads`, `num_layers`,
`seq_len`, `tp`, `dp`, `pp`, `step_time_s`. All rows have feedforward 4 x hidden, vocabulary
50257, FP16, full recomputation and no sharding across replicas. Source: comment of the file. A
file with the columns of `training_runs.py` is scored as there.
"""

from pathlib import Path

from hwdse.validation.shared.reference_table import ValidationReport, read_table
from hwdse.validation.training.training_runs import COLUMNS as TRAINING_COLUMNS
from hwdse.validation.training.training_runs import report_of
from hwdse.validation.training.training_runs import validate as validate_training

COLUMNS = (
    "num_chips",
    "global_batch",
    "micro_batch",
    "hidden",
    "num_heads",
    "num_layers",
    "seq_len",
    "tp",
    "dp",
    "pp",
    "step_time_s",
)
COMMON = {
    **dict.fromkeys(TRAINING_COLUMNS, ""),
    "source_id": "vtrain_single",
    "scope": "iteration",
    "accelerator": "A100",
    "chips_per_node": "8",
    "number_format": "float16",
    "model": "GPT",
    "mlp_matrices": "2",
    "vocab": "50257",
    "recompute": "full",
    "sequence_parallel": "false",
    "data_sharding": "none",
}
"""Cells with the same value in all rows."""


def validate(path: Path) -> ValidationReport:
    """Error table of the step time."""
    table = read_table(path)
    if "source_id" in table.columns:
        return validate_training(path)
    table = read_table(path, COLUMNS)
    for name in COLUMNS:
        table.numbers(name, at_least=1e-9)
    rows = [{**COMMON, **row} for row in table.rows]
    return report_of("vtrain", path, table, rows)
