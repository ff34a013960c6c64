"""Interactivity of a service against its throughput, energy or cost."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import GRID, INK, curve_style, tidy_log_axis

LABEL_GAP = 0.12
"""Smallest distance of two labels along the front, as a share of the axes."""


def plot_serving_front(
    axes: Axes,
    clouds: Mapping[str, np.ndarray],
    front: np.ndarray,
    labels: Sequence[str],
    y_label: str,
) -> None:
    """Draw configurations of shape (point, 2) by group, and the front with some of its labels.

    Axes are logarithmic: output tokens/s of a user, and the figure `y_label`.
    """
    for index, (name, points) in enumerate(clouds.items()):
        style = curve_style(index)
        axes.scatter(
            points[:, 0], points[:, 1], s=9, color=style["color"], marker=style["marker"],
            alpha=0.35, linewidths=0, label=name,
        )  # fmt: skip
    axes.plot(front[:, 0], front[:, 1], color=INK, linewidth=1.4, label="front")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("output tokens/s of a user")
    axes.set_ylabel(y_label)
    axes.grid(color=GRID)
    tidy_log_axis(axes.xaxis)
    tidy_log_axis(axes.yaxis)
    _write_labels(axes, front, labels)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, borderaxespad=0.2
    )


def _write_labels(axes: Axes, front: np.ndarray, labels: Sequence[str]) -> None:
    """Write the strategy of the first point of each run of equal ones that has room."""
    last_at, last = None, ""
    for point, label in zip(front, labels, strict=True):
        at = axes.transAxes.inverted().transform(axes.transData.transform(point))
        is_near = last_at is not None and float(np.hypot(*(at - last_at))) < LABEL_GAP
        if label == last or is_near:
            continue
        is_right = at[0] > 0.7
        axes.annotate(
            label, point, xytext=(-5 if is_right else 5, 5), textcoords="offset points",
            fontsize=7.0, color=INK, ha="right" if is_right else "left", va="bottom",
        )  # fmt: skip
        axes.plot(*point, marker="o", markersize=3.2, color=INK)
        last_at, last = at, label
