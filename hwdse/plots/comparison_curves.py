"""Curves of an optimizer comparison: median over seeds with the range."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hwdse.plots.plot_style import COLORS, tidy_log_axis

LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
LOG_RATIO = 3.0
"""Ratio of the largest to the smallest value above which the value axis is logarithmic."""
FLAT_FRACTION = 0.05
"""Half height of the value axis, of the value, if all values are equal."""


@dataclass(frozen=True)
class Curve:
    """Results of one method over its effort."""

    marks: np.ndarray
    """Evaluations or seconds, increasing."""
    bounds: np.ndarray
    """Median, minimum and maximum over the seeds from each mark on; NaN where not drawn."""


def plot_median_and_range(
    axes: Axes,
    curves: Mapping[str, Curve],
    labels: tuple[str, str],
    absent: str,
    *,
    is_staircase: bool = True,
    has_legend: bool = True,
) -> None:
    """Draw the median and the shaded range of each method.

    `labels`: those of the two axes. A method without any value has `absent` beside its name in the
    legend, and no line. A staircase holds each value until the next mark, with a ring at its end;
    otherwise marks are separate searches, each with a ring. Rings differ in size, so that equal
    results remain visible.
    """
    step = "post" if is_staircase else None
    handles, drawn = [], []
    for index, (name, curve) in enumerate(curves.items()):
        color, style = COLORS[index % len(COLORS)], LINE_STYLES[index % len(LINE_STYLES)]
        is_shown = np.isfinite(curve.bounds[0])
        if not is_shown.any():
            handles.append(Line2D([], [], linestyle="none", label=f"{name}: {absent}"))
            continue
        x, rows = curve.marks[is_shown], curve.bounds[:, is_shown]
        median, low, high = (np.where(np.isfinite(row), row, rows[0]) for row in rows)
        handles += axes.plot(
            x, median, linestyle=style, color=color, linewidth=1.8, label=name,
            drawstyle="steps-post" if is_staircase else "default",
        )  # fmt: skip
        axes.fill_between(x, low, high, step=step, color=color, alpha=0.15, linewidth=0.0)
        dots = slice(-1, None) if is_staircase else slice(None)
        ring = {"markersize": 3.5 + 1.3 * (len(curves) - 1 - index), "markerfacecolor": "none"}
        axes.plot(
            x[dots], median[dots], "o", color=color, markeredgewidth=1.3, clip_on=False, **ring
        )
        drawn.append((x, low, high))
    _set_limits(axes, drawn)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7)
    if has_legend:
        axes.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False
        )


def _set_limits(axes: Axes, drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Set scales and limits to the curves; without any, an axis of effort with no values."""
    if not drawn:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    first, last = min(x[0] for x, _, _ in drawn), max(x[-1] for x, _, _ in drawn)
    axes.set_xscale("log")
    axes.set_xlim(first / 1.1 if last > first else first / 2.0, last * 1.1)
    tidy_log_axis(axes.xaxis)
    low = min(float(values.min()) for _, values, _ in drawn)
    high = max(float(values.max()) for _, _, values in drawn)
    if low > 0.0 and high / low > LOG_RATIO:
        axes.set_yscale("log")
        tidy_log_axis(axes.yaxis)
    elif high - low <= 1e-9 * abs(high):
        axes.set_ylim(low - FLAT_FRACTION * abs(low), high + FLAT_FRACTION * abs(high))
