"""What an answer is worth: how far from the best it can be, what holds it, what rounding wastes.

None of it is claimed beyond what was checked: a lower bound is called one only where the relaxed
model lay below the exact one, and was convex, at every design and on every segment looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import ROUNDING_SOURCES, relaxed_by_source
from hwdse.search.descent.relaxed_optimum import RelaxedProblem, relaxed_optimum
from hwdse.search.evaluation.batch_evaluation import padded
from hwdse.search.evaluation.search_result import (
    ROUNDING,
    EvaluatedPoints,
    ObjectiveFn,
    evaluated_points,
)
from hwdse.search.neighborhood.neighbors import neighbors, step_toward
from hwdse.search.space.search_space import SearchSpace, set_path

MARGIN = 2e-3
"""Taken off a relaxed optimum: soft maxima of power 2048, a few in a row, and the solver's
tolerance; times one plus the sum of the multipliers, since limits are read as softly."""
NUM_SEGMENTS = 128
"""Random segments on which convexity is checked."""
CHECK_TOLERANCE = 1e-9
FLAT = 1e-3
"""Elasticities below this hold a parameter by themselves: the optimum lies inside its range."""
BATCH = 256
MAX_MOVES = 100
"""Moves to a better neighbor; each looks at all neighbors again."""
ALL_SOURCES = np.ones(len(ROUNDING_SOURCES))


@dataclass(frozen=True)
class OptimalityReport:
    """How good an answer is, at the alternatives and variants that it has."""

    unit: np.ndarray
    """The answer; where it `is_local_optimum`, no worse than any of its neighbors that were looked at."""
    log_objective: float
    constraint_values: np.ndarray
    num_improvements: int
    """Times that a better neighbor took its place."""
    is_local_optimum: bool
    """Whether no neighbor is better; else `MAX_MOVES` were made."""
    log_bound: float
    """No feasible design has a smaller log objective, as far as `passed_bound_checks` says; -inf: unknown."""
    passed_bound_checks: bool
    """Whether every check found the relaxed model below the exact one, and convex."""
    num_checked: int
    """Designs at which the relaxed reading was compared with the exact one."""
    num_bound_violations: int
    """Those at which it was above: with any, the bound is an estimate."""
    largest_bound_violation: float
    """By how much, as a logarithm."""
    num_segments: int
    num_nonconvex_segments: int
    """Segments on which the relaxed model is not convex: with any, the bound is an estimate."""
    num_neighbors: int
    is_exhaustive: bool
    """Whether these are all designs within the reach in steps."""
    elasticities: np.ndarray
    """d ln(objective) / d ln(value) of each dimension at the answer, nothing rounded."""
    bound_by: tuple[str, ...]
    """What holds each dimension: an end of its range, limits, rounding, or nothing."""
    multipliers: np.ndarray
    """Shadow prices -d ln(objective) / d ln(limit) at the relaxed optimum."""
    quantization_loss: Mapping[str, float]
    """ln(exact / relaxed objective) by what is rounded, and under "all" of everything."""
    num_evaluations: int
    """A gradient counts as three."""

    @property
    def optimality_gap(self) -> float:
        """How much better than the answer anything can be at most, as a share."""
        return float(1.0 - np.exp(min(self.log_bound - self.log_objective, 0.0)))


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
    max_iterations: int = 60,
    num_segments: int = NUM_SEGMENTS,
    batch: int = BATCH,
) -> OptimalityReport:
    """Neighborhood, bound, elasticities and prices of the answer `unit`, which is `design`.

    While a neighbor is better it takes the answer's place. The bound is the least relaxed
    objective found from the answer and `num_starts - 1` random starts, less `MARGIN`; it holds
    for the alternatives and variants of the answer. Points are judged in batches of `batch`. Runs
    in the float type in scope, which should be float64; the same for the same seed.
    """
    evaluator = _BatchEvaluator(objective_fn, space, design, batch)
    neighborhood = _improve_by_neighbors(evaluator, space, unit, reach, max_neighbors, seed)
    unit = neighborhood.unit
    points = _random_points(space, unit, 2 * num_segments, seed)
    num_dims = len(space.dimensions)
    problem = RelaxedProblem(objective_fn, space, space.decode_rounded(unit, design))
    starts = np.vstack((unit[None, :num_dims], points[: num_starts - 1, :num_dims]))
    optimum = relaxed_optimum(problem, starts, max_iterations=max_iterations)
    checked = np.concatenate((neighborhood.checked, space.snap_points(points)))
    exact, relaxed = evaluator.exact(checked), evaluator.relaxed(checked)
    bound_violation = np.where(np.isfinite(exact), relaxed - exact, 0.0).max(axis=1)
    num_bound_violations = int((bound_violation > CHECK_TOLERANCE).sum())
    num_nonconvex_segments = _num_nonconvex_segments(evaluator, points)
    elasticities = _elasticities(space, unit, problem(unit[:num_dims])[1][0])
    log_bound = optimum.log_objective - MARGIN * (1.0 + float(optimum.multipliers.sum()))
    return OptimalityReport(
        unit=unit,
        log_objective=float(neighborhood.center.log_objectives[0]),
        constraint_values=neighborhood.center.constraint_values[0],
        num_improvements=neighborhood.num_improvements,
        is_local_optimum=neighborhood.is_local_optimum,
        log_bound=log_bound if optimum.is_feasible else -np.inf,
        passed_bound_checks=optimum.is_feasible
        and num_bound_violations == num_nonconvex_segments == 0,
        num_checked=len(checked),
        num_bound_violations=num_bound_violations,
        largest_bound_violation=max(float(bound_violation.max()), 0.0),
        num_segments=num_segments,
        num_nonconvex_segments=num_nonconvex_segments,
        num_neighbors=neighborhood.num_neighbors,
        is_exhaustive=neighborhood.is_exhaustive,
        elasticities=elasticities,
        bound_by=_binding_constraints(evaluator, space, unit, elasticities, limit_names),
        multipliers=optimum.multipliers,
        quantization_loss=_quantization_loss(evaluator, unit),
        num_evaluations=evaluator.num_evaluations + 3 * problem.num_gradients,
    )


@dataclass(frozen=True)
class _Neighborhood:
    """An answer with its neighbors, none of which is better if it `is_local_optimum`."""

    unit: np.ndarray
    center: EvaluatedPoints
    num_improvements: int
    is_local_optimum: bool
    num_neighbors: int
    is_exhaustive: bool
    checked: np.ndarray
    """The answer and its neighbors."""


def _improve_by_neighbors(
    evaluator: "_BatchEvaluator",
    space: SearchSpace,
    unit: np.ndarray,
    reach: int,
    max_neighbors: int,
    seed: int,
) -> _Neighborhood:
    """Moves to the best neighbor until none is better, or `MAX_MOVES` times."""
    unit = space.snap_points(np.asarray(unit, float)[None])[0]
    for num_improvements in range(MAX_MOVES + 1):
        others, is_exhaustive = neighbors(
            space, unit, reach=reach, max_neighbors=max_neighbors, seed=seed
        )
        checked = np.concatenate((unit[None], others))
        rows = evaluator.exact(checked)
        evaluated = evaluated_points(checked, rows[:, 0], rows[:, 1:])
        index = evaluated.best_index()
        center = evaluated.take(np.asarray([0]))
        is_local_optimum = evaluated.sort_key() >= center.sort_key()
        if is_local_optimum or num_improvements == MAX_MOVES:
            break
        unit = checked[index]
    return _Neighborhood(
        unit, center, num_improvements, is_local_optimum, len(others), is_exhaustive, checked
    )


class _BatchEvaluator:
    """Objective and violations of many points, in batches of one shape: one compiled program for
    the exact reading, the relaxed one, and any in between."""

    def __init__(
        self, objective_fn: ObjectiveFn, space: SearchSpace, design: Any, batch: int
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
        self.num_evaluations = 0

    def exact(self, units: np.ndarray) -> np.ndarray:
        """Rows of objective and violations of the nearest buildable designs."""
        columns = [dim.rounded(units[:, i]) for i, dim in enumerate(self._space.dimensions)]
        return self._rows(columns, units, np.zeros(len(ROUNDING_SOURCES)))

    def relaxed(
        self, units: np.ndarray, source_temperatures: np.ndarray = ALL_SOURCES
    ) -> np.ndarray:
        """The same with the roundings relaxed by a share each, at any points."""
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
        return np.concatenate(rows)


def _quantization_loss(evaluator: _BatchEvaluator, unit: np.ndarray) -> dict[str, float]:
    """ln(exact / relaxed objective): of all roundings together under "all", and of each source
    alone. Whole tiles are more than shares of tiles, so none is below zero where the objective
    grows with them."""
    exact = evaluator.exact(unit[None])[0, 0]
    found = {"all": float(exact - evaluator.relaxed(unit[None])[0, 0])}
    for index, source in enumerate(ROUNDING_SOURCES):
        alone = evaluator.relaxed(unit[None], np.eye(len(ROUNDING_SOURCES))[index])[0, 0]
        found[source] = float(exact - alone)
    return found


def _random_points(space: SearchSpace, unit: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Random points of the dimensions, with the choices of the answer; not Sobol points, of which
    each lies half a range from the next."""
    points = np.random.default_rng([seed, 0xCE27]).random((num, space.num_dims))
    points[:, len(space.dimensions) :] = np.asarray(unit)[len(space.dimensions) :]
    return points


def _num_nonconvex_segments(evaluator: _BatchEvaluator, points: np.ndarray) -> int:
    """Segments between pairs of points on which the relaxed objective is not midpoint convex, or
    a limit not quasi-convex; a stationary point is the best one where neither happens.

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
    """d ln(objective) / d ln(value) from slopes in the unit cube; zero of ranges of one point."""
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
    """What stops each dimension from going one step further the way its elasticity points."""
    steps = [
        step_toward(space, unit, i, -float(np.sign(slope))) if abs(slope) >= FLAT else unit
        for i, slope in enumerate(elasticities)
    ]
    inside = [np.asarray(unit), *(point for point in steps if point is not None)]
    found = iter(evaluator.exact(np.stack(inside))[1:])
    texts = []
    for i, point in enumerate(steps):
        if point is None:
            texts.append("upper end of its range" if elasticities[i] < 0.0 else "lower end")
            continue
        values = next(found)
        names = [n for n, v in zip(limit_names, values[1:], strict=True) if v > ROUNDING]
        flat = abs(elasticities[i]) < FLAT
        texts.append("nothing: flat here" if flat else ", ".join(names) or "rounding")
    return tuple(texts)
