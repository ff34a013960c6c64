"""Minimum-norm change of some parameters that meets targets, by sequential quadratic programming
in logarithms.

Targets are evaluated with the continuous relaxation, with smooth maxima that sharpen in stages.
The minimum often lies where two arguments of a maximum are equal, and there the exact maximum has
no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import nnls

from hwdse.numerics.relaxation import relaxed_smooth_max
from hwdse.search.descent.relaxed_optimum import SHARPNESS, finite_parts, with_jacobian
from hwdse.search.space.search_space import set_path

ConstraintsFn = Callable[[Any, Any], Any]
"""Maps design and relaxation to ln(value / limit) of each target; above zero where missed."""

TOLERANCE = 1e-7
"""Largest ln(value / limit) by which a relaxed solution may miss a target."""
RIDGE = 1e-6
"""Weight of a quadratic term added to the sum of absolute changes, which has no curvature."""
ACTIVE = 1e-5
"""A target is active if it is met by no more than this value."""


@dataclass(frozen=True)
class FreeParameter:
    """Parameter of a target solve: base value, range, step and cost weight of its change."""

    path: str
    base: float
    low: float
    high: float
    step: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.base <= self.high or not self.weight > 0.0:
            raise ValueError(f"{self.path}: needs 0 < low <= base <= high, and a weight above 0")


@dataclass(frozen=True)
class RelaxedSolution:
    """Minimum-norm change without rounding."""

    changes: np.ndarray
    """ln(value / base) of each parameter."""
    size: float
    """Weighted norm of the changes."""
    constraint_values: np.ndarray
    multipliers: np.ndarray
    """d size / d ln(target): marginal change per target."""
    is_feasible: bool


@dataclass(frozen=True)
class ChangeNorm:
    """Weighted norm of the changes ln(value / base), and their bounds."""

    free: tuple[FreeParameter, ...]
    norm: str
    fixed: tuple[tuple[int, float], ...] = ()
    """Index and change of each parameter that must not vary."""

    @property
    def weights(self) -> np.ndarray:
        """Weight of each parameter."""
        return np.asarray([part.weight for part in self.free])

    @property
    def low(self) -> np.ndarray:
        """Lower bounds of the changes."""
        return self._bounds([np.log(part.low / part.base) for part in self.free])

    @property
    def high(self) -> np.ndarray:
        """Upper bounds of the changes."""
        return self._bounds([np.log(part.high / part.base) for part in self.free])

    def _bounds(self, changes: list[Any]) -> np.ndarray:
        bounds = np.asarray(changes, float)
        for index, change in self.fixed:
            bounds[index] = change
        return bounds

    def size(self, changes: np.ndarray) -> Any:
        r"""$\sqrt{\sum_i (w_i x_i)^2}$ (l2) or $\sum_i w_i |x_i|$ (l1) along the last axis."""
        weighted = np.abs(np.asarray(changes) * self.weights)
        return weighted.sum(axis=-1) if self.norm == "l1" else np.sqrt((weighted**2).sum(axis=-1))

    def slope(self, changes: np.ndarray) -> np.ndarray:
        """Gradient of the size."""
        if self.norm == "l1":
            return self.weights * np.sign(changes)
        size = self.size(changes)
        return self.weights**2 * changes / size if size > 0.0 else np.zeros(len(changes))


def moved(base: Any, free: Sequence[FreeParameter], changes: Any) -> Any:
    """Design with each parameter at base * exp(change)."""
    for i, part in enumerate(free):
        base = set_path(base, part.path, part.base * jnp.exp(changes[i]))
    return base


class RelaxedTargets:
    """Values and slopes of the relaxed targets, compiled once."""

    def __init__(self, constraints_fn: ConstraintsFn, base: Any, change: ChangeNorm) -> None:
        def value(changes: Any, sharpness: Any, offsets: Any) -> Any:
            design = moved(base, change.free, changes)
            return constraints_fn(design, relaxed_smooth_max(sharpness)) + offsets

        self._both = with_jacobian(value)
        self.change = change
        self.sharpness = SHARPNESS[-1]
        self.offsets: np.ndarray = np.zeros(())

    def __call__(self, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Target values and their Jacobian; non-finite values count as missed, with zero slope."""
        outcome = self._both(jnp.asarray(changes), self.sharpness, self.offsets)
        return finite_parts(outcome, 10.0)


def solve_relaxed(targets: RelaxedTargets, starts: np.ndarray) -> RelaxedSolution:
    """Minimum-norm change from several starts, through the stages of sharpness.

    If the program ends outside a target, it continues from the point with the smallest largest
    violation. If no start becomes feasible, that point is the result: `is_feasible` is False, and
    `multipliers` weight the conflicting targets.
    """
    found = []
    for start in starts:
        x = start
        for targets.sharpness in SHARPNESS:
            x = _solve_stage(targets, x)
        found.append((float(max(targets(x)[0].max(), TOLERANCE)), targets.change.size(x), x))
    inside = [item for item in found if item[0] <= TOLERANCE]
    if inside:
        return _solution_at(targets, min(inside, key=lambda item: item[1])[2], True)
    nearest = min((item for item in found), key=lambda item: (item[0], item[1]))[2]
    return _solution_at(targets, _least_violated(targets, nearest), False)


def _solve_stage(targets: RelaxedTargets, x: np.ndarray) -> np.ndarray:
    """Minimum-norm change from `x` at the present sharpness, with a feasibility step if `x` is
    infeasible."""
    best = _minimum_norm(targets, x)
    if targets(best)[0].max() <= TOLERANCE:
        return best
    inside = _least_violated(targets, x)
    again = _minimum_norm(targets, inside)
    if targets(again)[0].max() <= TOLERANCE:
        return again
    return min((best, inside, again), key=lambda y: targets(y)[0].max())


def _minimum_norm(targets: RelaxedTargets, x: np.ndarray) -> np.ndarray:
    """Result of one sequential quadratic program for the size; l1 by positive and negative
    parts."""
    change = targets.change
    low, high, weights = change.low, change.high, change.weights
    if change.norm == "l1":
        n = len(x)

        def join(z: np.ndarray) -> np.ndarray:
            return z[:n] - z[n:]

        double = np.concatenate((weights, weights))
        result = scipy_minimize(
            lambda z: (double @ z + 0.5 * RIDGE * z @ z, double + RIDGE * z),
            np.concatenate((np.maximum(x, 0.0), np.maximum(-x, 0.0))),
            jac=True,
            method="SLSQP",
            bounds=[
                *((max(b, 0.0), max(h, 0.0)) for b, h in zip(low, high, strict=True)),
                *((max(-h, 0.0), max(-b, 0.0)) for b, h in zip(low, high, strict=True)),
            ],
            constraints={
                "type": "ineq",
                "fun": lambda z: -targets(join(z))[0],
                "jac": lambda z: np.concatenate((-targets(join(z))[1], targets(join(z))[1]), 1),
            },
            options={"maxiter": 200, "ftol": 1e-14},
        )
        return np.clip(join(result.x), low, high)
    result = scipy_minimize(
        lambda y: (0.5 * np.sum((weights * y) ** 2), weights**2 * y),
        x,
        jac=True,
        method="SLSQP",
        bounds=list(zip(low, high, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda y: -targets(y)[0],
            "jac": lambda y: -targets(y)[1],
        },
        options={"maxiter": 200, "ftol": 1e-16},
    )
    return np.clip(result.x, low, high)


def _least_violated(targets: RelaxedTargets, x: np.ndarray) -> np.ndarray:
    """Point within the bounds with the smallest largest violation: min t with g <= t."""
    change = targets.change
    largest = float(targets(x)[0].max())
    result = scipy_minimize(
        lambda z: (z[-1], np.append(np.zeros(len(x)), 1.0)),
        np.append(x, largest),
        jac=True,
        method="SLSQP",
        # Slightly inside the targets, as a good start of the next program.
        bounds=[*zip(change.low, change.high, strict=True), (-0.1, None)],
        constraints={
            "type": "ineq",
            "fun": lambda z: z[-1] - targets(z[:-1])[0],
            "jac": lambda z: np.column_stack(
                (-targets(z[:-1])[1], np.ones(len(targets(z[:-1])[0])))
            ),
        },
        options={"maxiter": 200, "ftol": 1e-12},
    )
    inside = np.clip(result.x[:-1], change.low, change.high)
    return inside if targets(inside)[0].max() <= largest else x


def _solution_at(targets: RelaxedTargets, x: np.ndarray, is_feasible: bool) -> RelaxedSolution:
    values, slopes = targets(x)
    return RelaxedSolution(
        changes=x,
        size=float(targets.change.size(x)),
        constraint_values=values,
        multipliers=_multipliers(targets.change, x, values, slopes, is_feasible),
        is_feasible=is_feasible,
    )


def _multipliers(
    change: ChangeNorm, x: np.ndarray, values: np.ndarray, slopes: np.ndarray, is_feasible: bool
) -> np.ndarray:
    r"""Non-negative least squares of $\nabla s + J^T \lambda = 0$ over the parameters inside their
    bounds. At an infeasible point: weights of the most violated targets.

    Source: Karush, Kuhn, Tucker; Nocedal and Wright 2006, theorem 12.1.
    """
    is_active = values >= values.max() - ACTIVE if not is_feasible else values >= -ACTIVE
    multipliers = np.zeros(len(values))
    inner = (x > change.low + 1e-9) & (x < change.high - 1e-9)
    if change.norm == "l1":
        inner &= np.abs(x) > 1e-6  # an unchanged parameter may have any slope from -w to w
    if not is_active.any() or not (inner.any() or not is_feasible):
        return multipliers
    if not is_feasible:
        scale = float(np.abs(slopes[is_active][:, inner]).max(initial=1e-12))
        rows = np.vstack((slopes[is_active][:, inner].T / scale, np.ones(int(is_active.sum()))))
        multipliers[is_active] = nnls(rows, np.append(np.zeros(int(inner.sum())), 1.0))[0]
        return multipliers
    multipliers[is_active] = nnls(slopes[is_active][:, inner].T, -change.slope(x)[inner])[0]
    return multipliers
