"""Minimum of the continuous relaxation, without rounding, by sequential quadratic programming."""

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

FEASIBLE = 1e-6
"""ln(value / limit) by which a relaxed optimum may violate a limit."""
ACTIVE = 1e-4
"""A limit is active if ln(value / limit) is above minus this value."""
AT_BOUND = 1e-6
"""Distance from the end of a range, in unit coordinates, below which a coordinate is at the
bound."""


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
    is_feasible: bool
    num_gradients: int


class RelaxedProblem:
    """Objective and constraint values of the continuous relaxation with their slopes, compiled
    once.

    `design` fixes the choices and variants; the dimensions of `space` vary, without their steps.
    """

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
        self._last: tuple[Any, Any] = (None, None)

    def __call__(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objective and constraint values, and the Jacobian; non-finite values become large, with
        zero slope."""
        key = (np.asarray(unit, float).tobytes(), self.sharpness)
        if self._last[0] != key:
            found = finite_parts(self._both(jnp.asarray(unit, float), self.sharpness), 1e3)
            self._last, self.num_gradients = (key, found), self.num_gradients + 1
        return self._last[1]


def relaxed_optimum(
    problem: RelaxedProblem, starts: np.ndarray, *, max_iterations: int = 60
) -> RelaxedOptimum:
    """Smallest relaxed objective found from some starts.

    The smooth maxima are sharpened in stages from the best result of the starts.
    """
    problem.sharpness = SHARPNESS[0]
    candidates = []
    for start in starts:
        candidate = _sequential_quadratic_program(problem, np.asarray(start, float), max_iterations)
        largest_violation = max(float(problem(candidate)[0][1:].max(initial=0.0)), FEASIBLE)
        candidates.append((largest_violation, problem(candidate)[0][0], candidate))
    unit = min(candidates, key=lambda candidate: candidate[:2])[2]
    for problem.sharpness in SHARPNESS[1:]:
        unit = _sequential_quadratic_program(problem, unit, max_iterations)
    values, slopes = problem(unit)
    return RelaxedOptimum(
        unit=unit,
        log_objective=float(values[0]),
        multipliers=multipliers(unit, values[1:], slopes[0], slopes[1:]),
        slopes=slopes[0],
        is_feasible=bool(values[1:].max(initial=0.0) <= FEASIBLE),
        num_gradients=problem.num_gradients,
    )


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
    candidates = [unit, np.clip(result.x, 0.0, 1.0)]
    violations = [max(float(problem(u)[0][1:].max(initial=0.0)), FEASIBLE) for u in candidates]
    return candidates[int(np.lexsort(([problem(u)[0][0] for u in candidates], violations))[0])]


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
