"""Bars of the elasticities of a metric to parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, GRID, INK, PALE_INK

_UP: dict[str, Any] = {"color": COLORS[1], "hatch": "////", "edgecolor": "white"}
_DOWN: dict[str, Any] = {"color": COLORS[0]}
GROUP_GAP = 0.9
"""Free rows above the heading of a group."""


def plot_tornado(axes: Axes, groups: Mapping[str, Mapping[str, float]], metric: str) -> None:
    """Draw bars of d ln(metric) / d ln(parameter) in groups, in the order given, first on top.

    `groups` maps the heading of a group to the elasticities of its parameters; one group needs no
    heading. Bars that raise the metric are hatched.
    """
    rows, names, values, headings = [], [], [], []
    row = 0.0
    for heading, elasticities in groups.items():
        if not elasticities:
            continue
        if rows:
            row -= GROUP_GAP
        if len(groups) > 1 or heading:
            headings.append((row, heading))
            row -= 1.0
        for name, value in elasticities.items():
            rows.append(row)
            names.append(name)
            values.append(value)
            row -= 1.0
    _bars(axes, np.array(rows), np.array(values, dtype=float))
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    for at, heading in headings:
        axes.annotate(
            heading, (0.0, at), (-4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="center", color=PALE_INK, fontsize=8.5,
            fontweight="bold",
        )  # fmt: skip
    axes.set_ylim(row + 0.4, 0.6)
    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.grid(True, axis="x", color=GRID, linewidth=0.7)
    axes.set_xlabel(f"Elasticity of {metric} (% per +1 % of the parameter)")
    _legend(axes, np.array(values, dtype=float))


def _bars(axes: Axes, rows: np.ndarray, values: np.ndarray) -> None:
    """Draw bars with their values at the ends."""
    for is_up, style in ((False, _DOWN), (True, _UP)):
        chosen = (values > 0.0) == is_up
        axes.barh(rows[chosen], values[chosen], height=0.68, linewidth=0.0, **style)
    for row, value in zip(rows, values, strict=True):
        side = 1 if value >= 0 else -1
        text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
        axes.annotate(
            text, (value, row), (4 * side, 0), textcoords="offset points",
            va="center", ha="left" if side > 0 else "right", fontsize=8,
        )  # fmt: skip
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    margin = 0.18 * max(high - low, 1e-3)
    axes.set_xlim(low - margin if low < 0 else low, high + margin if high > 0 else high)


def _legend(axes: Axes, values: np.ndarray) -> None:
    """Draw the legend of the two kinds of bars; none if all are of one kind."""
    if not (np.any(values > 0.0) and np.any(values < 0.0)):
        return
    for style, text in ((_DOWN, "lowers"), (_UP, "raises")):
        axes.bar(0.0, 0.0, width=0.0, linewidth=0.0, label=f"more of it {text} the metric", **style)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)
