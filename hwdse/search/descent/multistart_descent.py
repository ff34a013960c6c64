"""Multi-start descent of the smooth reading with constraints: one compiled loop for all starts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from hwdse.numerics.array_types import PerConstraint, PerDim, PerPoint, PointsByDims, Scalar
from hwdse.numerics.jit_compile import search_jit
from hwdse.numerics.relaxation import smooth
from hwdse.search.descent.optimizers import make_optimizer
from hwdse.search.space.search_space import SearchSpace

PerChoice = Float[jax.Array, " choices"]

PENALTY_CURVATURE = 5.0
"""rho of the augmented Lagrangian: at 10 % over a limit the price is `multiplier` + 0.5."""
FIRST_MULTIPLIER = 3.0
"""Dearer than most limits are, so that starts settle inside them; tuned on the same toys."""
NUM_MULTIPLIER_UPDATES = 4
LONG_UPDATE_STEPS = 10
"""Long descents update more often than that, so that the multipliers converge."""
ANNEALED_FRACTION = 0.75
"""Share of the steps in which the temperature falls from 1 to 0."""
LOGIT_BOUND = 4.5
"""Steps stay inside, a little beyond the ends of the range: farther out there is no slope to come
back with."""
STRETCH = 1.04
"""The sigmoid is stretched beyond the unit interval and cut off at its ends: a range's end can be
the best there is, as a tile of a whole operator, which 0.999 of it misses by a second part."""


class DescentResult(NamedTuple):
    """Where starts ended: arrays with the start as first axis."""

    units: PointsByDims
    log_objectives: PerPoint
    """Smooth reading at temperature zero, before the last step (5 % of the first in length):
    the value after it would double what is compiled."""
    multipliers: Any
    """Starts by constraints."""
    is_missing: bool = False
    """Whether nothing descended, for want of time."""


def without_descent(starts: Any, num_constraints: int) -> DescentResult:
    """The starts as they are, for a search whose time is up."""
    unknown = np.full(len(starts), np.nan)
    return DescentResult(starts, unknown, np.zeros((len(starts), num_constraints)), True)


def _lagrangian(
    log_objective: Scalar, constraint_values: PerConstraint, multipliers: PerConstraint
) -> Scalar:
    r"""Augmented Lagrangian of inequality constraints $g \le 0$.

    $f + \sum_c [\max(0, \lambda_c + \rho g_c)^2 - \lambda_c^2] / (2 \rho)$.
    Source: Nocedal and Wright, Numerical Optimization, 2nd ed., equation 17.64.
    """
    shifted = jnp.maximum(multipliers + PENALTY_CURVATURE * constraint_values, 0.0)
    return log_objective + jnp.sum(shifted**2 - multipliers**2) / (2.0 * PENALTY_CURVATURE)


@dataclass(frozen=True)
class _RelaxedObjective:
    """The smooth reading as a function of logits; `fixed` holds the coordinates of the choices."""

    objective_fn: Callable[..., tuple[Scalar, PerConstraint]]
    space: SearchSpace
    base: Any

    def value(
        self, logits: PerDim, fixed: PerChoice, temperature: Scalar, scalarization: tuple[Any, ...]
    ) -> Any:
        """Unit cube point, log objective and violations."""
        unit = jnp.concatenate((_unit_of(logits), fixed))
        return unit, *self.objective_fn(
            self.space.decode(unit, self.base), smooth(temperature), *scalarization
        )

    def slope(
        self,
        logits: PerDim,
        fixed: PerChoice,
        multipliers: PerConstraint,
        temperature: Scalar,
        scalarization: tuple[Any, ...],
    ) -> tuple[PerDim, Scalar, PerConstraint]:
        """Gradient of the Lagrangian, zero where it is not finite; objective and violations."""

        def loss(logits: PerDim):
            _, log_objective, constraint_values = self.value(
                logits, fixed, temperature, scalarization
            )
            return _lagrangian(log_objective, constraint_values, multipliers), (
                log_objective,
                constraint_values,
            )

        gradient, outcome = jax.grad(loss, has_aux=True)(logits)
        return jnp.where(jnp.isfinite(gradient), gradient, 0.0), *outcome


@partial(
    search_jit,
    static_argnames=(
        "objective_fn",
        "space",
        "num_steps",
        "num_constraints",
        "optimizer",
        "schedule",
    ),
)
def descend(
    units: PointsByDims,
    base: Any,
    learning_rate: Scalar,
    scalarizations: tuple[Any, ...] = (),
    *,
    objective_fn: Callable[..., tuple[Scalar, PerConstraint]],
    space: SearchSpace,
    num_steps: int,
    num_constraints: int,
    optimizer: str = "adam",
    schedule: str = "cosine",
) -> DescentResult:
    """Descent in logit space from every start at once; coordinates of choices stay where they are.

    `scalarizations` hold one row for each start, which the score gets after design and reading: so starts
    may have objectives of their own.

    The temperature falls linearly to zero over three quarters of the steps, and the multipliers
    are updated four times or every 10 steps. A bad start stays by itself.
    """
    relaxed = _RelaxedObjective(objective_fn, space, base)
    update_rule = make_optimizer(optimizer, schedule, num_steps)
    inner, fixed = jnp.split(units, [len(space.dimensions)], axis=1)

    def step(
        carry: Any, fixed: PerChoice, step_index: Scalar, scalarization: tuple[Any, ...]
    ) -> Any:
        logits, state, multipliers, _ = carry
        temperature = jnp.maximum(1.0 - step_index / (ANNEALED_FRACTION * num_steps), 0.0)
        gradient, log_objective, constraint_values = relaxed.slope(
            logits, fixed, multipliers, temperature, scalarization
        )
        updates, state = update_rule.update(gradient, state, logits)
        moved = logits + learning_rate * jnp.asarray(updates)
        is_due = (step_index + 1.0) % _update_period(num_steps) == 0.0
        multipliers = jnp.where(is_due, _updated(multipliers, constraint_values), multipliers)
        moved = jnp.clip(moved, -LOGIT_BOUND, LOGIT_BOUND)
        return moved, state, multipliers, log_objective

    def step_all(carry: Any, step_index: Scalar) -> tuple[Any, None]:
        return jax.vmap(step, in_axes=(0, 0, None, 0))(
            carry, fixed, step_index, scalarizations
        ), None

    logits = _logits_of(inner)
    multipliers = jnp.full((len(units), num_constraints), FIRST_MULTIPLIER, units.dtype)
    carry = (logits, jax.vmap(update_rule.init)(logits), multipliers, 0.0 * logits.sum(axis=1))
    # Starts side by side within a step, not steps within a start: tracing then maps once.
    carry = jax.lax.scan(step_all, carry, jnp.arange(num_steps, dtype=units.dtype))[0]
    logits, _, multipliers, log_objectives = carry
    return DescentResult(
        jnp.concatenate((_unit_of(logits), fixed), axis=1), log_objectives, multipliers
    )


def _unit_of(logits: Any) -> Any:
    """Unit coordinates of logits; the ends of the range are reached, and have a slope."""
    stretched = 0.5 + STRETCH * (jax.nn.sigmoid(logits) - 0.5)
    return stretched + jax.lax.stop_gradient(jnp.clip(stretched, 0.0, 1.0) - stretched)


def _logits_of(units: Any) -> Any:
    """Inverse of `_unit_of`."""
    return jax.scipy.special.logit(0.5 + (jnp.clip(units, 0.0, 1.0) - 0.5) / STRETCH)


def _update_period(num_steps: int) -> int:
    return min(max(num_steps // NUM_MULTIPLIER_UPDATES, 1), LONG_UPDATE_STEPS)


def _updated(multipliers: PerConstraint, constraint_values: PerConstraint) -> PerConstraint:
    """First-order update, Nocedal and Wright equation 17.67; not finite: as before."""
    updated = jnp.maximum(multipliers + PENALTY_CURVATURE * constraint_values, 0.0)
    return jnp.where(jnp.isfinite(updated), updated, multipliers)
