r"""Regression of a smooth function from few values: a Gaussian process with a linear trend.

Covariance $k(x, y) = a\, m(r) + b\,(1 + \bar x \cdot \bar y)$ of points with
$r^2 = \sum_i (x_i - y_i)^2 / l_i^2$ and $\bar x$ less the mean, the Matérn function
$m(r) = (1 + \sqrt 5 r + 5 r^2 / 3)\, e^{-\sqrt 5 r}$, and noise on its diagonal.
Source: C. Rasmussen and C. Williams, Gaussian Processes for Machine Learning (2006), chapters 2
and 5; prior of the lengths: C. Hvarfner, E. Hellsten and L. Nardi, ICML 2024.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs, solve_triangular
from scipy.optimize import minimize as scipy_minimize

potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)
JITTER = 1e-8
"""Least noise: keeps the covariance of points that nearly agree positive definite."""
LOG_LENGTH_SPREAD = np.sqrt(3.0)
LOG_NOISE = np.log(1e-4)
"""Prior median of the noise, in variances of the values: the model is exact, its steps are not."""
LOG_SPREAD = 2.0
"""Prior standard deviation of the other logarithms."""
LENGTH_BOUNDS = (-4.0, 6.0)
OTHER_BOUNDS = ((-6.0, 6.0), (-16.0, 0.0), (-6.0, 4.0))
"""Of the logarithms of amplitude, noise and trend."""
ROOT5 = np.sqrt(5.0)


@dataclass(frozen=True)
class Prediction:
    """Mean and variance at points; `whitened` is what `Regression.covariances` needs of them."""

    mean: np.ndarray
    variance: np.ndarray
    whitened: np.ndarray


def first_logs(num_dims: int) -> np.ndarray:
    """Prior medians of the logarithms of lengths, amplitude, noise and trend.

    Lengths grow as distances do, with the square root of the dimensions.
    """
    log_length = np.sqrt(2.0) - 1.0 + 0.5 * np.log(num_dims)
    return np.append(np.full(num_dims, log_length), (0.0, LOG_NOISE, 0.0))


def fitted_logs(
    points: np.ndarray, values: np.ndarray, logs: np.ndarray, max_iterations: int
) -> np.ndarray:
    """Logarithms of the largest posterior, sought from others; values of mean 0, variance 1."""
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
    r"""$-\ln p(\text{values}, \text{logs})$ but for a constant, and its gradient.

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
    inverse, _ = potri(factor, lower=1, overwrite_c=1)  # of the covariance; its lower half
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
    """The process after it has seen values at points, for given logarithms of its constants."""

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
        """Covariances of two lists of points before any value was seen."""
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
        """Covariances of all these points with the one at a place, as predicted."""
        prior = self.prior(points, points[index : index + 1])[:, 0]
        return prior - prediction.whitened.T @ prediction.whitened[:, index]
