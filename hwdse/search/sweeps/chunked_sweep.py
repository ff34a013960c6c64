"""Sweeps of any length in chunks: one compiled program, a float32 screening pass, and the front in
float64.

The device generates the points from a counter, decodes and evaluates the designs, and compares
them with a few strong points from a pilot of the sweep. About one in a hundred points remains. The
host thins these by the best points of their own chunk, regenerates them from their sequence
indices and re-evaluates them in float64. Memory does not grow with the number of points, all kept
results are float64, and the result of a chunk does not depend on the worker.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit, search_jit
from hwdse.search.pareto.pareto_archive import DesignSet, dominated_by, merge, pruning_points
from hwdse.search.space.point_sequences import PointSequence, chunk_words, shared_words, unit_rows
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweeps.float64_evaluation import (
    EvaluateObjectives,
    EvaluateWithMetrics,
    Float64Evaluator,
    host_leaves,
)
from hwdse.search.sweeps.sweep_plan import (
    SweepChunk,
    SweepPlan,
    SweepResult,
    merge_chunk,
    plan_list,
    plan_sweep,
)
from hwdse.search.uncertainty.robust import SAMPLES_AT_ONCE

__all__ = [
    "ChunkRunner",
    "SweepChunk",
    "SweepPlan",
    "SweepResult",
    "merge_chunk",
    "plan_list",
    "plan_sweep",
    "sweep",
    "sweep_chunks",
]

ScreenArrays = tuple[Any, Any, Any]
"""Log objectives, objectives by points; largest constraint value; True where a pruning point
dominates the point."""

SCREEN_MARGINS = {"float32": 1e-5, "float64": 1e-12}
"""Distance from the front or a limit within which the screening pass does not decide: ten times
the rounding error of a logarithm of magnitude 10."""
KEEPS = ("front", "top", "all")
"""Kept points: the front; also the best of one objective; all points."""
SMALL_SURVIVORS = 64
"""Remaining points of a chunk up to which they are not thinned by its own best points."""
MAX_PASSES = 4
"""Maximum thinning passes."""
BLOCK = 1 << 14
"""Points of a chunk evaluated at once. Larger blocks exceed the cache and run at 2/3 of the
rate."""
BRIEF_POINTS = 1 << 18
"""Points below which a sweep uses quick compilation, unless each point runs long. On the reference
job it saves 3 CPU seconds of compilation and costs 1 CPU second per 2^18 points."""
SAMPLE_POINTS = 4096
"""Points of a chunk among which its own best are sought."""


class ChunkRunner:
    """Runner of the chunks of one plan, each from its index alone.

    `screen` is the float type of the screening pass. `keep="top"` also keeps the `top` best points
    by the first objective, `keep="all"` every point. For `keep="all"` and for lists all points are
    evaluated in float64 without screening. `evaluate_with_metrics` returns the results of
    `evaluate_objectives` and further metrics of each re-evaluated point. `num_samples` is the
    number of samples per point of a robust objective; blocks are smaller by that factor.
    """

    def __init__(
        self,
        evaluate_objectives: EvaluateObjectives,
        plan: SweepPlan,
        base: Any,
        *,
        screen: str = "float32",
        keep: str = "front",
        top: int = 0,
        evaluate_with_metrics: EvaluateWithMetrics | None = None,
        num_samples: int = 1,
    ) -> None:
        if screen not in SCREEN_MARGINS or keep not in KEEPS:
            raise ValueError(
                f"screen = {screen!r}, keep = {keep!r}: expected one of "
                f"{', '.join(SCREEN_MARGINS)} and one of {', '.join(KEEPS)}"
            )
        bases = tuple(map(host_leaves, plan.space.program_bases(base)))
        self.evaluator = Float64Evaluator(plan, bases, evaluate_objectives, evaluate_with_metrics)
        self._plan = plan
        self._known = [_known_leaves(base, bases) for base in bases]
        self._screen = screen
        self._margin = SCREEN_MARGINS[screen]
        self._keep = keep
        self._top = top if keep == "top" else 0
        is_listed = plan.sequence.method == "list" or not plan.space.num_dims
        self._is_screened = keep != "all" and not is_listed
        at_once = (min(num_samples, SAMPLES_AT_ONCE) - 1).bit_length()
        self._block = BLOCK >> at_once
        self._is_brief = plan.num_points * num_samples <= BRIEF_POINTS
        self._words: Any = None
        self._pruning_points: Any = None

    def launch(self, index: int) -> tuple[int, ScreenArrays | None]:
        """Start a chunk on the device without waiting for it."""
        if not self._is_screened:
            return index, None
        if self._words is None:
            self._begin(index)
        with jax.enable_x64(self._screen == "float64"):
            log_objectives, worst = self._screened(index, _screen_chunk)
            dominated = _dominated(log_objectives, self._pruning_points)
        return index, (log_objectives, worst, dominated)

    def _begin(self, index: int) -> None:
        """Pruning points of the pilot; meanwhile, the screening program compiles."""
        plan, is_double = self._plan, self._screen == "float64"

        def prepare() -> None:
            with jax.enable_x64(is_double):  # the float type is scoped to a thread
                self._screened(index, _screen_chunk.prepare)

        self._words = jnp.asarray(shared_words(plan.sequence, plan.chunk_points))
        with ThreadPoolExecutor(max_workers=1) as pool:
            compiled = pool.submit(prepare)
            strong = self.evaluator.pilot() + self._margin
            compiled.result()
        with jax.enable_x64(is_double):
            self._pruning_points = jnp.asarray(strong, float)

    def _screened(self, index: int, screen_chunk: Callable[..., Any]) -> Any:
        """Result of `screen_chunk` for the points of a chunk."""
        plan, evaluator = self._plan, self.evaluator
        variant, start, _ = plan.chunk(index)
        base, known = evaluator.bases[variant], self._known[variant]
        return screen_chunk(
            self._words,
            chunk_words(plan.sequence, start),
            _other_leaves(base, known),
            known=known,
            evaluate_objectives=evaluator.evaluate_objectives,
            space=plan.space,
            sequence=plan.sequence,
            block=self._block,
            is_brief=self._is_brief and not getattr(base, "runs_long", False),
        )

    def harvest(self, launched: tuple[int, ScreenArrays | None]) -> SweepChunk:
        """Wait for a chunk and re-evaluate in float64 the points that the screening pass could not
        exclude."""
        index, outcome = launched
        sequence_indices = self._plan.sequence_indices(index)
        variant, start, count = self._plan.chunk(index)
        if outcome is None:
            return self._unscreened_chunk(index, self.evaluator.evaluate(variant, sequence_indices))
        log_objectives, worst, dominated = (np.asarray(part)[..., :count] for part in outcome)
        indices = _survivors(log_objectives, worst, dominated, self._margin)
        if self._top:
            indices = np.union1d(
                indices, _best_indices(log_objectives[0], worst, self._margin, self._top)
            )
        finite = np.isfinite(worst) | np.isneginf(worst)
        least = int(np.argmin(np.where(finite, worst, np.inf)))
        evaluated = self.evaluator.evaluate(variant, start + np.append(indices, least))
        rows = evaluated.take(np.arange(len(indices)))
        feasible = rows.take(np.flatnonzero(rows.is_feasible))
        screened = worst[indices] <= 0.0
        return SweepChunk(
            index=index,
            num_points=count,
            num_feasible=int(np.sum(worst <= 0.0) + len(feasible) - np.sum(screened)),
            num_not_finite=int(np.sum(~finite)),
            num_reclassified=int(np.sum(rows.is_feasible != screened)),
            front=merge(feasible, feasible.take(np.arange(0))),
            least_violated=evaluated.take(
                np.arange(len(indices), len(evaluated) if finite.any() else 0)
            ),
            top=feasible.best(self._top) if self._top else None,
        )

    def run(self, index: int) -> SweepChunk:
        """Run one chunk from start to end."""
        return self.harvest(self.launch(index))

    def _unscreened_chunk(self, index: int, rows: DesignSet) -> SweepChunk:
        """Result of a chunk whose points were all evaluated in float64."""
        worst = rows.constraint_values.max(axis=1, initial=-np.inf)
        finite = (
            np.isfinite(rows.log_objectives).all(axis=1) & ~np.isnan(worst) & ~np.isposinf(worst)
        )
        feasible = rows.take(np.flatnonzero(rows.is_feasible))
        least = np.lexsort((rows.sequence_indices, np.where(finite, worst, np.inf)))[
            : int(finite.any())
        ]
        return SweepChunk(
            index=index,
            num_points=len(rows),
            num_feasible=len(feasible),
            num_not_finite=int(np.sum(~finite)),
            num_reclassified=0,
            front=merge(feasible, feasible.take(np.arange(0))),
            least_violated=rows.take(least),
            top=feasible.best(self._top) if self._top else None,
            rows=rows if self._keep == "all" else None,
        )


def sweep_chunks(
    runner: ChunkRunner, plan: SweepPlan, *, only: Iterable[int] | None = None
) -> Iterator[SweepChunk]:
    """Chunks of a sweep in order, or those in `only`. The next chunk runs while the caller
    processes the last one. The front of a chunk may contain points that other chunks dominate."""
    launched = None
    for index in range(plan.num_chunks) if only is None else only:
        if not plan.chunk(index)[2]:
            continue
        following = runner.launch(index)
        if launched is not None:
            yield runner.harvest(launched)
        launched = following
    if launched is not None:
        yield runner.harvest(launched)


_OTHER = "other"
"""Mark of a leaf whose value is an argument of the screening program."""


def _known_leaves(base: Any, bases: Sequence[Any]) -> Any:
    """Base with leaves that are 0 in all bases of its program, or 1 in all, and marks for others.

    Zeros and ones turn features off: known to the program, they save two fifths of its time. Bases
    of equal structure share a program.
    """
    leaves, structure = jax.tree.flatten(base)
    alike = [jax.tree.leaves(x) for x in bases if jax.tree.structure(x) == structure]
    known = [
        leaf if leaf in (0.0, 1.0) and all(x[index] == leaf for x in alike) else _OTHER
        for index, leaf in enumerate(leaves)
    ]
    return structure.unflatten(known)


def _other_leaves(base: Any, known: Any) -> list[float]:
    """Leaves of a base that `known` marks."""
    pairs = zip(jax.tree.leaves(base), jax.tree.leaves(known), strict=True)
    return [leaf for leaf, value in pairs if value == _OTHER]


def _joined(known: Any, others: Sequence[Any]) -> Any:
    """Base with the marked leaves filled in."""
    leaves, structure = jax.tree.flatten(known)
    following = iter(others)
    return structure.unflatten([next(following) if x == _OTHER else x for x in leaves])


@partial(search_jit, static_argnames=("known", "evaluate_objectives", "space", "sequence", "block"))
def _screen_chunk(
    words: Any,
    shift: Any,
    others: Sequence[Any],
    *,
    known: Any,
    evaluate_objectives: EvaluateObjectives,
    space: SearchSpace,
    sequence: PointSequence,
    block: int,
) -> tuple[Any, Any]:
    """Log objectives (objectives by points) and largest constraint value.

    The largest constraint value is NaN where any objective is not finite.
    """
    base, dtype = _joined(known, others), jnp.result_type(float).type
    units = jnp.stack(unit_rows(sequence, words, shift, dtype, jnp))

    def one(unit):
        log_objectives, constraint_values = evaluate_objectives(space.decode_rounded(unit, base))
        worst = jnp.max(constraint_values, initial=-jnp.inf)
        return log_objectives, jnp.where(jnp.isfinite(jnp.sum(log_objectives)), worst, jnp.nan)

    blocks = units.reshape(len(units), -1, min(block, units.shape[1])).swapaxes(0, 1)
    log_objectives, worst = jax.lax.map(jax.vmap(one, in_axes=1, out_axes=(1, 0)), blocks)
    return jnp.concatenate(log_objectives, axis=1), worst.reshape(-1)


@quick_jit
def _dominated(log_objectives: Any, strong: Any) -> Any:
    """True where a pruning point dominates the point."""
    dominated = jnp.zeros(log_objectives.shape[1], bool)
    for point in strong:
        nowhere_better = jnp.ones(dominated.shape, bool)
        for objective, limit in zip(log_objectives, point, strict=True):
            nowhere_better &= objective >= limit
        dominated |= nowhere_better
    return dominated


def _survivors(
    log_objectives: np.ndarray, worst: np.ndarray, dominated: np.ndarray, margin: float
) -> np.ndarray:
    """Indices of points near a limit, and of feasible points that no known point dominates."""
    near_limit = np.flatnonzero(np.abs(worst) <= margin)
    indices = np.flatnonzero((worst <= margin) & ~dominated)
    # The best points of the chunk prune points that the pilot did not.
    for _ in range(MAX_PASSES):
        inside = indices[worst[indices] <= -margin]
        if len(indices) <= SMALL_SURVIVORS or not len(inside):
            break
        sample = log_objectives[:, inside[:: max(len(inside) // SAMPLE_POINTS, 1)]].T.astype(
            np.float64
        )
        is_pruned = dominated_by(log_objectives[:, indices].T, pruning_points(sample, 64), margin)
        indices = indices[~is_pruned]
        if np.sum(is_pruned) < 0.1 * len(is_pruned):
            break
    return np.union1d(indices, near_limit)


def _best_indices(
    log_objective: np.ndarray, worst: np.ndarray, margin: float, count: int
) -> np.ndarray:
    """Indices that include the `count` best feasible points, within the errors of the screening
    pass."""
    certain = log_objective[worst <= -margin]
    enough = np.inf
    if len(certain) >= count:
        enough = np.partition(certain, count - 1)[count - 1] + 2.0 * margin
    return np.flatnonzero((worst <= margin) & (log_objective <= enough))


def sweep(
    evaluate_objectives: EvaluateObjectives,
    plan: SweepPlan,
    base: Any,
    *,
    screen: str = "float32",
    keep: str = "front",
    top: int = 0,
    so_far: SweepResult | None = None,
    on_chunk: Callable[[SweepChunk, SweepResult], None] | None = None,
) -> SweepResult:
    """Result of the whole sweep, or of the chunks missing in `so_far`; `on_chunk` receives each
    chunk.

    >>> import jax.numpy as jnp
    >>> import hwdse
    >>> from hwdse.search import Dimension, SearchSpace, plan_sweep
    >>> space = SearchSpace((Dimension("clock_hz", 1e9, 4e9, "log", 5e8),))
    >>> def time_and_energy(array):  # their logarithms, and no constraints
    ...     clock = array.clock_hz / 1e9
    ...     return jnp.stack([-jnp.log(clock), 2.0 * jnp.log(clock)]), jnp.full(1, -1.0)
    >>> array = hwdse.load_chip("h100").array
    >>> plan = plan_sweep(space, num_points=64, chunk_points=64)
    >>> len(hwdse.sweep(time_and_energy, plan, array).front)
    7
    """
    done: Collection[int] = so_far.done if so_far else ()
    runner = ChunkRunner(evaluate_objectives, plan, base, screen=screen, keep=keep, top=top)
    only = (index for index in range(plan.num_chunks) if index not in done)
    for chunk in sweep_chunks(runner, plan, only=only):
        so_far = merge_chunk(so_far, chunk, top=top)
        if on_chunk is not None:
            on_chunk(chunk, so_far)
    if so_far is None:
        raise ValueError("the sweep has no points")
    return so_far
