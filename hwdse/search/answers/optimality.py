"""Local optimality, optimality gap, binding constraints and shadow prices of a design.

The gap compares the objective with the minimum of the continuous relaxation for the same choices
and variants. That minimum is a lower bound if the relaxation is below the exact model and convex.
Both are tested on neighbors, random designs and random segments; one failure makes it an estimate.
Passed tests are evidence, not a proof.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import ROUNDING_SOURCES, relaxed_by_source
from hwdse.search.descent.relaxed_optimum import (
    FEASIBLE,
    MAX_ITERATIONS,
    RelaxedOptimum,
    RelaxedProblem,
    relaxed_optimum,
)
from hwdse.search.evaluation.batch_evaluation import padded
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_result import (
    ROUNDING,
    EvaluatedPoints,
    ObjectiveFn,
    evaluated_points,
)
from hwdse.search.neighborhood.neighbors import neighbors, step_toward
from hwdse.search.space.search_space import SearchSpace, set_path

MARGIN = 2e-3
"""Margin subtracted from a relaxed optimum: smooth maxima of power 2048, a few nested, and the
solver tolerance. Multiplied by one plus the sum of the multipliers, since limits are relaxed as
well."""
NUM_SEGMENTS = 128
"""Random segments on which convexity is tested."""
CHECK_TOLERANCE = 1e-9
FLAT = 1e-3
"""Elasticities below this mean an optimum inside the range."""
BATCH = 256
MAX_MOVES = 100
"""Maximum moves to a better neighbor; each evaluates all neighbors again."""
ALL_SOURCES = np.ones(len(ROUNDING_SOURCES))
"""Temperatures that relax every rounding source."""
NEIGHBOR_SHARE = 0.35
"""Fraction of a budget for the neighbors of the first point."""
MOVE_SHARE = 0.55
"""Fraction of a budget after which no move to a better neighbor is made."""
GRADIENT_SHARE = 0.6
"""Fraction of the rest for the relaxed optimum; what remains is for the checks."""
NUM_CHECKED = 2048
"""Neighbors at which the relaxation is compared with the exact model."""
SEGMENT_EVALUATIONS = 7
"""Evaluations per segment: three relaxed ones on it, and both ends rounded, exact and relaxed."""


@dataclass(frozen=True)
class OptimalityReport:
    """Optimality of a design among its neighbors and for its alternatives and variants."""

    unit: np.ndarray
    """Point of the design; if `is_local_optimum`, no evaluated neighbor is better."""
    log_objective: float
    constraint_values: np.ndarray
    num_improvements: int
    """Moves to a better neighbor."""
    is_local_optimum: bool
    """True if no evaluated neighbor is better; else the moves or the budget ended before."""
    log_bound: float
    """Lower bound of the log objective over feasible designs, if `passed_bound_checks`; -inf:
    unknown, because of `largest_violation`."""
    largest_violation: float
    """Largest ln(value / limit) of the relaxed optimum. Above `FEASIBLE` no relaxed design within
    the limits was found; NaN: the budget was spent before its search."""
    is_bound_complete: bool
    """False if the budget was spent before the search of the relaxed optimum ended."""
    passed_bound_checks: bool
    """True if the relaxation was below the exact model and convex in every check."""
    num_checked: int
    """Designs at which relaxation and exact model were compared."""
    num_bound_violations: int
    """Designs with the relaxation above the exact model; one makes the bound an estimate."""
    largest_bound_violation: float
    """Largest ln(relaxed / exact) at these designs."""
    num_segments: int
    num_nonconvex_segments: int
    """Segments on which the relaxation is not convex; one makes the bound an estimate."""
    num_neighbors: int
    is_exhaustive: bool
    """True if the neighbors are all designs within the reach in steps."""
    elasticities: np.ndarray
    """d ln(objective) / d ln(value) of each dimension at the design, without rounding."""
    bound_by: tuple[str, ...]
    """Binding constraint of each dimension: an end of its range, limits, step size, or none."""
    multipliers: np.ndarray
    """Shadow prices -d ln(objective) / d ln(limit) at the relaxed optimum."""
    quantization_loss: Mapping[str, float]
    """ln(exact / relaxed objective) by rounding source, and of all sources under "all"."""
    num_evaluations: int
    """Evaluations; a gradient counts as `GRADIENT_COST_EVALUATIONS`."""

    @property
    def optimality_gap(self) -> float:
        """Largest possible improvement over the design, as a fraction of its objective."""
        return float(1.0 - np.exp(min(self.log_bound - self.log_objective, 0.0)))


def fixed_report_evaluations(space: SearchSpace) -> int:
    """Evaluations that every report needs: the point, its elasticities, one step of each dimension
    and the quantization loss."""
    return 2 + GRADIENT_COST_EVALUATIONS + len(space.dimensions) + len(ROUNDING_SOURCES)


def report_optimality(
    objective_fn: ObjectiveFn,
    space: SearchSpace,
    design: Any,
    unit: np.ndarray,
    limit_names: Sequence[str],
    *,
    seed: int,
    reach: int = 1,
    max_neighbors: int = 2000,
    num_starts: int = 4,
    max_iterations: int = MAX_ITERATIONS,
    num_segments: int = NUM_SEGMENTS,
    batch: int = BATCH,
    max_evaluations: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
) -> OptimalityReport:
    """Optimality report of the point `unit`, whose choices and variants are those of `design`.

    A better neighbor replaces the point, and the check repeats. The bound is the smallest relaxed
    objective found from the point and `num_starts - 1` random starts, less `MARGIN`; it is valid
    for the alternatives and variants of the point. Points are evaluated in batches of `batch`.
    Neighbors, gradients and checks are fewer if `max_evaluations` is small; it must be at least
    `fixed_report_evaluations(space)`. Once `should_stop` returns True, no stage begins. Runs in the
    float type in scope, which should be float64; deterministic for a seed.
    """
    evaluator = _BatchEvaluator(objective_fn, space, design, batch, len(limit_names))
    budget = max_evaluations - fixed_report_evaluations(space)
    if budget < 0:
        raise ValueError(f"max_evaluations = {max_evaluations}: expected at least "
                         f"{fixed_report_evaluations(space)}")  # fmt: skip
    neighborhood = _improve_by_neighbors(
        evaluator, space, unit, (reach, min(max_neighbors, NEIGHBOR_SHARE * budget), seed),
        lambda: should_stop() or evaluator.num_evaluations > MOVE_SHARE * budget,
    )  # fmt: skip
    unit, center = neighborhood.unit, neighborhood.center
    budget -= evaluator.num_evaluations - 1
    num_dims = len(space.dimensions)
    problem = RelaxedProblem(objective_fn, space, space.decode_rounded(unit, design))
    elasticities = _elasticities(space, unit, problem(unit[:num_dims])[1][0])
    problem.max_gradients = 1.0 + GRADIENT_SHARE * budget // GRADIENT_COST_EVALUATIONS
    problem.should_stop = should_stop
    starts = _random_points(space, unit, num_starts - 1, seed)[:, :num_dims]
    optimum = relaxed_optimum(
        problem, np.vstack((unit[None, :num_dims], starts)), max_iterations=max_iterations
    )
    budget -= GRADIENT_COST_EVALUATIONS * (problem.num_gradients - 1)
    budget = 0.0 if should_stop() else budget
    checks = _check_bound(evaluator, space, neighborhood, num_segments, budget, seed)
    return OptimalityReport(
        unit=unit,
        log_objective=float(center.log_objectives[0]),
        constraint_values=center.constraint_values[0],
        num_improvements=neighborhood.num_improvements,
        is_local_optimum=neighborhood.is_local_optimum,
        **_bound_fields(optimum, checks, len(limit_names)),
        num_neighbors=len(neighborhood.checked) - 1,
        is_exhaustive=neighborhood.is_exhaustive,
        elasticities=elasticities,
        bound_by=_binding_constraints(evaluator, space, unit, elasticities, limit_names),
        quantization_loss=_quantization_loss(evaluator, unit, float(center.log_objectives[0])),
        num_evaluations=evaluator.num_evaluations
        + GRADIENT_COST_EVALUATIONS * problem.num_gradients,
    )


def _bound_fields(
    optimum: RelaxedOptimum | None, checks: dict[str, Any], num_limits: int
) -> dict[str, Any]:
    """Fields of a report about the bound. Without a relaxed optimum it is unknown."""
    if optimum is None:
        return {**checks, "log_bound": -math.inf, "largest_violation": math.nan,
                "is_bound_complete": False, "passed_bound_checks": False,
                "multipliers": np.zeros(num_limits)}  # fmt: skip
    log_bound = optimum.log_objective - MARGIN * (1.0 + float(optimum.multipliers.sum()))
    is_known = optimum.largest_violation <= FEASIBLE
    was_checked = checks["num_checked"] > 0 and checks["num_segments"] > 0
    num_failed = checks["num_bound_violations"] + checks["num_nonconvex_segments"]
    return {
        **checks,
        "log_bound": log_bound if is_known else -math.inf,
        "largest_violation": optimum.largest_violation,
        "is_bound_complete": optimum.is_complete,
        "passed_bound_checks": is_known and optimum.is_complete and was_checked and not num_failed,
        "multipliers": optimum.multipliers,
    }


def _check_bound(
    evaluator: "_BatchEvaluator",
    space: SearchSpace,
    neighborhood: "_Neighborhood",
    num_segments: int,
    budget: float,
    seed: int,
) -> dict[str, Any]:
    """Counts of the checks of a bound: relaxation against exact model at the neighbors and at the
    rounded ends of random segments, and convexity on these segments."""
    num_segments = int(min(num_segments, max(0.5 * budget, 0.0) / SEGMENT_EVALUATIONS))
    num_near = int(max(min(budget - SEGMENT_EVALUATIONS * num_segments, NUM_CHECKED), 0))
    points = _random_points(space, neighborhood.unit, 2 * num_segments, seed)
    ends = space.snap_points(points)
    checked = np.concatenate((neighborhood.checked[:num_near], ends))
    exact = np.concatenate((neighborhood.rows[:num_near], evaluator.exact(ends)))
    violation = np.where(np.isfinite(exact), evaluator.relaxed(checked) - exact, 0.0)
    violation = violation.max(axis=1, initial=-np.inf)
    return {
        "num_checked": len(checked),
        "num_bound_violations": int((violation > CHECK_TOLERANCE).sum()),
        "largest_bound_violation": max(float(violation.max(initial=0.0)), 0.0),
        "num_segments": num_segments,
        "num_nonconvex_segments": _num_nonconvex_segments(evaluator, points),
    }


@dataclass(frozen=True)
class _Neighborhood:
    """A point with its evaluated neighbors; none is better if `is_local_optimum`."""

    center: EvaluatedPoints
    num_improvements: int
    is_local_optimum: bool
    is_exhaustive: bool
    checked: np.ndarray
    """The design and its neighbors."""
    rows: np.ndarray
    """Exact objective and constraint values of `checked`."""

    @property
    def unit(self) -> np.ndarray:
        """Point of the design."""
        return self.checked[0]


def _improve_by_neighbors(
    evaluator: "_BatchEvaluator",
    space: SearchSpace,
    unit: np.ndarray,
    selection: tuple[int, float, int],
    should_end: Callable[[], bool],
) -> _Neighborhood:
    """Neighborhood after moves to the best neighbor until none is better, `MAX_MOVES` moves, or
    `should_end`, which leaves the neighbors of the last design unknown.

    `selection`: reach in steps, number of neighbors and seed.
    """
    reach, max_neighbors, seed = selection
    unit = space.snap_points(np.asarray(unit, float)[None])[0]
    for num_improvements in range(MAX_MOVES + 1):
        others, is_exhaustive = neighbors(
            space, unit, reach=reach, max_neighbors=int(max_neighbors), seed=seed
        )
        checked = np.concatenate((unit[None], others))
        rows = evaluator.exact(checked)
        evaluated = evaluated_points(checked, rows[:, 0], rows[:, 1:])
        center = evaluated.take(np.asarray([0]))
        is_local_optimum = evaluated.sort_key() >= center.sort_key()
        if is_local_optimum or num_improvements == MAX_MOVES:
            break
        best = evaluated.best_index()
        unit = checked[best]
        if should_end():
            order = np.append(best, np.delete(np.arange(len(checked)), best))
            center, checked, rows = evaluated.take(order[:1]), checked[order], rows[order]
            num_improvements += 1
            break
    return _Neighborhood(center, num_improvements, is_local_optimum, is_exhaustive, checked, rows)


class _BatchEvaluator:
    """Objective and constraint values of many points, in batches of one shape. One compiled
    program serves the exact model, the relaxation, and relaxations of single sources."""

    def __init__(
        self,
        objective_fn: ObjectiveFn,
        space: SearchSpace,
        design: Any,
        batch: int,
        num_limits: int,
    ) -> None:
        choices = SearchSpace((), space.choices)
        num_dims = len(space.dimensions)

        def evaluate(values: Any, unit: Any, source_temperatures: Any) -> Any:
            there = choices.decode(unit, design)
            for i, dimension in enumerate(space.dimensions):
                there = set_path(there, dimension.path, values[i])
            source_temperatures = tuple(
                source_temperatures[i] for i in range(len(ROUNDING_SOURCES))
            )
            log_objective, broken = objective_fn(there, relaxed_by_source(source_temperatures))
            return jnp.concatenate((jnp.atleast_1d(log_objective), broken))

        self._program = quick_jit(jax.vmap(evaluate, in_axes=(0, 0, None)))
        self._space, self._num_dims, self._batch = space, num_dims, batch
        self._num_columns = 1 + num_limits
        self.num_evaluations = 0

    def exact(self, units: np.ndarray) -> np.ndarray:
        """Rows of objective and constraint values of the nearest rounded designs."""
        columns = [dim.rounded(units[:, i]) for i, dim in enumerate(self._space.dimensions)]
        return self._rows(columns, units, np.zeros(len(ROUNDING_SOURCES)))

    def relaxed(
        self, units: np.ndarray, source_temperatures: np.ndarray = ALL_SOURCES
    ) -> np.ndarray:
        """Rows at any points, with each rounding source relaxed by its temperature."""
        columns = [dim.value(units[:, i]) for i, dim in enumerate(self._space.dimensions)]
        return self._rows(columns, units, source_temperatures)

    def _rows(
        self, columns: list, units: np.ndarray, source_temperatures: np.ndarray
    ) -> np.ndarray:
        values = np.stack(columns, axis=1) if columns else np.zeros((len(units), 0))
        points = np.concatenate((values, units[:, self._num_dims :]), axis=1)
        rows = []
        for start in range(0, len(points), self._batch):
            part = points[start : start + self._batch]
            rest = jnp.asarray(padded(part, self._batch), float)
            found = self._program(
                rest[:, : self._num_dims], rest[:, self._num_dims :], source_temperatures
            )
            rows.append(np.asarray(found, np.float64)[: len(part)])
        self.num_evaluations += len(points)
        return np.concatenate(rows) if rows else np.empty((0, self._num_columns))


def _quantization_loss(
    evaluator: _BatchEvaluator, unit: np.ndarray, exact: float
) -> dict[str, float]:
    """ln(exact / relaxed objective): of all rounding sources under "all", and of each source
    alone. `exact` is the exact log objective of the point.

    Rounded-up tile counts are at least their quotients, so no loss is below zero if the objective
    increases with them.
    """
    found = {"all": float(exact - evaluator.relaxed(unit[None])[0, 0])}
    for index, source in enumerate(ROUNDING_SOURCES):
        alone = evaluator.relaxed(unit[None], np.eye(len(ROUNDING_SOURCES))[index])[0, 0]
        found[source] = float(exact - alone)
    return found


def _random_points(space: SearchSpace, unit: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Random points of the dimensions, with the choices of the design. Consecutive Sobol points
    are half a range apart and would give only long segments."""
    points = np.random.default_rng([seed, 0xCE27]).random((num, space.num_dims))
    points[:, len(space.dimensions) :] = np.asarray(unit)[len(space.dimensions) :]
    return points


def _num_nonconvex_segments(evaluator: _BatchEvaluator, points: np.ndarray) -> int:
    """Number of segments between pairs of points on which the relaxed objective is not midpoint
    convex, or a limit not quasi-convex. Without any, a stationary point is the global minimum.

    Source: Boyd and Vandenberghe, Convex Optimization, 2004, sections 3.4 and 4.2.
    """
    first, second = points[::2], points[1::2]
    values = [evaluator.relaxed(part) for part in (first, second, 0.5 * (first + second))]
    left, right, middle = values
    mean, largest = 0.5 * (left + right), np.maximum(left, right)
    is_nonconvex = middle[:, 0] > mean[:, 0] + CHECK_TOLERANCE
    is_not_quasiconvex = (middle[:, 1:] > largest[:, 1:] + CHECK_TOLERANCE).any(axis=1)
    return int((is_nonconvex | is_not_quasiconvex | ~np.isfinite(middle).all(axis=1)).sum())


def _elasticities(space: SearchSpace, unit: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """d ln(objective) / d ln(value) from slopes in the unit cube; zero for ranges of one point."""
    found = []
    for i, dim in enumerate(space.dimensions):
        value = float(dim.value(np.float64(unit[i])))
        width = np.log(dim.high / dim.low) * value if dim.scale == "log" else dim.high - dim.low
        found.append(float(slopes[i]) * value / width if width > 0.0 else 0.0)
    return np.asarray(found)


def _binding_constraints(
    evaluator: _BatchEvaluator,
    space: SearchSpace,
    unit: np.ndarray,
    elasticities: np.ndarray,
    limit_names: Sequence[str],
) -> tuple[str, ...]:
    """Constraint that stops each dimension one step further in the direction of improvement."""
    steps = [
        step_toward(space, unit, i, -float(np.sign(slope))) if abs(slope) >= FLAT else unit
        for i, slope in enumerate(elasticities)
    ]
    inside = [point for point in steps if point is not None]
    found = iter(evaluator.exact(np.reshape(inside, (len(inside), space.num_dims))))
    texts = []
    for i, point in enumerate(steps):
        if point is None:
            texts.append("upper range end" if elasticities[i] < 0.0 else "lower range end")
            continue
        values = next(found)
        names = [n for n, v in zip(limit_names, values[1:], strict=True) if v > ROUNDING]
        flat = abs(elasticities[i]) < FLAT
        texts.append("none" if flat else ", ".join(names) or "step size")
    return tuple(texts)
