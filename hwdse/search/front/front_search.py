"""Gradient search for a Pareto front: screening, descent of scalarizations, rounding, local
search.

Each round of descents is one compiled loop over a batch of scalarizations. Final points are
rounded and evaluated with the exact model, as all points of the front.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.search.descent.minimize import BRIEF_GRADIENTS, MIN_PENALTY, MIN_STEPS
from hwdse.search.descent.multistart_descent import descend
from hwdse.search.descent.optimizers import OPTIMIZERS
from hwdse.search.evaluation.evaluator import (
    LARGEST_BATCH,
    Archive,
    Evaluator,
    Report,
)
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_log import SearchLog
from hwdse.search.evaluation.search_result import ObjectivesFn
from hwdse.search.front.front_local_search import local_search_front
from hwdse.search.front.scalarize import (
    Scalarization,
    ScalarizedObjective,
    choose_scalarizations,
    distances_to,
)
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.point_sequences import host_points, make_sequence
from hwdse.search.space.search_space import SearchSpace


@dataclass(frozen=True)
class FrontSearchBudget:
    """Sizes of the stages of a front search."""

    num_screened: int
    num_descent_rounds: int
    num_starts: int
    """Starts per round, over all variants."""
    num_steps: int
    num_moves: int
    """Moves per round of local search; rounds continue until the evaluations are spent."""

    @property
    def round_evaluations(self) -> int:
        """Evaluations of one round of descents with its final points."""
        return self.num_starts * (GRADIENT_COST_EVALUATIONS * self.num_steps + 1)


def allocate_front_evaluations(num_evaluations: int) -> FrontSearchBudget:
    """Stage sizes for a budget: 10 % screening, 35 % descent in one or two rounds, then local
    search. Below some 35 evaluations there is no descent."""
    num_descent_rounds = int(np.clip(num_evaluations // 1000, 1, 2))
    gradients = 0.35 * num_evaluations / GRADIENT_COST_EVALUATIONS / num_descent_rounds
    num_steps = int(np.clip(np.sqrt(3.0 * gradients), MIN_STEPS, 60))
    num_starts = int(gradients / num_steps)
    return FrontSearchBudget(
        num_screened=max(int(0.1 * num_evaluations), 1),
        num_descent_rounds=num_descent_rounds if num_starts else 0,
        num_starts=num_starts,
        num_steps=num_steps,
        num_moves=int(np.clip(0.5 * np.sqrt(num_evaluations), 6, 128)),
    )


@dataclass(frozen=True)
class FrontResult:
    """Non-dominated feasible designs of a search, evaluated with the exact model."""

    front: DesignSet
    """Empty if no design is feasible."""
    least_violated: DesignSet
    """One row: the design with the smallest total violation."""
    num_evaluations: int
    """Exact evaluations; a gradient counts as `GRADIENT_COST_EVALUATIONS`."""
    num_feasible: int
    num_not_finite: int


def search_front(
    objectives_fn: ObjectivesFn,
    space: SearchSpace,
    base: Any,
    *,
    seed: int,
    num_evaluations: int,
    search_budget: FrontSearchBudget | None = None,
    report: Report | None = None,
    log: SearchLog | None = None,
) -> FrontResult:
    """Rounded designs of a space that no other evaluated design dominates, after at most
    `num_evaluations`; deterministic for a seed.

    `objectives_fn` returns the logs of one to four objectives and the constraint values. Every row
    of the result was evaluated with the exact model in float64. `report` receives each batch of
    evaluated rows. The `log` of a stopped search continues it.
    """
    evaluator = Evaluator(objectives_fn, space, base, report, sizes=(LARGEST_BATCH,), log=log)
    search_budget = search_budget or allocate_front_evaluations(num_evaluations)
    generator = np.random.default_rng([seed, 0xF407])
    units, variants = _screening_points(space, base, search_budget.num_screened, seed)
    archive = Archive(evaluator, units[:num_evaluations], variants[:num_evaluations])
    for round_index in range(search_budget.num_descent_rounds):
        if evaluator.num_evaluations + search_budget.round_evaluations > num_evaluations:
            break
        _descend_round(archive, search_budget, generator, with_extremes=round_index == 0)
    local_search_front(archive, space, generator, num_evaluations, search_budget.num_moves)
    return _result(archive)


def _screening_points(
    space: SearchSpace, base: Any, num_points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Base design in each variant, its own first, then Sobol points assigned to the variants in
    turn; rounded."""
    count = max(num_points - space.num_variants, 1)
    points = host_points(make_sequence("sobol", space, seed=seed), np.arange(count))
    starts = np.repeat(space.encode(base)[None], space.num_variants, axis=0)
    units = space.snap_points(np.concatenate((starts, points)))
    variants = np.arange(len(units)) % space.num_variants
    variants[: space.num_variants] = space.variants_from(base)
    return units, variants


def _descend_round(
    archive: Archive,
    search_budget: FrontSearchBudget,
    generator: np.random.Generator,
    *,
    with_extremes: bool,
) -> None:
    """Descend from the best known point of each scalarization, and evaluate the rounded final
    points."""
    rows, front = archive.rows, archive.front
    known = (
        front.log_objectives
        if len(front)
        else rows.log_objectives[np.isfinite(rows.log_objectives).all(axis=1)]
    )
    if not len(known):
        return
    scalarizations = choose_scalarizations(
        known, search_budget.num_starts, generator, with_extremes=with_extremes
    )
    total_violation = np.maximum(rows.constraint_values, 0.0).sum(axis=1, keepdims=True)
    merit = distances_to(rows.log_objectives, scalarizations) + MIN_PENALTY * total_violation
    starts = np.argmin(np.where(np.isfinite(merit), merit, np.inf), axis=0)
    units, variants = [], []
    for variant in np.unique(rows.variants[starts]):
        indices = np.flatnonzero(rows.variants[starts] == variant)
        units.append(
            _descend_variant(
                archive.evaluator,
                rows.units[starts],
                scalarizations,
                indices,
                int(variant),
                search_budget,
            )
        )
        variants.append(np.full(len(indices), variant))
    archive.evaluator.charge_gradients(search_budget.num_starts * search_budget.num_steps)
    archive.add(np.concatenate(units), np.concatenate(variants))


def _descend_variant(
    evaluator: Evaluator,
    starts: np.ndarray,
    scalarizations: Scalarization,
    indices: np.ndarray,
    variant: int,
    search_budget: FrontSearchBudget,
) -> np.ndarray:
    """Rounded final points of the starts at these indices, all of one variant.

    The batch always contains all starts, so that one program serves any number of starts of a
    variant.
    """
    rows = np.resize(indices, len(starts))

    def run() -> tuple[np.ndarray]:
        result = descend(
            jnp.asarray(starts[rows], float),
            evaluator.bases[variant],
            OPTIMIZERS["adam"].learning_rate,
            (jax.tree.map(lambda leaf: jnp.asarray(leaf[rows], float), scalarizations),),
            objective_fn=ScalarizedObjective(evaluator.objectives_fn),
            space=evaluator.space,
            num_steps=search_budget.num_steps,
            num_constraints=sum(evaluator.shape),
            is_brief=True
            if search_budget.num_starts * search_budget.num_steps < BRIEF_GRADIENTS
            else None,
        )
        return (np.asarray(result.units),)

    name = f"descent.{evaluator.num_evaluations}.{variant}"
    with jax.enable_x64(True):
        (units,) = evaluator.log.keep(name, starts[rows], run)
    units = units[: len(indices)]
    return evaluator.space.snap_points(np.where(np.isfinite(units), units, 0.5))


def _result(archive: Archive) -> FrontResult:
    rows, front = archive.rows, archive.front
    total_violation = np.maximum(rows.constraint_values, 0.0).sum(axis=1)
    is_finite = np.isfinite(rows.log_objectives).all(axis=1)
    nearest = int(np.argmin(np.where(is_finite, total_violation, np.inf)))
    return FrontResult(
        front=front,
        least_violated=rows.take(np.asarray([nearest])),
        num_evaluations=archive.evaluator.num_evaluations,
        num_feasible=int(np.sum(rows.is_feasible)),
        num_not_finite=int(np.sum(~is_finite)),
    )
