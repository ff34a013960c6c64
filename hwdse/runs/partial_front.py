"""The front of a run that has not ended, from its parts: a shard's, or a stopped one's."""

from typing import TYPE_CHECKING

import numpy as np

from hwdse.config.search.metric_names import SCALARS
from hwdse.runs.run_errors import NoFeasibleDesignError, RunError
from hwdse.runs.sweep_job import FLAGS, OBJECTIVE_COLUMNS, ROBUST

if TYPE_CHECKING:
    from hwdse.runs.run_folder import Run

NOT_SHOWN = {
    *FLAGS,
    *SCALARS,
    *OBJECTIVE_COLUMNS.values(),
    *(ROBUST + name for name in OBJECTIVE_COLUMNS.values()),
    "is_feasible",
    "variant",
    "number",
}
"""Columns of a part that are no parameters, beside logarithms and violations."""


def front_of_parts(record: "Run", objectives: list[str]) -> dict[str, np.ndarray]:
    """Columns as those of front.csv: objectives, use of the limits, parameters.

    Parts are read one by one. Raises `RunError` where they hold no feasible design.
    """
    from hwdse.search.pareto.pareto_set import non_dominated_mask

    front: dict[str, np.ndarray] = {}
    parts = sorted(record.finished_parts())
    if not parts:
        raise RunError(
            f"{record.folder}: holds no designs; expected a sweep or an optimize --front"
        )
    for index in parts:
        part, _ = record.read_part(index)
        if missing := [name for name in objectives if f"log.{name}" not in part]:
            raise RunError(f"{record.part_path(index)}: has no column log.{missing[0]}")
        rows = {name: values[part["is_front"].astype(bool)] for name, values in part.items()}
        if front:
            rows = {name: np.concatenate((front[name], rows[name])) for name in front}
        log_objectives = np.stack([rows[f"log.{name}"] for name in objectives], axis=1)
        kept = np.flatnonzero(non_dominated_mask(log_objectives))
        front = {name: values[kept] for name, values in rows.items()}
    if not front or not len(front["number"]):
        raise NoFeasibleDesignError(f"{record.folder}: no design on this front")
    return _as_in_csv(front, objectives)


def _as_in_csv(front: dict[str, np.ndarray], objectives: list[str]) -> dict[str, np.ndarray]:
    shown = {name: np.exp(front[f"log.{name}"]) for name in objectives}
    for name, values in front.items():
        head, _, limit = name.partition(".")
        if head == "violation":
            shown[f"{limit}_limit_ratio"] = np.exp(values)
    parameters = {
        name: values
        for name, values in front.items()
        if name not in NOT_SHOWN and not name.startswith(("log.", "violation."))
    }
    return {**shown, **parameters}
