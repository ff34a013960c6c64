"""Sets of evaluated designs, merging of their fronts, and points that prune a sweep."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask

NUM_PRUNING_POINTS = 32
"""Front members with which the device compares every point. About 1 % of the points that these do
not dominate are dominated by others."""


@dataclass(frozen=True)
class DesignSet:
    """Evaluated designs, one row per design; often a non-dominated front."""

    units: np.ndarray
    """Rounded points of the unit cube, points by dims."""
    log_objectives: np.ndarray
    """Logs of the objectives, points by objectives."""
    constraint_values: np.ndarray
    """ln(value / limit), points by constraints."""
    variants: np.ndarray
    """Index in `SearchSpace.variant_bases`."""
    sequence_indices: np.ndarray
    """Index of the point in the sequence of its variant."""
    metrics: np.ndarray
    """Additional metrics of each point, points by metrics; often no columns."""

    def __len__(self) -> int:
        return len(self.log_objectives)

    @property
    def is_feasible(self) -> Any:
        """True where all objectives are finite and no constraint is violated."""
        return np.all(self.constraint_values <= 0.0, axis=1) & np.all(
            np.isfinite(self.log_objectives), axis=1
        )

    def take(self, indices: np.ndarray) -> "DesignSet":
        """Rows at these indices."""
        return DesignSet(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))

    def joined(self, other: "DesignSet") -> "DesignSet":
        """Rows of both."""
        names = self.__dataclass_fields__
        both = ((getattr(self, name), getattr(other, name)) for name in names)
        return DesignSet(*(np.concatenate(pair) for pair in both))

    def best(self, count: int, objective: int = 0) -> "DesignSet":
        """Best rows in one objective, best first. Ties are broken by variant and sequence index,
        so the order of the rows does not matter."""
        keys = (self.sequence_indices, self.variants, self.log_objectives[:, objective])
        return self.take(np.lexsort(keys)[:count])


def merge(first: DesignSet, second: DesignSet) -> DesignSet:
    """Front of the members of both; of equal designs the smallest variant and sequence index is
    kept.

    The order of merging does not matter, so chunks may have any order and size.
    """
    joined = first.joined(second)
    joined = joined.take(np.lexsort((joined.sequence_indices, joined.variants)))
    return joined.take(np.flatnonzero(non_dominated_mask(joined.log_objectives)))


def pruning_points(
    log_objectives: np.ndarray, num_pruning_points: int = NUM_PRUNING_POINTS
) -> np.ndarray:
    """Front members that dominate many points: the best for each of a fixed set of weights; padded
    with infinity.

    Weighted Chebyshev distances to the ideal point, relative to the extent of the front.
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
