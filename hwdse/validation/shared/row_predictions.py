"""Files in which every row is a figure of its own kind: rows with a model, and reasons for none."""

from collections import Counter
from collections.abc import Callable, Iterable

import jax
import numpy as np

from hwdse.validation.shared.reference_table import ReferenceTable

Figures = dict[str, float]
"""What the model says of a row, by quantity."""


class NoModelError(Exception):
    """A row that the model has no rule for; its text is the reason."""


def model_predictions(
    table: ReferenceTable,
    quantities: Iterable[str],
    figures_of: Callable[[ReferenceTable, int], Figures],
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Figures of every row in float64, NaN where there is none, and the reasons of rows skipped."""
    models = {name: np.full(len(table), np.nan) for name in quantities}
    skipped: Counter[str] = Counter()
    with jax.enable_x64(True):
        for index in range(len(table)):
            try:
                figures = figures_of(table, index)
            except NoModelError as reason:
                skipped[str(reason)] += 1
                continue
            for name, value in figures.items():
                models[name][index] = value
    return models, skipped
