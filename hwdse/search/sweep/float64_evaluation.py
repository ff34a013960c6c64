"""The verdicts of a sweep that are kept: points by their numbers, evaluated in float64."""

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
from hwdse.search.pareto.pareto_archive import DesignSet, merge, pruning_points
from hwdse.search.pareto.pareto_set import PerObjective
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweep.sweep_plan import SweepPlan

EvaluateObjectives = Callable[[Any], tuple[PerObjective, PerConstraint]]
"""Design to logs of the objectives and ln(value / limit) of the constraints. Closes over Python
and NumPy numbers only, which both float types can take."""
EvaluateWithMetrics = Callable[[Any], tuple[PerObjective, PerConstraint, Any]]
"""The same, and a vector of whatever else is to be kept of a design."""

FLOAT64_BATCH = 256
"""Points judged in float64 at once, padded: one shape, hence one program a variant."""
PILOT_POINTS = 1 << 13
"""Points of all variants that a long sweep judges first, to know what dominates most others."""
PILOT_SHARE = 64
"""A sweep judges no more than one in so many of its points first."""


@dataclass(frozen=True)
class Float64Evaluator:
    """Evaluates points of a plan in float64, in the exact reading."""

    plan: SweepPlan
    bases: tuple[Any, ...]
    """Of the variants, with Python floats as leaves."""
    evaluate_objectives: EvaluateObjectives
    evaluate_with_metrics: EvaluateWithMetrics | None = None

    def evaluate(self, variant: int, sequence_indices: np.ndarray) -> DesignSet:
        """Points of these numbers, in batches padded to one shape; feasible or not.

        A point has the same bits whatever it is judged beside.
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
        """Costs that dominate much: anchors of the front of a few points of every variant.

        They follow from the plan alone, so that all chunks are screened alike, wherever and in
        whatever order they run.
        """
        share = min(PILOT_POINTS, self.plan.num_points // PILOT_SHARE) // len(self.bases)
        front = self.evaluate(0, np.arange(0))
        for variant, count in enumerate(self.plan.variant_points):
            sequence_indices = np.arange(min(share, count))
            if self.plan.sequence.method == "grid":  # its first points are a corner
                sequence_indices = np.random.default_rng(0).integers(
                    0, max(count, 1), len(sequence_indices)
                )
            rows = self.evaluate(variant, sequence_indices)
            front = merge(front, rows.take(np.flatnonzero(rows.is_feasible)))
        return pruning_points(front.log_objectives)


def host_leaves(base: Any) -> Any:
    """The base with Python floats, which take part in either float type."""
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
