"""Comparison of search methods: results of each method by evaluations and by seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hwdse.search.compare.baselines import BASELINES, TPE_TRIALS
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.evaluation.evaluator import LARGEST_BATCH, SMALL_BATCH, Evaluator
from hwdse.search.evaluation.search_result import ObjectiveFn, ObjectivesFn
from hwdse.search.front.front_search import search_front
from hwdse.search.pareto.dominance_and_hypervolume import hypervolume, non_dominated_mask
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.point_sequences import host_points, make_sequence
from hwdse.search.space.search_space import SearchSpace

Clock = Callable[[], float]
"""Seconds since an arbitrary origin."""

METHODS = ("gradient", *BASELINES)
POINT_BY_POINT = ("tpe", "cma_es")
"""Methods that request one or few designs at a time, evaluated by a smaller program."""
TASKS = ("single", "pareto")
"""Minimum of one objective, or Pareto front of several."""
REFERENCE_POINTS = 4096
"""Sobol points whose front, with the base design, defines the reference point of hypervolumes."""


@dataclass(frozen=True)
class ComparisonProblem:
    """Problem given to all methods: objective, front objectives, space, base design."""

    objective_fn: ObjectiveFn
    """Function of the single objective."""
    objectives_fn: ObjectivesFn
    """Function of the objectives of the front."""
    space: SearchSpace
    base: Any

    def objectives_fn_of(self, task: str) -> ObjectivesFn:
        """Objectives function that baselines evaluate for a task; the same object for every
        call."""
        return self.objectives_fn if task == "pareto" else _SingleObjective(self.objective_fn)


@dataclass(frozen=True)
class _SingleObjective:
    """One objective as an objectives function with one column."""

    objective_fn: ObjectiveFn

    def __call__(self, design: Any, relaxation: Any) -> tuple[Any, Any]:
        value, constraint_values = self.objective_fn(design, relaxation)
        return jax.numpy.reshape(value, (1,)), constraint_values


@dataclass(frozen=True)
class Trace:
    """Feasible designs that improved on all earlier ones, in the order found."""

    evaluations: np.ndarray
    seconds: np.ndarray
    log_objectives: np.ndarray
    """Logs of the objectives, designs by objectives."""
    num_evaluations: int
    """Total evaluations."""
    total_seconds: float

    def best_at(self, budget: float, *, in_seconds: bool = False) -> float:
        """Smallest log objective found within a budget; infinite before the first."""
        spent = self.seconds if in_seconds else self.evaluations
        return float(np.min(self.log_objectives[spent <= budget, 0], initial=np.inf))

    def volume_at(self, budget: float, reference: np.ndarray, *, in_seconds: bool = False) -> float:
        """Hypervolume, in logarithms, of the designs found within a budget."""
        spent = self.seconds if in_seconds else self.evaluations
        return hypervolume(self.log_objectives[spent <= budget], reference)


def supports(method: str, task: str) -> bool:
    """True if a method can solve a task: CMA-ES has one objective only."""
    return task == "single" or method != "cma_es"


def evaluation_cap(method: str, num_evaluations: int) -> int:
    """Evaluations of a budget that a method spends: TPE stops early, see `TPE_TRIALS`."""
    return min(num_evaluations, TPE_TRIALS) if method == "tpe" else num_evaluations


def run_method(
    problem: ComparisonProblem,
    method: str,
    task: str,
    *,
    num_evaluations: int,
    seed: int,
    clock: Clock,
) -> Trace:
    """Trace of one search by one method. Programs of the exact model that methods share are
    compiled before the clock starts."""
    if method not in METHODS or task not in TASKS:
        raise ValueError(f"no method {method!r} for {task!r}: expected one of {', '.join(METHODS)}")
    if method == "gradient" and task == "single":
        return _descent_trace(problem, num_evaluations, seed, clock)
    sizes = (SMALL_BATCH,) if method in POINT_BY_POINT else (LARGEST_BATCH,)
    shape = _warm_up(problem, task, sizes)
    start, notes = clock(), []

    def report(rows: DesignSet, spent: int) -> None:
        feasible = rows.take(np.flatnonzero(rows.is_feasible))
        counts = np.minimum(spent - len(rows) + 1 + np.flatnonzero(rows.is_feasible), spent)
        notes.append((counts, np.full(len(feasible), clock() - start), feasible.log_objectives))

    if method == "gradient":
        result = search_front(
            problem.objectives_fn,
            problem.space,
            problem.base,
            seed=seed,
            num_evaluations=num_evaluations,
            report=report,
        )
        spent = result.num_evaluations
    else:
        evaluator = Evaluator(
            problem.objectives_fn_of(task),
            problem.space,
            problem.base,
            report,
            sizes=sizes,
            shape=shape,
        )
        BASELINES[method](evaluator, problem.base, num_evaluations, seed)
        spent = evaluator.num_evaluations
    return _improvements(notes, shape[0], spent, clock() - start)


def _warm_up(problem: ComparisonProblem, task: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Compile the exact model of each variant; return the numbers of objectives and
    constraints."""
    evaluator = Evaluator(problem.objectives_fn_of(task), problem.space, problem.base, sizes=sizes)
    point = problem.space.snap_points(problem.space.encode(problem.base)[None])
    variants = np.arange(len(evaluator.bases))
    evaluator(np.repeat(point, len(variants), axis=0), variants)
    return evaluator.shape


def _descent_trace(
    problem: ComparisonProblem, num_evaluations: int, seed: int, clock: Clock
) -> Trace:
    """Trace of the gradient search of one objective."""
    start, notes = clock(), []

    def progress(spent: int, best: float) -> None:
        if np.isfinite(best):
            notes.append(([spent], [clock() - start], np.asarray([[best]])))

    with jax.enable_x64(True):
        result = minimize(
            problem.objective_fn,
            problem.space,
            problem.base,
            seed=seed,
            progress=progress,
            **allocate_evaluations(num_evaluations, problem.space.num_variants),
        )
    return _improvements(notes, 1, result.num_evaluations, clock() - start)


def _improvements(
    notes: Sequence[Any], num_columns: int, spent: int, total_seconds: float
) -> Trace:
    """Rows that no earlier row dominates, as a trace."""
    if notes:
        counts, seconds, log_objectives = (
            np.concatenate(column) for column in zip(*notes, strict=True)
        )
    else:
        counts, seconds, log_objectives = np.empty(0), np.empty(0), np.empty((0, num_columns))
    if num_columns == 1:
        before = np.minimum.accumulate(np.append(np.inf, log_objectives[:, 0]))[:-1]
        kept = np.flatnonzero(log_objectives[:, 0] < before)
    else:
        kept = _new_members(log_objectives)
    return Trace(
        np.asarray(counts, float)[kept],
        np.asarray(seconds, float)[kept],
        log_objectives[kept],
        spent,
        float(total_seconds),
    )


def _new_members(log_objectives: np.ndarray, block: int = 64) -> np.ndarray:
    """Indices of rows that no row of an earlier block, or of their own block, dominates."""
    front, kept = np.empty((0, log_objectives.shape[1])), []
    for start in range(0, len(log_objectives), block):
        rows = np.concatenate((front, log_objectives[start : start + block]))
        mask = non_dominated_mask(rows)
        kept.append(start + np.flatnonzero(mask[len(front) :]))
        front = rows[mask]
    return np.concatenate(kept) if kept else np.empty(0, int)


def reference_point(problem: ComparisonProblem) -> np.ndarray:
    """Reference point of hypervolumes, in logarithms: the worst value of each objective on the
    front of a fixed Sobol sample with the base design; of all points if none is feasible."""
    evaluator = Evaluator(
        problem.objectives_fn, problem.space, problem.base, sizes=(LARGEST_BATCH,)
    )
    sample = host_points(make_sequence("sobol", problem.space, seed=0), np.arange(REFERENCE_POINTS))
    points = np.concatenate((problem.space.encode(problem.base)[None], sample))
    rows = evaluator(
        problem.space.snap_points(points), np.arange(len(points)) % len(evaluator.bases)
    )
    log_objectives = rows.log_objectives[rows.is_feasible]
    if not len(log_objectives):
        log_objectives = rows.log_objectives[np.isfinite(rows.log_objectives).all(axis=1)]
    return log_objectives[non_dominated_mask(log_objectives)].max(axis=0)


def median_min_max(values: Mapping[int, float]) -> tuple[float, float, float]:
    """Median, minimum and maximum over seeds; infinite values count."""
    numbers = np.asarray(list(values.values()), float)
    return float(np.median(numbers)), float(numbers.min()), float(numbers.max())
