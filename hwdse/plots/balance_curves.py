"""Curves of the four balances: a metric over the parameter of each balance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hwdse.plots.plot_style import COLORS, GRID, PALE_INK, tidy_log_axis

HIGHEST_RATIO = 2.0
"""Upper end of the metric axis, relative to the current design."""
_RANGE_COLOR = "#d5efe6"
_DASHED = (0, (4, 3))
_KEY = {"linestyle": "none", "markersize": 6.5}


@dataclass(frozen=True)
class BalanceCurve:
    """A metric over one parameter, all in the units of the axes."""

    title: str
    summary: str
    """Line below the title: current value, optimum, penalty."""
    label: str
    """Label of the parameter with its unit."""
    values: np.ndarray
    """Positive values of the parameter."""
    metrics: np.ndarray
    current: float
    """Current value; zero is drawn at the left end of the logarithmic axis."""
    optimum: float | None
    """Value with the smallest metric inside the range; None if it is at an end of the range."""
    near_optimal: tuple[float, float] | None
    """Range of values within 1 % of the optimum."""


def plot_balance(
    axes: Axes,
    curve: BalanceCurve,
    metric_now: float,
    metric_label: str,
    marks: Sequence[tuple[str, float]] = (),
) -> None:
    """Draw one balance: the curve, a dot at the current value, a diamond at the optimum.

    `metric_now` is the metric of the current design, drawn as a line. `marks` are named reference
    values, drawn as dotted vertical lines. A triangle at the upper edge marks a curve that
    continues above the axes.
    """
    top = HIGHEST_RATIO * metric_now
    left, right = _shown_range(curve, top)
    if curve.near_optimal is not None:
        axes.axvspan(*curve.near_optimal, color=_RANGE_COLOR, linewidth=0.0, zorder=0)
    axes.axhline(metric_now, color=PALE_INK, linewidth=0.9, linestyle=_DASHED, zorder=2)
    axes.plot(curve.values, curve.metrics, color=COLORS[0], linewidth=1.8, zorder=3)
    spot = {"edgecolors": "white", "linewidths": 0.8, "zorder": 5}
    if curve.optimum is not None:
        axes.scatter(
            [curve.optimum], [_metric_at(curve, curve.optimum)], marker="D", s=52, color=COLORS[2],
            **spot,
        )  # fmt: skip
    for name, value in marks:
        _draw_mark(axes, name, value)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    place = curve.current if curve.current > 0.0 else left
    axes.scatter([place], [metric_now], marker="o", s=56, color=COLORS[1], clip_on=False, **spot)
    if not curve.current > 0.0:
        axes.annotate(
            "0", (left, metric_now), (8, 6), textcoords="offset points", fontsize=8,
            color=PALE_INK,
        )  # fmt: skip
    _draw_exits(axes, curve, top)
    tidy_log_axis(axes.xaxis)
    axes.set_title(curve.title, fontsize=9.5, loc="left", fontweight="bold", pad=19)
    axes.annotate(
        curve.summary, (0.0, 1.0), (0, 8), xycoords="axes fraction", textcoords="offset points",
        fontsize=8, color=PALE_INK,
    )  # fmt: skip
    axes.set_xlabel(curve.label)
    axes.set_ylabel(metric_label)
    axes.grid(True, which="major", color=GRID, linewidth=0.7, zorder=0)


def set_common_range(
    axes: Sequence[Axes], curves: Sequence[BalanceCurve], metric_now: float, num_columns: int
) -> None:
    """Set one metric range for all panels, with a label at the first of each row."""
    lowest = min(float(np.min(curve.metrics)) for curve in curves)
    bottom = min(lowest, metric_now)
    margin = 0.06 * (HIGHEST_RATIO * metric_now - bottom)
    for index, each in enumerate(axes):
        each.set_ylim(bottom - margin, HIGHEST_RATIO * metric_now)
        if index % num_columns:
            each.set_ylabel("")


def draw_key(axes: Axes) -> None:
    """Draw the legend of all panels into empty axes."""
    handles = [
        Line2D([], [], color=COLORS[1], marker="o", label="current value", **_KEY),
        Line2D([], [], color=COLORS[2], marker="D", label="optimum, others fixed", **_KEY),
        Patch(color=_RANGE_COLOR, label="within 1 % of the optimum"),
        Line2D([], [], color=PALE_INK, linewidth=0.9, linestyle=_DASHED, label="current design"),
        Line2D([], [], color=COLORS[0], marker="^", label="curve continues above", **_KEY),
    ]
    axes.legend(
        handles=handles, loc="center", ncols=len(handles), frameon=False, columnspacing=1.6,
        handletextpad=0.6, borderaxespad=0.0,
    )  # fmt: skip


def _metric_at(curve: BalanceCurve, value: float) -> float:
    return float(np.interp(np.log(value), np.log(curve.values), curve.metrics))


def _shown_range(curve: BalanceCurve, top: float) -> tuple[float, float]:
    """Range of the parameter in which the curve is inside the axes, with one value on each side."""
    inside = np.flatnonzero(curve.metrics <= top)
    if not len(inside):
        return float(curve.values[0]), float(curve.values[-1])
    low = float(curve.values[max(inside[0] - 1, 0)])
    high = float(curve.values[min(inside[-1] + 1, len(curve.values) - 1)])
    spots = [value for value in (curve.current, curve.optimum) if value]
    low, high = min([low, *spots]), max([high, *spots])
    margin = (high / low) ** 0.03
    return low / margin, high * margin


def _draw_exits(axes: Axes, curve: BalanceCurve, top: float) -> None:
    """Draw a triangle wherever the curve crosses the upper edge."""
    is_above = curve.metrics > top
    for index in np.flatnonzero(is_above[1:] != is_above[:-1]):
        ends, heights = np.log(curve.values[index : index + 2]), curve.metrics[index : index + 2]
        share = (top - heights[0]) / (heights[1] - heights[0])
        x = float(np.exp(ends[0] + share * (ends[1] - ends[0])))
        axes.plot([x], [top], marker="^", markersize=7, color=COLORS[0], clip_on=False, zorder=6)


def _draw_mark(axes: Axes, name: str, value: float) -> None:
    """Draw a named dotted line at a reference value, if it is in the range."""
    axes.axvline(value, color=PALE_INK, linewidth=0.9, linestyle=":", zorder=1)
    axes.annotate(
        name, (value, 0.0), (3, 3), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="bottom", fontsize=8, color=PALE_INK,
    )  # fmt: skip
