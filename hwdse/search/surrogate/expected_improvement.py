"""Acquisition functions: expected improvement of one objective, and of the hypervolume of a
front."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr

from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask

FAR_TAIL = -6.0
"""Standard deviations below which the expected improvement is replaced by its asymptote."""
NUM_DIRECTIONS = 24
"""Directions that sample the hypervolume improvement."""
SMALL_DIRECTIONS = 8
"""Directions, drawn anew, for each next design of a batch."""
REFERENCE_MARGIN = 0.3
"""Distance of the reference point from the worst values of a front, relative to its extent."""
MIN_EXTENT = 0.05
"""Minimum extent of a front, in logarithms."""
TINY = 1e-200
"""Expected improvements below this are summed by their logarithms."""
STEPS = np.append(0.0, 3.0 ** np.arange(-6.0, 2.0))
"""Improvements along a direction at which the expectation is integrated; accurate within 50 %."""


@runtime_checkable
class Acquisition(Protocol):
    """Expected improvement by one more evaluated design."""

    def log_expected(self, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """Log of the expected improvement of designs with normally distributed objectives,
        objectives by designs."""
        ...

    def after(self, means: np.ndarray) -> "Acquisition":
        """Acquisition that remains when a design with these objectives is known."""
        ...


@dataclass(frozen=True)
class ExpectedImprovement:
    """Expected decrease of one log objective below the best known; `best` is None before a
    feasible design is known."""

    best: float | None

    def log_expected(self, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """See `log_expected_improvement`; 0 for all designs before a feasible design is known."""
        if self.best is None:
            return np.zeros(means.shape[1])
        return log_expected_improvement(means[0], deviations[0], self.best)

    def after(self, means: np.ndarray) -> "ExpectedImprovement":
        """The same acquisition: the best is not updated before an evaluation."""
        return self


def log_expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    r"""$\ln E[\max(b - y, 0)]$ of a normal $y$: $\sigma (\phi(u) + u \Phi(u))$, $u = (b - \mu) /
    \sigma$, with the asymptote $\phi(u) / u^2$ in the far tail.

    Source: D. Jones, M. Schonlau and W. Welch, J. Global Optimization 13, 455 (1998), equation 15.
    """
    steps = (best - mean) / deviation
    log_density = -0.5 * steps**2 - 0.5 * np.log(2.0 * np.pi)
    near = np.exp(log_density) + steps * ndtr(steps)
    far = log_density - 2.0 * np.log(np.maximum(-steps, 1.0))
    is_far = steps < FAR_TAIL
    return np.log(deviation) + np.where(is_far, far, np.log(np.where(is_far, 1.0, near)))


@dataclass(frozen=True)
class ExpectedHypervolumeImprovement:
    r"""Expected growth of the hypervolume of a front, sampled in some directions.

    The reach of a point along a direction is $r_\lambda(y) = \min_i (z_i - y_i) / (\lambda_i
    e_i)$, with reference $z$ and extents $e$. The hypervolume of a set is proportional to the mean
    of $\max_y r_\lambda(y)^m$ over the directions. Source: R. Zhang and D. Golovin, Random
    Hypervolume Scalarizations, ICML 2020, lemma 5.
    """

    log_objectives: np.ndarray
    """Logs of the objectives of the known feasible designs, designs by objectives."""
    generator: np.random.Generator
    """Generator of the directions."""
    num_directions: int = NUM_DIRECTIONS
    reference: np.ndarray | None = None
    extent: np.ndarray | None = None

    @classmethod
    def over(
        cls, log_objectives: np.ndarray, generator: np.random.Generator
    ) -> "ExpectedHypervolumeImprovement":
        """Acquisition over these feasible, mutually non-dominated designs."""
        if not len(log_objectives):
            return cls(log_objectives, generator)
        extent = np.maximum(np.ptp(log_objectives, axis=0), MIN_EXTENT)
        return cls(
            log_objectives,
            generator,
            reference=log_objectives.max(axis=0) + REFERENCE_MARGIN * extent,
            extent=extent,
        )

    def log_expected(self, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        r"""$\ln$ of the mean over directions of $\int m r^{m-1} \prod_i P(z_i - y_i > r \lambda_i
        e_i)\, dr$, integrated from the reach of the front; 0 for all before a feasible design is
        known."""
        if self.reference is None or self.extent is None:
            return np.zeros(means.shape[1])
        num_objectives = len(means)
        shape = (self.num_directions, num_objectives)
        directions = np.abs(self.generator.standard_normal(shape)) + 1e-6
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        depths = (self.reference - self.log_objectives) / self.extent
        reached = np.min(depths[:, None] / directions, axis=2).max(axis=0)
        reach = np.maximum(reached, 0.0)[:, None] + STEPS
        widths = np.gradient(STEPS) * num_objectives * reach ** (num_objectives - 1)
        depth = ((self.reference - means.T) / self.extent)[:, None, None]
        scaled_deviations = (deviations.T / self.extent)[:, None, None]
        scaled_margins = (depth - directions[:, None] * reach[:, :, None]) / scaled_deviations
        probabilities = np.prod(ndtr(scaled_margins), axis=3)
        improvements = np.einsum("pds,ds->p", probabilities, widths)
        logs = np.log(np.maximum(improvements, TINY))
        is_far = improvements <= TINY
        if np.any(is_far):
            probabilities = np.sum(log_ndtr(scaled_margins[is_far]), axis=3)
            logs[is_far] = logsumexp(probabilities, b=widths, axis=(1, 2))
        return logs - np.log(self.num_directions)

    def after(self, means: np.ndarray) -> "ExpectedHypervolumeImprovement":
        """Acquisition over the front with this member, along fewer, new directions."""
        log_objectives = np.concatenate((self.log_objectives, means[None]))
        log_objectives = log_objectives[non_dominated_mask(log_objectives)]
        return replace(self, log_objectives=log_objectives, num_directions=SMALL_DIRECTIONS)
