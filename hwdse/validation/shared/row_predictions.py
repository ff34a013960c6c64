"""Model predictions of reference files with one quantity per row, and reasons of skipped rows."""

from collections import Counter
from collections.abc import Callable, Iterable

import jax
import numpy as np

from hwdse.validation.shared.reference_table import ReferenceTable

Predictions = dict[str, float]
"""Predictions of one row by quantity."""


class NoModelError(Exception):
    """A row outside the scope of the model; the message is the reason."""


def model_predictions(
    table: ReferenceTable,
    quantities: Iterable[str],
    predict: Callable[[ReferenceTable, int], Predictions],
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Predictions of every row in float64 (NaN if none), and counts of skipped rows by reason."""
    models = {name: np.full(len(table), np.nan) for name in quantities}
    skipped: Counter[str] = Counter()
    with jax.enable_x64(True):
        for index in range(len(table)):
            try:
                predictions = predict(table, index)
            except NoModelError as reason:
                skipped[str(reason)] += 1
                continue
            for name, value in predictions.items():
                models[name][index] = value
    return models, skipped
