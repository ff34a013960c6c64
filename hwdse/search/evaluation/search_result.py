"""What a search gives back, and how its designs are ranked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.numerics.array_types import PerConstraint, PerPoint, PointsByDims, Scalar
from hwdse.numerics.relaxation import Relaxation

ObjectiveFn = Callable[[Any, Relaxation], tuple[Scalar, PerConstraint]]
"""Design and reading to the log of the objective and to ln(value / limit) of each constraint."""

GRADIENT_COST_EVALUATIONS = 3
"""Evaluations that one value with its gradient is charged as."""


ROUNDING = 1e-12
"""Distance ln(value / limit) from a limit that float64 cannot tell from zero."""


@dataclass(frozen=True)
class SearchResult:
    """The best design of a search, in the exact reading, and how it was found."""

    design: Any
    """Buildable; leaves that were searched are Python floats."""
    unit: np.ndarray
    labels: Mapping[str, str]
    """Values of the variants by path."""
    log_objective: float
    constraint_values: np.ndarray
    """ln(value / limit) of each constraint at the design; above 0 where broken."""
    is_feasible: bool
    """If False the design is the one that breaks the constraints least, in sum."""
    multipliers: np.ndarray
    """Shadow prices -d ln(objective) / d ln(limit), from the best start's augmented Lagrangian."""
    relaxed_log_objective: float
    """Smooth reading where that start ended, before snapping."""
    snapped_log_objective: float
    """Exact reading at the buildable design nearest to it, before polishing."""
    num_evaluations: int
    """Exact evaluations; a gradient counts as `GRADIENT_COST_EVALUATIONS`."""
    history_evaluations: np.ndarray
    history_log_objective: np.ndarray
    """Best feasible value so far at those numbers of evaluations; infinite before the first."""
    top_units: PointsByDims
    """The best designs found, best first, of all variants."""
    top_log_objectives: PerPoint
    top_variants: np.ndarray
    """Place of each finalist's variant in `SearchSpace.variant_bases`."""

    @property
    def relaxation_gap(self) -> float:
        """Exact less smooth logarithm, where descent ended: what snapping and rounding cost."""
        return self.snapped_log_objective - self.relaxed_log_objective


@dataclass(frozen=True)
class EvaluatedPoints:
    """Buildable points with their exact scores; the rows of all fields belong together."""

    units: np.ndarray
    log_objectives: np.ndarray
    constraint_values: np.ndarray

    def __len__(self) -> int:
        return len(self.units)

    @property
    def total_violation(self) -> np.ndarray:
        """Sum of the broken constraints' violations, zero where feasible."""
        return np.sum(np.maximum(self.constraint_values, 0.0), axis=1)

    @property
    def is_feasible(self) -> np.ndarray:
        """Finite, and no constraint broken."""
        return (self.total_violation <= 0.0) & np.isfinite(self.log_objectives)

    def take(self, indices: np.ndarray) -> "EvaluatedPoints":
        """The rows at these places."""
        return EvaluatedPoints(
            self.units[indices], self.log_objectives[indices], self.constraint_values[indices]
        )

    def joined(self, other: "EvaluatedPoints") -> "EvaluatedPoints":
        """The rows of both."""
        return EvaluatedPoints(
            np.concatenate((self.units, other.units)),
            np.concatenate((self.log_objectives, other.log_objectives)),
            np.concatenate((self.constraint_values, other.constraint_values)),
        )

    def merit(self, penalties: np.ndarray) -> np.ndarray:
        r"""Exact L1 merit $f + \sum_c w_c \max(g_c, 0)$: its minimum is the constrained one when
        each $w_c$ exceeds the multiplier (Nocedal and Wright 2006, section 17.2)."""
        return self.log_objectives + np.maximum(self.constraint_values, 0.0) @ penalties

    def best_index(self) -> int:
        """Best feasible row; without one, the row that breaks the constraints least."""
        feasible = self.is_feasible
        if feasible.any():
            return int(np.argmin(np.where(feasible, self.log_objectives, np.inf)))
        return int(np.lexsort((self.log_objectives, self.total_violation))[0])

    def sort_key(self) -> tuple[float, float]:
        """Excess and objective of the best row: compares as better when smaller."""
        index = self.best_index()
        return float(self.total_violation[index]), float(self.log_objectives[index])


def without_rounding(constraint_values: np.ndarray) -> np.ndarray:
    """Violations in float64, exactly zero where a design sits on a limit but for rounding.

    Designs often sit there, as sizes are whole; programs compiled differently round differently.
    """
    return np.where(np.abs(constraint_values) <= ROUNDING, 0.0, constraint_values)


def evaluated_points(
    units: np.ndarray, log_objectives: Any, constraint_values: Any
) -> EvaluatedPoints:
    """Rows on the host; what is not a number counts as infinitely bad."""
    logs = np.asarray(log_objectives, np.float64)
    breaks = without_rounding(np.asarray(constraint_values, np.float64).reshape(len(units), -1))
    return EvaluatedPoints(
        np.asarray(units, np.float64),
        np.where(np.isnan(logs), np.inf, logs),
        np.where(np.isnan(breaks), np.inf, breaks),
    )
