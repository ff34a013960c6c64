"""Checkpoint models against a Monte-Carlo simulation of failing jobs.

The file has one job per row: `family` (`single`, `two_level` or `async`), `regime`, the times of
the failure process defined in the leading comment, the flags `fail_in_restart` and `final_ckpt`,
and the simulated `efficiency` (work over mean wall time) with half width `ci95_efficiency`. Cells
not used by a family are empty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from hwdse.models.reliability import (
    async_checkpoint,
    single_level_checkpoint,
    two_level_checkpoint,
)
from hwdse.numerics.array_types import Scalar
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)

NUM_HALF_WIDTHS = 2.0
MIN_TOLERANCE = 0.0015
"""A row agrees within two half widths of its 95 % interval, or 0.15 %, whichever is wider."""

FLAGS = ("0", "1")
POSITIVE = ("mtbf_s", "mtbf2_s", "work_s", "interval_s")


@dataclass(frozen=True)
class Family:
    """A kind of job: columns, and efficiency as a function of them and both flags."""

    columns: tuple[str, ...]
    efficiency: Callable[..., Scalar]


def _two_level(
    work_s: Scalar,
    interval_s: Scalar,
    remote_every_count: Scalar,
    fail_in_restart: Scalar,
    final_ckpt: Scalar,
    *times: Scalar,
) -> Scalar:
    return two_level_checkpoint.finite_job_ettr_fraction(
        work_s,
        interval_s,
        remote_every_count,
        two_level_checkpoint.TwoLevelTimes(*times),
        fail_in_restart,
        final_ckpt,
    )


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "single": Family(
            (
                *("work_s", "interval_s", "ckpt_s", "restart_s", "downtime_s", "mtbf_s"),
                *("fail_in_restart", "final_ckpt"),
            ),
            single_level_checkpoint.finite_job_ettr_fraction,
        ),
        "two_level": Family(
            (
                *("work_s", "interval_s", "l2_every", "fail_in_restart", "final_ckpt"),
                *("ckpt_s", "ckpt2_s", "restart_s", "restart2_s", "downtime_s", "downtime2_s"),
                *("mtbf_s", "mtbf2_s"),
            ),
            _two_level,
        ),
        "async": Family(
            (
                *("work_s", "interval_s", "snapshot_s", "persist_s", "slowdown", "restart_s"),
                *("downtime_s", "mtbf_s", "fail_in_restart"),
            ),
            async_checkpoint.finite_job_ettr_fraction,
        ),
    }
)
ALWAYS = (
    *("family", "regime", "mtbf_s", "work_s", "interval_s", "restart_s", "downtime_s"),
    *("fail_in_restart", "final_ckpt", "efficiency", "ci95_efficiency"),
)
"""Columns of every file; those of a family are required if the file has such rows."""
FINAL_PERSIST = "async with a final checkpoint: the process defines none"


def validate(path: Path) -> ValidationReport:
    """Error table of `efficiency`, overall, by family and by regime within a family.

    `mismatches` counts the rows outside the larger of `NUM_HALF_WIDTHS` half widths and
    `MIN_TOLERANCE`. Rows that the process does not define are skipped and counted.
    """
    table = read_table(path, ALWAYS)
    family, regime = table.text("family", FAMILIES), table.text("regime")
    for flag in ("fail_in_restart", "final_ckpt"):
        table.text(flag, FLAGS)
    is_skipped = np.array(
        [
            name == "async" and last == "1"
            for name, last in zip(family, table.text("final_ckpt"), strict=True)
        ]
    )
    efficiency = table.numbers("efficiency", at_least=1e-9)
    half_width = table.numbers("ci95_efficiency", at_least=0.0)
    margin = np.maximum(NUM_HALF_WIDTHS * half_width, MIN_TOLERANCE * efficiency)
    model = np.full(len(table), np.nan)
    for name in FAMILIES:
        chosen = np.flatnonzero((np.array(family) == name) & ~is_skipped)
        if chosen.size:
            model[chosen] = _efficiency(_rows(table, chosen), FAMILIES[name])
    comparison = Comparison(efficiency, model, resolution=2.0 * margin)
    labels = [f"{name} {kind}" for name, kind in zip(family, regime, strict=True)]
    return build_report(
        "checkpoint",
        path,
        {"efficiency": comparison},
        rows_skipped={FINAL_PERSIST: int(is_skipped.sum())} if is_skipped.any() else {},
        group_by={"family": family, "regime": labels},
    )


def _rows(table: ReferenceTable, chosen: np.ndarray) -> ReferenceTable:
    return ReferenceTable(
        table.path,
        table.columns,
        tuple(table.rows[index] for index in chosen),
        tuple(table.lines[index] for index in chosen),
    )


def _efficiency(rows: ReferenceTable, family: Family) -> np.ndarray:
    """Efficiency of rows of one family by the model, in float64."""
    columns: list[Any] = []
    for name in family.columns:
        if name == "l2_every":
            columns.append(rows.numbers(name, at_least=1.0, whole=True))
            continue
        columns.append(rows.numbers(name, at_least=1e-12 if name in POSITIVE else 0.0))
        if name == "slowdown" and np.any(columns[-1] >= 1.0):
            raise rows.error(int(np.argmax(columns[-1] >= 1.0)), name, "a number below 1")
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(family.efficiency))(*columns))
