r"""Gaussian process regression with a linear trend, for smooth functions of few values.

Covariance $k(x, y) = a\, m(r) + b\,(1 + \bar x \cdot \bar y)$ of points with $r^2 = \sum_i (x_i -
y_i)^2 / l_i^2$ and $\bar x$ less the mean, the Matérn function $m(r) = (1 + \sqrt 5 r + 5 r^2 /
3)\, e^{-\sqrt 5 r}$, and noise on its diagonal. Source: C. Rasmussen and C. Williams, Gaussian
Processes for Machine Learning (2006), chapters 2 and 5; prior of the lengths: C. Hvarfner, E.
Hellsten and L. Nardi, ICML 2024.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs, solve_triangular
from scipy.optimize import minimize as scipy_minimize

potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)
JITTER = 1e-8
"""Minimum noise: keeps the covariance of nearly equal points positive definite."""
LOG_LENGTH_SPREAD = np.sqrt(3.0)
LOG_NOISE = np.log(1e-4)
"""Prior median of the noise, in variances of the values: the evaluation is exact, the noise
represents its steps."""
LOG_SPREAD = 2.0
"""Prior standard deviation of the other logarithms."""
LENGTH_BOUNDS = (-4.0, 6.0)
OTHER_BOUNDS = ((-6.0, 6.0), (-16.0, 0.0), (-6.0, 4.0))
"""Bounds of the logarithms of amplitude, noise and trend."""
ROOT5 = np.sqrt(5.0)


@dataclass(frozen=True)
class Prediction:
    """Mean and variance at points; `whitened` is an input of `Regression.covariances`."""

    mean: np.ndarray
    variance: np.ndarray
    whitened: np.ndarray


def first_logs(num_dims: int) -> np.ndarray:
    """Prior medians of the logarithms of lengths, amplitude, noise and trend.

    Lengths grow with the square root of the dimensions, as distances do.
    """
    log_length = np.sqrt(2.0) - 1.0 + 0.5 * np.log(num_dims)
    return np.append(np.full(num_dims, log_length), (0.0, LOG_NOISE, 0.0))


def fitted_logs(
    points: np.ndarray, values: np.ndarray, logs: np.ndarray, max_iterations: int
) -> np.ndarray:
    """Logarithms of the maximum posterior, from given initial values; `values` have mean 0 and
    variance 1."""
    num_dims = points.shape[1]
    squares = ((points[:, None] - points[None]) ** 2).reshape(-1, num_dims)
    found = scipy_minimize(
        loss,
        logs,
        args=(squares, _trend(points, points, points.mean(axis=0)), values),
        jac=True,
        method="L-BFGS-B",
        bounds=[*[LENGTH_BOUNDS] * num_dims, *OTHER_BOUNDS],
        options={"maxiter": max_iterations},
    )
    return found.x if np.isfinite(found.x).all() else logs


def loss(
    logs: np.ndarray, squares: np.ndarray, trend: np.ndarray, values: np.ndarray
) -> tuple[float, np.ndarray]:
    r"""$-\ln p(\text{values}, \text{logs})$ up to a constant, and its gradient.

    With $\alpha = K^{-1} y$: $\partial = \frac12 \operatorname{tr}((K^{-1} - \alpha \alpha^T)
    \partial K)$, Rasmussen and Williams equation 5.9.
    """
    num, num_dims = len(values), squares.shape[1]
    weights = np.exp(-2.0 * logs[:num_dims])
    amplitude, noise, slope = np.exp(logs[num_dims:])
    square = (squares @ weights).reshape(num, num)
    root = np.sqrt(square)
    fall = np.exp(-ROOT5 * root)
    shape = (1.0 + ROOT5 * root + 5.0 / 3.0 * square) * fall
    covariance = amplitude * shape + slope * trend
    covariance[np.diag_indices(num)] += noise + JITTER
    factor, failed = potrf(covariance, lower=1)
    if failed:
        return 1e10, np.zeros_like(logs)
    log_root = np.sum(np.log(np.diag(factor)))
    inverse, _ = potri(factor, lower=1, overwrite_c=1)  # inverse covariance, lower half
    inverse += np.tril(inverse, -1).T
    pulled = inverse @ values
    half = 0.5 * (inverse - np.outer(pulled, pulled))
    by_square = half * amplitude * (-5.0 / 6.0) * (1.0 + ROOT5 * root) * fall
    gradient = np.concatenate(
        (
            (by_square.ravel() @ squares) * (-2.0 * weights),
            (
                np.sum(half * shape) * amplitude,
                np.trace(half) * noise,
                np.sum(half * trend) * slope,
            ),
        )
    )
    spreads = np.append(np.full(num_dims, LOG_LENGTH_SPREAD), np.full(3, LOG_SPREAD))
    off = (logs - first_logs(num_dims)) / spreads
    likelihood = 0.5 * values @ pulled + log_root
    return float(likelihood + 0.5 * np.sum(off**2)), gradient + off / spreads


def _trend(first: np.ndarray, second: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return 1.0 + (first - mean) @ (second - mean).T


class Regression:
    """Gaussian process conditioned on values at points, for given logarithms of its
    hyperparameters."""

    def __init__(self, points: np.ndarray, values: np.ndarray, logs: np.ndarray):
        self._points = points
        self._mean = points.mean(axis=0)
        self._rates = np.exp(-logs[:-3])
        self._amplitude, self._noise, self._slope = np.exp(logs[-3:])
        covariance = self.prior(points, points)
        covariance[np.diag_indices(len(points))] += self._noise + JITTER
        self._factor = np.linalg.cholesky(covariance)
        self._pulled = solve_triangular(self._factor, values, lower=True)

    @property
    def noise(self) -> float:
        """Variance of the values about the process."""
        return float(self._noise + JITTER)

    def prior(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Prior covariances of two lists of points."""
        one, two = first * self._rates, second * self._rates
        square = np.sum(one**2, axis=1)[:, None] + np.sum(two**2, axis=1) - 2.0 * one @ two.T
        square = np.maximum(square, 0.0)
        root = ROOT5 * np.sqrt(square)
        shape = (1.0 + root + 5.0 / 3.0 * square) * np.exp(-root)
        return self._amplitude * shape + self._slope * _trend(first, second, self._mean)

    def predict(self, points: np.ndarray) -> Prediction:
        """Mean and variance of the process, without noise, at other points."""
        known: Any = self.prior(self._points, points)
        whitened = solve_triangular(self._factor, known, lower=True, check_finite=False)
        spread = self._slope * (1.0 + np.sum((points - self._mean) ** 2, axis=1))
        variance = self._amplitude + spread - np.sum(whitened**2, axis=0)
        return Prediction(whitened.T @ self._pulled, np.maximum(variance, 1e-12), whitened)

    def covariances(self, points: np.ndarray, prediction: Prediction, index: int) -> np.ndarray:
        """Predicted covariances of all points with the point at an index."""
        prior = self.prior(points, points[index : index + 1])[:, 0]
        return prior - prediction.whitened.T @ prediction.whitened[:, index]
