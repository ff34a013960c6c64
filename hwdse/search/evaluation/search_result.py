"""What a search gives back, and how its designs are ranked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.numerics.array_types import PerConstraint, PerPoint, PointsByDims, Scalar
from hwdse.numerics.relaxation import Reading

Score = Callable[[Any, Reading], tuple[Scalar, PerConstraint]]
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
    violations: np.ndarray
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
    finalist_units: PointsByDims
    """The best designs found, best first, of all variants."""
    finalist_log_objectives: PerPoint
    finalist_variants: np.ndarray
    """Place of each finalist's variant in `SearchSpace.variant_bases`."""

    @property
    def reading_gap(self) -> float:
        """Exact less smooth logarithm, where descent ended: what snapping and rounding cost."""
        return self.snapped_log_objective - self.relaxed_log_objective


@dataclass(frozen=True)
class Scored:
    """Buildable points with their exact scores; the rows of all fields belong together."""

    units: np.ndarray
    log_objectives: np.ndarray
    violations: np.ndarray

    def __len__(self) -> int:
        return len(self.units)

    @property
    def excess(self) -> np.ndarray:
        """Sum of the broken constraints' violations, zero where feasible."""
        return np.sum(np.maximum(self.violations, 0.0), axis=1)

    @property
    def is_feasible(self) -> np.ndarray:
        """Finite, and no constraint broken."""
        return (self.excess <= 0.0) & np.isfinite(self.log_objectives)

    def take(self, places: np.ndarray) -> "Scored":
        """The rows at these places."""
        return Scored(self.units[places], self.log_objectives[places], self.violations[places])

    def joined(self, other: "Scored") -> "Scored":
        """The rows of both."""
        return Scored(
            np.concatenate((self.units, other.units)),
            np.concatenate((self.log_objectives, other.log_objectives)),
            np.concatenate((self.violations, other.violations)),
        )

    def merit(self, penalties: np.ndarray) -> np.ndarray:
        r"""Exact L1 merit $f + \sum_c w_c \max(g_c, 0)$: its minimum is the constrained one when
        each $w_c$ exceeds the multiplier (Nocedal and Wright 2006, section 17.2)."""
        return self.log_objectives + np.maximum(self.violations, 0.0) @ penalties

    def best_place(self) -> int:
        """Best feasible row; without one, the row that breaks the constraints least."""
        feasible = self.is_feasible
        if feasible.any():
            return int(np.argmin(np.where(feasible, self.log_objectives, np.inf)))
        return int(np.lexsort((self.log_objectives, self.excess))[0])

    def standing(self) -> tuple[float, float]:
        """Excess and objective of the best row: compares as better when smaller."""
        place = self.best_place()
        return float(self.excess[place]), float(self.log_objectives[place])


def without_rounding(violations: np.ndarray) -> np.ndarray:
    """Violations in float64, exactly zero where a design sits on a limit but for rounding.

    Designs often sit there, as sizes are whole; programs compiled differently round differently.
    """
    return np.where(np.abs(violations) <= ROUNDING, 0.0, violations)


def scored(units: np.ndarray, log_objectives: Any, violations: Any) -> Scored:
    """Rows on the host; what is not a number counts as infinitely bad."""
    logs = np.asarray(log_objectives, np.float64)
    breaks = without_rounding(np.asarray(violations, np.float64).reshape(len(units), -1))
    return Scored(
        np.asarray(units, np.float64),
        np.where(np.isnan(logs), np.inf, logs),
        np.where(np.isnan(breaks), np.inf, breaks),
    )
