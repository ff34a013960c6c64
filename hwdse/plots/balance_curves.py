"""Curves of the four balances: a metric over the parameter of each balance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, tidy_log_axis

HIGHEST_RATIO = 2.5
"""Upper end of the metric axis, relative to the current design; curves are clipped there."""


@dataclass(frozen=True)
class Curve:
    """A metric over one parameter, relative to the metric of the current design."""

    label: str
    values: np.ndarray
    ratios: np.ndarray
    current: float | None
    """Current value; None if the parameter of the design is zero."""
    optimum: float
    """Value with the smallest metric, other parameters fixed."""


def plot_balance(
    axes: Axes,
    title: str,
    curves: Sequence[Curve],
    labels: tuple[str, str],
    marks: Sequence[tuple[str, float]] = (),
) -> None:
    """Draw one balance: curves, a dot at the current value, a diamond at the optimum.

    `marks` are named reference values, drawn as dotted vertical lines.
    """
    for index, curve in enumerate(curves):
        color = COLORS[index]
        axes.plot(curve.values, curve.ratios, color=color, linewidth=1.8, label=curve.label)
        lowest = float(np.interp(np.log(curve.optimum), np.log(curve.values), curve.ratios))
        spot = {"edgecolors": "white", "linewidths": 0.8, "zorder": 5, "color": color}
        axes.scatter([curve.optimum], [lowest], marker="D", s=46, **spot)
        if curve.current:
            axes.scatter([curve.current], [1.0], marker="o", s=52, **spot)
    for name, value in marks:
        axes.axvline(value, color="#7b8794", linewidth=0.9, linestyle=":")
        axes.annotate(
            name, (value, 1.0), (2, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, va="top", fontsize=7.5, color="#52606d",
        )  # fmt: skip
    axes.axhline(1.0, color="#9aa5b1", linewidth=0.8)
    axes.set_xscale("log")
    tidy_log_axis(axes.xaxis)
    axes.set_title(title, fontsize=10.5, loc="left", fontweight="bold")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7, zorder=0)
    if len(curves) > 1:
        axes.legend(loc="upper right", frameon=False)


def set_common_range(axes: Sequence[Axes], curves: Sequence[Curve]) -> None:
    """Set one metric range for all panels and add the legend of the marker shapes."""
    lowest = min(float(np.min(curve.ratios)) for curve in curves)
    for index, each in enumerate(axes):
        each.set_ylim(min(lowest, 1.0) - 0.04, HIGHEST_RATIO)
        if index % 2:
            each.set_ylabel("")
    key = {"linestyle": "none", "color": "#52606d", "markersize": 6}
    axes[0].plot([], [], marker="o", label="current", **key)
    axes[0].plot([], [], marker="D", label="optimum, others fixed", **key)
    axes[0].legend(loc="upper left", frameon=False)
