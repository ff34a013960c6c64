"""Starts of the descent: sampled designs of a variant, and selection of the best."""

from typing import Any

import numpy as np

from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.space.point_sequences import host_points, make_sequence
from hwdse.search.space.search_space import SearchSpace

MIN_PENALTY = 5.0
"""Merit weight of a violation if no larger multiplier is known."""


def screening_points(space: SearchSpace, base: Any, num_points: int, seed: int) -> np.ndarray:
    """Distinct rounded points: the base design and the first Sobol points.

    With choices, half of the points keep the other coordinates of the base design: alternatives
    differ more clearly at a good design than at random ones.
    """
    sequence = make_sequence("sobol", space, seed=seed)
    points, base_unit = host_points(sequence, np.arange(num_points - 1)), space.encode(base)
    if space.choices:
        num_inner = len(space.dimensions)
        points[: len(points) // 2, :num_inner] = base_unit[:num_inner]
    units = space.snap_points(np.concatenate((base_unit[None], points)))
    return np.unique(units, axis=0)


def choose_starts(space: SearchSpace, screened: EvaluatedPoints, num_starts: int) -> np.ndarray:
    """Points to descend from: half by merit, half the best of each alternative in turn.

    Descent cannot change a choice, and one random point is a poor estimate of an alternative.
    """
    order = np.argsort(screened.merit(np.full(screened.constraint_values.shape[1], MIN_PENALTY)))
    units = screened.units[order]
    picked = list(range(min((num_starts + 1) // 2, len(units))))
    _, alternative = np.unique(units[:, len(space.dimensions) :], axis=0, return_inverse=True)
    position = np.zeros(len(units), int)
    for key in range(int(alternative.max()) + 1):
        position[alternative.ravel() == key] = np.arange(np.sum(alternative == key))
    by_position = np.lexsort((np.arange(len(units)), position))
    picked += [index for index in by_position if index not in picked][: num_starts - len(picked)]
    # With too few screened points, repeat some: the compiled shape is fixed.
    return units[np.resize(np.asarray(picked), num_starts)]
