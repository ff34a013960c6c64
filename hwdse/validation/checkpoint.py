"""Checkpoint model against a Monte-Carlo simulation of failing jobs.

The file has one job a row: columns `family`, `regime`, `mtbf_s`, `work_s`, `interval_s`,
`ckpt_s`, `restart_s`, `downtime_s`, `fail_in_restart`, `final_ckpt`, `efficiency` and
`ci95_efficiency` (half width). Rows of family `single` are scored.
"""

from pathlib import Path

import jax
import numpy as np

from hwdse.models.reliability import finite_job_useful_time_fraction
from hwdse.validation.table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)

NUM_HALF_WIDTHS = 2.0
SMALLEST_TOLERANCE = 0.0015
"""A row agrees within two half widths of its 95 % interval, or 0.15 %, whichever is wider."""

FAMILIES = ("single", "two_level", "async")
FLAGS = ("0", "1")
TIME_COLUMNS = ("work_s", "interval_s", "ckpt_s", "restart_s", "downtime_s", "mtbf_s")
COLUMNS = (
    "family",
    "regime",
    *TIME_COLUMNS,
    "fail_in_restart",
    "final_ckpt",
    "efficiency",
    "ci95_efficiency",
)


def validate(path: Path) -> ValidationReport:
    """Error table of `efficiency` (useful work over mean wall time), overall and by regime.

    `mismatches` counts the rows outside the larger of `NUM_HALF_WIDTHS` half widths and
    `SMALLEST_TOLERANCE`. Rows of a family without a model are skipped and counted.
    """
    table = read_table(path, COLUMNS)
    family = table.text("family", FAMILIES)
    chosen = [index for index, name in enumerate(family) if name == "single"]
    skipped = {f"{name}: no model yet": family.count(name) for name in FAMILIES if name != "single"}
    if not chosen:
        raise ValueError(f"{path}: no row of family 'single'; expected at least one")
    rows = ReferenceTable(
        path,
        table.columns,
        tuple(table.rows[index] for index in chosen),
        tuple(table.lines[index] for index in chosen),
    )
    efficiency = rows.numbers("efficiency", at_least=1e-9)
    margin = np.maximum(
        NUM_HALF_WIDTHS * rows.numbers("ci95_efficiency", at_least=0.0),
        SMALLEST_TOLERANCE * efficiency,
    )
    comparison = Comparison(efficiency, _model_efficiency(rows), resolution=2.0 * margin)
    return build_report(
        "checkpoint",
        path,
        {"efficiency": comparison},
        rows_skipped=skipped,
        group_by={"regime": rows.text("regime")},
    )


def _model_efficiency(rows: ReferenceTable) -> np.ndarray:
    """The model's efficiency of each row, in float64."""
    rows.text("fail_in_restart", FLAGS)
    rows.text("final_ckpt", FLAGS)
    positive = ("work_s", "interval_s", "mtbf_s")
    names = (*TIME_COLUMNS, "fail_in_restart", "final_ckpt")
    columns = [rows.numbers(n, at_least=1e-12 if n in positive else 0.0) for n in names]
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(finite_job_useful_time_fraction))(*columns))
