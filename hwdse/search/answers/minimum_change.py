"""Least change of a few parameters that meets targets: sequential quadratic programs in logs.

The targets are read without rounding and with soft maxima that sharpen from stage to stage, since
the least change often lies where two maxima change hands, and there a true maximum has no slope.
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
"""Design and reading to ln(value / limit) of each target; above zero it is missed."""

TOLERANCE = 1e-7
"""Largest ln(value / limit) by which a relaxed solution may miss a target."""
RIDGE = 1e-6
"""Quadratic share of the sum of absolute changes, which has no curvature of its own."""
ACTIVE = 1e-5
"""A target is active when it is met with no more than this to spare."""


@dataclass(frozen=True)
class FreeParameter:
    """A parameter that may change: where from, how far, in what steps, and how dear a change is."""

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
    """The least change without rounding."""

    changes: np.ndarray
    """ln(value / base) of each parameter."""
    size: float
    """Weighted norm of the changes."""
    constraint_values: np.ndarray
    multipliers: np.ndarray
    """d size / d ln(target): what asking a little more of each target costs."""
    is_feasible: bool


@dataclass(frozen=True)
class ChangeNorm:
    """How far parameters are moved: a weighted norm of ln(value / base), and the box."""

    free: tuple[FreeParameter, ...]
    norm: str

    @property
    def weights(self) -> np.ndarray:
        """Weight of each parameter."""
        return np.asarray([part.weight for part in self.free])

    @property
    def low(self) -> np.ndarray:
        """Lower ends of the changes."""
        return np.asarray([np.log(part.low / part.base) for part in self.free])

    @property
    def high(self) -> np.ndarray:
        """Upper ends of the changes."""
        return np.asarray([np.log(part.high / part.base) for part in self.free])

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
    """The design with each parameter at base * exp(change)."""
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
        """Violations and their Jacobian; what is not finite counts as missed, without slope."""
        outcome = self._both(jnp.asarray(changes), self.sharpness, self.offsets)
        return finite_parts(outcome, 10.0)


def solve_relaxed(targets: RelaxedTargets, starts: np.ndarray) -> RelaxedSolution:
    """Least change from several starts, through the stages of sharpness.

    A start that the program leaves outside of a target goes on from the point that comes nearest
    to meeting all. Where none gets inside, the result is that nearest point: `is_feasible` is
    False and `multipliers` weigh the targets that stand against each other there.
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
    """Least change from `x` at the present sharpness, after getting inside where `x` is not."""
    best = _minimum_norm(targets, x)
    if targets(best)[0].max() <= TOLERANCE:
        return best
    inside = _least_violated(targets, x)
    again = _minimum_norm(targets, inside)
    if targets(again)[0].max() <= TOLERANCE:
        return again
    return min((best, inside, again), key=lambda y: targets(y)[0].max())


def _minimum_norm(targets: RelaxedTargets, x: np.ndarray) -> np.ndarray:
    """One sequential quadratic program for the size; l1 in the positive and negative parts."""
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
            bounds=[*((0.0, max(h, 0.0)) for h in high), *((0.0, max(-b, 0.0)) for b in low)],
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
    """Point of the box at which the most-missed target is missed least: min t with g <= t."""
    change = targets.change
    largest = float(targets(x)[0].max())
    result = scipy_minimize(
        lambda z: (z[-1], np.append(np.zeros(len(x)), 1.0)),
        np.append(x, largest),
        jac=True,
        method="SLSQP",
        # Far enough inside that the next program starts well, no further.
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
    r"""Non-negative least squares of $\nabla s + J^T \lambda = 0$ over the parameters that no bound
    holds; of the nearest point to being inside, weights of the targets that are missed most.

    Source: Karush, Kuhn, Tucker; Nocedal and Wright 2006, theorem 12.1.
    """
    is_active = values >= values.max() - ACTIVE if not is_feasible else values >= -ACTIVE
    multipliers = np.zeros(len(values))
    inner = (x > change.low + 1e-9) & (x < change.high - 1e-9)
    if change.norm == "l1":
        inner &= np.abs(x) > 1e-6  # a parameter that stays may have any slope between -w and w
    if not is_active.any() or not (inner.any() or not is_feasible):
        return multipliers
    if not is_feasible:
        scale = float(np.abs(slopes[is_active][:, inner]).max(initial=1e-12))
        rows = np.vstack((slopes[is_active][:, inner].T / scale, np.ones(int(is_active.sum()))))
        multipliers[is_active] = nnls(rows, np.append(np.zeros(int(inner.sum())), 1.0))[0]
        return multipliers
    multipliers[is_active] = nnls(slopes[is_active][:, inner].T, -change.slope(x)[inner])[0]
    return multipliers
