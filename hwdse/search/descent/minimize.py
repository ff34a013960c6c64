"""Gradient search for one objective: screening, multi-start descent, rounding, local search.

With `allocate_evaluations` the stages spend 10, 40 and 50 % of the evaluations. Screening selects
starts, alternatives of the choices and variants. Descent moves all continuous parameters together.
Local search on the exact model, with and without a surrogate model, recovers the loss from
rounding. On 29 dimensions each stage alone is several times worse.
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

from hwdse.search.descent.multistart_descent import DescentResult, descend
from hwdse.search.descent.optimizers import checked_rate
from hwdse.search.descent.screening import MIN_PENALTY, choose_starts, screening_points
from hwdse.search.evaluation.batch_evaluation import exact_evaluator
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_log import SearchLog
from hwdse.search.evaluation.search_result import (
    EvaluatedPoints,
    ObjectiveFn,
    SearchResult,
)
from hwdse.search.neighborhood.local_search import divisor_points
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.surrogate_search import EvaluatedSet, SurrogateSearch

Progress = Callable[[int, float], None]
"""Callback with the number of evaluations and the best feasible log objective so far."""


def never() -> bool:
    """False: stop criterion of a search without a time budget."""
    return False


MIN_STARTS = 4
"""Minimum starts per variant. It bounds the number of variants that descend: those with the best
screened designs."""
BRIEF_GRADIENTS = 400
"""Gradients below which the descent uses quick compilation: it ends before an optimizing compiler
would, even with mapping search."""
MIN_STEPS = 4
"""Minimum steps of a descent. A budget too small for one such descent has none."""
EVALUATIONS_PER_START = 2
"""Exact evaluations of a final point of the descent: rounded to steps, and to divisors."""


class SearchBudget(TypedDict):
    """Sizes of the stages, for `minimize(..., **search_budget)`."""

    num_screened: int
    num_starts: int
    num_steps: int
    local_search_rounds: int
    num_moves: int


def allocate_evaluations(num_evaluations: int, num_variants: int = 1) -> SearchBudget:
    """Stage sizes for at most `num_evaluations` in total: 10 % screening, 40 % descent, the rest
    local search.

    The number of starts grows with the square root of the budget: 3 starts of 22 steps at 500
    evaluations. Below some 30 evaluations there is no descent. The base design is always evaluated.
    """
    each = num_evaluations / num_variants
    num_screened = max(int(0.1 * each) * num_variants, min(num_variants, num_evaluations), 1)
    num_starts = max(round(3.0 * math.sqrt(each / 500.0)), 1) * num_variants
    left = num_evaluations - num_screened
    shortest = GRADIENT_COST_EVALUATIONS * MIN_STEPS
    num_starts = min(
        num_starts,
        int(0.4 * num_evaluations / shortest),
        left // (shortest + EVALUATIONS_PER_START),
    )
    gradient_evaluations = min(0.4 * num_evaluations, left - EVALUATIONS_PER_START * num_starts)
    num_gradients = gradient_evaluations / GRADIENT_COST_EVALUATIONS
    num_steps = max(int(num_gradients / max(num_starts, 1)), MIN_STEPS)
    left -= num_starts * (GRADIENT_COST_EVALUATIONS * num_steps + EVALUATIONS_PER_START)
    num_moves = min(max(int(0.5 * math.sqrt(each)), 6), 256, max(left, 1))
    return SearchBudget(
        num_screened=num_screened,
        num_starts=num_starts,
        num_steps=num_steps,
        local_search_rounds=left // num_moves,
        num_moves=num_moves,
    )


NamedExact = Callable[[str, np.ndarray], EvaluatedPoints]
"""Exact evaluations of points, under the name of their batch in the log."""


class _History:
    """Number of evaluations, and the best feasible value after each batch."""

    def __init__(self, progress: Progress | None, log: SearchLog):
        self.log = log
        self.num_evaluations = 0
        self.best = math.inf
        self.points: list[tuple[int, float]] = []
        self.progress = progress

    def add(self, evaluated: EvaluatedPoints, num_gradients: int = 0) -> None:
        """Count evaluations and record the best feasible value."""
        count = len(evaluated) + GRADIENT_COST_EVALUATIONS * num_gradients
        self.num_evaluations += count
        self.log.num_evaluations += count
        logs = np.where(evaluated.is_feasible, evaluated.log_objectives, np.inf)
        self.best = min(self.best, float(logs.min(initial=np.inf)))
        self.points.append((self.num_evaluations, self.best))
        if self.progress is not None:
            self.progress(self.num_evaluations, self.best)


@dataclass(frozen=True, eq=False)
class _Variant:
    """Program of one variant."""

    index: int
    labels: dict[str, str]
    base: Any
    program_base: Any
    """The same design for compiled programs, which variants may share."""
    exact: NamedExact


@dataclass(eq=False)
class _VariantState:
    """State of the search in one variant."""

    variant: _Variant
    elites: EvaluatedPoints
    screened: EvaluatedPoints
    penalties: np.ndarray
    multipliers: np.ndarray
    relaxed_log_objective: float
    snapped_log_objective: float
    has_descended: bool


def minimize(
    objective_fn: ObjectiveFn,
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
    log: SearchLog | None = None,
) -> SearchResult:
    """Best rounded design of a space under constraints; deterministic for a seed.

    All counts are totals over the variants; `allocate_evaluations` returns counts for a budget.
    Screening is shared equally; with fewer screened designs than variants, the variant of the base
    design comes first and the last ones are left out. The variants with the best screened designs,
    as many as have four starts each, share the descents. One local search covers all variants:
    rounds with a surrogate model, then rounds without it in the best variant.

    The search runs in the float type of the caller's scope (float64 under `jax.enable_x64(True)`).
    `optimizer` and `schedule` are names of `search/descent/optimizers.py`; the default learning
    rate depends on the optimizer. Once `should_stop` returns True, no descent and no round of
    local search starts; the result is the best design so far. `log` receives every batch; the log
    of a stopped search continues it. Compiled functions are reused for the same `objective_fn`
    object.

    >>> import jax.numpy as jnp
    >>> import hwdse
    >>> from hwdse.search import Dimension, SearchSpace
    >>> space = SearchSpace((Dimension("clock_hz", 1e9, 4e9, "log", 1e8),))
    >>> def energy_delay(array, relaxation):  # its logarithm, and no constraints
    ...     gigahertz = array.clock_hz / 1e9
    ...     return jnp.log(2.0 / gigahertz + gigahertz / 2.0), jnp.zeros(0)
    >>> array = hwdse.load_chip("h100").array
    >>> budget = {"num_screened": 16, "num_starts": 2, "num_steps": 20, "local_search_rounds": 4}
    >>> found = hwdse.minimize(energy_delay, space, array, seed=0, **budget)
    >>> f"{found.design.clock_hz / 1e9:.1f} GHz"
    '2.0 GHz'
    """
    history = _History(progress, SearchLog() if log is None else log)
    variants = _variants(objective_fn, space, base, num_moves, history.log)[: max(num_screened, 1)]
    num_leaders = int(np.clip(num_starts // MIN_STARTS, 1, len(variants)))
    sizes = (max(num_screened // len(variants), 1), num_starts // num_leaders)
    is_double = jnp.result_type(float) == jnp.float64

    def screened_in(variant: _Variant) -> EvaluatedPoints:
        with jax.enable_x64(is_double):  # the float type is scoped to a thread
            points = screening_points(space, variant.base, sizes[0], seed)
            return variant.exact("screening", points)

    descent = functools.partial(
        descend, learning_rate=checked_rate(optimizer, schedule, learning_rate),
        objective_fn=objective_fn, space=space, num_steps=num_steps, optimizer=optimizer,
        schedule=schedule,
        is_brief=True if sizes[1] * num_steps < BRIEF_GRADIENTS else None,
    )  # fmt: skip

    def state_of(variant: _Variant) -> _VariantState:
        screened = screenings[variant.index]
        if variant.index not in leaders or not sizes[1] or should_stop():
            return _screened_state(variant, screened)
        with jax.enable_x64(is_double):
            starts = choose_starts(space, screened, sizes[1])
            final_points = _final_points(descent, variant, screened, starts, history.log)
            return _rounded_state(variant, space, screened, final_points)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # mostly compilation
        found = list(pool.map(screened_in, variants))
        screenings = {v.index: rows for v, rows in zip(variants, found, strict=True)}
        for screened in found:
            history.add(screened)
        by_rank = sorted(screenings, key=lambda index: screenings[index].sort_key())
        leaders = by_rank[:num_leaders]
        states = list(pool.map(state_of, variants))
    for state in states:
        if state.has_descended:
            history.add(state.elites, sizes[1] * num_steps)
    before = history.num_evaluations
    _search_locally(states, space, history, seed, local_search_rounds, num_moves, should_stop)
    return _result(states, space, history, history.num_evaluations - before)


def _variants(
    objective_fn: ObjectiveFn, space: SearchSpace, base: Any, num_moves: int, log: SearchLog
) -> list[_Variant]:
    """Variants of the space: that of the base design, then the others in order."""

    def of(index: int, labels: dict[str, str], variant_base: Any) -> _Variant:
        program_base = program_bases[index]
        program = exact_evaluator(objective_fn, space, program_base, num_moves)

        def exact(name: str, units: np.ndarray) -> EvaluatedPoints:
            indices = np.full(len(units), index)
            return log.evaluate(f"{name}.{index}", units, indices, lambda: program(units))

        return _Variant(index, labels, variant_base, program_base, exact)

    pairs, program_bases = space.variant_bases(base), space.program_bases(base)
    return [of(index, *pairs[index]) for index in space.variants_from(base)]


def _final_points(
    descent: Callable[..., DescentResult],
    variant: _Variant,
    screened: EvaluatedPoints,
    starts: np.ndarray,
    log: SearchLog,
) -> DescentResult:
    """Final points of the descent of a variant, from the log if it holds them."""
    num_limits = screened.constraint_values.shape[1]

    def run() -> DescentResult:
        units = jnp.asarray(starts, float)
        return descent(units, variant.program_base, num_constraints=num_limits)

    return DescentResult(*log.keep(f"descent.{variant.index}", starts, run))


def _screened_state(variant: _Variant, screened: EvaluatedPoints) -> _VariantState:
    """State of a variant without a descent: its best screened design."""
    num_limits = screened.constraint_values.shape[1]
    best = screened.best_index()
    return _VariantState(
        variant=variant,
        elites=screened.take(np.asarray([best])),
        screened=screened,
        penalties=np.full(num_limits, MIN_PENALTY),
        multipliers=np.zeros(num_limits),
        relaxed_log_objective=math.nan,
        snapped_log_objective=float(screened.log_objectives[best]),
        has_descended=False,
    )


def _rounded_state(
    variant: _Variant, space: SearchSpace, screened: EvaluatedPoints, final_points: DescentResult
) -> _VariantState:
    """State of a variant after descent: exact evaluations of the final points, rounded to the
    nearest steps and to divisors of the range ends."""
    final_units = np.where(np.isfinite(final_points.units), final_points.units, 0.5)
    snapped, divisor_units = space.snap_points(final_units), divisor_points(space, final_units)
    rounded = elites = variant.exact("rounded", snapped)
    divisor_units = divisor_units[(divisor_units != snapped).any(axis=1)]
    if len(divisor_units):
        elites = rounded.joined(variant.exact("divisors", divisor_units))
    multipliers = np.asarray(final_points.multipliers, np.float64)
    floor = np.full(multipliers.shape[1], MIN_PENALTY)
    best = int(np.argmin(rounded.merit(floor)))
    return _VariantState(
        variant=variant,
        elites=elites,
        screened=screened,
        penalties=np.maximum(floor, 2.0 * multipliers[best]),
        multipliers=multipliers[best],
        relaxed_log_objective=float(final_points.log_objectives[best]),
        snapped_log_objective=float(rounded.log_objectives[best]),
        has_descended=True,
    )


def _search_locally(
    states: list[_VariantState],
    space: SearchSpace,
    history: _History,
    seed: int,
    num_rounds: int,
    num_moves: int,
    should_stop: Callable[[], bool],
) -> None:
    """Run the local search over all variants and distribute its points to them."""
    known = [
        EvaluatedSet(rows, np.full(len(rows), state.variant.index))
        for state in states
        for rows in (state.elites.joined(state.screened),)
    ]
    penalties = np.max([b.penalties for b in states if b.has_descended] or [states[0].penalties], 0)
    found = SurrogateSearch(
        functools.partial(_evaluate, states, history),
        space,
        functools.reduce(EvaluatedSet.joined, known),
        penalties=penalties,
        num_moves=num_moves,
        seed=seed,
        should_stop=should_stop,
    ).run(num_rounds)
    for state in states:
        state.elites = found.take(np.flatnonzero(found.variants == state.variant.index)).rows


def _evaluate(
    states: list[_VariantState], history: _History, units: np.ndarray, variants: np.ndarray
) -> EvaluatedPoints:
    """Exact evaluations of points, each in its variant; recorded in the history."""
    exact = {state.variant.index: state.variant.exact for state in states}
    name = f"moves.{len(history.points)}"
    groups = [np.flatnonzero(variants == variant) for variant in np.unique(variants)]
    batches = [exact[int(variants[group[0]])](name, units[group]) for group in groups]
    evaluated = functools.reduce(EvaluatedPoints.joined, batches).take(
        np.argsort(np.concatenate(groups))
    )
    history.add(evaluated)
    return evaluated


def _result(
    states: list[_VariantState], space: SearchSpace, history: _History, num_local_search: int
) -> SearchResult:
    """Best design over all variants, and all evaluated points in order of rank."""
    best = min(states, key=lambda state: state.elites.sort_key())
    descended = [state for state in states if state.has_descended] or states
    # The best variant may not have descended: multipliers of the best variant that did.
    nearest = (
        best if best in descended else min(descended, key=lambda state: state.elites.sort_key())
    )
    row = best.elites.best_index()
    unit = best.elites.units[row]
    members = [(state.variant.index, i) for state in states for i in range(len(state.elites))]
    joined = functools.reduce(EvaluatedPoints.joined, (state.elites for state in states))
    order = np.lexsort((joined.log_objectives, joined.total_violation))
    return SearchResult(
        design=space.decode_rounded(unit, best.variant.base),
        unit=unit,
        labels=best.variant.labels,
        log_objective=float(best.elites.log_objectives[row]),
        constraint_values=best.elites.constraint_values[row],
        is_feasible=bool(best.elites.is_feasible[row]),
        multipliers=nearest.multipliers,
        relaxed_log_objective=nearest.relaxed_log_objective,
        snapped_log_objective=nearest.snapped_log_objective,
        num_evaluations=history.num_evaluations,
        num_local_search=num_local_search,
        history_evaluations=np.asarray([point[0] for point in history.points]),
        history_log_objective=np.asarray([point[1] for point in history.points]),
        top_units=joined.units[order],
        top_log_objectives=joined.log_objectives[order],
        top_variants=np.asarray([index for index, _ in members])[order],
    )
