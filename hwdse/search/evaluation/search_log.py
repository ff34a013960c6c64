"""Log of a search: its exact evaluations and descents by stage, and the best design so far.

A search is deterministic. With the log of a search that was stopped, the same search reads the
batches of that log instead of computing them, and continues after the last one. Its result equals
that of a search without interruption.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.search.evaluation.search_result import EvaluatedPoints

Batch = tuple[np.ndarray, ...]
"""Arrays of one batch, rows first: points, then their results."""


@dataclass(frozen=True)
class BestSoFar:
    """Best evaluated point of a search; without a feasible one, that of the smallest violation."""

    unit: np.ndarray
    variant: int
    """Index of the variant in `SearchSpace.variant_bases`."""
    log_objective: float
    constraint_values: np.ndarray
    is_feasible: bool


class SearchLog:
    """Batches of a search by name, and its best point; safe to read from another thread.

    `batches` are those of an earlier log, as `arrays` returns them. `round_index` distinguishes
    repetitions of the search in one log.
    """

    def __init__(self, batches: Mapping[str, Batch] | None = None) -> None:
        self.round_index = 0
        self.num_evaluations = 0
        """Evaluations so far, counted by the search."""
        self._batches: dict[str, Batch] = dict(batches or {})
        self._unread = set(self._batches)
        self._best: tuple[tuple[float, float], BestSoFar] | None = None
        self._lock = threading.Lock()

    def keep(self, name: str, points: np.ndarray, compute: Callable[[], Iterable[Any]]) -> Batch:
        """Batch of this name for these points: from the log, else computed and added to it.

        A batch of other points belongs to another sequence of the search, for example that of
        another version of a library; it is computed again.
        """
        key = f"{self.round_index}.{name}"
        kept = self._batches.get(key)
        if kept is not None and np.array_equal(kept[0], points):
            self._unread.discard(key)
            return kept[1:]
        self._unread.clear()
        kept = (np.asarray(points), *(np.asarray(part) for part in compute()))
        with self._lock:
            self._batches[key] = kept
        return kept[1:]

    def evaluate(
        self,
        name: str,
        units: np.ndarray,
        variants: np.ndarray,
        exact: Callable[[], EvaluatedPoints],
    ) -> EvaluatedPoints:
        """Exact evaluations of these points of these variants, from the log or by `exact`."""

        def compute() -> Iterable[Any]:
            rows = exact()
            return rows.log_objectives, rows.constraint_values

        rows = EvaluatedPoints(units, *self.keep(name, units, compute))
        self._note_best(rows, variants)
        return rows

    def _note_best(self, rows: EvaluatedPoints, variants: np.ndarray) -> None:
        if not len(rows):
            return
        index, key = rows.best_index(), rows.sort_key()
        with self._lock:
            if self._best is None or key < self._best[0]:
                self._best = (
                    key,
                    BestSoFar(
                        rows.units[index],
                        int(variants[index]),
                        float(rows.log_objectives[index]),
                        rows.constraint_values[index],
                        bool(rows.is_feasible[index]),
                    ),
                )

    @property
    def best(self) -> BestSoFar | None:
        """Best point so far; None before the first evaluation."""
        with self._lock:
            return None if self._best is None else self._best[1]

    @property
    def is_replayed(self) -> bool:
        """True while batches of the earlier log remain to be read."""
        return bool(self._unread)

    def batches(self) -> dict[str, Batch]:
        """All batches by name, to begin another log with."""
        with self._lock:
            return dict(self._batches)
