"""Result of a search, and ranking of evaluated points."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.numerics.array_types import PerConstraint, PerPoint, PointsByDims, Scalar
from hwdse.numerics.relaxation import Relaxation

ObjectiveFn = Callable[[Any, Relaxation], tuple[Scalar, PerConstraint]]
"""Maps design and relaxation to the log of the objective and ln(value / limit) of each
constraint."""
ObjectivesFn = Callable[[Any, Relaxation], tuple[Any, Any]]
"""Maps design and relaxation to the logs of the objectives and ln(value / limit) of each
constraint."""

ROUNDING = 1e-12
"""Distance ln(value / limit) from a limit that is rounding error in float64."""


@dataclass(frozen=True)
class SearchResult:
    """Best design of a search, evaluated with the exact model, and the history of the search."""

    design: Any
    """Rounded design; searched leaves are Python floats."""
    unit: np.ndarray
    labels: Mapping[str, str]
    """Values of the variants by path."""
    log_objective: float
    constraint_values: np.ndarray
    """ln(value / limit) of each constraint at the design; above zero where violated."""
    is_feasible: bool
    """If False, the design has the smallest total violation."""
    multipliers: np.ndarray
    """Shadow prices -d ln(objective) / d ln(limit), from the augmented Lagrangian of the best
    start."""
    relaxed_log_objective: float
    """Smooth relaxation at the final point of that start, before rounding."""
    snapped_log_objective: float
    """Exact model at the nearest rounded design, before local search."""
    num_evaluations: int
    """Exact evaluations; a gradient counts as `GRADIENT_COST_EVALUATIONS`."""
    history_evaluations: np.ndarray
    history_log_objective: np.ndarray
    """Best feasible value at those numbers of evaluations; infinite before the first feasible
    design."""
    top_units: PointsByDims
    """Best designs of all variants, best first."""
    top_log_objectives: PerPoint
    top_variants: np.ndarray
    """Index of the variant of each top design in `SearchSpace.variant_bases`."""
    num_local_search: int = 0
    """Evaluations of the local search, part of `num_evaluations`."""

    @property
    def relaxation_gap(self) -> float:
        """ln(exact / smooth relaxation) at the end of descent: loss from rounding parameters and
        tiles."""
        return self.snapped_log_objective - self.relaxed_log_objective


@dataclass(frozen=True)
class EvaluatedPoints:
    """Rounded points with exact objectives and constraint values, one row per point."""

    units: np.ndarray
    log_objectives: np.ndarray
    constraint_values: np.ndarray

    def __len__(self) -> int:
        return len(self.units)

    @property
    def total_violation(self) -> np.ndarray:
        """Sum of the positive constraint values, zero where feasible."""
        return np.sum(np.maximum(self.constraint_values, 0.0), axis=1)

    @property
    def is_feasible(self) -> np.ndarray:
        """True where the objective is finite and no constraint is violated."""
        return (self.total_violation <= 0.0) & np.isfinite(self.log_objectives)

    def take(self, indices: np.ndarray) -> "EvaluatedPoints":
        """Rows at these indices."""
        return EvaluatedPoints(
            self.units[indices], self.log_objectives[indices], self.constraint_values[indices]
        )

    def joined(self, other: "EvaluatedPoints") -> "EvaluatedPoints":
        """Rows of both."""
        return EvaluatedPoints(
            np.concatenate((self.units, other.units)),
            np.concatenate((self.log_objectives, other.log_objectives)),
            np.concatenate((self.constraint_values, other.constraint_values)),
        )

    def merit(self, penalties: np.ndarray) -> np.ndarray:
        r"""Exact L1 merit $f + \sum_c w_c \max(g_c, 0)$.

        Its minimum is the constrained minimum if each $w_c$ exceeds the multiplier (Nocedal and
        Wright 2006, section 17.2).
        """
        return self.log_objectives + np.maximum(self.constraint_values, 0.0) @ penalties

    def best_index(self) -> int:
        """Index of the best feasible row; without one, of the row with the smallest total
        violation."""
        feasible = self.is_feasible
        if feasible.any():
            return int(np.argmin(np.where(feasible, self.log_objectives, np.inf)))
        return int(np.lexsort((self.log_objectives, self.total_violation))[0])

    def sort_key(self) -> tuple[float, float]:
        """Total violation and objective of the best row; smaller is better."""
        index = self.best_index()
        return float(self.total_violation[index]), float(self.log_objectives[index])


def without_rounding(constraint_values: np.ndarray) -> np.ndarray:
    """Constraint values in float64, set to zero within rounding error of a limit.

    Designs often lie exactly on a limit because sizes are integers. Differently compiled programs
    round differently there.
    """
    return np.where(np.abs(constraint_values) <= ROUNDING, 0.0, constraint_values)


def evaluated_points(
    units: np.ndarray, log_objectives: Any, constraint_values: Any
) -> EvaluatedPoints:
    """Rows on the host; NaN becomes infinite."""
    logs = np.asarray(log_objectives, np.float64)
    breaks = without_rounding(np.asarray(constraint_values, np.float64).reshape(len(units), -1))
    return EvaluatedPoints(
        np.asarray(units, np.float64),
        np.where(np.isnan(logs), np.inf, logs),
        np.where(np.isnan(breaks), np.inf, breaks),
    )
