"""Candidates with a high acquisition value, generated over several generations of moves on the
model alone."""

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
"""Generations of moves, each from the best candidates of the earlier ones."""
GENERATION_SIZE = 500
"""Candidates per generation, evaluated by the model, not by the exact model of the hardware."""
KIND_SHARES = (0.5, 0.2, 0.3)
"""Fractions of the kinds of moves of `search/neighborhood/local_search.py`."""
DIVISOR_SHARE = 0.3
"""Fraction of candidates whose coordinates are all moved to divisors of the range end."""
OTHER_VARIANT_SHARE = 0.1
MAX_CHOSEN_FROM = 300
"""Best candidates of all generations from which a batch is chosen."""

Points = tuple[np.ndarray, np.ndarray]
"""Units and variants of designs."""


class Observations(NamedTuple):
    """Evaluated designs, best first, with all log objectives and constraint values."""

    points: Points
    log_objectives: np.ndarray
    constraint_values: np.ndarray


class CandidateGenerator:
    """Generator of the next designs to evaluate; its model is reused across rounds."""

    def __init__(self, space: SearchSpace, generator: np.random.Generator) -> None:
        self._space = space
        self._generator = generator
        self._model = Surrogate()
        self._threads = ThreadpoolController()

    def propose(
        self,
        observations: Observations,
        parents: Points,
        acquisition: Acquisition,
        seen: set[bytes],
        num_moves: int,
    ) -> Points | None:
        """New points near the parents, best first; None without a model or new points."""
        # Threads slow down operations on matrices of a few hundred rows.
        with self._threads.limit(limits=1, user_api="blas"):
            try:
                self._model.fit(
                    features(self._space, *observations.points),
                    observations.log_objectives,
                    observations.constraint_values,
                )
            except np.linalg.LinAlgError:
                return None
            return self._best_candidates(parents, acquisition, set(seen), num_moves)

    def _best_candidates(
        self, parents: Points, acquisition: Acquisition, taken: set[bytes], num_moves: int
    ) -> Points | None:
        num_parents = len(parents[0])
        found = (np.empty((0, self._space.num_dims)), np.empty(0, int))
        log_acquisitions = np.empty(0)
        for _ in range(NUM_GENERATIONS):
            candidates = _new_candidates(self._space, *parents, taken, self._generator)
            if not len(candidates[0]):
                break
            log_acquisition = self._model.log_acquisition(
                features(self._space, *candidates), acquisition
            )
            log_acquisitions = np.append(log_acquisitions, log_acquisition)
            found = np.concatenate((found[0], candidates[0])), np.append(found[1], candidates[1])
            parents = _at(found, np.argsort(-log_acquisitions, kind="stable")[:num_parents])
        if not len(log_acquisitions):
            return None
        best = _at(found, np.argsort(-log_acquisitions, kind="stable")[:MAX_CHOSEN_FROM])
        return _at(best, self._model.choose(features(self._space, *best), num_moves, acquisition))


def _at(points: Points, indices: np.ndarray) -> Points:
    return points[0][indices], points[1][indices]


def _new_candidates(
    space: SearchSpace,
    parents: np.ndarray,
    variants: np.ndarray,
    taken: set[bytes],
    generator: np.random.Generator,
) -> Points:
    """One generation of candidates without known points; adds them to `taken`."""
    kinds = generator.choice(NUM_KINDS, GENERATION_SIZE, p=KIND_SHARES)
    units, first = moved_by_kinds(space, parents, generator, kinds)
    uses_divisors = generator.random(GENERATION_SIZE) < DIVISOR_SHARE
    units = np.where(uses_divisors[:, None], divisor_points(space, units), units)
    indices = variants[first]
    if space.num_variants > 1:
        is_other = generator.random(GENERATION_SIZE) < OTHER_VARIANT_SHARE
        indices = np.where(
            is_other, generator.integers(space.num_variants, size=GENERATION_SIZE), indices
        )
    kept = []
    for i, (unit, variant) in enumerate(zip(units, indices, strict=True)):
        key = design_key(unit, int(variant))
        if key not in taken:
            taken.add(key)
            kept.append(i)
    return units[kept], indices[kept]
