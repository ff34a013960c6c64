"""Minimum of the continuous relaxation, without rounding, by sequential quadratic programming."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import nnls

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import relaxed_smooth_max
from hwdse.search.evaluation.search_result import ObjectiveFn
from hwdse.search.space.search_space import SearchSpace

FEASIBLE = 1e-4
"""ln(value / limit) by which a relaxed optimum may violate a limit. SLSQP ends at some 1e-5. A
larger range lowers the optimum, so it remains a bound."""
ACTIVE = 1e-4
"""A limit is active if ln(value / limit) is above minus this value."""
AT_BOUND = 1e-6
"""Distance from the end of a range, in unit coordinates, below which a coordinate is at the
bound."""
MAX_ITERATIONS = 30
"""Iterations of one sequential quadratic program, some 200 gradients. With 60 the reference job
needs 3,000 gradients in place of 1,200, and its optimum is no lower."""

START_SHARE = 0.25
"""Fraction of the gradients after which no further start is tried: two stages follow."""


@dataclass(frozen=True)
class RelaxedOptimum:
    """Minimum of the relaxed objective, with smooth maxima of power 2048."""

    unit: np.ndarray
    """Coordinates of the dimensions; choices are fixed."""
    log_objective: float
    multipliers: np.ndarray
    """Shadow prices -d ln(objective) / d ln(limit)."""
    slopes: np.ndarray
    """d ln(objective) / d unit coordinate."""
    largest_violation: float
    """Largest ln(value / limit); above `FEASIBLE`, no start led to a point within the limits."""
    is_complete: bool
    """False if the gradients were spent before the last stage."""

    @property
    def is_feasible(self) -> bool:
        """True if the limits are met up to `FEASIBLE`."""
        return self.largest_violation <= FEASIBLE


class GradientsSpentError(Exception):
    """Raised by `RelaxedProblem` for a point beyond its number of gradients, or its time."""


class RelaxedProblem:
    """Objective and constraint values of the continuous relaxation with their slopes, compiled
    once.

    `design` fixes the choices and variants; the dimensions of `space` vary, without their steps.
    A point is computed once per sharpness. `max_gradients` bounds their number, and none is
    computed once `should_stop` returns True.
    """

    max_gradients: float = math.inf
    should_stop: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, objective_fn: ObjectiveFn, space: SearchSpace, design: Any) -> None:
        inner = SearchSpace(space.dimensions)

        def value(unit: Any, sharpness: Any) -> Any:
            log_objective, broken = objective_fn(
                inner.decode(unit, design), relaxed_smooth_max(sharpness)
            )
            return jnp.concatenate((jnp.atleast_1d(log_objective), broken))

        self._both = with_jacobian(value)
        self.num_dims = len(space.dimensions)
        self.sharpness = SHARPNESS[-1]
        self.num_gradients = 0
        self._known: dict[tuple[bytes, float], tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objective and constraint values, and the Jacobian; non-finite values become large, with
        zero slope."""
        key = (np.asarray(unit, float).tobytes(), self.sharpness)
        if key not in self._known:
            if self.num_gradients >= self.max_gradients or self.should_stop():
                raise GradientsSpentError
            found = finite_parts(self._both(jnp.asarray(unit, float), self.sharpness), 1e3)
            self._known[key], self.num_gradients = found, self.num_gradients + 1
        return self._known[key]

    def sort_key(self, unit: np.ndarray) -> tuple[float, float]:
        """Violation beyond `FEASIBLE` and objective of a point; smaller is better."""
        values = self(unit)[0]
        return max(_largest_violation(values), FEASIBLE), float(values[0])

    def best_known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Best computed point of the present sharpness, its values and its Jacobian."""
        found = [
            (max(_largest_violation(values), FEASIBLE), float(values[0]), unit)
            for (unit, sharpness), (values, _) in self._known.items()
            if sharpness == self.sharpness
        ]
        if not found:
            return None
        unit = min(found)[2]
        return np.frombuffer(unit, float), *self._known[unit, self.sharpness]


def relaxed_optimum(
    problem: RelaxedProblem, starts: np.ndarray, *, max_iterations: int = MAX_ITERATIONS
) -> RelaxedOptimum | None:
    """Smallest relaxed objective found from some starts; None without a gradient for one point.

    The smooth maxima are sharpened in stages from the best result of the starts; some starts are
    left out if there are few gradients. If the gradients end before the last stage, the result is
    the best point at the sharpness reached.
    """
    is_complete = True
    try:
        problem.sharpness = SHARPNESS[0]
        candidates: list[np.ndarray] = []
        for start in starts:
            if candidates and problem.num_gradients > START_SHARE * problem.max_gradients:
                break
            start = np.asarray(start, float)
            candidates.append(_sequential_quadratic_program(problem, start, max_iterations))
        unit = min(candidates, key=problem.sort_key)
        for problem.sharpness in SHARPNESS[1:]:
            unit = _sequential_quadratic_program(problem, unit, max_iterations)
        found = (unit, *problem(unit))
    except GradientsSpentError:
        is_complete = False
        found = problem.best_known()
    if found is None:
        return None
    unit, values, slopes = found
    return RelaxedOptimum(
        unit=unit,
        log_objective=float(values[0]),
        multipliers=multipliers(unit, values[1:], slopes[0], slopes[1:]),
        slopes=slopes[0],
        largest_violation=_largest_violation(values),
        is_complete=is_complete,
    )


def _largest_violation(values: np.ndarray) -> float:
    return float(values[1:].max(initial=0.0))


def _sequential_quadratic_program(
    problem: RelaxedProblem, unit: np.ndarray, max_iterations: int
) -> np.ndarray:
    """Better of the start and the result of SLSQP, by violation, then objective."""
    if not len(unit):
        return unit
    constraints = {
        "type": "ineq",
        "fun": lambda u: -problem(u)[0][1:],
        "jac": lambda u: -problem(u)[1][1:],
    }
    result = scipy_minimize(
        lambda u: (problem(u)[0][0], problem(u)[1][0]),
        unit,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(unit),
        constraints=constraints if len(problem(unit)[0]) > 1 else (),
        options={"maxiter": max_iterations, "ftol": 1e-10},
    )
    return min((unit, np.clip(result.x, 0.0, 1.0)), key=problem.sort_key)


def multipliers(
    unit: np.ndarray, constraint_values: np.ndarray, slope: np.ndarray, slopes: np.ndarray
) -> np.ndarray:
    r"""Non-negative least squares of $\nabla f + J^T \lambda = 0$ over coordinates inside their
    range.

    $\lambda = 0$ for inactive limits. Source: Nocedal and Wright 2006, theorem 12.1.
    """
    prices = np.zeros(len(constraint_values))
    is_active = constraint_values >= -ACTIVE
    inner = (unit > AT_BOUND) & (unit < 1.0 - AT_BOUND)
    if is_active.any() and inner.any():
        prices[is_active] = nnls(slopes[is_active][:, inner].T, -slope[inner])[0]
    return prices


SHARPNESS = (16.0, 128.0, 1024.0)
"""Stages of the smooth maxima, as powers 32, 256 and 2048: the last is at most 0.034 % above the
maximum."""


def with_jacobian(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Compiled function that returns a vector function and its Jacobian with respect to the first
    argument."""

    def both(point: Any, *rest: Any) -> tuple[Any, Any]:
        values, pull = jax.vjp(lambda x: function(x, *rest), point)
        return values, jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))[0]

    return quick_jit(both)


def finite_parts(outcome: tuple[Any, Any], bad_value: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and Jacobian on the host; non-finite values become `bad_value`, with zero slope."""
    values, slopes = (np.asarray(part, float) for part in outcome)
    is_bad = ~np.isfinite(values) | ~np.isfinite(slopes).all(axis=1)
    return np.where(is_bad, bad_value, values), np.where(is_bad[:, None], 0.0, slopes)
