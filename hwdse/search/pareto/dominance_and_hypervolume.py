"""Exact non-dominated sets and hypervolumes of 1 to 4 objectives, all minimized."""

import jax
import numpy as np
from jaxtyping import Float

from hwdse.numerics.array_types import Mask, PointsByObjectives

PerObjective = Float[jax.Array, " objectives"] | Float[np.ndarray, " objectives"]

BLOCK_POINTS = 4096
"""Points compared with the front at once; a block times the front fits in the cache."""


def non_dominated_mask(log_objectives: PointsByObjectives) -> Mask:
    """True for points that no other point dominates; of equal points the first is kept.

    A point dominates another if it is nowhere worse and somewhere better. Rows with NaN are never
    kept. One or two objectives: one sort. More objectives: the points are sorted
    lexicographically, so that only earlier points can dominate a point. They are then filtered
    block by block against the front so far, after a first pass has removed the points that a few
    central points dominate.

    >>> import numpy as np
    >>> import hwdse
    >>> hwdse.non_dominated_mask(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
    [True, True, False]
    """
    values = np.asarray(log_objectives, np.float64)
    mask = np.zeros(len(values), bool)
    alive = np.flatnonzero(~np.isnan(values).any(axis=1))
    if values.shape[1] > 2:
        alive = alive[~_dominated_by_few(values[alive])]
    if not len(alive):
        return mask
    # Stable sort by all columns: of equal points the first is kept.
    order = alive[np.lexsort(values[alive].T[::-1])]
    if values.shape[1] <= 2:
        kept = _staircase(values[order])
    else:
        kept = _filter_sorted(values[order])
    mask[order[kept]] = True
    return mask


def _dominated_by_few(values: np.ndarray, num_few: int = 64) -> np.ndarray:
    """True for points that one of a few strong points dominates: those with the smallest weighted
    rank sums."""
    dominated = np.zeros(len(values), bool)
    if len(values) < BLOCK_POINTS:
        return dominated
    sample = values[:: max(len(values) // 20_000, 1)]
    scale = np.sort(sample, axis=0)
    sample_ranks = np.stack(
        [np.searchsorted(scale[:, k], sample[:, k]) for k in range(values.shape[1])], axis=1
    )
    weights = np.random.default_rng(0).dirichlet(np.ones(values.shape[1]), num_few)
    for chosen in np.unique(np.argmin((sample_ranks + 1.0) @ weights.T, axis=0)):
        point = sample[chosen]
        dominated |= (values >= point).all(axis=1) & (values > point).any(axis=1)
    return dominated


def _staircase(ordered: np.ndarray) -> np.ndarray:
    """Mask of kept points among lexicographically sorted ones, for one or two objectives."""
    last = ordered[:, -1]
    if ordered.shape[1] == 1:
        return np.arange(len(ordered)) == 0
    best_before = np.concatenate(([np.inf], np.minimum.accumulate(last)[:-1]))
    kept = last < best_before
    kept[0] = True
    return kept


def _filter_sorted(ordered: np.ndarray) -> np.ndarray:
    """Mask of kept points among lexicographically sorted ones; the first column needs no
    comparison."""
    kept = np.zeros(len(ordered), bool)
    front = np.empty((0, ordered.shape[1] - 1))
    for start in range(0, len(ordered), BLOCK_POINTS):
        block = ordered[start : start + BLOCK_POINTS, 1:]
        indices = np.flatnonzero(~_covered(block, front))
        inner = _first_of_each_other(block[indices])
        kept[start + indices[inner]] = True
        front = np.concatenate((front, block[indices[inner]]))
    return kept


def _covered(points: np.ndarray, front: np.ndarray) -> np.ndarray:
    """True where a member of the front is nowhere worse; the front is processed in blocks."""
    covered = np.zeros(len(points), bool)
    for start in range(0, len(front), 256):
        open_indices = np.flatnonzero(~covered)
        if not len(open_indices):
            break
        nowhere_worse = np.ones((len(open_indices), min(256, len(front) - start)), bool)
        for k in range(points.shape[1]):
            nowhere_worse &= front[start : start + 256, k] <= points[open_indices, k, None]
        covered[open_indices] = nowhere_worse.any(axis=1)
    return covered


def _first_of_each_other(points: np.ndarray) -> np.ndarray:
    """Indices of points that no earlier point covers, by halving: fast if few points remain."""
    if len(points) <= 64:
        nowhere_worse = (points[:, None] <= points[None]).all(axis=2)
        return np.flatnonzero(~np.triu(nowhere_worse, 1).any(axis=0))
    half = len(points) // 2
    early = _first_of_each_other(points[:half])
    late = half + np.flatnonzero(~_covered(points[half:], points[early]))
    return np.concatenate((early, late[_first_of_each_other(points[late])]))


def hypervolume(log_objectives: PointsByObjectives, reference: PerObjective) -> float:
    """Volume that the points dominate below the reference point; exact, for 1 to 4 objectives.

    Two objectives: area under the staircase. Three: sweep over a growing staircase. Four: slices
    along the last objective (Fonseca, Paquete and Lopez-Ibanez, CEC 2006). Points that are not
    below the reference in every objective add nothing.

    >>> import numpy as np
    >>> import hwdse
    >>> hwdse.hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    values = np.asarray(log_objectives, np.float64)
    bound = np.asarray(reference, np.float64)
    inside = values[(values < bound).all(axis=1)]
    return _volume(inside[non_dominated_mask(inside)] if len(inside) else inside, bound)


def _volume(front: np.ndarray, bound: np.ndarray) -> float:
    """Hypervolume of mutually non-dominated points below the bound."""
    if not len(front):
        return 0.0
    if len(bound) == 1:
        return float(bound[0] - front.min())
    if len(bound) == 2:
        ordered = front[np.argsort(front[:, 0])]
        ceilings = np.concatenate(([bound[1]], np.minimum.accumulate(ordered[:, 1])[:-1]))
        return float(np.sum((bound[0] - ordered[:, 0]) * np.maximum(ceilings - ordered[:, 1], 0)))
    ordered = front[np.argsort(front[:, -1], kind="stable")]
    if len(bound) == 3:
        return _volume_by_staircase(ordered, bound)
    return _volume_by_slices(ordered, bound)


def _volume_by_slices(ordered: np.ndarray, bound: np.ndarray) -> float:
    """Hypervolume by a sweep of the last objective; a new point adds its box less the covered
    part."""
    heights = np.diff(np.append(ordered[:, -1], bound[-1]))
    reached = np.empty((0, len(bound) - 1))
    area = 0.0
    total = 0.0
    for point, height in zip(ordered[:, :-1], heights, strict=True):
        if not (reached <= point).all(axis=1).any():
            overlap = np.maximum(reached, point)
            overlap = overlap[non_dominated_mask(overlap)] if len(overlap) else overlap
            area += float(np.prod(bound[:-1] - point)) - _volume(overlap, bound[:-1])
            reached = np.concatenate((reached[~(reached >= point).all(axis=1)], point[None]))
        total += area * height
    return float(total)


def _volume_by_staircase(ordered: np.ndarray, bound: np.ndarray) -> float:
    """Hypervolume of three objectives: a sweep of the third over a growing staircase of the first
    two."""
    xs = np.asarray([-np.inf, bound[0]])
    ys = np.asarray([bound[1], -np.inf])
    heights = np.diff(np.append(ordered[:, 2], bound[2]))
    area = 0.0
    total = 0.0
    for (x, y, _), height in zip(ordered, heights, strict=True):
        # Steps between these two indices are right of x and above y: the new point covers them.
        left = int(np.searchsorted(xs, x, side="right")) - 1
        if ys[left] > y:
            right = int(np.searchsorted(-ys, -y, side="right"))
            corners = np.concatenate(([x], xs[left + 1 : right + 1]))
            area += float(np.sum(np.diff(corners) * (ys[left:right] - y)))
            num_kept = left + 1 if xs[left] < x else left
            xs = np.concatenate((xs[:num_kept], [x], xs[right:]))
            ys = np.concatenate((ys[:num_kept], [y], ys[right:]))
        total += area * height
    return float(total)


def merge_fronts(*fronts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Front of several sets of points: its objectives, and their indices in the concatenation."""
    log_objectives = np.concatenate([np.asarray(front, np.float64) for front in fronts])
    indices = np.flatnonzero(non_dominated_mask(log_objectives))
    return log_objectives[indices], indices
