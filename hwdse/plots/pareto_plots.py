"""Figures as files, Pareto fronts and breakdowns.

Neither pyplot nor the global settings of matplotlib are used, so a notebook keeps its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hwdse.plots.plot_style import COLORS, STYLE, place_labels, tidy_log_axis

LABELLED_SHARE = 0.062
"""Smallest part of a bar with a printed percentage."""
SHOWN_SHARE = 0.004
"""Parts smaller than this in every bar are invisible and left out of the legend."""


@dataclass(frozen=True)
class Marker:
    """A named design in a plot; `role` is "preset", "baseline" or "best"."""

    label: str
    objectives: tuple[float, ...]
    role: str


_ROLES = {
    "preset": {"marker": "o", "s": 34, "color": COLORS[4], "zorder": 5},
    "baseline": {"marker": "D", "s": 52, "color": COLORS[1], "zorder": 6},
    "best": {"marker": "*", "s": 190, "color": COLORS[2], "zorder": 7},
}


def new_figure(
    num_rows: int = 1, num_columns: int = 1, *, width_in: float = 6.4, height_in: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Figure in the style of hwdse and its axes, row by row; a row shares the y axis."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_rows, num_columns, squeeze=False, sharey="row")
    return figure, list(axes.ravel())


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (150 dpi) and `name`.svg; the same figure gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "hwdse", "svg.fonttype": "path"}):
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], dpi=150, metadata={"Date": None})
    return paths


def plot_pareto(
    axes: Axes,
    objectives: np.ndarray,
    mask: np.ndarray,
    labels: tuple[str, str],
    markers: Sequence[Marker] = (),
    cloud_label: str = "designs",
) -> None:
    """Draw points of two minimized objectives, their Pareto front as a staircase, named designs.

    `mask` selects the points on the front. Points that are not finite are not drawn.
    """
    objectives = np.asarray(objectives, dtype=float).reshape(-1, 2)
    front = objectives[np.asarray(mask, dtype=bool)]
    rest = objectives[~np.asarray(mask, dtype=bool)]
    if len(rest):
        axes.scatter(
            *rest.T, s=3, color="#9aa5b1", alpha=0.35, linewidths=0, rasterized=True, zorder=1
        )
        _legend_dot(axes, f"{cloud_label} ({len(rest):,})")
    if len(front):
        ordered = front[np.lexsort((front[:, 1], front[:, 0]))]
        axes.step(*ordered.T, where="post", color=COLORS[0], linewidth=1.6, zorder=3)
        axes.scatter(*ordered.T, s=11, color=COLORS[0], zorder=4, linewidths=0)
        label = f"Pareto front ({len(front):,})"
        axes.plot([], [], color=COLORS[0], marker="o", markersize=3.5, linewidth=1.6, label=label)
    for role, style in _ROLES.items():
        points = [marker.objectives for marker in markers if marker.role == role]
        if points:
            axes.scatter(*np.array(points).T, edgecolors="white", linewidths=0.8, **style)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _frame(axes, front, markers)
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7, zorder=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    # Labels of baseline and optimum are placed first, at the best positions.
    markers = sorted(markers, key=lambda marker: marker.role == "preset")
    colors = [str(_ROLES[marker.role]["color"]) for marker in markers]
    points = [(marker.objectives[0], marker.objectives[1]) for marker in markers]
    texts = [marker.label for marker in markers]
    place_labels(axes, points, texts, colors, obstacles=_corners(front))


def plot_breakdown(
    axes: Axes,
    names: Sequence[str],
    parts: Mapping[str, np.ndarray],
    label: str,
    totals: Sequence[str] = (),
    color_order: Sequence[str] = (),
) -> None:
    """Draw stacked horizontal bars, one per design, with the percentage of each part.

    `parts` maps the name of a part to one value per design. `label` is the quantity with its
    unit. `totals` are the texts behind the bars, by default the sums. Colors follow
    `color_order`, so that a part has one color in adjacent charts.
    """
    values = {name: np.asarray(part, dtype=float) for name, part in parts.items()}
    sums = np.sum(list(values.values()), axis=0)
    shown = {
        name: part for name, part in values.items() if np.max(part / sums, initial=0) >= SHOWN_SHARE
    }
    order = [*color_order, *(name for name in shown if name not in color_order)]
    rows = np.arange(len(names))[::-1]
    left = np.zeros(len(names))
    for name, part in shown.items():
        color = COLORS[order.index(name) % len(COLORS)]
        bars = axes.barh(
            rows, part, left=left, height=0.62, color=color, edgecolor="white", linewidth=0.8,
            label=name,
        )  # fmt: skip
        texts = [
            f"{100.0 * x / s:.0f} %" if x / sums.max() > LABELLED_SHARE else ""
            for x, s in zip(part, sums, strict=True)
        ]
        axes.bar_label(bars, texts, label_type="center", fontsize=8, color=_text_color(color))
        left = left + part
    for row, total, text in zip(rows, sums, totals or [f"{s:.4g}" for s in sums], strict=True):
        axes.annotate(text, (total, row), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.16 * sums.max())
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handlelength=1.1,
        handleheight=1.1, borderaxespad=0.2, labelspacing=0.35,
    )  # fmt: skip


def _corners(front: np.ndarray) -> np.ndarray:
    """Points along the staircase of a front, as obstacles for labels."""
    if len(front) < 2:
        return front
    ordered = np.log(front[np.lexsort((front[:, 1], front[:, 0]))])
    corners = np.stack([np.repeat(ordered[:, 0], 2)[1:], np.repeat(ordered[:, 1], 2)[:-1]], axis=1)
    steps = np.linspace(0.0, 1.0, 12)[:, None, None]
    return np.exp(corners[:-1] + steps * np.diff(corners, axis=0)).reshape(-1, 2)


def _legend_dot(axes: Axes, label: str) -> None:
    """Add the legend entry of the cloud, larger and darker than its points."""
    axes.plot([], [], "o", color="#9aa5b1", markersize=4, linestyle="none", label=label)


def _frame(axes: Axes, front: np.ndarray, markers: Sequence[Marker]) -> None:
    """Set logarithmic axes around front and markers; dominated points may lie outside."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    named = np.array([marker.objectives for marker in markers], dtype=float).reshape(-1, 2)
    seen = np.concatenate([front, named])
    seen = seen[np.all(np.isfinite(seen) & (seen > 0), axis=1)]
    if not len(seen):
        return
    low, high = seen.min(axis=0), seen.max(axis=0)
    span = np.maximum(high / low, 1.3)
    axes.set_xlim(low[0] / span[0] ** 0.12, high[0] * span[0] ** 0.25)
    axes.set_ylim(low[1] / span[1] ** 0.12, high[1] * span[1] ** 0.25)


def _text_color(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "#1f2933"
