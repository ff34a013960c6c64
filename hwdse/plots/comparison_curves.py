"""Curves of an optimizer comparison: median over seeds with the range."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, tidy_log_axis

SMALL_MARKS = 6
"""Curves with at most this many points get a marker at each point."""


def plot_median_and_range(
    axes: Axes, marks: np.ndarray, curves: Mapping[str, np.ndarray], xlabel: str, ylabel: str
) -> None:
    """Draw a line and a shaded range for each method.

    The rows of a curve are the median, minimum and maximum at each of `marks`. Marks without a
    finite median are left out.
    """
    finite = []
    for index, (name, rows) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        is_finite = np.isfinite(rows[0])
        median, low, high = (np.where(np.isfinite(row), row, np.nan)[is_finite] for row in rows)
        style = ("-", "--", ":", "-.")[index % 4]
        marker = "o" if len(median) <= SMALL_MARKS else None
        axes.plot(
            marks[is_finite], median, style, color=color, linewidth=1.8, label=name, marker=marker
        )
        axes.fill_between(marks[is_finite], low, high, color=color, alpha=0.15, linewidth=0.0)
        finite.append(np.concatenate([row[np.isfinite(row)] for row in rows]))
    axes.set_xscale("log")
    values = np.concatenate(finite) if finite else np.ones(1)
    if len(values) and values.min() > 0.0 and values.max() / values.min() > 3.0:
        axes.set_yscale("log")
        tidy_log_axis(axes.yaxis)
    axes.set_xlim(marks[0], marks[-1])
    tidy_log_axis(axes.xaxis)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7)
    axes.legend(frameon=False)
