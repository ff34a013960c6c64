"""Polishing by a model, where a regression promises most, then by moves without one.

All variants share the model, whose points are whatever the search has judged. A run that finds
nothing better for a while has exhausted its basin; the next one starts from half of what was known
before the first, every third from half of everything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from hwdse.search.polish import (
    NUM_KINDS,
    design_key,
    kept_parents,
    moved_by_kinds,
    parted_points,
    polish,
)
from hwdse.search.result import Scored
from hwdse.search.space import SearchSpace
from hwdse.search.surrogate import Surrogate, features

Judge = Callable[[np.ndarray, np.ndarray], Scored]
"""Exact scores of buildable points of these variants."""

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
        return {design_key(u, int(v)) for u, v in zip(self.rows.units, self.variants, strict=True)}

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
        self._threads = ThreadpoolController()

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
        model, best, stale = Surrogate(), np.inf, 0
        patience = max(STALE_ROUNDS * self._num_moves, STALE_MOVES * self._space.num_dims)
        seen = self.known.keys()
        while self._left > num_plain and stale <= patience and not self._is_over():
            # Threads cost more than they save on matrices of some hundred rows.
            with self._threads.limit(limits=1, user_api="blas"):
                found = _promising(
                    self._space,
                    known.ranked(self._penalties),
                    model,
                    seen,
                    self._generator,
                    self._num_moves,
                )
            if found is None:
                return
            judged = self._judged(*found)
            seen |= judged.keys()
            known = known.joined(judged)
            rows = known.rows
            least = float(np.min(rows.log_objectives[rows.is_feasible], initial=np.inf))
            stale = 0 if least < best - LEAST_GAIN else stale + len(judged)
            best = min(best, least)

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


def _promising(
    space: SearchSpace,
    ranked: Known,
    model: Surrogate,
    seen: set[bytes],
    generator: np.random.Generator,
    num_moves: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Points and variants that are worth to be judged next; None if there are no new ones."""
    num_parents = int(np.clip(num_moves, 8, 24))
    try:
        model.see(features(space, ranked.rows.units, ranked.variants), ranked.rows)
    except np.linalg.LinAlgError:
        return None
    units, variants = ranked.rows.units[:num_parents], ranked.variants[:num_parents]
    taken, all_units, all_variants, promises = set(seen), [], [], []
    for _ in range(NUM_GENERATIONS):
        units, variants = _new_moves(space, units, variants, taken, generator)
        if not len(units):
            break
        all_units.append(units)
        all_variants.append(variants)
        promises.append(model.promise(features(space, units, variants)))
        units, variants = np.concatenate(all_units), np.concatenate(all_variants)
        best = np.argsort(-np.concatenate(promises), kind="stable")[:num_parents]
        units, variants = units[best], variants[best]
    if not promises:
        return None
    best = np.argsort(-np.concatenate(promises), kind="stable")[:MOST_CHOSEN_FROM]
    units, variants = np.concatenate(all_units)[best], np.concatenate(all_variants)[best]
    chosen = model.choose(features(space, units, variants), num_moves)
    return units[chosen], variants[chosen]


def _new_moves(
    space: SearchSpace,
    parents: np.ndarray,
    variants: np.ndarray,
    taken: set[bytes],
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
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
