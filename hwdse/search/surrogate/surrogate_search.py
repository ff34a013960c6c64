"""Polishing by a model, where a regression promises most, then by moves without one.

All variants share the model, whose points are whatever the search has judged. A run that finds
nothing better for a while has exhausted its basin; the next one starts from half of what was known
before the first, every third from half of everything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwdse.search.evaluation.search_result import Scored
from hwdse.search.neighborhood.local_search import design_keys, kept_parents, polish
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.candidate_generation import ModelMoves, Points, Seen
from hwdse.search.surrogate.expected_improvement import BestGain

Judge = Callable[[np.ndarray, np.ndarray], Scored]
"""Exact scores of buildable points of these variants."""

MODELLED_TIMES_DIMS = 20_000
"""Evaluations by a model at most, times dimensions. In many dimensions the model sees little of
what steps and roundings do, and moves without it find more; tuned with 8, 9 and 38."""
PLAIN_SHARE = 0.1
"""Rounds without a model at least: it cannot see what lies between two steps."""
STALE_ROUNDS = 3
STALE_MOVES = 2
"""A run ends after so many rounds and so many moves per dimension without `LEAST_GAIN`."""
PATIENCE_MOVES = 100
"""Moves per dimension without a gain after which nothing more is tried."""
LEAST_GAIN = 1e-4
"""Fall of the log objective that counts as one."""
JOINT_RUNS = 3
"""Every third run learns from earlier runs as well."""


@dataclass(frozen=True)
class Known:
    """Judged points of all variants."""

    rows: Scored
    variants: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: np.ndarray) -> "Known":
        """Those at these places."""
        return Known(self.rows.take(places), self.variants[places])

    def joined(self, other: "Known") -> "Known":
        """Both."""
        return Known(self.rows.joined(other.rows), np.append(self.variants, other.variants))

    def keys(self) -> set[bytes]:
        """What tells each from others."""
        return design_keys(self.rows.units, self.variants)

    def ranked(self, penalties: np.ndarray) -> "Known":
        """The best feasible first, then by merit."""
        return self.take(kept_parents(self.rows, penalties, len(self)))


class Polisher:
    """Polishes all variants of a search together; no design is judged twice."""

    def __init__(
        self,
        judge: Judge,
        space: SearchSpace,
        known: Known,
        *,
        penalties: np.ndarray,
        num_moves: int,
        seed: int,
        is_over: Callable[[], bool] = lambda: False,
    ):
        self.known = known
        self._judge = judge
        self._space = space
        self._first = known
        self._penalties = penalties
        self._num_moves = num_moves
        self._generator = np.random.default_rng([seed, 0x90115])
        self._is_over = is_over
        self._left = 0

    def run(self, num_rounds: int) -> Known:
        """What is known after so many rounds of `num_moves`, or as many as there was something
        left to try."""
        num_modelled = MODELLED_TIMES_DIMS // (max(self._space.num_dims, 1) * self._num_moves)
        self._left, num_runs, before = num_rounds, 0, -1
        num_plain = max(num_rounds - num_modelled, int(PLAIN_SHARE * num_rounds))
        while self._left > num_plain and self._left != before and not self._is_over():
            before = self._left
            self._run_model(self._learned_from(num_runs), num_plain)
            num_runs += 1
        self._run_moves()
        return self.known

    def _learned_from(self, number: int) -> Known:
        if number == 0:
            return self._first
        pool = self.known if number % JOINT_RUNS == 0 else self._first
        half = np.flatnonzero(self._generator.random(len(pool)) < 0.5)
        return pool.take(half) if len(half) else pool

    def _judged(self, units: np.ndarray, variants: np.ndarray) -> Known:
        judged = Known(self._judge(units, variants), variants)
        self.known = self.known.joined(judged)
        self._left -= 1
        return judged

    def _run_model(self, known: Known, num_plain: int) -> None:
        """Rounds by one model, from these points, until nothing gets better."""
        moves, best, stale = ModelMoves(self._space, self._generator), np.inf, 0
        patience = max(STALE_ROUNDS * self._num_moves, STALE_MOVES * self._space.num_dims)
        seen = self.known.keys()
        while self._left > num_plain and stale <= patience and not self._is_over():
            found = self._promising(known.ranked(self._penalties), moves, seen)
            if found is None:
                return
            judged = self._judged(*found)
            seen |= judged.keys()
            known = known.joined(judged)
            rows = known.rows
            least = float(np.min(rows.log_objectives[rows.is_feasible], initial=np.inf))
            stale = 0 if least < best - LEAST_GAIN else stale + len(judged)
            best = min(best, least)

    def _promising(self, ranked: Known, moves: ModelMoves, seen: set[bytes]) -> Points | None:
        rows, num_parents = ranked.rows, np.clip(self._num_moves, 8, 24)
        feasible = rows.log_objectives[rows.is_feasible]
        return moves.propose(
            Seen((rows.units, ranked.variants), rows.log_objectives[:, None], rows.violations),
            (rows.units[:num_parents], ranked.variants[:num_parents]),
            BestGain(float(feasible.min()) if len(feasible) else None),
            seen,
            self._num_moves,
        )

    def _run_moves(self) -> None:
        """Rounds of moves in the variant that leads, until nothing gets better."""
        places = [int(place) for place in np.unique(self.known.variants)]
        leader = min(places, key=lambda place: self._of_variant(place).standing())
        rows = self._of_variant(leader)

        def exact(units: np.ndarray) -> Scored:
            return self._judged(units, np.full(len(units), leader)).rows

        polish(
            exact,
            self._space,
            rows,
            self._generator,
            num_rounds=self._left,
            num_moves=self._num_moves,
            penalties=self._penalties,
            patience=PATIENCE_MOVES * self._space.num_dims,
            is_over=self._is_over,
        )

    def _of_variant(self, place: int) -> Scored:
        return self.known.take(np.flatnonzero(self.known.variants == place)).rows
