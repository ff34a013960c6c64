"""Gaussian process and batch choice: gradients, dense formulas, known optima."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace, Variant
from hwdse.search.surrogate.expected_improvement import ExpectedImprovement
from hwdse.search.surrogate.gaussian_process import Regression, first_logs, fitted_logs, loss
from hwdse.search.surrogate.surrogate_model import Surrogate, features


def sample(num, num_dims, seed):
    return np.random.default_rng(seed).random((num, num_dims))


@pytest.mark.parametrize("num_dims", [1, 3, 12])
def test_gradient_of_the_loss_agrees_with_finite_differences(num_dims):
    points = sample(12, num_dims, 0)
    values = np.sin(points.sum(axis=1)) + points[:, 0]
    squares = ((points[:, None] - points[None]) ** 2).reshape(-1, num_dims)
    centered = points - points.mean(axis=0)
    trend = 1.0 + centered @ centered.T
    rest = (squares, trend, values - values.mean())
    logs = first_logs(num_dims) + 0.3 * np.random.default_rng(1).normal(size=num_dims + 3)
    error = check_grad(lambda x: loss(x, *rest)[0], lambda x: loss(x, *rest)[1], logs)
    assert error < 1e-4 * np.linalg.norm(loss(logs, *rest)[1])


def test_fit_finds_the_relevant_coordinate():
    points = sample(60, 4, 2)
    values = np.sin(6.0 * points[:, 2])
    values = (values - values.mean()) / values.std()
    logs = fitted_logs(points, values, first_logs(4), 50)
    assert np.argmin(logs[:4]) == 2
    model = Regression(points, values, logs)
    assert np.abs(model.predict(points).mean - values).max() < 0.02


def test_predictions_agree_with_the_dense_formula():
    points, others = sample(15, 3, 3), sample(7, 3, 4)
    values = np.cos(points.sum(axis=1))
    model = Regression(points, values, first_logs(3))
    known = model.prior(points, points) + model.noise * np.eye(15)
    cross = model.prior(points, others)
    prediction = model.predict(others)
    np.testing.assert_allclose(prediction.mean, cross.T @ np.linalg.solve(known, values), rtol=1e-9)
    dense = model.prior(others, others) - cross.T @ np.linalg.solve(known, cross)
    np.testing.assert_allclose(prediction.variance, np.diag(dense), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(model.covariances(others, prediction, 2), dense[:, 2], atol=1e-9)
    at_known = model.predict(points).variance
    assert (at_known < prediction.variance.min()).all()


def test_linear_function_is_extrapolated():
    points = sample(30, 2, 5)
    values = 3.0 * points[:, 0] - points[:, 1]
    scaled = (values - values.mean()) / values.std()
    model = Regression(points, scaled, fitted_logs(points, scaled, first_logs(2), 50))
    there = np.array([[2.0, -1.0]])
    expected = (3.0 * 2.0 + 1.0 - values.mean()) / values.std()
    assert model.predict(there).mean[0] == pytest.approx(expected, rel=0.05)


RANGE = Dimension("x", 1.0, 100.0, "log", None)
LAYOUT = Choice("layout", ("tp", "zero"), ((1.0, 0.0), (2.0, 0.0), (8.0, 1.0)), ("a", "b", "c"))
SPACE = SearchSpace((RANGE,), (LAYOUT,), (Variant("flow", ("ws", "os")),))


def test_features_of_similar_alternatives_are_close():
    units = np.array([[0.2, 1 / 6], [0.2, 0.5], [0.2, 5 / 6]])
    rows = features(SPACE, units, np.array([0, 0, 1]))
    np.testing.assert_allclose(rows[:, 0], 0.2)
    np.testing.assert_allclose(rows[:, 1], [0.0, 1 / 3, 1.0], atol=1e-12)  # powers of 2
    np.testing.assert_allclose(rows[:, 2], [0.0, 0.0, 1.0])
    np.testing.assert_allclose(rows[:, 3:], [[0.5, 0.0], [0.5, 0.0], [0.0, 0.5]])


def bowl(points, limit):
    """Minimum at 0.3 in every coordinate; the sum of the coordinates is limited."""
    logs = 4.0 * np.sum((points - 0.3) ** 2, axis=1)
    return EvaluatedPoints(points, logs, (points.sum(axis=1) - limit)[:, None])


def best_of(rows):
    return ExpectedImprovement(min(rows.log_objectives[rows.is_feasible], default=None))


def test_first_choice_is_near_the_constrained_minimum():
    points = sample(60, 2, 6)
    rows = bowl(points, 0.4)  # the best feasible design is at (0.2, 0.2)
    order = np.argsort(rows.log_objectives + 5.0 * np.maximum(rows.constraint_values[:, 0], 0.0))
    model = Surrogate()
    model.fit(points[order], rows.log_objectives[order, None], rows.constraint_values[order])
    candidates = np.stack(np.meshgrid(*[np.linspace(0, 1, 41)] * 2), axis=-1).reshape(-1, 2)
    chosen = candidates[model.choose(candidates, 4, best_of(rows))]
    assert np.abs(chosen[0] - 0.2).max() < 0.06
    assert len(np.unique(chosen, axis=0)) == 4


def test_first_choice_without_a_feasible_design_is_near_feasibility():
    points = 0.5 + 0.5 * sample(40, 2, 7)
    rows = bowl(points, 0.4)
    assert not rows.is_feasible.any()
    model = Surrogate()
    model.fit(points, rows.log_objectives[:, None], rows.constraint_values)
    candidates = sample(400, 2, 8)
    first = candidates[model.choose(candidates, 1, best_of(rows))[0]]
    assert first.sum() < np.median(candidates.sum(axis=1))


def test_non_finite_values_are_excluded():
    rows = bowl(sample(20, 2, 9), 2.0)
    logs = np.where(np.arange(20) % 3 == 0, np.inf, rows.log_objectives)
    model = Surrogate()
    model.fit(rows.units, logs[:, None], rows.constraint_values)
    assert np.isfinite(model.log_acquisition(sample(9, 2, 10), ExpectedImprovement(0.5))).all()
    with pytest.raises(np.linalg.LinAlgError, match="no finite value"):
        model.fit(rows.units, np.full((20, 1), np.inf), rows.constraint_values)
