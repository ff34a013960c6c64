"""Re-evaluation of sweep designs in float64 with the exact model.

A sweep screens designs in float32. `Float64Evaluator` regenerates the remaining designs from their
sequence indices and evaluates them in padded batches of one shape, so that a design has the same
bits in every batch. `pilot` evaluates a fixed sample first; its non-dominated designs prune the
screening pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import PerConstraint
from hwdse.numerics.jit_compile import search_jit
from hwdse.search.evaluation.batch_evaluation import padded
from hwdse.search.evaluation.search_result import without_rounding
from hwdse.search.pareto.dominance_and_hypervolume import PerObjective
from hwdse.search.pareto.pareto_archive import DesignSet, merge, pruning_points
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweeps.sweep_plan import SweepPlan

EvaluateObjectives = Callable[[Any], tuple[PerObjective, PerConstraint]]
"""Maps a design to logs of the objectives and ln(value / limit) of the constraints. Its closure
contains only Python and NumPy numbers, which work in both float types."""
EvaluateWithMetrics = Callable[[Any], tuple[PerObjective, PerConstraint, Any]]
"""The same, with a vector of further metrics of the design."""

FLOAT64_BATCH = 256
"""Points per float64 batch, padded: one shape, hence one program per variant."""
PILOT_POINTS = 1 << 13
"""Maximum points of the pilot, over all variants."""
PILOT_SHARE = 64
"""The pilot evaluates at most one in this many points of a sweep."""


@dataclass(frozen=True)
class Float64Evaluator:
    """Evaluator of points of a plan in float64 with the exact model."""

    plan: SweepPlan
    bases: tuple[Any, ...]
    """Base designs of the variants, with Python floats as leaves."""
    evaluate_objectives: EvaluateObjectives
    evaluate_with_metrics: EvaluateWithMetrics | None = None

    def evaluate(self, variant: int, sequence_indices: np.ndarray) -> DesignSet:
        """Rows of the points with these sequence indices, feasible or not, in batches padded to
        one shape.

        A point has the same bits in every batch.
        """
        units = self.plan.space.snap_points(host_points(self.plan.sequence, sequence_indices))
        parts = []
        with jax.enable_x64(True):
            for first in range(0, max(len(units), 1), FLOAT64_BATCH):
                part = units[first : first + FLOAT64_BATCH]
                any_points = part if len(part) else np.full((1, units.shape[1]), 0.5)
                outcome = _evaluate_points(
                    padded(any_points, FLOAT64_BATCH),
                    self.bases[variant],
                    evaluate_objectives=self.evaluate_objectives,
                    evaluate_with_metrics=self.evaluate_with_metrics,
                    space=self.plan.space,
                )
                parts.append([np.asarray(values)[: len(part)] for values in outcome])
        log_objectives, constraint_values, metrics = (
            np.concatenate(p) for p in zip(*parts, strict=True)
        )
        return DesignSet(
            units,
            log_objectives,
            without_rounding(constraint_values),
            np.full(len(units), variant),
            sequence_indices.astype(np.int64),
            metrics,
        )

    def pilot(self) -> np.ndarray:
        """Log objectives of strong points: pruning points of the front of a small sample of all
        variants.

        They depend on the plan alone, so that all chunks are screened equally on any worker and in
        any order.
        """
        share = min(PILOT_POINTS, self.plan.num_points // PILOT_SHARE) // len(self.bases)
        front = self.evaluate(0, np.arange(0))
        for variant, count in enumerate(self.plan.variant_points):
            sequence_indices = np.arange(min(share, count))
            if self.plan.sequence.method == "grid":  # its first points form a corner
                sequence_indices = np.random.default_rng(0).integers(
                    0, max(count, 1), len(sequence_indices)
                )
            rows = self.evaluate(variant, sequence_indices)
            front = merge(front, rows.take(np.flatnonzero(rows.is_feasible)))
        return pruning_points(front.log_objectives)


def host_leaves(base: Any) -> Any:
    """Base design with Python floats as leaves, which work in either float type."""
    return jax.tree.map(float, base)


@partial(search_jit, static_argnames=("evaluate_objectives", "evaluate_with_metrics", "space"))
def _evaluate_points(
    units: Any,
    base: Any,
    *,
    evaluate_objectives: EvaluateObjectives,
    evaluate_with_metrics: EvaluateWithMetrics | None,
    space: SearchSpace,
) -> Any:
    def one(unit: Any) -> Any:
        design = space.decode_rounded(unit, base)
        if evaluate_with_metrics is None:
            return *evaluate_objectives(design), jnp.zeros(0)
        return evaluate_with_metrics(design)

    return jax.vmap(one)(units)
