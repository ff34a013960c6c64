"""Moves that a model holds for promising: made in generations, judged by the model alone."""

from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from hwdse.search.neighborhood.local_search import (
    NUM_KINDS,
    design_key,
    divisor_points,
    moved_by_kinds,
)
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.expected_improvement import Acquisition
from hwdse.search.surrogate.surrogate_model import Surrogate, features

NUM_GENERATIONS = 3
"""Times that moves are made, each from the most promising of the earlier ones."""
GENERATION = 500
"""Moves of one generation: the model judges them, not the exact reading."""
KIND_SHARES = (0.5, 0.2, 0.3)
"""Of the kinds of moves of `search.local_search`."""
PARTED_SHARE = 0.3
"""Moves of which every coordinate is then one that divides the end of its range."""
OTHER_VARIANT_SHARE = 0.1
MAX_CHOSEN_FROM = 300
"""Promising moves of all generations from which those to be judged are chosen together."""

Points = tuple[np.ndarray, np.ndarray]
"""Units and variants of designs."""


class Observations(NamedTuple):
    """Judged designs, best first, with all log objectives and violations."""

    points: Points
    log_objectives: np.ndarray
    constraint_values: np.ndarray


class CandidateGenerator:
    """Proposes what to judge next; its model is kept from round to round."""

    def __init__(self, space: SearchSpace, generator: np.random.Generator) -> None:
        self._space = space
        self._generator = generator
        self._model = Surrogate()
        self._threads = ThreadpoolController()

    def propose(
        self,
        known: Observations,
        parents: Points,
        acquisition: Acquisition,
        observations: set[bytes],
        num_moves: int,
    ) -> Points | None:
        """New points near the parents, best first; None without a model or new points."""
        # Threads cost more than they save on matrices of some hundred rows.
        with self._threads.limit(limits=1, user_api="blas"):
            try:
                self._model.see(
                    features(self._space, *known.points),
                    known.log_objectives,
                    known.constraint_values,
                )
            except np.linalg.LinAlgError:
                return None
            return self._promising(parents, acquisition, set(observations), num_moves)

    def _promising(
        self, parents: Points, acquisition: Acquisition, taken: set[bytes], num_moves: int
    ) -> Points | None:
        num_parents = len(parents[0])
        found = (np.empty((0, self._space.num_dims)), np.empty(0, int))
        promises = np.empty(0)
        for _ in range(NUM_GENERATIONS):
            moves = _new_moves(self._space, *parents, taken, self._generator)
            if not len(moves[0]):
                break
            promise = self._model.promise(features(self._space, *moves), acquisition)
            promises = np.append(promises, promise)
            found = np.concatenate((found[0], moves[0])), np.append(found[1], moves[1])
            parents = _taken(found, np.argsort(-promises, kind="stable")[:num_parents])
        if not len(promises):
            return None
        best = _taken(found, np.argsort(-promises, kind="stable")[:MAX_CHOSEN_FROM])
        return _taken(
            best, self._model.choose(features(self._space, *best), num_moves, acquisition)
        )


def _taken(points: Points, indices: np.ndarray) -> Points:
    return points[0][indices], points[1][indices]


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
    units = np.where(is_parted[:, None], divisor_points(space, units), units)
    indices = variants[first]
    if space.num_variants > 1:
        is_other = generator.random(GENERATION) < OTHER_VARIANT_SHARE
        indices = np.where(
            is_other, generator.integers(space.num_variants, size=GENERATION), indices
        )
    kept = []
    for i, (unit, place) in enumerate(zip(units, indices, strict=True)):
        key = design_key(unit, int(place))
        if key not in taken:
            taken.add(key)
            kept.append(i)
    return units[kept], indices[kept]
