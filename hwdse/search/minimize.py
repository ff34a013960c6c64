"""Gradient search: screen many designs, descend from the best at once, snap, polish.

With `allocate_evaluations` the stages spend 10, 40 and 50 % of the evaluations. Screening chooses
basins and alternatives, descent moves all continuous parameters together, and polishing, by a
model of all that was judged and by moves, takes back what rounding cost: each alone is several
times worse on 29 dimensions.
"""

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.search.descent.multistart_descent import Descended, descend, undescended
from hwdse.search.descent.optimizers import checked_rate
from hwdse.search.descent.screening import MIN_PENALTY, choose_starts, screen
from hwdse.search.evaluation.batch_evaluation import exact_scorer
from hwdse.search.evaluation.search_result import (
    GRADIENT_COST_EVALUATIONS,
    EvaluatedPoints,
    ObjectiveFn,
    SearchResult,
)
from hwdse.search.neighborhood.local_search import divisor_points
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.surrogate_search import EvaluatedSet, SurrogateSearch

Progress = Callable[[int, float], None]
"""Called with the evaluations so far and the best feasible log objective so far."""


def never() -> bool:
    """Of a search without a budget of time."""
    return False


MIN_STARTS = 4
"""Only so many variants descend, the best screened, that each has this many starts."""
BRIEF_GRADIENTS = 400
"""A descent with fewer is over before a thorough compiler is, even where mappings are searched."""


class SearchBudget(TypedDict):
    """Sizes of the stages, for `minimize(..., **search_budget)`."""

    num_screened: int
    num_starts: int
    num_steps: int
    local_search_rounds: int
    num_moves: int


def allocate_evaluations(num_evaluations: int, num_variants: int = 1) -> SearchBudget:
    """Sizes that spend about `num_evaluations` in all: 10 % screening, 40 % descent, 50 % polish.

    Starts grow with the square root of the budget: three of 22 steps at 500 evaluations.
    """
    each = max(num_evaluations / num_variants, 50.0)
    num_starts = max(round(3.0 * math.sqrt(each / 500.0)), 1)
    num_steps = max(int(0.4 * each / (GRADIENT_COST_EVALUATIONS * num_starts)), 4)
    num_moves = min(max(int(0.5 * math.sqrt(each)), 6), 256)
    return SearchBudget(
        num_screened=int(0.1 * each) * num_variants,
        num_starts=num_starts * num_variants,
        num_steps=num_steps,
        local_search_rounds=max(int((0.5 * each - 2.0 * num_starts) / num_moves), 1) * num_variants,
        num_moves=num_moves,
    )


class _History:
    """Evaluations so far, and the best feasible value after each batch."""

    def __init__(self, progress: Progress | None):
        self.num_evaluations = 0
        self.best = math.inf
        self.points: list[tuple[int, float]] = []
        self.progress = progress

    def add(self, judged: EvaluatedPoints, num_gradients: int = 0) -> None:
        """Counts evaluations and notes the best feasible value among them."""
        self.num_evaluations += len(judged) + GRADIENT_COST_EVALUATIONS * num_gradients
        logs = np.where(judged.is_feasible, judged.log_objectives, np.inf)
        self.best = min(self.best, float(logs.min(initial=np.inf)))
        self.points.append((self.num_evaluations, self.best))
        if self.progress is not None:
            self.progress(self.num_evaluations, self.best)


@dataclass(eq=False)
class _VariantState:
    """The search in one variant, as far as it has come."""

    place: int
    labels: dict[str, str]
    base: Any
    exact: Callable[[np.ndarray], EvaluatedPoints]
    elites: EvaluatedPoints
    screened: EvaluatedPoints
    penalties: np.ndarray
    multipliers: np.ndarray
    relaxed_log_objective: float
    snapped_log_objective: float
    has_descended: bool


def minimize(
    score: ObjectiveFn,
    space: SearchSpace,
    base: Any,
    *,
    seed: int,
    num_screened: int,
    num_starts: int,
    num_steps: int,
    local_search_rounds: int,
    num_moves: int = 64,
    learning_rate: float | None = None,
    optimizer: str = "adam",
    schedule: str = "cosine",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = never,
) -> SearchResult:
    """Best buildable design of a space under constraints; the same for the same seed.

    The counts are totals over all variants. They share the screening equally; the best of them,
    as many as have four starts each, share the descents and half of the polishing, and the rest
    goes to the variant that then leads. `allocate_evaluations` proposes counts for a
    budget. Runs in the float type of the caller's scope (float64 under `jax.enable_x64(True)`).
    `optimizer` and `schedule` are of `search.optimizers`, each with a rate of its own by default.
    Once `should_stop` says so, no descent and no round of polishing begins: the result is the best so
    far, the same for the same evaluations done.
    The compiled functions are kept for as long as the same `score` object is used.
    """
    journal = _History(progress)
    variants = space.variant_bases(base)
    num_leaders = int(np.clip(num_starts // MIN_STARTS, 1, len(variants)))
    sizes = (max(num_screened // len(variants), 1), max(num_starts // num_leaders, 1))
    is_double = jnp.result_type(float) == jnp.float64

    scorers = [exact_scorer(score, space, variant_base, num_moves) for _, variant_base in variants]

    def look(place: int) -> EvaluatedPoints:
        with jax.enable_x64(is_double):  # the scope of the float type belongs to a thread
            return screen(scorers[place], space, variants[place][1], sizes[0], seed)

    descent = functools.partial(
        descend, learning_rate=checked_rate(optimizer, schedule, learning_rate), score=score,
        space=space, num_steps=num_steps, optimizer=optimizer, schedule=schedule,
        is_brief=True if sizes[1] * num_steps < BRIEF_GRADIENTS else None,
    )  # fmt: skip

    def explore(place: int) -> _VariantState:
        screened, is_leader = looks[place], place in leaders
        num_limits = screened.constraint_values.shape[1]
        with jax.enable_x64(is_double):
            starts = choose_starts(space, screened, sizes[1] if is_leader else 1)
            if should_stop() or not is_leader:
                ends = undescended(starts, num_limits)
            else:
                units = jnp.asarray(starts, float)
                ends = descent(units, variants[place][1], num_constraints=num_limits)
            return _landed(place, *variants[place], scorers[place], space, screened, ends)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as archive:  # compiling takes most time
        looks = list(archive.map(look, range(len(variants))))
        leaders = sorted(range(len(variants)), key=lambda i: looks[i].sort_key())[:num_leaders]
        basins = list(archive.map(explore, range(len(variants))))
    for basin in basins:
        journal.add(basin.screened)
        journal.add(basin.elites, sizes[1] * num_steps * basin.has_descended)
    _polish_all(basins, space, journal, seed, local_search_rounds, num_moves, should_stop)
    return _result(basins, space, journal)


def _landed(
    place: int,
    labels: dict[str, str],
    base: Any,
    exact: Callable[[np.ndarray], EvaluatedPoints],
    space: SearchSpace,
    screened: EvaluatedPoints,
    ends: Descended,
) -> _VariantState:
    """A variant after descent: the ends made buildable in two ways and judged, with the screened
    points."""
    landed_units = np.where(np.isfinite(ends.units), ends.units, 0.5)
    snapped, parted = space.snap_points(landed_units), divisor_points(space, landed_units)
    landed = exact(snapped)
    parted = parted[(parted != snapped).any(axis=1)]
    multipliers = np.asarray(ends.multipliers, np.float64)
    floor = np.full(multipliers.shape[1], MIN_PENALTY)
    best = int(np.argmin(landed.merit(floor)))
    return _VariantState(
        place=place,
        labels=labels,
        base=base,
        exact=exact,
        elites=landed.joined(exact(parted)) if len(parted) else landed,
        screened=screened,
        penalties=np.maximum(floor, 2.0 * multipliers[best]),
        multipliers=multipliers[best],
        relaxed_log_objective=float(ends.log_objectives[best]),
        snapped_log_objective=float(landed.log_objectives[best]),
        has_descended=not ends.is_missing,
    )


def _polish_all(
    basins: list[_VariantState],
    space: SearchSpace,
    journal: _History,
    seed: int,
    num_rounds: int,
    num_moves: int,
    should_stop: Callable[[], bool],
) -> None:
    """Polishes all variants together, and shares out what was found."""
    known = [
        EvaluatedSet(rows, np.full(len(rows), basin.place))
        for basin in basins
        for rows in (basin.elites.joined(basin.screened),)
    ]
    penalties = np.max([b.penalties for b in basins if b.has_descended] or [basins[0].penalties], 0)
    found = SurrogateSearch(
        functools.partial(_judged, basins, journal),
        space,
        functools.reduce(EvaluatedSet.joined, known),
        penalties=penalties,
        num_moves=num_moves,
        seed=seed,
        should_stop=should_stop,
    ).run(num_rounds)
    for basin in basins:
        basin.elites = found.take(np.flatnonzero(found.variants == basin.place)).rows


def _judged(
    basins: list[_VariantState], journal: _History, units: np.ndarray, variants: np.ndarray
) -> EvaluatedPoints:
    """Exact scores of points, each in its variant; noted in the journal."""
    indices = [np.flatnonzero(variants == place) for place in np.unique(variants)]
    parts = [basins[variants[group[0]]].exact(units[group]) for group in indices]
    judged = functools.reduce(EvaluatedPoints.joined, parts).take(
        np.argsort(np.concatenate(indices))
    )
    journal.add(judged)
    return judged


def _result(basins: list[_VariantState], space: SearchSpace, journal: _History) -> SearchResult:
    """The best design of all variants and the finalists of each."""
    best = min(basins, key=lambda basin: basin.elites.sort_key())
    deep = [basin for basin in basins if basin.has_descended] or basins
    # The variant that wins need not be one that descended: the nearest that did knows the prices.
    told = best if best in deep else min(deep, key=lambda basin: basin.elites.sort_key())
    row = best.elites.best_index()
    unit = best.elites.units[row]
    everyone = [(basin.place, i) for basin in basins for i in range(len(basin.elites))]
    joined = functools.reduce(EvaluatedPoints.joined, (basin.elites for basin in basins))
    order = np.lexsort((joined.log_objectives, joined.total_violation))
    return SearchResult(
        design=space.decode_rounded(unit, best.base),
        unit=unit,
        labels=best.labels,
        log_objective=float(best.elites.log_objectives[row]),
        constraint_values=best.elites.constraint_values[row],
        is_feasible=bool(best.elites.is_feasible[row]),
        multipliers=told.multipliers,
        relaxed_log_objective=told.relaxed_log_objective,
        snapped_log_objective=told.snapped_log_objective,
        num_evaluations=journal.num_evaluations,
        history_evaluations=np.asarray([point[0] for point in journal.points]),
        history_log_objective=np.asarray([point[1] for point in journal.points]),
        top_units=joined.units[order],
        top_log_objectives=joined.log_objectives[order],
        top_variants=np.asarray([place for place, _ in everyone])[order],
    )
