"""Front of an unfinished run, from its chunks: of one shard, or of an interrupted sweep."""

from typing import TYPE_CHECKING

import numpy as np

from hwdse.config.search.metric_names import (
    OBJECTIVE_COLUMNS,
    ROBUST_PREFIX,
    SCALARS,
    objective_columns,
)
from hwdse.runs.run_errors import NoFeasibleDesignError, RunError
from hwdse.runs.run_folder import CONSTRAINT, LOG
from hwdse.runs.sweep_job import FLAGS

if TYPE_CHECKING:
    from hwdse.runs.run_folder import Run

NOT_PARAMETERS = {
    *FLAGS,
    *SCALARS,
    *OBJECTIVE_COLUMNS.values(),
    *(ROBUST_PREFIX + name for name in OBJECTIVE_COLUMNS.values()),
    "is_feasible",
    "variant",
    "sequence_index",
}
"""Columns of a part that are not parameters, apart from logarithms and constraint values."""


def num_designs_on_disk(record: "Run") -> int:
    """Designs of the complete parts of a run, as counted when they were evaluated."""
    return sum(int(record.part_notes(i).get("num_points", 0)) for i in record.finished_parts())


def missing_designs(record: "Run") -> int:
    """Designs of an ended run whose parts are damaged or gone."""
    total = (record.record.get("summary") or {}).get("num_points", 0)
    if record.status not in ("finished", "infeasible") or not isinstance(total, int):
        return 0
    return max(total - num_designs_on_disk(record), 0)


def progress_text(record: "Run") -> str:
    """Status and share of the designs of a run that has not ended; empty for one that has."""
    if record.status in ("finished", "infeasible"):
        return ""
    options = record.config.get("options") or {}
    total = options.get("points") or options.get("evaluations")
    done = (record.record.get("summary") or {}).get("num_points") or num_designs_on_disk(record)
    of = f" of {total:,}" if isinstance(total, int) else ""
    return f"{record.status}, {done:,}{of} designs" if done or of else record.status


def front_of_parts(record: "Run", objectives: list[str]) -> dict[str, np.ndarray]:
    """Front of the finished parts in the columns of front.csv.

    Parts are read one at a time. Raises `RunError` if they hold no feasible design.
    """
    from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask

    front: dict[str, np.ndarray] = {}
    parts = sorted(record.finished_parts())
    if not parts:
        raise RunError(
            f"{record.folder}: contains no designs; expected a run of sweep or optimize --front"
        )
    for index in parts:
        part, _ = record.read_part(index)
        if missing := [name for name in objectives if LOG + name not in part]:
            raise RunError(f"{record.part_path(index)}: column {LOG}{missing[0]} is missing")
        rows = {name: values[part["is_front"].astype(bool)] for name, values in part.items()}
        if front:
            rows = {name: np.concatenate((front[name], rows[name])) for name in front}
        log_objectives = np.stack([rows[LOG + name] for name in objectives], axis=1)
        kept = np.flatnonzero(non_dominated_mask(log_objectives))
        front = {name: values[kept] for name, values in rows.items()}
    if not front or not len(front["sequence_index"]):
        raise NoFeasibleDesignError(f"{record.folder}: the front is empty")
    return _front_csv_columns(front, objectives, is_robust=bool(record.config.get("robust")))


def _front_csv_columns(
    front: dict[str, np.ndarray], objectives: list[str], *, is_robust: bool
) -> dict[str, np.ndarray]:
    names = objective_columns(objectives, is_robust=is_robust)
    shown = {
        column: np.exp(front[LOG + name]) for column, name in zip(names, objectives, strict=True)
    }
    for name, values in front.items():
        if name.startswith(CONSTRAINT):
            shown[f"{name.removeprefix(CONSTRAINT)}_limit_ratio"] = np.exp(values)
    parameters = {
        name: values
        for name, values in front.items()
        if name not in NOT_PARAMETERS and not name.startswith((LOG, CONSTRAINT))
    }
    return {**shown, **parameters}
