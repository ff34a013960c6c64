"""Rounded designs around one design: all within some steps, or a sample of given size."""

import itertools

import numpy as np

from hwdse.search.space.search_space import Dimension, SearchSpace

FREE_MOVE = 0.005
"""Step of a dimension without steps, as a fraction of its range."""


def neighbors(
    space: SearchSpace, unit: np.ndarray, *, reach: int, max_neighbors: int, seed: int
) -> tuple[np.ndarray, bool]:
    """Points of designs within `reach` steps of each dimension, and True if these are all.

    Every alternative of each choice alone is included. If there are more than `max_neighbors`,
    first all points that differ in one coordinate (a random part if these are too many), then
    random ones. The point itself is excluded.
    """
    if not space.num_dims:  # nothing but variants is searched
        return np.empty((0, 0)), True
    point = space.snap_points(np.asarray(unit, float)[None])[0]
    columns = [_moves(dim, point[i], reach) for i, dim in enumerate(space.dimensions)]
    rows = [*_single_moves(space, point, columns)]
    sizes = [len(column) for column in columns]
    is_exhaustive = float(np.prod(sizes, dtype=float)) + len(rows) <= max_neighbors
    if is_exhaustive:
        rows += [np.append(row, point[len(columns) :]) for row in itertools.product(*columns)]
    else:
        generator = np.random.default_rng([seed, 0xB0C5])
        for _ in range(max(max_neighbors - len(rows), 0)):
            picked = [column[generator.integers(len(column))] for column in columns]
            rows.append(np.append(picked, point[len(columns) :]))
    found = np.unique(np.asarray(rows).reshape(-1, space.num_dims), axis=0)
    others = found[(found != point).any(axis=1)]
    if len(others) > max_neighbors:
        picked = np.random.default_rng([seed, 0xB0C6]).permutation(len(others))[:max_neighbors]
        others, is_exhaustive = others[np.sort(picked)], False
    return others, is_exhaustive


def step_toward(space: SearchSpace, unit: np.ndarray, dim: int, sign: float) -> np.ndarray | None:
    """Point one step up or down in one dimension; None beyond the end of its range."""
    dimension = space.dimensions[dim]
    there = [u for u in _moves(dimension, unit[dim], 1) if (u - unit[dim]) * sign > 1e-12]
    if not there:
        return None
    point = np.array(unit, float)
    point[dim] = there[0]
    return point


def _moves(dimension: Dimension, unit: float, reach: int) -> np.ndarray:
    """Unit coordinates within `reach` steps inside the range, the present one included."""
    offsets = np.arange(-reach, reach + 1.0)
    if dimension.step is None:
        return np.unique(np.clip(unit + FREE_MOVE * offsets, 0.0, 1.0))
    counts = np.asarray(dimension.count(np.float64(unit))) + offsets
    inside = counts[(counts >= dimension.first_count) & (counts <= dimension.last_count)]
    return np.asarray(dimension.unit(inside * dimension.step), float)


def _single_moves(space: SearchSpace, point: np.ndarray, columns: list[np.ndarray]) -> list:
    rows = []
    for i, column in enumerate(columns):
        for value in column:
            rows.append(np.where(np.arange(space.num_dims) == i, value, point))
    for i, choice in enumerate(space.choices, len(columns)):
        for alternative in range(len(choice.table)):
            value = (alternative + 0.5) / len(choice.table)
            rows.append(np.where(np.arange(space.num_dims) == i, value, point))
    return rows
