"""Pareto fronts of three objectives as pairs, of more as parallel coordinates."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm

from hwdse.plots.fronts.pareto_plots import Marker, draw_named, front_limits, set_log_axes
from hwdse.plots.plot_style import (
    COLORS,
    INK,
    DecadeFormatter,
    DecadeLocator,
    plain_number,
)

NUM_AXIS_TICKS = 6
"""Largest number of ticks of one axis of parallel coordinates."""


def sequential_colors() -> Colormap:
    """Colors from dark (best) to light (worst) with falling lightness; readable in gray."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 64))
    return LinearSegmentedColormap.from_list("objective", colors)


def plot_pairs(
    axes: Sequence[Axes],
    key: Axes,
    front: np.ndarray,
    labels: Sequence[str],
    markers: Sequence[Marker] = (),
) -> None:
    """Draw a front of three objectives in three panels: each pair, colored by the third.

    The axes are set as by `plot_pareto`. No line connects the points, since a projection is no
    front. `key` are empty axes for the legend.
    """
    front = np.asarray(front, dtype=float).reshape(-1, 3)
    front = front[np.all(np.isfinite(front) & (front > 0.0), axis=1)]
    named = [one for one in markers if one.role != "preset"]
    low, high = _range(front)
    for panel, (first, second) in zip(axes, combinations(range(3), 2), strict=True):
        third, pair = 3 - first - second, [first, second]
        flat = [replace(one, objectives=tuple(one.objectives[i] for i in pair)) for one in named]
        limits, names = front_limits(front[:, pair], flat), (labels[first], labels[second])
        set_log_axes(panel, *limits, names)
        panel.set_ylabel(_in_lines(labels[second]))
        dots = panel.scatter(
            front[:, first], front[:, second], c=front[:, third], s=30, edgecolors="white",
            linewidths=0.4, zorder=3, label=f"Pareto front ({len(front):,} designs)",
            cmap=sequential_colors(), norm=LogNorm(low[third], high[third]),
        )  # fmt: skip
        draw_named(panel, flat, limits, names, soft=[dots])
        _color_bar(panel, dots, labels[third])
    entries: dict[str, Any] = {}
    for panel in axes:
        entries = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)) | entries
    key.legend(
        entries.values(), entries.keys(), loc="center", ncols=4, frameon=False, borderaxespad=0.0
    )


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of each objective, at least 10 % apart."""
    if not len(values):
        return np.full(values.shape[1], 0.9), np.full(values.shape[1], 1.1)
    low, high = values.min(axis=0), values.max(axis=0)
    middle = np.sqrt(low * high)
    return np.minimum(low, middle / 1.05), np.maximum(high, middle * 1.05)


def _in_lines(label: str) -> str:
    """Label with its unit in a second line."""
    name, _, unit = label.rpartition(" (")
    return f"{name}\n({unit}" if name else label


def _color_bar(axes: Axes, dots: ScalarMappable, label: str) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(dots, ax=axes, location="bottom", aspect=26, pad=0.02, shrink=0.95)
    bar.outline.set_visible(False)
    bar.set_label(f"Color: {_in_lines(label[0].lower() + label[1:])}", fontsize=8.5)
    locator = DecadeLocator(bar.ax.xaxis)
    bar.ax.xaxis.set_major_locator(locator)
    bar.ax.xaxis.set_major_formatter(DecadeFormatter(locator))
    bar.ax.minorticks_off()


def plot_parallel_coordinates(
    axes: Axes, front: np.ndarray, labels: Sequence[str], markers: Sequence[Marker] = ()
) -> None:
    """Draw one line per design across logarithmic axes of all objectives, each over its own range.

    Low is better on every axis. The color is the first objective. Base design and optimum are
    thick lines in one color.
    """
    size = len(labels)
    front = np.asarray(front, dtype=float).reshape(-1, size)
    named = [one for one in markers if one.role != "preset"]
    values = np.concatenate([front, *(np.array([one.objectives]) for one in named)])
    low, high = _range(values[np.all(np.isfinite(values) & (values > 0.0), axis=1)])
    heights = np.log(front / low) / np.log(high / low)
    across = np.arange(size)
    colors = sequential_colors()(heights[:, 0]) if len(front) else []
    for line, color in zip(heights, colors, strict=True):
        axes.plot(across, line, color=color, linewidth=0.9, alpha=0.6, zorder=2)
    axes.plot([], [], color=INK, linewidth=1.0, label=f"Pareto front ({len(front):,})")
    looks = {
        "baseline": (COLORS[1], (0, (5, 2)), "base design"),
        "best": (COLORS[2], "-", "optimum"),
    }
    for one in named:
        color, style, text = looks[one.role]
        line = np.log(np.array(one.objectives) / low) / np.log(high / low)
        axes.plot(across, line, color=color, linewidth=2.4, linestyle=style, zorder=4,
                  label=f"{text}: {one.label}")  # fmt: skip
    _parallel_axes(axes, low, high, labels)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False)


def _parallel_axes(axes: Axes, low: np.ndarray, high: np.ndarray, labels: Sequence[str]) -> None:
    """Draw the upright axes with their ticks, and the names of the objectives below them."""
    for at, (bottom, top) in enumerate(zip(low, high, strict=True)):
        axes.axvline(at, color=INK, linewidth=0.9, zorder=3)
        ticks = np.array(DecadeLocator(axes.yaxis).tick_values(bottom, top))
        ticks = ticks[:: max(1, -(-len(ticks) // NUM_AXIS_TICKS))]
        for tick in ticks:
            height = float(np.log(tick / bottom) / np.log(top / bottom))
            axes.plot([at - 0.02, at], [height, height], color=INK, linewidth=0.8, zorder=3)
            axes.annotate(
                plain_number(float(f"{tick:.6g}")), (at - 0.02, height), (-3, 0),
                textcoords="offset points", ha="right", va="center", fontsize=8, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            )  # fmt: skip
    axes.set_xlim(-0.3, len(labels) - 0.85)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xticks(range(len(labels)), [label.replace(" (", "\n(", 1) for label in labels])
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel("lower is better")
