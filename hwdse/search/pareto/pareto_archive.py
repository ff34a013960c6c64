"""The running front of a sweep: what is kept of the points, and what it says of new ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.search.pareto.pareto_set import non_dominated_mask

NUM_PRUNING_POINTS = 32
"""Front members that the device compares every point with; few points that they do not dominate
are dominated at all (1 % survive)."""


@dataclass(frozen=True)
class DesignSet:
    """Feasible designs that no other dominates; the rows of all fields belong together."""

    units: np.ndarray
    """Buildable points of the unit cube, points by dims."""
    log_objectives: np.ndarray
    """Logs of the objectives, points by objectives."""
    constraint_values: np.ndarray
    """ln(value / limit), points by constraints."""
    variants: np.ndarray
    """Place in `SearchSpace.variant_bases`."""
    sequence_indices: np.ndarray
    """Number of the point in its variant's sequence."""
    metrics: np.ndarray
    """Whatever else was asked to be kept of each point, points by metrics; often no columns."""

    def __len__(self) -> int:
        return len(self.log_objectives)

    @property
    def is_feasible(self) -> Any:
        """All costs finite, no constraint broken."""
        return np.all(self.constraint_values <= 0.0, axis=1) & np.all(
            np.isfinite(self.log_objectives), axis=1
        )

    def take(self, indices: np.ndarray) -> "DesignSet":
        """The rows at these places."""
        return DesignSet(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))

    def joined(self, other: "DesignSet") -> "DesignSet":
        """The rows of both."""
        names = self.__dataclass_fields__
        both = ((getattr(self, name), getattr(other, name)) for name in names)
        return DesignSet(*(np.concatenate(pair) for pair in both))

    def best(self, count: int, objective: int = 0) -> "DesignSet":
        """The rows that are best in an objective, best first; of equals the least variant and
        number, so that the order of the rows does not matter."""
        keys = (self.sequence_indices, self.variants, self.log_objectives[:, objective])
        return self.take(np.lexsort(keys)[:count])


def merge(first: DesignSet, second: DesignSet) -> DesignSet:
    """Front of the members of both; of equal costs the least variant and number is kept.

    The order of merging does not matter, so chunks may come in any order and size.
    """
    joined = first.joined(second)
    joined = joined.take(np.lexsort((joined.sequence_indices, joined.variants)))
    return joined.take(np.flatnonzero(non_dominated_mask(joined.log_objectives)))


def pruning_points(
    log_objectives: np.ndarray, num_pruning_points: int = NUM_PRUNING_POINTS
) -> np.ndarray:
    """Points that dominate much: the best for each of a fixed set of weightings; inf pads.

    Weighted Chebyshev distances to the ideal point, in units of the front's extent.
    """
    num_objectives = log_objectives.shape[1]
    chosen = np.full((num_pruning_points, num_objectives), np.inf)
    if not len(log_objectives):
        return chosen
    ideal = log_objectives.min(axis=0)
    extent = np.maximum(log_objectives.max(axis=0) - ideal, 1e-300)
    weights = np.random.default_rng(0).dirichlet(np.ones(num_objectives), num_pruning_points)
    scaled = (log_objectives - ideal) / extent
    distances = np.max(scaled[:, None] * weights, axis=2) + 1e-3 * scaled.sum(axis=1)[:, None]
    indices = np.unique(np.argmin(distances, axis=0))
    chosen[: len(indices)] = log_objectives[indices]
    return chosen


def dominated_by(log_objectives: np.ndarray, strong: np.ndarray, margin: float) -> np.ndarray:
    """True for rows that one of the strong points beats in every objective by the margin."""
    dominated = np.zeros(len(log_objectives), bool)
    for point in strong[np.isfinite(strong).all(axis=1)]:
        dominated |= (log_objectives >= point + margin).all(axis=1)
    return dominated
