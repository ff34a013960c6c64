"""A model of what a search has seen, and which designs it would judge next.

A Gaussian process of the log objective and one of each constraint that is near its limit. The
design that promises most has the largest expected gain times the probability of being feasible.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from hwdse.search.gaussian_process import Prediction, Regression, first_logs, fitted_logs
from hwdse.search.result import Scored
from hwdse.search.space import SearchSpace

MOST_SEEN = 256
"""Designs that a model is made of, the best by merit: its cost grows with the third power."""
MOST_FITTED = 128
"""Of these, those that lengths and amplitudes are fitted to."""
FIRST_ITERATIONS = 25
MORE_ITERATIONS = 10
FIT_PERIOD = 8
"""Rounds between fits, once they are no longer news; before that at rounds 0, 1, 3 and 7."""
FAR_FROM_LIMIT = -0.3
"""A constraint that no design comes nearer to is not modelled."""
MOST_VIOLATION = 10.0
"""Logarithms of value over limit are cut off there: a model of the far away is of no use."""
FAR_TAIL = -6.0
"""Standard deviations below which the expected gain is taken from its asymptote."""
VARIANT_DISTANCE = 0.5
"""Coordinate that tells a variant from the others, beside ranges of one."""


def features(space: SearchSpace, units: np.ndarray, variants: np.ndarray) -> np.ndarray:
    """Coordinates in which designs that are alike are near each other.

    Those of the dimensions, what the alternatives of each choice set (logarithmic where above 0,
    from 0 to 1), and one for each variant.
    """
    num_ranges = len(space.dimensions)
    columns = [units[:, :num_ranges]]
    for place, choice in enumerate(space.choices, num_ranges):
        table = np.asarray(choice.table, float)
        table = np.where(table.min(axis=0) > 0.0, np.log(np.maximum(table, 1e-300)), table)
        table = table[:, np.ptp(table, axis=0) > 0.0]
        table = (table - table.min(axis=0)) / np.ptp(table, axis=0)
        columns.append(table[choice.index(units[:, place]).astype(int)])
    if space.variants:
        columns.append(VARIANT_DISTANCE * np.eye(space.num_variants)[variants])
    return np.concatenate(columns, axis=1)


@dataclass
class _Output:
    """One modelled figure: a regression of its values, less their mean, over their deviation."""

    mean: float
    deviation: float
    process: Regression

    def look(self, points: np.ndarray) -> Prediction:
        """Mean and variance, still scaled."""
        return self.process.predict(points)


class Surrogate:
    """Models of the objective and the constraints; keeps what was fitted from round to round."""

    def __init__(self) -> None:
        self._logs: dict[int, np.ndarray] = {}
        self._outputs: list[_Output] = []
        self._num_rounds = 0
        self._best: float | None = None

    def see(self, points: np.ndarray, rows: Scored) -> None:
        """Learns from rows, best by merit first, at these features.

        Raises `numpy.linalg.LinAlgError` where the values have no model.
        """
        is_usable = np.isfinite(rows.log_objectives) & ~np.isnan(rows.violations).any(axis=1)
        kept = np.flatnonzero(is_usable)[:MOST_SEEN]
        if not len(kept) or not points.shape[1]:
            raise np.linalg.LinAlgError("no finite value to learn from, or nothing to learn by")
        points, rows = points[kept], rows.take(kept)
        broken = np.clip(rows.violations, -MOST_VIOLATION, MOST_VIOLATION)
        is_near = broken.max(axis=0, initial=FAR_FROM_LIMIT) > FAR_FROM_LIMIT
        count = self._num_rounds
        is_due = count & (count + 1) == 0 or count % FIT_PERIOD == 0
        self._outputs = [self._learned(-1, points, rows.log_objectives, is_due)]
        for place in np.flatnonzero(is_near):
            self._outputs.append(self._learned(int(place), points, broken[:, place], is_due))
        feasible = rows.log_objectives[rows.is_feasible]
        self._best = float(feasible.min()) if len(feasible) else None
        self._num_rounds += 1

    def _learned(self, key: int, points: np.ndarray, values: np.ndarray, is_due: bool) -> _Output:
        mean, deviation = float(values.mean()), max(float(values.std()), 1e-9)
        scaled = (values - mean) / deviation
        if is_due or key not in self._logs:
            is_first = key not in self._logs
            self._logs[key] = fitted_logs(
                points[:MOST_FITTED],
                scaled[:MOST_FITTED],
                first_logs(points.shape[1]) if is_first else self._logs[key],
                FIRST_ITERATIONS if is_first else MORE_ITERATIONS,
            )
        return _Output(mean, deviation, Regression(points, scaled, self._logs[key]))

    def promise(self, points: np.ndarray) -> np.ndarray:
        """Logarithm of expected gain times probability of being feasible; of the probability
        alone before a feasible design was seen."""
        seen = [output.look(points) for output in self._outputs]
        return self._promise([p.mean for p in seen], [p.variance for p in seen])

    def _promise(self, means: list[np.ndarray], variances: list[np.ndarray]) -> np.ndarray:
        total = np.zeros(len(means[0]))
        for output, mean, variance in zip(self._outputs[1:], means[1:], variances[1:], strict=True):
            total += log_ndtr(-(output.mean / output.deviation + mean) / np.sqrt(variance))
        if self._best is not None:
            best = (self._best - self._outputs[0].mean) / self._outputs[0].deviation
            total += log_expected_gain(means[0], np.sqrt(variances[0]), best)
        return total

    def choose(self, points: np.ndarray, count: int) -> np.ndarray:
        """Places of so many points to be judged together, the most promising first.

        After each the variances are as if it had been judged and was as predicted, so that the
        next one is not its neighbor.
        """
        seen = [output.look(points) for output in self._outputs]
        variances = [prediction.variance for prediction in seen]
        columns: list[list[np.ndarray]] = [[] for _ in seen]
        chosen: list[int] = []
        for _ in range(min(count, len(points))):
            promise = self._promise([p.mean for p in seen], variances)
            promise[chosen] = -np.inf
            place = int(np.argmax(promise))
            chosen.append(place)
            for i, (output, prediction) in enumerate(zip(self._outputs, seen, strict=True)):
                column = output.process.covariances(points, prediction, place)
                for earlier in columns[i]:
                    column = column - earlier * earlier[place]
                column = column / np.sqrt(max(column[place] + output.process.noise, 1e-12))
                columns[i].append(column)
                variances[i] = np.maximum(variances[i] - column**2, 1e-12)
        return np.asarray(chosen, int)


def log_expected_gain(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    r"""$\ln E[\max(b - y, 0)]$ of a normal $y$: $\sigma (\phi(u) + u \Phi(u))$, $u = (b - \mu) /
    \sigma$, with the asymptote $\phi(u) / u^2$ far below.

    Source: D. Jones, M. Schonlau and W. Welch, J. Global Optimization 13, 455 (1998), equation 15.
    """
    steps = (best - mean) / deviation
    log_density = -0.5 * steps**2 - 0.5 * np.log(2.0 * np.pi)
    near = np.exp(log_density) + steps * ndtr(steps)
    far = log_density - 2.0 * np.log(np.maximum(-steps, 1.0))
    is_far = steps < FAR_TAIL
    return np.log(deviation) + np.where(is_far, far, np.log(np.where(is_far, 1.0, near)))
