"""Multi-start descent of the smooth relaxation under constraints: one compiled loop for all
starts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from hwdse.numerics.array_types import PerConstraint, PerDim, PerPoint, PointsByDims, Scalar
from hwdse.numerics.jit_compile import search_jit
from hwdse.numerics.relaxation import smooth
from hwdse.search.descent.optimizers import make_optimizer
from hwdse.search.space.search_space import SearchSpace

PerChoice = Float[jax.Array, " choices"]

PENALTY_CURVATURE = 5.0
"""rho of the augmented Lagrangian: at 10 % over a limit the multiplier rises by 0.5."""
FIRST_MULTIPLIER = 3.0
"""Initial multiplier, above most shadow prices, so that starts converge to feasible points; tuned
on the test problems."""
NUM_MULTIPLIER_UPDATES = 4
LONG_UPDATE_STEPS = 10
"""Maximum steps between updates, so that the multipliers converge in long descents."""
ANNEALED_FRACTION = 0.75
"""Fraction of the steps in which the temperature falls from 1 to 0."""
LOGIT_BOUND = 4.5
"""Bound of the logits, slightly beyond the ends of the range. The slope vanishes farther out."""
STRETCH = 1.04
"""Stretch of the sigmoid beyond the unit interval, whose ends are then clipped.

The end of a range can be the optimum, as a tile that covers a whole operator. At 0.999 of the
range that tile would need a second part.
"""


class DescentResult(NamedTuple):
    """Final points of the starts: arrays with the start as first axis."""

    units: PointsByDims
    log_objectives: PerPoint
    """Smooth relaxation at temperature zero, before the last step (5 % of the first in length).
    The value after it would double the compiled program."""
    multipliers: Any
    """Starts by constraints."""


def _lagrangian(
    log_objective: Scalar, constraint_values: PerConstraint, multipliers: PerConstraint
) -> Scalar:
    r"""Augmented Lagrangian of inequality constraints $g \le 0$.

    $f + \sum_c [\max(0, \lambda_c + \rho g_c)^2 - \lambda_c^2] / (2 \rho)$. Source: Nocedal and
    Wright, Numerical Optimization, 2nd ed., equation 17.64.
    """
    shifted = jnp.maximum(multipliers + PENALTY_CURVATURE * constraint_values, 0.0)
    return log_objective + jnp.sum(shifted**2 - multipliers**2) / (2.0 * PENALTY_CURVATURE)


@dataclass(frozen=True)
class _RelaxedObjective:
    """Smooth relaxation as a function of logits; `fixed` contains the coordinates of the
    choices."""

    objective_fn: Callable[..., tuple[Scalar, PerConstraint]]
    space: SearchSpace
    base: Any

    def value(
        self, logits: PerDim, fixed: PerChoice, temperature: Scalar, scalarization: tuple[Any, ...]
    ) -> Any:
        """Unit cube point, log objective and constraint values."""
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
        """Gradient of the Lagrangian, zero where not finite; log objective and constraint
        values."""

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
    """Descent in logit space from all starts at once; coordinates of choices are constant.

    `scalarizations` have one row per start, passed to the objective after design and relaxation,
    so that starts may have different objectives. The temperature falls linearly to zero over three
    quarters of the steps. The multipliers are updated four times or every 10 steps. Starts are
    independent: a NaN in one does not affect the others.
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
    # vmap over starts inside scan over steps: tracing then maps once.
    carry = jax.lax.scan(step_all, carry, jnp.arange(num_steps, dtype=units.dtype))[0]
    logits, _, multipliers, log_objectives = carry
    return DescentResult(
        jnp.concatenate((_unit_of(logits), fixed), axis=1), log_objectives, multipliers
    )


def _unit_of(logits: Any) -> Any:
    """Unit coordinates of logits; the ends of the range are reached with a nonzero slope."""
    stretched = 0.5 + STRETCH * (jax.nn.sigmoid(logits) - 0.5)
    return stretched + jax.lax.stop_gradient(jnp.clip(stretched, 0.0, 1.0) - stretched)


def _logits_of(units: Any) -> Any:
    """Inverse of `_unit_of`."""
    return jax.scipy.special.logit(0.5 + (jnp.clip(units, 0.0, 1.0) - 0.5) / STRETCH)


def _update_period(num_steps: int) -> int:
    return min(max(num_steps // NUM_MULTIPLIER_UPDATES, 1), LONG_UPDATE_STEPS)


def _updated(multipliers: PerConstraint, constraint_values: PerConstraint) -> PerConstraint:
    """First-order update, Nocedal and Wright equation 17.67; unchanged where not finite."""
    updated = jnp.maximum(multipliers + PENALTY_CURVATURE * constraint_values, 0.0)
    return jnp.where(jnp.isfinite(updated), updated, multipliers)
