"""Uncertain constants: distributions, variance budgets of monomials, percentiles, robust
objectives."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.numerics import struct
from hwdse.numerics.relaxation import EXACT
from hwdse.search.descent.minimize import minimize
from hwdse.search.space.search_space import Dimension, SearchSpace
from hwdse.search.uncertainty.robust import Robust, RobustObjectivesFn, parse_robust
from hwdse.search.uncertainty.uncertain_constants import (
    DISTRIBUTIONS,
    UncertainConstant,
    perturbed,
    relative_uncertainty,
    sample_factors,
)
from hwdse.search.uncertainty.uncertainty_propagation import (
    percentiles,
    sample_metrics,
    variance_budget,
)


@struct.dataclass
class Pair:
    a: object
    b: object
    x: object


BASE = Pair(2.0, 5.0, 1.0)
POWERS = np.array([1.0, -2.0])


def metrics_fn(design):
    """a / b^2, and a constant."""
    return jnp.stack([jnp.asarray(design.a * design.b**-2.0, float), jnp.asarray(3.0)])


def constants_of(relative):
    return tuple(relative_uncertainty(name, relative) for name in "ab")


def sampled(relative, num_samples=512, seed=0):
    with jax.enable_x64(True):
        return sample_metrics(
            metrics_fn, BASE, constants_of(relative), num_samples=num_samples, seed=seed
        )


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@given(
    low=st.floats(0.05, 0.95), high=st.floats(1.05, 20.0), u=st.floats(0.001, 0.999),
    v=st.floats(0.001, 0.999),
)  # fmt: skip
def test_quantiles_increase_between_the_given_points(distribution, low, high, u, v):
    constant = UncertainConstant("a", low, high, distribution)
    first, second = constant.factor(np.array([min(u, v), max(u, v)]))
    assert 0.0 < first <= second
    ends = constant.factor(np.array([0.05, 0.95]))
    if distribution in ("uniform", "triangular"):
        assert low - 1e-12 <= first
        assert second <= high + 1e-12
    elif distribution == "lognormal" or low + high > 2e-3 + 2.0 * (high - low):
        np.testing.assert_allclose(ends, (low, high), rtol=1e-9)


def test_moments_of_distributions_in_closed_form():
    u = (np.arange(100_000) + 0.5) / 100_000
    triangle = UncertainConstant("a", 0.5, 2.0, "triangular").factor(u)
    assert triangle.mean() == pytest.approx((0.5 + 1.0 + 2.0) / 3.0, rel=1e-4)
    variance = (0.25 + 1.0 + 4.0 - 0.5 - 1.0 - 2.0) / 18.0
    assert triangle.var() == pytest.approx(variance, rel=1e-3)
    assert UncertainConstant("a", 0.5, 2.0, "uniform").factor(u).var() == pytest.approx(
        1.5**2 / 12.0, 1e-3
    )
    assert relative_uncertainty("a", 0.3).log_sigma == pytest.approx(math.log(1.3))
    small = relative_uncertainty("a", 0.02, "normal")
    assert small.log_sigma == pytest.approx(0.02, rel=0.01)
    assert small.factor(u).std() == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [(1.2, 2.0), (0.5, 0.9), (1.0, 1.0), (0.0, 2.0), (0.5, math.inf), (0.5, 2.0, "gauss")],
)
def test_invalid_uncertain_constants_are_refused(fields):
    with pytest.raises(ValueError, match="a: "):
        UncertainConstant("a", *fields)


def test_sample_is_a_latin_hypercube_and_deterministic_for_a_seed():
    uncertain_constants = (
        UncertainConstant("a", 0.5, 2.0, "uniform"),
        UncertainConstant("b", 0.5, 2.0, "uniform"),
    )
    factors = sample_factors(uncertain_constants, 64, seed=1)
    slices = np.floor((factors - 0.5) / 1.5 * 64)
    assert all(sorted(column) == list(range(64)) for column in slices.T)
    np.testing.assert_array_equal(factors, sample_factors(uncertain_constants, 64, seed=1))
    assert np.abs(factors - sample_factors(uncertain_constants, 64, seed=2)).max() > 0.1
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.5


def test_fractions_are_capped_at_one():
    constant = relative_uncertainty("x", 0.5, highest=1.0)
    assert perturbed(BASE, [constant], [1.7]).x == 1.0
    assert perturbed(BASE, [constant], [0.7]).x == pytest.approx(0.7)


def test_variance_budget_of_a_monomial_in_closed_form():
    uncertain_constants = (relative_uncertainty("a", 0.3), relative_uncertainty("b", 0.1))
    with jax.enable_x64(True):
        budget = variance_budget(metrics_fn, BASE, uncertain_constants)
    sigmas = np.log([1.3, 1.1])
    expected = (POWERS * sigmas) ** 2
    np.testing.assert_allclose(budget.elasticities[0], POWERS, rtol=1e-12)
    np.testing.assert_allclose(budget.variances[0], expected, rtol=1e-12)
    np.testing.assert_allclose(budget.shares[0], expected / expected.sum(), rtol=1e-12)
    assert budget.total_sigmas[0] == pytest.approx(math.sqrt(expected.sum()))
    assert budget.total_sigmas[1] == 0.0
    assert (budget.shares[1] == 0.0).all()


def test_sampled_sigma_of_a_monomial_agrees_with_its_budget():
    values = sampled(0.2)
    sigma = math.log(1.2) * math.sqrt(5.0)
    assert np.log(values[:, 0]).std() == pytest.approx(sigma, rel=0.05)
    found = percentiles(values)
    np.testing.assert_allclose(
        found[:, 0], 0.08 * np.exp(np.array([-1.645, 0.0, 1.645]) * sigma), rtol=0.12
    )
    np.testing.assert_array_equal(found[:, 1], 3.0)


def test_percentile_intervals_shrink_with_the_uncertainty():
    widths = [
        np.diff(np.log(percentiles(sampled(r))[[0, 2], 0]))[0] for r in (0.4, 0.2, 0.05, 1e-6)
    ]
    assert all(wide > narrow > 0.0 for wide, narrow in itertools.pairwise(widths))
    assert widths[-1] < 1e-5


def test_sample_metrics_are_deterministic_for_a_seed():
    np.testing.assert_array_equal(sampled(0.2, 300), sampled(0.2, 300))
    assert np.abs(sampled(0.2, 300) - sampled(0.2, 300, seed=1)).max() > 0.0


def objectives_fn(design, relaxation):
    """Log of b / (a x), and of a x over 8."""
    return jnp.log(design.b / (design.a * design.x))[None], jnp.log(design.a * design.x / 8.0)[None]


def robust_at(text, relative=0.3, num_samples=64):
    wrapped = RobustObjectivesFn(
        objectives_fn, constants_of(relative), parse_robust(text, num_samples), seed=0
    )
    with jax.enable_x64(True):
        values, broken = wrapped(BASE, EXACT)
    return float(values[0]), float(broken[0])


def test_robust_rules_are_ordered_and_equal_for_certain_constants():
    chain = [robust_at(text) for text in ("quantile 0.1", "quantile 0.5", "quantile 0.9", "worst")]
    for index in (0, 1):
        column = [values[index] for values in chain]
        assert sorted(column) == column
        assert column[0] < robust_at("mean")[index] < column[-1]
    for text in ("mean", "worst", "quantile 0.9"):
        assert robust_at(text, 1e-9)[0] == pytest.approx(math.log(2.5), abs=1e-7)


def test_mean_and_quantile_rules_agree_with_numpy():
    factors = sample_factors(constants_of(0.3), 64, 0)
    values = 2.5 * factors[:, 1] / factors[:, 0]
    assert robust_at("mean")[0] == pytest.approx(math.log(values.mean()), rel=1e-12)
    assert robust_at("quantile 0.9")[0] == pytest.approx(np.quantile(np.log(values), 0.9))


def test_worst_case_meets_the_limit_in_every_sample():
    """Minimize b / (a x) under a x <= 8: the nominal optimum x = 4 violates the limit in half of
    the samples."""
    uncertain_constants = constants_of(0.2)
    wrapped = RobustObjectivesFn(
        objectives_fn, uncertain_constants, Robust("worst", num_samples=16), seed=0
    )

    def objective_fn(design, relaxation):
        values, broken = wrapped(design, relaxation)
        return values[0], broken

    space = SearchSpace((Dimension("x", 0.1, 10.0, "log", None),))
    search_budget = {
        "num_screened": 16,
        "num_starts": 2,
        "num_steps": 60,
        "local_search_rounds": 20,
    }
    with jax.enable_x64(True):
        found, again = (
            minimize(objective_fn, space, BASE, seed=0, **search_budget) for _ in range(2)
        )
    largest = sample_factors(uncertain_constants, 16, 0)[:, 0].max()
    assert found.is_feasible
    assert found.design.x == pytest.approx(4.0 / largest, rel=0.005)
    assert found.design == again.design


@pytest.mark.parametrize(
    "text", ["median", "quantile", "quantile 1.5", "quantile x", "", "worst 2"]
)
def test_unknown_rules_are_refused(text):
    with pytest.raises(ValueError, match="quantile Q"):
        parse_robust(text)
