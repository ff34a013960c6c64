"""Fronts by gradient: screen, descend towards what the front lacks, snap, polish its members.

Each wave of descents is one compiled loop over a batch of scalarizations. Its ends are made
buildable and judged in the exact reading, as all points are that may enter the front.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.search.descent.multistart_descent import descend
from hwdse.search.descent.optimizers import OPTIMIZERS
from hwdse.search.evaluation.evaluator import LARGEST_BATCH, Costs, Evaluator, Pool, Report
from hwdse.search.evaluation.search_result import GRADIENT_COST_EVALUATIONS
from hwdse.search.front.front_local_search import polish_front
from hwdse.search.front.scalarize import Aim, AimedScore, choose_aims, distances_to
from hwdse.search.minimize import BRIEF_GRADIENTS, LEAST_PENALTY
from hwdse.search.pareto.pareto_archive import Front
from hwdse.search.space.point_sequences import host_points, make_sequence
from hwdse.search.space.search_space import SearchSpace


@dataclass(frozen=True)
class FrontEffort:
    """Sizes of the stages of a front search."""

    num_screened: int
    num_waves: int
    num_starts: int
    """Of each wave, over all variants."""
    num_steps: int
    num_moves: int
    """Of a round of polishing; rounds go on until the evaluations are spent."""


def split_front_evaluations(num_evaluations: int) -> FrontEffort:
    """Sizes for a budget: 10 % screening, 35 % descent in one or two waves, the rest polish."""
    num_waves = int(np.clip(num_evaluations // 1000, 1, 2))
    gradients = 0.35 * num_evaluations / GRADIENT_COST_EVALUATIONS / num_waves
    num_steps = int(np.clip(np.sqrt(3.0 * gradients), 4, 60))
    return FrontEffort(
        num_screened=max(int(0.1 * num_evaluations), 1),
        num_waves=num_waves,
        num_starts=max(int(gradients / num_steps), 1),
        num_steps=num_steps,
        num_moves=int(np.clip(0.5 * np.sqrt(num_evaluations), 6, 128)),
    )


@dataclass(frozen=True)
class FrontResult:
    """The non-dominated feasible designs of a search, in the exact reading."""

    front: Front
    """Empty if no design met the constraints."""
    least_violated: Front
    """One row: the design that breaks the constraints least."""
    num_evaluations: int
    """Exact evaluations; a gradient counts as `GRADIENT_COST_EVALUATIONS`."""
    num_feasible: int
    num_not_finite: int


def search_front(
    costs: Costs,
    space: SearchSpace,
    base: Any,
    *,
    seed: int,
    num_evaluations: int,
    effort: FrontEffort | None = None,
    report: Report | None = None,
) -> FrontResult:
    """Buildable designs of a space that no other found one dominates; the same for a seed.

    `costs` gives the logs of one to four objectives and the violations. Every row of the result
    was judged in the exact reading in float64. `report` sees each batch of judged rows.
    """
    evaluator = Evaluator(costs, space, base, report, sizes=(LARGEST_BATCH,))
    effort = effort or split_front_evaluations(num_evaluations)
    generator = np.random.default_rng([seed, 0xF407])
    pool = Pool(evaluator, *_screening_points(space, base, effort.num_screened, seed))
    for wave in range(effort.num_waves):
        _descend_wave(pool, effort, generator, with_ends=wave == 0)
    polish_front(pool, space, generator, num_evaluations, effort.num_moves)
    return _result(pool)


def _screening_points(
    space: SearchSpace, base: Any, num_points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The base in each variant, then Sobol points dealt to the variants in turn; snapped."""
    count = max(num_points - space.num_variants, 1)
    points = host_points(make_sequence("sobol", space, seed=seed), np.arange(count))
    starts = np.repeat(space.encode(base)[None], space.num_variants, axis=0)
    units = space.snap_points(np.concatenate((starts, points)))
    return units, np.arange(len(units)) % space.num_variants


def _descend_wave(
    pool: Pool, effort: FrontEffort, generator: np.random.Generator, *, with_ends: bool
) -> None:
    """Descends from the best known point of each aim, and judges the buildable ends."""
    rows, front = pool.rows, pool.front
    known = front.costs if len(front) else rows.costs[np.isfinite(rows.costs).all(axis=1)]
    if not len(known):
        return
    aims = choose_aims(known, effort.num_starts, generator, with_ends=with_ends)
    excess = np.maximum(rows.violations, 0.0).sum(axis=1, keepdims=True)
    merit = distances_to(rows.costs, aims) + LEAST_PENALTY * excess
    starts = np.argmin(np.where(np.isfinite(merit), merit, np.inf), axis=0)
    units, variants = [], []
    for variant in np.unique(rows.variants[starts]):
        places = np.flatnonzero(rows.variants[starts] == variant)
        units.append(
            _descended(pool.evaluator, rows.units[starts], aims, places, int(variant), effort)
        )
        variants.append(np.full(len(places), variant))
    pool.evaluator.charge_gradients(effort.num_starts * effort.num_steps)
    pool.add(np.concatenate(units), np.concatenate(variants))


def _descended(
    evaluator: Evaluator,
    starts: np.ndarray,
    aims: Aim,
    places: np.ndarray,
    variant: int,
    effort: FrontEffort,
) -> np.ndarray:
    """Buildable ends of the starts at these places, which are of one variant.

    The batch always has all starts, so that one program serves every share of a variant.
    """
    rows = np.resize(places, len(starts))
    with jax.enable_x64(True):
        ends = descend(
            jnp.asarray(starts[rows], float),
            evaluator.bases[variant],
            OPTIMIZERS["adam"].learning_rate,
            (jax.tree.map(lambda leaf: jnp.asarray(leaf[rows], float), aims),),
            score=AimedScore(evaluator.costs),
            space=evaluator.space,
            num_steps=effort.num_steps,
            num_constraints=sum(evaluator.shape),
            is_brief=True if effort.num_starts * effort.num_steps < BRIEF_GRADIENTS else None,
        )
    units = np.asarray(ends.units)[: len(places)]
    return evaluator.space.snap_points(np.where(np.isfinite(units), units, 0.5))


def _result(pool: Pool) -> FrontResult:
    rows, front = pool.rows, pool.front
    excess = np.maximum(rows.violations, 0.0).sum(axis=1)
    is_finite = np.isfinite(rows.costs).all(axis=1)
    nearest = int(np.argmin(np.where(is_finite, excess, np.inf)))
    return FrontResult(
        front=front,
        least_violated=rows.take(np.asarray([nearest])),
        num_evaluations=pool.evaluator.num_evaluations,
        num_feasible=int(np.sum(rows.is_feasible)),
        num_not_finite=int(np.sum(~is_finite)),
    )
