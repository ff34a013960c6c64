"""Surrogate model of a search: Gaussian processes of its objectives and constraints, and the
choice of the next designs.

One process per log objective, and one per constraint that is near its limit. Designs are ranked by
expected improvement times the probability of feasibility.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.expected_improvement import Acquisition
from hwdse.search.surrogate.gaussian_process import Prediction, Regression, first_logs, fitted_logs

MAX_TRAINING_POINTS = 256
"""Maximum training designs, the best ones: the cost grows with the third power."""
MAX_FIT_POINTS = 128
"""Training designs used to fit lengths and amplitudes."""
FIRST_ITERATIONS = 25
MORE_ITERATIONS = 10
FIT_PERIOD = 8
"""Rounds between later fits; early fits are at rounds 0, 1, 3 and 7."""
FAR_FROM_LIMIT = -0.3
"""A constraint is not modeled if ln(value / limit) is below this for all designs."""
MAX_VIOLATION = 10.0
"""Constraint values are clipped here: accuracy far from the limit is not needed."""
VARIANT_DISTANCE = 0.5
"""Coordinate that separates a variant from the others; ranges have length one."""


def features(space: SearchSpace, units: np.ndarray, variants: np.ndarray) -> np.ndarray:
    """Coordinates in which similar designs are close.

    Coordinates of the dimensions, values set by the alternatives of each choice (logarithmic where
    above 0, scaled to 0 to 1), and one coordinate per variant.
    """
    num_ranges = len(space.dimensions)
    columns = [units[:, :num_ranges]]
    for index, choice in enumerate(space.choices, num_ranges):
        table = np.asarray(choice.table, float)
        table = np.where(table.min(axis=0) > 0.0, np.log(np.maximum(table, 1e-300)), table)
        table = table[:, np.ptp(table, axis=0) > 0.0]
        table = (table - table.min(axis=0)) / np.ptp(table, axis=0)
        columns.append(table[choice.index(units[:, index]).astype(int)])
    if space.variants:
        columns.append(VARIANT_DISTANCE * np.eye(space.num_variants)[variants])
    return np.concatenate(columns, axis=1)


@dataclass
class _Output:
    """Model of one output: a regression of its standardized values."""

    mean: float
    deviation: float
    process: Regression

    def means(self, prediction: Prediction) -> np.ndarray:
        """Predicted values."""
        return self.mean + self.deviation * prediction.mean


class Surrogate:
    """Models of the objectives and constraints; fitted hyperparameters are reused across
    rounds."""

    def __init__(self) -> None:
        self._logs: dict[int, np.ndarray] = {}
        self._outputs: list[_Output] = []
        self._num_objectives = 0
        self._num_rounds = 0

    def fit(
        self, points: np.ndarray, log_objectives: np.ndarray, constraint_values: np.ndarray
    ) -> None:
        """Fit the models to the log objectives and constraint values of designs, best first, at
        these features.

        Raises `numpy.linalg.LinAlgError` if the values have no model.
        """
        is_usable = np.isfinite(log_objectives).all(axis=1) & ~np.isnan(constraint_values).any(
            axis=1
        )
        kept = np.flatnonzero(is_usable)[:MAX_TRAINING_POINTS]
        if not len(kept) or not points.shape[1]:
            raise np.linalg.LinAlgError("no finite value to fit, or no features")
        points, log_objectives = points[kept], log_objectives[kept]
        broken = np.clip(constraint_values[kept], -MAX_VIOLATION, MAX_VIOLATION)
        is_near = broken.max(axis=0, initial=FAR_FROM_LIMIT) > FAR_FROM_LIMIT
        columns = dict(enumerate(log_objectives.T))
        columns |= {log_objectives.shape[1] + int(i): broken[:, i] for i in np.flatnonzero(is_near)}
        count = self._num_rounds
        is_due = count & (count + 1) == 0 or count % FIT_PERIOD == 0
        self._outputs = [
            self._fitted(key, points, values, is_due) for key, values in columns.items()
        ]
        self._num_objectives = log_objectives.shape[1]
        self._num_rounds += 1

    def _fitted(self, key: int, points: np.ndarray, values: np.ndarray, is_due: bool) -> _Output:
        mean, deviation = float(values.mean()), max(float(values.std()), 1e-9)
        scaled = (values - mean) / deviation
        if is_due or key not in self._logs:
            is_first = key not in self._logs
            self._logs[key] = fitted_logs(
                points[:MAX_FIT_POINTS],
                scaled[:MAX_FIT_POINTS],
                first_logs(points.shape[1]) if is_first else self._logs[key],
                FIRST_ITERATIONS if is_first else MORE_ITERATIONS,
            )
        return _Output(mean, deviation, Regression(points, scaled, self._logs[key]))

    def log_acquisition(self, points: np.ndarray, acquisition: Acquisition) -> np.ndarray:
        """Log of expected improvement times probability of feasibility."""
        predictions = [output.process.predict(points) for output in self._outputs]
        means = [output.means(p) for output, p in zip(self._outputs, predictions, strict=True)]
        logs, log_feasibility = self._log_terms(
            means, [p.variance for p in predictions], acquisition
        )
        return logs + log_feasibility

    def _log_terms(
        self, means: list[np.ndarray], variances: list[np.ndarray], acquisition: Acquisition
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logs of the expected improvement and of the probability of feasibility."""
        deviations = [
            output.deviation * np.sqrt(variance)
            for output, variance in zip(self._outputs, variances, strict=True)
        ]
        num = self._num_objectives
        log_feasibility = np.zeros(len(means[0]))
        for mean, deviation in zip(means[num:], deviations[num:], strict=True):
            log_feasibility += log_ndtr(-mean / deviation)
        return acquisition.log_expected(
            np.stack(means[:num]), np.stack(deviations[:num])
        ), log_feasibility

    def choose(self, points: np.ndarray, count: int, acquisition: Acquisition) -> np.ndarray:
        """Indices of a batch of points to evaluate together, best first.

        After each point the variances are updated as if it had been evaluated with the predicted
        value, so that the next point is not its neighbor.
        """
        predictions = [output.process.predict(points) for output in self._outputs]
        means = [output.means(p) for output, p in zip(self._outputs, predictions, strict=True)]
        variances = [prediction.variance for prediction in predictions]
        columns: list[list[np.ndarray]] = [[] for _ in predictions]
        chosen: list[int] = []
        for _ in range(min(count, len(points))):
            logs, log_feasibility = self._log_terms(means, variances, acquisition)
            log_acquisition = logs + log_feasibility
            log_acquisition[chosen] = -np.inf
            index = int(np.argmax(log_acquisition))
            chosen.append(index)
            if log_feasibility[index] > np.log(0.5):
                acquisition = acquisition.after(
                    np.asarray([m[index] for m in means[: self._num_objectives]])
                )
            for i, (output, prediction) in enumerate(zip(self._outputs, predictions, strict=True)):
                column = output.process.covariances(points, prediction, index)
                for earlier in columns[i]:
                    column = column - earlier * earlier[index]
                column = column / np.sqrt(max(column[index] + output.process.noise, 1e-12))
                columns[i].append(column)
                variances[i] = np.maximum(variances[i] - column**2, 1e-12)
        return np.asarray(chosen, int)
