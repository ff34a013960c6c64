"""Exact evaluation of points of all variants with a count and a report of every evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.relaxation import EXACT
from hwdse.search.evaluation.batch_evaluation import LARGEST_BATCH, by_variant, evaluate_batch
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_log import SearchLog
from hwdse.search.evaluation.search_result import (
    ObjectivesFn,
    without_rounding,
)
from hwdse.search.pareto.pareto_archive import DesignSet, merge
from hwdse.search.space.search_space import SearchSpace

Report = Callable[[DesignSet, int], None]
"""Callback with each batch of evaluated rows and the total number of evaluations."""

SMALL_BATCH = 8
"""Maximum points of the small program, for methods that evaluate point by point."""


class Evaluator:
    """Exact objectives of rounded points under one budget, the same for every search method.

    Runs in float64, in batches padded to one of `sizes`: one program per size and variant. NaN
    objectives become infinite.
    """

    def __init__(
        self,
        objectives_fn: ObjectivesFn,
        space: SearchSpace,
        base: Any,
        report: Report | None = None,
        *,
        sizes: tuple[int, ...] = (SMALL_BATCH, LARGEST_BATCH),
        shape: tuple[int, int] | None = None,
        log: SearchLog | None = None,
    ):
        self.objectives_fn = objectives_fn
        self.space = space
        self.bases = space.program_bases(base)
        self.num_evaluations = 0
        self._report = report
        self._sizes = sizes
        self._shape = shape
        self.log = SearchLog() if log is None else log
        """Log of the batches."""

    def __call__(self, units: np.ndarray, variants: np.ndarray) -> DesignSet:
        """Rows of these points; sequence indices continue the count of evaluations."""
        with jax.enable_x64(True):
            log_objectives, constraint_values = self.log.keep(
                f"rows.{self.num_evaluations}", units, lambda: self._in_groups(units, variants)
            )
        self._shape = log_objectives.shape[1], constraint_values.shape[1]
        sequence_indices = self.num_evaluations + np.arange(len(units))
        self.num_evaluations += len(units)
        no_metrics = np.empty((len(units), 0))
        rows = DesignSet(
            units,
            log_objectives,
            constraint_values,
            variants.astype(np.int64),
            sequence_indices,
            no_metrics,
        )
        if self._report is not None and len(units):
            self._report(rows, self.num_evaluations)
        return rows

    def charge_gradients(self, num_gradients: int) -> None:
        """Count values with gradients, at `GRADIENT_COST_EVALUATIONS` each."""
        self.num_evaluations += GRADIENT_COST_EVALUATIONS * num_gradients

    def _in_groups(self, units: np.ndarray, variants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def run(points: Any, variant: int) -> tuple[Any, Any]:
            return evaluate_batch(
                points, self.bases[variant], objectives_fn=self.objectives_fn, space=self.space
            )

        log_objectives, constraint_values = by_variant(run, units, variants, self._sizes)
        log_objectives = np.where(np.isnan(log_objectives), np.inf, log_objectives)
        return log_objectives, without_rounding(
            np.where(np.isnan(constraint_values), np.inf, constraint_values)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of objectives and constraints; traces the model if no point was evaluated
        yet."""
        if self._shape is not None:
            return self._shape

        def evaluated(unit: jax.Array) -> Any:
            return self.objectives_fn(self.space.decode_rounded(unit, self.bases[0]), EXACT)

        with jax.enable_x64(True):
            shapes = jax.eval_shape(
                evaluated, jax.ShapeDtypeStruct((self.space.num_dims,), jnp.float64)
            )
        self._shape = shapes[0].shape[0], shapes[1].shape[0]
        return self._shape


class Archive:
    """All evaluated rows of a search, and their non-dominated front."""

    def __init__(self, evaluator: Evaluator, units: np.ndarray, variants: np.ndarray):
        self.evaluator = evaluator
        self.rows = evaluator(units, variants)
        feasible = self.rows.take(np.flatnonzero(self.rows.is_feasible))
        self.front = merge(feasible, feasible.take(np.arange(0)))

    def add(self, units: np.ndarray, variants: np.ndarray) -> DesignSet:
        """Evaluate points, add them to the archive and return their rows."""
        rows = self.evaluator(units, variants)
        self.rows = self.rows.joined(rows)
        self.front = merge(self.front, rows.take(np.flatnonzero(rows.is_feasible)))
        return rows
