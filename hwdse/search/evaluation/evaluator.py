"""The exact reading of points of all variants, each evaluation counted and reported."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.relaxation import EXACT, Reading
from hwdse.search.evaluation.batch_evaluation import LARGEST_BATCH, by_variant, score_batch
from hwdse.search.evaluation.search_result import GRADIENT_COST_EVALUATIONS, without_rounding
from hwdse.search.pareto.pareto_archive import Front, merge
from hwdse.search.space.search_space import SearchSpace

Costs = Callable[[Any, Reading], tuple[Any, Any]]
"""Design and reading to the logs of the objectives and ln(value / limit) of the constraints."""
Report = Callable[[Front, int], None]
"""Called with each batch of judged rows and the evaluations spent so far."""

SMALL_BATCH = 8
"""Up to so many points run in a program of their own: methods that ask point by point."""


class Evaluator:
    """Exact costs of buildable points under one budget; the same for every search method.

    Runs in float64, in batches padded to one of `sizes`: one program for each of them and
    variant. Costs that are not numbers count as infinitely bad.
    """

    def __init__(
        self,
        costs: Costs,
        space: SearchSpace,
        base: Any,
        report: Report | None = None,
        *,
        sizes: tuple[int, ...] = (SMALL_BATCH, LARGEST_BATCH),
        shape: tuple[int, int] | None = None,
    ):
        self.costs = costs
        self.space = space
        self.bases = [variant_base for _, variant_base in space.variant_bases(base)]
        self.num_evaluations = 0
        self._report = report
        self._sizes = sizes
        self._shape = shape

    def __call__(self, units: np.ndarray, variants: np.ndarray) -> Front:
        """Rows of these points, numbered by the evaluations before them."""
        with jax.enable_x64(True):
            costs, violations = self._in_groups(units, variants)
        numbers = self.num_evaluations + np.arange(len(units))
        self.num_evaluations += len(units)
        nothing = np.empty((len(units), 0))
        rows = Front(units, costs, violations, variants.astype(np.int64), numbers, nothing)
        if self._report is not None and len(units):
            self._report(rows, self.num_evaluations)
        return rows

    def charge_gradients(self, num_gradients: int) -> None:
        """Counts values with gradients at `GRADIENT_COST_EVALUATIONS` each."""
        self.num_evaluations += GRADIENT_COST_EVALUATIONS * num_gradients

    def _in_groups(self, units: np.ndarray, variants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def run(points: Any, variant: int) -> tuple[Any, Any]:
            return score_batch(points, self.bases[variant], score=self.costs, space=self.space)

        costs, violations = by_variant(run, units, variants, self._sizes)
        self._shape = costs.shape[1], violations.shape[1]
        costs = np.where(np.isnan(costs), np.inf, costs)
        return costs, without_rounding(np.where(np.isnan(violations), np.inf, violations))

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of objectives and constraints; traces the model if nothing was judged yet."""
        if self._shape is not None:
            return self._shape

        def judged(unit: jax.Array) -> Any:
            return self.costs(self.space.decode_buildable(unit, self.bases[0]), EXACT)

        with jax.enable_x64(True):
            shapes = jax.eval_shape(
                judged, jax.ShapeDtypeStruct((self.space.num_dims,), jnp.float64)
            )
        self._shape = shapes[0].shape[0], shapes[1].shape[0]
        return self._shape


class Pool:
    """Every judged row of a search, and the front of them."""

    def __init__(self, evaluator: Evaluator, units: np.ndarray, variants: np.ndarray):
        self.evaluator = evaluator
        self.rows = evaluator(units, variants)
        feasible = self.rows.take(np.flatnonzero(self.rows.is_feasible))
        self.front = merge(feasible, feasible.take(np.arange(0)))

    def add(self, units: np.ndarray, variants: np.ndarray) -> Front:
        """Judges points and keeps them; the rows of these points."""
        rows = self.evaluator(units, variants)
        self.rows = self.rows.joined(rows)
        self.front = merge(self.front, rows.take(np.flatnonzero(rows.is_feasible)))
        return rows
