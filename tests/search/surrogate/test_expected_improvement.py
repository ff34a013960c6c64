"""Expected improvement against integrals and sampled hypervolumes, and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hwdse.search.pareto.dominance_and_hypervolume import hypervolume, non_dominated_mask
from hwdse.search.surrogate.expected_improvement import (
    ExpectedHypervolumeImprovement,
    ExpectedImprovement,
    log_expected_improvement,
)

SHARE_OF_BALL = {2: np.pi / 4.0, 3: np.pi / 6.0, 4: np.pi**2 / 32.0}
"""Fraction of the volume of the unit ball in the positive orthant: hypervolume over mean r^m."""


@settings(deadline=None)
@given(st.floats(-30.0, 30.0), st.floats(1e-6, 1e3))
def test_expected_improvement_is_finite_and_grows_with_a_better_mean(steps, deviation):
    gains = log_expected_improvement(np.array([0.0, -0.1 * deviation]), np.full(2, deviation),
                              steps * deviation)  # fmt: skip
    assert np.isfinite(gains).all()
    assert gains[1] >= gains[0]


def test_expected_improvement_agrees_with_its_integral():
    mean, deviation, best = 0.3, 0.7, 0.1
    grid = np.linspace(mean - 9.0 * deviation, best, 200_001)
    density = norm.pdf(grid, mean, deviation)
    expected = np.sum((best - grid) * density) * (grid[1] - grid[0])
    found = np.exp(log_expected_improvement(np.array([mean]), np.array([deviation]), best))[0]
    assert found == pytest.approx(expected, rel=1e-4)
    near, far = (
        log_expected_improvement(np.array([x]), np.ones(1), 0.0)[0] for x in (5.999, 6.001)
    )
    assert near == pytest.approx(far, abs=0.1)  # continuous at the asymptote


def front_of(num, num_objectives, seed):
    log_objectives = np.random.default_rng(seed).random((num, num_objectives))
    log_objectives = log_objectives / np.linalg.norm(log_objectives, axis=1, keepdims=True)
    log_objectives = 1.0 - log_objectives
    return log_objectives[non_dominated_mask(log_objectives)]


def acquisition_over(log_objectives, num_directions):
    acquisition = ExpectedHypervolumeImprovement.over(log_objectives, np.random.default_rng(0))
    return ExpectedHypervolumeImprovement(
        log_objectives,
        acquisition.generator,
        num_directions,
        acquisition.reference,
        acquisition.extent,
    )


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
@pytest.mark.parametrize("deviation", [0.05, 0.3])
def test_expected_hypervolume_improvement_agrees_with_sampled_growth(num_objectives, deviation):
    log_objectives = front_of(6, num_objectives, 1)
    acquisition = acquisition_over(log_objectives, 4000)
    generator = np.random.default_rng(2)
    means = log_objectives[:1].T - 0.1 * np.arange(4.0)
    deviations = np.full_like(means, deviation)
    found = np.exp(acquisition.log_expected(means, deviations)) * SHARE_OF_BALL[num_objectives]
    before = hypervolume(log_objectives, acquisition.reference)
    expected = []
    for mean in means.T:
        draws = mean + deviation * generator.standard_normal((150, num_objectives))
        grown = [
            hypervolume(np.vstack((log_objectives, row)), acquisition.reference) for row in draws
        ]
        expected.append((np.mean(grown) - before) / np.prod(acquisition.extent))
    np.testing.assert_allclose(found, expected, rtol=0.5)  # coarse integration steps


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3), st.integers(1, 4))
def test_expected_hypervolume_improvement_is_finite_and_monotone_in_the_means(
    shift, deviation, num_objectives
):
    acquisition = acquisition_over(front_of(9, num_objectives, 3), 16)
    means = np.full((num_objectives, 1), shift) - np.array([0.0, 0.2 * deviation, deviation])
    logs = acquisition.log_expected(means, np.full_like(means, deviation))
    assert not np.isnan(logs).any()
    assert np.all(np.isfinite(logs[means[0] < 2.0]))
    assert np.all(np.diff(logs) >= -1e-9)


def test_expected_hypervolume_improvement_is_zero_on_the_front():
    log_objectives = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0]])
    acquisition = acquisition_over(log_objectives, 500)
    means = np.array([[0.1, 0.9], [0.05, 0.94], [0.5, 0.4], [0.6, 1.0]]).T
    logs = acquisition.log_expected(means, np.full_like(means, 1e-4))
    assert logs[2] > logs[1] > logs[0] > logs[3]


def test_expected_hypervolume_improvement_falls_near_an_assumed_design():
    log_objectives = np.array([[0.0, 1.0], [1.0, 0.0]])
    acquisition = ExpectedHypervolumeImprovement.over(log_objectives, np.random.default_rng(0))
    point = np.array([0.4, 0.4])
    means, deviations = point[:, None], np.full((2, 1), 0.02)
    after = acquisition.after(point)
    assert len(after.log_objectives) == 3
    assert after.log_expected(means, deviations) < acquisition.log_expected(means, deviations) - 2.0
    assert len(acquisition.after(np.array([1.1, 0.1])).log_objectives) == 2  # dominated


def test_acquisitions_are_constant_before_a_feasible_design():
    means = np.array([[1.0, 2.0], [3.0, 4.0]])
    for acquisition in (
        ExpectedImprovement(None),
        ExpectedHypervolumeImprovement.over(np.empty((0, 2)), np.random.default_rng(0)),
    ):
        np.testing.assert_array_equal(acquisition.log_expected(means, np.ones((2, 2))), 0.0)
