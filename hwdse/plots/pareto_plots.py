"""Pictures: figures, the Pareto front and breakdowns. Arrays and an `Axes` in, nothing computed.

The one place, with its neighbours `plots_*.py`, that imports matplotlib. It never touches pyplot
or the global settings, so a caller's notebook keeps its own.
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
"""A part of a bar smaller than this has no room for its percentage."""
SHOWN_SHARE = 0.004
"""A part smaller than this in every bar cannot be seen, and is left out of the legend."""


@dataclass(frozen=True)
class Marker:
    """A named design in a picture; `role` is "preset", "baseline" or "best"."""

    label: str
    cost: tuple[float, ...]
    role: str


_ROLES = {
    "preset": {"marker": "o", "s": 34, "color": COLORS[4], "zorder": 5},
    "baseline": {"marker": "D", "s": 52, "color": COLORS[1], "zorder": 6},
    "best": {"marker": "*", "s": 190, "color": COLORS[2], "zorder": 7},
}


def new_figure(
    num_rows: int = 1, num_columns: int = 1, *, width_in: float = 6.4, height_in: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Figure with rows and columns of axes, row by row, in the style of all pictures here; the
    axes of a row share their y axis."""
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
    costs: np.ndarray,
    mask: np.ndarray,
    labels: tuple[str, str],
    markers: Sequence[Marker] = (),
    cloud_label: str = "designs",
) -> None:
    """Points of two costs (both smaller is better), their front as a staircase, named designs.

    `mask` tells which points are on the front. Points that are not finite are not drawn.
    """
    costs = np.asarray(costs, dtype=float).reshape(-1, 2)
    front = costs[np.asarray(mask, dtype=bool)]
    rest = costs[~np.asarray(mask, dtype=bool)]
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
        points = [marker.cost for marker in markers if marker.role == role]
        if points:
            axes.scatter(*np.array(points).T, edgecolors="white", linewidths=0.8, **style)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _frame(axes, front, markers)
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7, zorder=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    # What the picture is about gets the best places.
    markers = sorted(markers, key=lambda marker: marker.role == "preset")
    colors = [str(_ROLES[marker.role]["color"]) for marker in markers]
    points = [(marker.cost[0], marker.cost[1]) for marker in markers]
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
    """Stacked horizontal bars, one a design: each part's size, with its percentage of the bar.

    `parts` holds a value a design under each part's name; `label` names the quantity with its
    unit, and `totals` are the texts behind the bars (by default their plain sums). Parts take
    their colors in `color_order`, so that a part looks the same in two charts side by side.
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
    """Points along the staircase of a front, so that labels keep clear of its lines as well."""
    if len(front) < 2:
        return front
    ordered = np.log(front[np.lexsort((front[:, 1], front[:, 0]))])
    corners = np.stack([np.repeat(ordered[:, 0], 2)[1:], np.repeat(ordered[:, 1], 2)[:-1]], axis=1)
    steps = np.linspace(0.0, 1.0, 12)[:, None, None]
    return np.exp(corners[:-1] + steps * np.diff(corners, axis=0)).reshape(-1, 2)


def _legend_dot(axes: Axes, label: str) -> None:
    """Entry for the cloud of points, larger and darker than a point of it."""
    axes.plot([], [], "o", color="#9aa5b1", markersize=4, linestyle="none", label=label)


def _frame(axes: Axes, front: np.ndarray, markers: Sequence[Marker]) -> None:
    """Logarithmic axes around the cloud, cut where the bad end of it says nothing any more."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    named = np.array([marker.cost for marker in markers], dtype=float).reshape(-1, 2)
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
