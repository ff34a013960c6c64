"""Moves that a model holds for promising: made in generations, judged by the model alone."""

from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from hwdse.search.neighborhood.local_search import (
    NUM_KINDS,
    design_key,
    moved_by_kinds,
    parted_points,
)
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.expected_improvement import Gain
from hwdse.search.surrogate.surrogate_model import Surrogate, features

NUM_GENERATIONS = 3
"""Times that moves are made, each from the most promising of the earlier ones."""
GENERATION = 500
"""Moves of one generation: the model judges them, not the exact reading."""
KIND_SHARES = (0.5, 0.2, 0.3)
"""Of the kinds of moves of `search.polish`."""
PARTED_SHARE = 0.3
"""Moves of which every coordinate is then one that divides the end of its range."""
OTHER_VARIANT_SHARE = 0.1
MOST_CHOSEN_FROM = 300
"""Promising moves of all generations from which those to be judged are chosen together."""

Points = tuple[np.ndarray, np.ndarray]
"""Units and variants of designs."""


class Seen(NamedTuple):
    """Judged designs, best first, with all log objectives and violations."""

    points: Points
    costs: np.ndarray
    violations: np.ndarray


class ModelMoves:
    """Proposes what to judge next; its model is kept from round to round."""

    def __init__(self, space: SearchSpace, generator: np.random.Generator) -> None:
        self._space = space
        self._generator = generator
        self._model = Surrogate()
        self._threads = ThreadpoolController()

    def propose(
        self, known: Seen, parents: Points, gain: Gain, seen: set[bytes], num_moves: int
    ) -> Points | None:
        """New points near the parents, best first; None without a model or new points."""
        # Threads cost more than they save on matrices of some hundred rows.
        with self._threads.limit(limits=1, user_api="blas"):
            try:
                self._model.see(features(self._space, *known.points), known.costs, known.violations)
            except np.linalg.LinAlgError:
                return None
            return self._promising(parents, gain, set(seen), num_moves)

    def _promising(
        self, parents: Points, gain: Gain, taken: set[bytes], num_moves: int
    ) -> Points | None:
        num_parents = len(parents[0])
        found = (np.empty((0, self._space.num_dims)), np.empty(0, int))
        promises = np.empty(0)
        for _ in range(NUM_GENERATIONS):
            moves = _new_moves(self._space, *parents, taken, self._generator)
            if not len(moves[0]):
                break
            promise = self._model.promise(features(self._space, *moves), gain)
            promises = np.append(promises, promise)
            found = np.concatenate((found[0], moves[0])), np.append(found[1], moves[1])
            parents = _taken(found, np.argsort(-promises, kind="stable")[:num_parents])
        if not len(promises):
            return None
        best = _taken(found, np.argsort(-promises, kind="stable")[:MOST_CHOSEN_FROM])
        return _taken(best, self._model.choose(features(self._space, *best), num_moves, gain))


def _taken(points: Points, places: np.ndarray) -> Points:
    return points[0][places], points[1][places]


def _new_moves(
    space: SearchSpace,
    parents: np.ndarray,
    variants: np.ndarray,
    taken: set[bytes],
    generator: np.random.Generator,
) -> Points:
    """A generation of moves, without those that were there before; marks them taken."""
    kinds = generator.choice(NUM_KINDS, GENERATION, p=KIND_SHARES)
    units, first = moved_by_kinds(space, parents, generator, kinds)
    is_parted = generator.random(GENERATION) < PARTED_SHARE
    units = np.where(is_parted[:, None], parted_points(space, units), units)
    places = variants[first]
    if space.num_variants > 1:
        is_other = generator.random(GENERATION) < OTHER_VARIANT_SHARE
        places = np.where(is_other, generator.integers(space.num_variants, size=GENERATION), places)
    kept = []
    for i, (unit, place) in enumerate(zip(units, places, strict=True)):
        key = design_key(unit, int(place))
        if key not in taken:
            taken.add(key)
            kept.append(i)
    return units[kept], places[kept]
