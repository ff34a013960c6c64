"""Domination ranks, crowding distances, and selection of design sets by both."""

import numpy as np

from hwdse.numerics.array_types import PointsByObjectives
from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.search.pareto.pareto_archive import DesignSet


def domination_ranks(log_objectives: PointsByObjectives) -> np.ndarray:
    """Rank of each point: 0 on the front, 1 on the front of the remaining points, and so on.

    Of equal points the first has the better rank. Rows with NaN share the last rank. Source: Deb
    et al., IEEE Trans. Evol. Comput. 6(2), 2002, section III-A.
    """
    values = np.asarray(log_objectives, np.float64)
    ranks = np.full(len(values), len(values))
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    rank = 0
    while len(left):
        is_front = non_dominated_mask(values[left])
        ranks[left[is_front]] = rank
        left = left[~is_front]
        rank += 1
    return ranks


def crowding_distance(log_objectives: PointsByObjectives) -> np.ndarray:
    """Crowding distance of each point of a front; infinite at the extremes.

    Sum over objectives of the distance between the two neighbors over the extent of the front. An
    objective in which all points are equal adds nothing. Source: Deb et al., IEEE Trans. Evol.
    Comput. 6(2), 2002, section III-B.
    """
    values = np.asarray(log_objectives, np.float64)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]] if len(order) else 0.0
        if not extent > 0.0:
            continue
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distance


def ranking_keys(rows: DesignSet) -> tuple[np.ndarray, np.ndarray]:
    """Rank and crowding distance of each row under constraints.

    Feasible rows are ranked by domination, infeasible rows after them by total violation. Source:
    constrained domination of Deb et al. 2002, section VI.
    """
    feasible = np.asarray(rows.is_feasible)
    ranks = np.zeros(len(rows), int)
    crowding = np.zeros(len(rows))
    ranks[feasible] = domination_ranks(rows.log_objectives[feasible])
    for rank in np.unique(ranks[feasible]):
        indices = np.flatnonzero(feasible & (ranks == rank))
        crowding[indices] = crowding_distance(rows.log_objectives[indices])
    total_violation = np.sum(np.maximum(rows.constraint_values, 0.0), axis=1)
    broken = np.flatnonzero(~feasible)
    total_violation = np.where(
        np.isfinite(rows.log_objectives).all(axis=1), total_violation, np.inf
    )
    order = broken[np.argsort(total_violation[broken], kind="stable")]
    ranks[order] = len(rows) + np.arange(len(order))
    return ranks, crowding


def best_rows(rows: DesignSet, num_kept: int) -> DesignSet:
    """Best rows, best first: by rank, then by crowding distance."""
    ranks, crowding = ranking_keys(rows)
    return rows.take(np.lexsort((-crowding, ranks))[:num_kept])
