"""Scatter plot of parallelism strategies: peak HBM usage and step time, with the Pareto front."""

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, place_labels, tidy_log_axis

MAX_TIME_RATIO = 30.0
"""Upper end of the time axis over the fastest step time; slower strategies are clipped."""


def plot_strategies(
    axes: Axes,
    used_gb: np.ndarray,
    step_time_s: np.ndarray,
    capacity_gb: float,
    front: np.ndarray,
    best: int | None,
    label: str,
) -> None:
    """Draw a point per strategy, the Pareto front as a staircase, the capacity as a line.

    `front` contains the indices of the front, and `best` is the index with star and `label`.
    """
    fits = used_gb <= capacity_gb
    for mask, color, name in ((fits, COLORS[5], "fits in HBM"), (~fits, "#9aa5b1", "exceeds HBM")):
        if np.any(mask):
            axes.scatter(
                used_gb[mask], step_time_s[mask], s=4, color=color, alpha=0.45, linewidths=0,
                rasterized=True, zorder=1,
            )  # fmt: skip
            text = f"{name} ({np.count_nonzero(mask):,})"
            axes.plot([], [], "o", color=color, markersize=4, linestyle="none", label=text)
    ordered = front[np.lexsort((step_time_s[front], used_gb[front]))]
    line = {"color": COLORS[0], "linewidth": 1.6}
    axes.step(used_gb[ordered], step_time_s[ordered], where="post", zorder=3, **line)
    axes.scatter(used_gb[ordered], step_time_s[ordered], s=12, color=COLORS[0], zorder=4)
    text = f"Pareto front ({len(front):,})"
    axes.plot([], [], marker="o", markersize=3.5, label=text, **line)
    axes.axvline(capacity_gb, color=COLORS[1], linewidth=1.2, linestyle=(0, (5, 2)), zorder=2,
                 label=f"available HBM per chip: {capacity_gb:.4g} GB")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    fastest = float(np.min(step_time_s))
    axes.set_ylim(fastest / 1.6, min(float(np.max(step_time_s)) * 1.1, fastest * MAX_TIME_RATIO))
    axes.set_xlabel("Peak HBM usage (GB)")
    axes.set_ylabel("Step time (s)")
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7, zorder=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    if best is not None:
        point = (float(used_gb[best]), float(step_time_s[best]))
        axes.scatter(*point, s=190, marker="*", color=COLORS[2], edgecolors="white", zorder=6)
        every = slice(None, None, max(len(used_gb) // 2000, 1))
        obstacles = np.stack([used_gb[every], step_time_s[every]], axis=1)
        place_labels(axes, [point], [label], [COLORS[2]], obstacles)
