"""Sweeps of any length: chunks of points through one compiled program, and the front kept.

The device makes the points from a counter, builds and evaluates the designs, and compares them
with a few members of the running front. Only the survivors, about one in a hundred, reach the
host, which makes them again from their numbers and judges them in float64. So memory does not
grow with the number of points, and every verdict that is kept is one of float64.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.compiling import search_jit
from hwdse.search.front import Front, anchors, dominated_by, merge
from hwdse.search.pareto import PerObjective
from hwdse.search.plan import SweepChunk, SweepPlan, SweepResult, merge_chunk, plan_sweep
from hwdse.search.points import (
    PointSequence,
    chunk_words,
    host_points,
    shared_words,
    unit_rows,
)
from hwdse.search.result import without_rounding
from hwdse.search.space import SearchSpace
from hwdse.shapes import PerConstraint

__all__ = [
    "SweepChunk",
    "SweepPlan",
    "SweepResult",
    "merge_chunk",
    "plan_sweep",
    "sweep",
    "sweep_chunks",
]

EvaluateCosts = Callable[[Any], tuple[PerObjective, PerConstraint]]
"""Design to logs of the objectives and ln(value / limit) of the constraints. Closes over Python
and NumPy numbers only, which both float types can take."""

ScreenArrays = tuple[Any, Any, Any]
"""Costs, objectives by points; worst violation; whether an anchor dominates the point."""

SCREEN_MARGINS = {"float32": 1e-5, "float64": 1e-12}
"""Distance from the front or a limit within which the screen does not decide: ten times the
rounding error of a logarithm of magnitude 10."""
LARGEST_SURVIVAL = 4096
"""Survivors of a first chunk, above which the chunk's own best points thin them out."""
BLOCK = 1 << 14
"""Points of a chunk that run at once: more of them fall out of the cache, at 2/3 of the rate."""
BRIEF_POINTS = 1 << 14
"""A sweep of so few is over before a thorough compiler is, unless each point runs long."""
JUDGED_BATCH = 256
"""Points judged in float64 at once, padded: one shape, hence one program a variant."""
SAMPLE_POINTS = 4096
"""Points that stand for a chunk when there is no front yet to take anchors from."""


def sweep_chunks(
    evaluate_costs: EvaluateCosts,
    plan: SweepPlan,
    base: Any,
    *,
    screen: str = "float32",
    done: Collection[int] = (),
    front: Front | None = None,
) -> Iterator[SweepChunk]:
    """Chunks of a sweep in order, without those in `done`; `front` is what those left.

    `screen` is the float type of the first verdict. The next chunk runs while the caller has
    the last one. A chunk's own front may hold points that other chunks dominate.
    """
    bases = [_host_leaves(variant_base) for _, variant_base in plan.space.variant_bases(base)]
    todo = [i for i in range(plan.num_chunks) if i not in done and plan.chunk(i)[2]]
    running = front
    with jax.enable_x64(screen == "float64"):
        words = jnp.asarray(shared_words(plan.sequence, plan.chunk_points))
    launched = None
    for index in [*todo, None]:
        # Without a front every point survives: the first chunk is not worth overlapping.
        is_early = launched is not None and running is None
        following = None
        if index is not None and not is_early:
            following = _launch(evaluate_costs, plan, bases, words, index, running, screen)
        if launched is not None:
            chunk = _harvest(evaluate_costs, plan, bases, launched, screen)
            running = chunk.front if running is None else merge(running, chunk.front)
            yield chunk
        if index is not None and is_early:
            following = _launch(evaluate_costs, plan, bases, words, index, running, screen)
        launched = following


@partial(search_jit, static_argnames=("evaluate_costs", "space", "sequence"))
def _screen_chunk(
    words: Any,
    shift: Any,
    strong: Any,
    base: Any,
    *,
    evaluate_costs: EvaluateCosts,
    space: SearchSpace,
    sequence: PointSequence,
) -> ScreenArrays:
    """Costs (objectives by points), worst violation, and whether an anchor dominates the point.

    The worst violation is NaN where any figure is.
    """
    dtype = jnp.result_type(float).type
    units = jnp.stack(unit_rows(sequence, words, shift, dtype, jnp))

    def one(unit):
        costs, violations = evaluate_costs(space.decode_buildable(unit, base))
        worst = jnp.max(violations, initial=-jnp.inf)
        return costs, jnp.where(jnp.isfinite(jnp.sum(costs)), worst, jnp.nan)

    blocks = units.reshape(len(units), -1, min(BLOCK, units.shape[1])).swapaxes(0, 1)
    costs, worst = jax.lax.map(jax.vmap(one, in_axes=1, out_axes=(1, 0)), blocks)
    costs, worst = jnp.concatenate(costs, axis=1), worst.reshape(-1)
    dominated = jnp.zeros(worst.shape, bool)
    for anchor in strong:
        nowhere_better = jnp.ones(worst.shape, bool)
        for objective, limit in zip(costs, anchor, strict=True):
            nowhere_better &= objective >= limit
        dominated |= nowhere_better
    return costs, worst, dominated


def _launch(
    evaluate_costs: EvaluateCosts,
    plan: SweepPlan,
    bases: list[Any],
    words: jax.Array,
    index: int,
    running: Front | None,
    screen: str,
) -> tuple[int, ScreenArrays]:
    """Starts a chunk on the device and does not wait for it."""
    variant, start, _ = plan.chunk(index)
    base = bases[variant]
    known = np.empty((0, 0)) if running is None else running.costs
    with jax.enable_x64(screen == "float64"):
        if not len(known):
            known = np.empty((0, _num_objectives(evaluate_costs, plan.space, base)))
        outcome = _screen_chunk(
            words,
            chunk_words(plan.sequence, start),
            jnp.asarray(anchors(known) + SCREEN_MARGINS[screen], float),
            base,
            evaluate_costs=evaluate_costs,
            space=plan.space,
            sequence=plan.sequence,
            is_brief=plan.num_points <= BRIEF_POINTS and not getattr(base, "runs_long", False),
        )
    return index, outcome


def _num_objectives(evaluate_costs: EvaluateCosts, space: SearchSpace, base: Any) -> int:
    unit = jax.ShapeDtypeStruct((space.num_dims,), jnp.result_type(float))
    costs, _ = jax.eval_shape(lambda u: evaluate_costs(space.decode_buildable(u, base)), unit)
    return costs.shape[0]


def _harvest(
    evaluate_costs: EvaluateCosts,
    plan: SweepPlan,
    bases: list[Any],
    launched: tuple[int, ScreenArrays],
    screen: str,
) -> SweepChunk:
    """Waits for a chunk and judges in float64 what the screen could not rule out."""
    index, outcome = launched
    variant, start, count = plan.chunk(index)
    costs, worst, dominated = (np.asarray(part)[..., :count] for part in outcome)
    margin = SCREEN_MARGINS[screen]
    places = _survivors(costs, worst, dominated, margin)
    finite = np.isfinite(worst) | np.isneginf(worst)
    numbers = start + np.append(places, np.argmin(np.where(finite, worst, np.inf)))
    judged = _judge(evaluate_costs, plan, bases, variant, numbers)
    feasible = judged.take(np.flatnonzero(judged.is_feasible))
    verdicts, screened = judged.is_feasible[:-1], worst[places] <= 0.0
    return SweepChunk(
        index=index,
        num_points=count,
        num_feasible=int(np.sum(worst <= 0.0) + np.sum(verdicts) - np.sum(screened)),
        num_not_finite=int(np.sum(~finite)),
        num_changed_verdicts=int(np.sum(verdicts != screened)),
        front=merge(feasible, feasible.take(np.arange(0))),
        least_violated=judged.take(np.arange(len(places), len(judged) if finite.any() else 0)),
    )


def _survivors(
    costs: np.ndarray, worst: np.ndarray, dominated: np.ndarray, margin: float
) -> np.ndarray:
    """Places of points on the edge of a limit, and of those that nothing known dominates."""
    edge = np.flatnonzero(np.abs(worst) <= margin)
    places = np.flatnonzero((worst <= margin) & ~dominated)
    # Before there is a front everything survives: the chunk's own best points thin it out.
    for _ in range(4):
        inside = places[worst[places] <= -margin]
        if len(places) <= LARGEST_SURVIVAL or not len(inside):
            break
        sample = costs[:, inside[:: max(len(inside) // SAMPLE_POINTS, 1)]].T.astype(np.float64)
        known = dominated_by(costs[:, places].T, anchors(sample, 64), margin)
        places = places[~known]
    return np.union1d(places, edge)


@partial(search_jit, static_argnames=("evaluate_costs", "space"))
def _evaluate_points(
    units: Any, base: Any, *, evaluate_costs: EvaluateCosts, space: SearchSpace
) -> Any:
    return jax.vmap(lambda unit: evaluate_costs(space.decode_buildable(unit, base)))(units)


def _judge(
    evaluate_costs: EvaluateCosts,
    plan: SweepPlan,
    bases: list[Any],
    variant: int,
    numbers: np.ndarray,
) -> Front:
    """Points of these numbers in float64, in batches padded to one shape."""
    units = plan.space.snap_points(host_points(plan.sequence, numbers))
    costs, violations = [], []
    with jax.enable_x64(True):
        for first in range(0, len(units), JUDGED_BATCH):
            part = units[first : first + JUDGED_BATCH]
            padded = np.concatenate((part, np.repeat(part[-1:], JUDGED_BATCH - len(part), axis=0)))
            outcome = _evaluate_points(
                padded, bases[variant], evaluate_costs=evaluate_costs, space=plan.space
            )
            costs.append(np.asarray(outcome[0])[: len(part)])
            violations.append(np.asarray(outcome[1])[: len(part)])
    return Front(
        units,
        np.concatenate(costs),
        without_rounding(np.concatenate(violations)),
        np.full(len(units), variant),
        numbers.astype(np.int64),
    )


def _host_leaves(base: Any) -> Any:
    """The base with Python floats, which take part in either float type."""
    return jax.tree.map(float, base)


def sweep(
    evaluate_costs: EvaluateCosts,
    plan: SweepPlan,
    base: Any,
    *,
    screen: str = "float32",
    so_far: SweepResult | None = None,
    on_chunk: Callable[[SweepChunk, SweepResult], None] | None = None,
) -> SweepResult:
    """The whole sweep, or what is left of it after `so_far`; `on_chunk` sees each chunk."""
    done = so_far.done if so_far else frozenset()
    front = so_far.front if so_far else None
    chunks = sweep_chunks(evaluate_costs, plan, base, screen=screen, done=done, front=front)
    for chunk in chunks:
        so_far = merge_chunk(so_far, chunk)
        if on_chunk is not None:
            on_chunk(chunk, so_far)
    if so_far is None:
        raise ValueError("the sweep has no points")
    return so_far
