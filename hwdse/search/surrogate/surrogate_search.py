"""Local search with a surrogate model, then without one, over all variants.

The variants share the model, which is trained on all evaluated points. A run that finds no
improvement for a while has exhausted its basin of attraction. The next run starts from half of the
initial points; every third run starts from half of all points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.neighborhood.local_search import design_keys, kept_parents, local_search
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.candidate_generation import CandidateGenerator, Observations, Points
from hwdse.search.surrogate.expected_improvement import ExpectedImprovement

EvaluateBatch = Callable[[np.ndarray, np.ndarray], EvaluatedPoints]
"""Maps rounded points and their variants to exact evaluations."""

MAX_MODELED_TIMES_DIMS = 20_000
"""Maximum evaluations chosen by a model, times dimensions. In many dimensions the model does not
resolve steps and roundings, and moves without it find more; tuned with 8, 9 and 38 dimensions."""
PLAIN_SHARE = 0.1
"""Minimum fraction of rounds without a model: a smooth model does not resolve differences between
steps."""
MAX_STALE_ROUNDS = 3
MAX_STALE_MOVES = 2
"""A run ends after this many rounds, or this many moves per dimension (the larger count), without
`MIN_IMPROVEMENT`."""
PATIENCE_MOVES = 100
"""Moves per dimension without improvement after which the search ends."""
MIN_IMPROVEMENT = 1e-4
"""Decrease of the log objective that counts as an improvement."""
JOINT_RUNS = 3
"""Period of runs that also train on earlier runs."""


@dataclass(frozen=True)
class EvaluatedSet:
    """Evaluated points of all variants."""

    rows: EvaluatedPoints
    variants: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> "EvaluatedSet":
        """Points at these indices."""
        return EvaluatedSet(self.rows.take(indices), self.variants[indices])

    def joined(self, other: "EvaluatedSet") -> "EvaluatedSet":
        """Points of both."""
        return EvaluatedSet(self.rows.joined(other.rows), np.append(self.variants, other.variants))

    def keys(self) -> set[bytes]:
        """Keys that identify the points."""
        return design_keys(self.rows.units, self.variants)

    def ranked(self, penalties: np.ndarray) -> "EvaluatedSet":
        """Points in order: the best feasible first, then by merit."""
        return self.take(kept_parents(self.rows, penalties, len(self)))


class SurrogateSearch:
    """Local search over all variants; no design is evaluated twice."""

    def __init__(
        self,
        evaluate: EvaluateBatch,
        space: SearchSpace,
        known: EvaluatedSet,
        *,
        penalties: np.ndarray,
        num_moves: int,
        seed: int,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self.known = known
        self._evaluate_batch = evaluate
        self._space = space
        self._first = known
        self._penalties = penalties
        self._num_moves = num_moves
        self._generator = np.random.default_rng([seed, 0x90115])
        self._should_stop = should_stop
        self._left = 0

    def run(self, num_rounds: int) -> EvaluatedSet:
        """Run up to `num_rounds` rounds of `num_moves` and return all known points. Ends early if
        no new points are found."""
        num_modeled = MAX_MODELED_TIMES_DIMS // (max(self._space.num_dims, 1) * self._num_moves)
        self._left, num_runs, before = num_rounds, 0, -1
        num_plain = max(num_rounds - num_modeled, int(PLAIN_SHARE * num_rounds))
        while self._left > num_plain and self._left != before and not self._should_stop():
            before = self._left
            self._run_model(self._training_set(num_runs), num_plain)
            num_runs += 1
        self._run_moves()
        return self.known

    def _training_set(self, run_index: int) -> EvaluatedSet:
        if run_index == 0:
            return self._first
        archive = self.known if run_index % JOINT_RUNS == 0 else self._first
        half = np.flatnonzero(self._generator.random(len(archive)) < 0.5)
        return archive.take(half) if len(half) else archive

    def _evaluate(self, units: np.ndarray, variants: np.ndarray) -> EvaluatedSet:
        evaluated = EvaluatedSet(self._evaluate_batch(units, variants), variants)
        self.known = self.known.joined(evaluated)
        self._left -= 1
        return evaluated

    def _run_model(self, known: EvaluatedSet, num_plain: int) -> None:
        """Run rounds by one model, trained from these points, until nothing improves."""
        generator, best, stale = CandidateGenerator(self._space, self._generator), np.inf, 0
        patience = max(MAX_STALE_ROUNDS * self._num_moves, MAX_STALE_MOVES * self._space.num_dims)
        seen = self.known.keys()
        while self._left > num_plain and stale <= patience and not self._should_stop():
            found = self._candidates(known.ranked(self._penalties), generator, seen)
            if found is None:
                return
            evaluated = self._evaluate(*found)
            seen |= evaluated.keys()
            known = known.joined(evaluated)
            rows = known.rows
            least = float(np.min(rows.log_objectives[rows.is_feasible], initial=np.inf))
            stale = 0 if least < best - MIN_IMPROVEMENT else stale + len(evaluated)
            best = min(best, least)

    def _candidates(
        self, ranked: EvaluatedSet, generator: CandidateGenerator, seen: set[bytes]
    ) -> Points | None:
        rows, num_parents = ranked.rows, np.clip(self._num_moves, 8, 24)
        feasible = rows.log_objectives[rows.is_feasible]
        return generator.propose(
            Observations(
                (rows.units, ranked.variants), rows.log_objectives[:, None], rows.constraint_values
            ),
            (rows.units[:num_parents], ranked.variants[:num_parents]),
            ExpectedImprovement(float(feasible.min()) if len(feasible) else None),
            seen,
            self._num_moves,
        )

    def _run_moves(self) -> None:
        """Run rounds of moves in the best variant until nothing improves."""
        indices = [int(variant) for variant in np.unique(self.known.variants)]
        leader = min(indices, key=lambda variant: self._of_variant(variant).sort_key())
        rows = self._of_variant(leader)

        def exact(units: np.ndarray) -> EvaluatedPoints:
            return self._evaluate(units, np.full(len(units), leader)).rows

        local_search(
            exact,
            self._space,
            rows,
            self._generator,
            num_rounds=self._left,
            num_moves=self._num_moves,
            penalties=self._penalties,
            patience=PATIENCE_MOVES * self._space.num_dims,
            should_stop=self._should_stop,
        )

    def _of_variant(self, variant: int) -> EvaluatedPoints:
        return self.known.take(np.flatnonzero(self.known.variants == variant)).rows
