"""Scalarization of several objectives: Chebyshev distances and epsilon-constraints, directed at
gaps of a front."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import PerConstraint, PointsByObjectives, Scalar
from hwdse.numerics.relaxation import Relaxation
from hwdse.search.evaluation.search_result import ObjectivesFn
from hwdse.search.pareto.dominance_and_hypervolume import PerObjective

AUGMENTATION = 0.02
"""rho of the augmented Chebyshev distance: makes weakly dominated points worse."""
SOFTNESS = 0.1
"""Softness of the maximum in logarithms at temperature 1: objectives within 10 % count equally."""
SHARPEST = 1e-3
NO_BOUND = 1e3
"""Distance of an inactive bound, in logarithms."""
NUM_CANDIDATES = 512
"""Candidate directions among which the widest gaps of a front are found."""
MIN_SHARE = 0.02
"""Minimum share of each objective in a direction: no weight exceeds 50 times another."""


class Scalarization(NamedTuple):
    """Parameters of the scalar objective of one descent; under vmap one row per descent."""

    weights: Any
    """Weight of each objective; the largest is 1."""
    reference: Any
    """Logs of the objectives at the origin of the distances."""
    bounds: Any
    """Upper bound of each log objective."""
    is_bounded: Any
    """1: weighted sum under bounds (epsilon-constraint); 0: Chebyshev distance."""


def smooth_chebyshev(distances: PerObjective, temperature: Scalar) -> Scalar:
    r"""Smooth maximum $\tau \ln \sum_i e^{d_i / \tau}$: at most $\tau \ln m$ above the maximum.

    $\tau$ is 0.1 times the temperature, at least 0.001; distances are logarithms. Source: Lin et
    al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024, equation 9.
    """
    softness = jnp.maximum(SOFTNESS * temperature, SHARPEST)
    return softness * jax.scipy.special.logsumexp(distances / softness)


def scalarized(
    log_objectives: PerObjective, scalarization: Scalarization, temperature: Scalar
) -> Scalar:
    r"""Scalar objective: smaller is better, and a dominated point is never better.

    Chebyshev: $\max_i w_i (f_i - r_i) + \rho \sum_i w_i (f_i - r_i)$, with a smooth maximum.
    Epsilon-constraint: the weighted sum alone; its bounds are constraints. Source: Miettinen,
    Nonlinear Multiobjective Optimization, 1999, sections 3.2 and 3.4.
    """
    distances = scalarization.weights * (log_objectives - scalarization.reference)
    total = jnp.sum(distances)
    distance = smooth_chebyshev(distances, temperature) + AUGMENTATION * total
    return jnp.where(scalarization.is_bounded > 0.5, total, distance)


@dataclass(frozen=True)
class ScalarizedObjective:
    """Objective function of a design under a scalarization; its bounds follow the constraints."""

    log_objectives: ObjectivesFn

    def __call__(
        self, design: Any, relaxation: Relaxation, scalarization: Scalarization
    ) -> tuple[Scalar, PerConstraint]:
        """Scalarized objective, and values of the constraints and of the bounds."""
        log_objectives, constraint_values = self.log_objectives(design, relaxation)
        value = scalarized(log_objectives, scalarization, relaxation.temperature)
        return value, jnp.concatenate((constraint_values, log_objectives - scalarization.bounds))


def distances_to(log_objectives: PointsByObjectives, scalarizations: Scalarization) -> np.ndarray:
    """Scalarized values of points (rows) for each scalarization (columns), at temperature zero.

    A violated bound costs five times its violation.
    """
    offsets = np.asarray(log_objectives)[:, None] - np.asarray(scalarizations.reference)[None]
    weighted = np.asarray(scalarizations.weights) * offsets
    total = weighted.sum(axis=2)
    chebyshev = weighted.max(axis=2) + AUGMENTATION * total
    bound_violations = np.maximum(
        np.asarray(log_objectives)[:, None] - np.asarray(scalarizations.bounds)[None], 0.0
    )
    bounded = total + 5.0 * bound_violations.sum(axis=2)
    return np.where(np.asarray(scalarizations.is_bounded) > 0.5, bounded, chebyshev)


def choose_scalarizations(
    front: PointsByObjectives,
    num_scalarizations: int,
    generator: np.random.Generator,
    *,
    with_extremes: bool,
) -> Scalarization:
    """Scalarizations directed at gaps of a front: far from its members and from each other, first
    where the front is far from the ideal point.

    `with_extremes` begins with each objective alone. The others alternate between Chebyshev
    distances and epsilon-constraints; the bounds are at the present front.
    """
    log_objectives = np.asarray(front, np.float64)
    ideal, num_objectives = log_objectives.min(axis=0), log_objectives.shape[1]
    extent = np.maximum(log_objectives.max(axis=0) - ideal, 0.05)
    scaled = np.maximum((log_objectives - ideal) / extent, 1e-9) + MIN_SHARE
    directions = _gap_directions(scaled, num_scalarizations, generator, with_extremes=with_extremes)
    reach = np.min(np.max(scaled[None] / directions[:, None], axis=2), axis=1)
    weights = 1.0 / (directions * extent)
    bounds = np.full((num_scalarizations, num_objectives), NO_BOUND)
    is_bounded = np.zeros(num_scalarizations)
    num_extremes = min(num_objectives, num_scalarizations) if with_extremes else 0
    for index in range(num_scalarizations):
        is_extreme = index < num_extremes
        if not is_extreme and (index - num_extremes) % 2 == 0:
            continue
        main = index if is_extreme else int(np.argmin(directions[index]))
        is_bounded[index] = 1.0
        weights[index] = np.where(np.arange(num_objectives) == main, 1.0, AUGMENTATION)
        if not is_extreme:
            there = ideal + extent * (reach[index] * directions[index] - MIN_SHARE)
            bounds[index] = np.where(np.arange(num_objectives) == main, NO_BOUND, there)
    weights = weights / weights.max(axis=1, keepdims=True)
    reference = np.repeat((ideal - MIN_SHARE * extent)[None], num_scalarizations, axis=0)
    return Scalarization(weights, reference, bounds, is_bounded)


def _gap_directions(
    scaled: np.ndarray,
    num_scalarizations: int,
    generator: np.random.Generator,
    *,
    with_extremes: bool,
) -> np.ndarray:
    """Directions of sum one, chosen one after the other at the largest gaps."""
    num_objectives = scaled.shape[1]
    candidates = generator.dirichlet(np.ones(num_objectives), NUM_CANDIDATES)
    candidates = candidates * (1.0 - num_objectives * MIN_SHARE) + MIN_SHARE
    reach = np.min(np.max(scaled[None] / candidates[:, None], axis=2), axis=1)
    members = scaled / scaled.sum(axis=1, keepdims=True)
    nearest = np.min(np.linalg.norm(candidates[:, None] - members[None], axis=2), axis=1)
    chosen = []
    for index in range(num_scalarizations):
        if with_extremes and index < num_objectives:
            # A small component of the direction gives the objective a large weight.
            direction = np.where(np.arange(num_objectives) == index, MIN_SHARE, 1.0)
            direction = direction / direction.sum()
        else:
            direction = candidates[int(np.argmax(reach * nearest))]
        chosen.append(direction)
        nearest = np.minimum(nearest, np.linalg.norm(candidates - direction, axis=1))
    return np.stack(chosen)
