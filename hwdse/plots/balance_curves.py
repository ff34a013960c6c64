"""The four balances as curves: a metric against what each balance turns on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, tidy_log_axis

HIGHEST_RATIO = 2.5
"""Curves are cut there: what more than doubles the metric is out of the question."""


@dataclass(frozen=True)
class Curve:
    """A metric against one number, in units of the metric as it is now."""

    label: str
    values: np.ndarray
    ratios: np.ndarray
    present: float | None
    """Nothing where the design has none of it."""
    best: float


def plot_balance(
    axes: Axes,
    title: str,
    curves: Sequence[Curve],
    labels: tuple[str, str],
    marks: Sequence[tuple[str, float]] = (),
) -> None:
    """One balance: its curves, a dot where the design stands, a diamond where it would be best.

    `marks` are values to compare with, drawn as dotted lines and named at the top.
    """
    for place, curve in enumerate(curves):
        color = COLORS[place]
        axes.plot(curve.values, curve.ratios, color=color, linewidth=1.8, label=curve.label)
        best = float(np.interp(np.log(curve.best), np.log(curve.values), curve.ratios))
        spot = {"edgecolors": "white", "linewidths": 0.8, "zorder": 5, "color": color}
        axes.scatter([curve.best], [best], marker="D", s=46, **spot)
        if curve.present:
            axes.scatter([curve.present], [1.0], marker="o", s=52, **spot)
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


def frame(axes: Sequence[Axes], curves: Sequence[Curve]) -> None:
    """One range of the metric for all four, cut where it says nothing any more, and the key."""
    lowest = min(float(np.min(curve.ratios)) for curve in curves)
    for place, each in enumerate(axes):
        each.set_ylim(min(lowest, 1.0) - 0.04, HIGHEST_RATIO)
        if place % 2:
            each.set_ylabel("")
    key = {"linestyle": "none", "color": "#52606d", "markersize": 6}
    axes[0].plot([], [], marker="o", label="now", **key)
    axes[0].plot([], [], marker="D", label="best, the rest as it is", **key)
    axes[0].legend(loc="upper left", frameon=False)
