"""Designs under one sample of uncertain constants: percentiles, and probability of membership in
the front."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from hwdse.numerics.jit_compile import search_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.evaluation.batch_evaluation import by_variant
from hwdse.search.evaluation.search_result import ObjectivesFn, without_rounding
from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.uncertainty.robust import over_sample
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant, sample_factors
from hwdse.search.uncertainty.uncertainty_propagation import QUANTILES

DESIGNS_AT_ONCE = 64
"""Designs per program, padded, with `SAMPLES_AT_ONCE` samples of each in parallel."""


@dataclass(frozen=True)
class SampledDesigns:
    """Designs under common samples of the constants, so that they are comparable in each
    sample."""

    nominal: np.ndarray
    """Logs of the objectives at the nominal constants, designs by objectives."""
    log_objectives: np.ndarray
    """Logs of the objectives, samples by designs by objectives."""
    constraint_values: np.ndarray
    """ln(value / limit), samples by designs by constraints."""

    @property
    def percentiles(self) -> np.ndarray:
        """`QUANTILES` of each objective in base units: quantiles by designs by objectives."""
        return np.exp(np.quantile(self.log_objectives, QUANTILES, axis=0))

    @property
    def meets_limits(self) -> np.ndarray:
        """True where a design meets all limits and has finite objectives, samples by designs."""
        return np.all(self.constraint_values <= 0.0, axis=2) & np.all(
            np.isfinite(self.log_objectives), axis=2
        )

    @property
    def is_on_front(self) -> np.ndarray:
        """True where a design is feasible and no other feasible design dominates it, samples by
        designs. Equal designs do not dominate each other."""
        member = np.zeros(self.log_objectives.shape[:2], bool)
        for row, log_objectives, is_feasible in zip(
            member, self.log_objectives, self.meets_limits, strict=True
        ):
            indices = np.flatnonzero(is_feasible)
            if len(indices):
                distinct, inverse = np.unique(log_objectives[indices], axis=0, return_inverse=True)
                row[indices] = non_dominated_mask(distinct)[inverse.reshape(-1)]
        return member


def sample_designs(
    objectives_fn: ObjectivesFn,
    space: SearchSpace,
    base: Any,
    units: np.ndarray,
    variants: np.ndarray,
    uncertain_constants: tuple[UncertainConstant, ...],
    *,
    num_samples: int,
    seed: int,
    on_batch: Callable[[int], None] | None = None,
) -> SampledDesigns:
    """Exact float64 objectives of rounded designs under one Latin hypercube of the constants.

    `units` are points of the unit cube, `variants` their indices in `space.variant_bases`. The
    sample is the same for all designs (common random numbers) and for the same seed: differences
    between designs have little sampling noise. `on_batch` receives the number of finished designs.
    """
    bases = space.program_bases(base)
    size = min(1 << (max(len(units), 1) - 1).bit_length(), DESIGNS_AT_ONCE)

    def run(points: Any, variant: int) -> tuple[Any, Any]:
        return _sample_batch(
            points,
            jax.tree.map(float, bases[variant]),
            objectives_fn=objectives_fn,
            space=space,
            uncertain_constants=uncertain_constants,
            num_samples=num_samples,
            seed=seed,
        )

    with jax.enable_x64(True):
        values, broken = by_variant(run, units, variants, (size,), on_batch)
    broken = without_rounding(broken)
    return SampledDesigns(values[:, 0], values[:, 1:].swapaxes(0, 1), broken[:, 1:].swapaxes(0, 1))


@partial(
    search_jit,
    static_argnames=("objectives_fn", "space", "uncertain_constants", "num_samples", "seed"),
)
def _sample_batch(
    units: Any,
    base: Any,
    *,
    objectives_fn: ObjectivesFn,
    space: SearchSpace,
    uncertain_constants: tuple[UncertainConstant, ...],
    num_samples: int,
    seed: int,
) -> tuple[Any, Any]:
    """Objectives and constraint values, designs by samples; sample 0 has the nominal constants."""
    sample = sample_factors(uncertain_constants, num_samples, seed)
    factors = np.concatenate((np.ones((1, len(uncertain_constants))), sample))

    def one(unit: Any) -> Any:
        design = space.decode_rounded(unit, base)
        return over_sample(
            lambda varied: objectives_fn(varied, EXACT), design, uncertain_constants, factors
        )

    return jax.vmap(one)(units)


def attained(log_objectives: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Smallest second objective that each sample's front attains below a first objective:
    attainment curves at `QUANTILES`, quantiles by values of `first`; infinite where not attained.

    `log_objectives` are samples by designs by two objectives. Source: Grunert da Fonseca, Fonseca
    and Hall, EMO 2001, section 3.
    """
    curves = np.empty((len(log_objectives), len(first)))
    for curve, points in zip(curves, log_objectives, strict=True):
        ordered = points[np.argsort(points[:, 0], kind="stable")]
        best = np.append(np.inf, np.minimum.accumulate(ordered[:, 1]))
        curve[:] = best[np.searchsorted(ordered[:, 0], first, side="right")]
    return np.quantile(curves, QUANTILES, axis=0, method="inverted_cdf")
