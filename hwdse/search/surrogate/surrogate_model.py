"""A model of what a search has seen, and which designs it would judge next.

A Gaussian process of each log objective and one of each constraint that is near its limit. The
design that promises most has the largest expected gain times the probability of being feasible.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.expected_improvement import Acquisition
from hwdse.search.surrogate.gaussian_process import Prediction, Regression, first_logs, fitted_logs

MAX_TRAINING_POINTS = 256
"""Designs that a model is made of, the best ones: its cost grows with the third power."""
MAX_FIT_POINTS = 128
"""Of these, those that lengths and amplitudes are fitted to."""
FIRST_ITERATIONS = 25
MORE_ITERATIONS = 10
FIT_PERIOD = 8
"""Rounds between fits, once they are no longer news; before that at rounds 0, 1, 3 and 7."""
FAR_FROM_LIMIT = -0.3
"""A constraint that no design comes nearer to is not modelled."""
MAX_VIOLATION = 10.0
"""Logarithms of value over limit are cut off there: a model of the far away is of no use."""
VARIANT_DISTANCE = 0.5
"""Coordinate that tells a variant from the others, beside ranges of one."""


def features(space: SearchSpace, units: np.ndarray, variants: np.ndarray) -> np.ndarray:
    """Coordinates in which designs that are alike are near each other.

    Those of the dimensions, what the alternatives of each choice set (logarithmic where above 0,
    from 0 to 1), and one for each variant.
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
    """One modelled figure: a regression of its values, less their mean, over their deviation."""

    mean: float
    deviation: float
    process: Regression

    def means(self, prediction: Prediction) -> np.ndarray:
        """Predicted values."""
        return self.mean + self.deviation * prediction.mean


class Surrogate:
    """Models of the objectives and the constraints; keeps what was fitted from round to round."""

    def __init__(self) -> None:
        self._logs: dict[int, np.ndarray] = {}
        self._outputs: list[_Output] = []
        self._num_objectives = 0
        self._num_rounds = 0

    def fit(
        self, points: np.ndarray, log_objectives: np.ndarray, constraint_values: np.ndarray
    ) -> None:
        """Learns the log objectives and violations of designs, best first, at these features.

        Raises `numpy.linalg.LinAlgError` where the values have no model.
        """
        is_usable = np.isfinite(log_objectives).all(axis=1) & ~np.isnan(constraint_values).any(
            axis=1
        )
        kept = np.flatnonzero(is_usable)[:MAX_TRAINING_POINTS]
        if not len(kept) or not points.shape[1]:
            raise np.linalg.LinAlgError("no finite value to learn from, or nothing to learn by")
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
        """Logarithm of expected gain times probability of being feasible."""
        predictions = [output.process.predict(points) for output in self._outputs]
        means = [output.means(p) for output, p in zip(self._outputs, predictions, strict=True)]
        logs, log_feasibility = self._log_terms(
            means, [p.variance for p in predictions], acquisition
        )
        return logs + log_feasibility

    def _log_terms(
        self, means: list[np.ndarray], variances: list[np.ndarray], acquisition: Acquisition
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the expected gain and of the probability of being feasible."""
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
        """Places of so many points to be judged together, the most promising first.

        After each the variances are as if it had been judged and was as predicted, so that the
        next one is not its neighbor.
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
