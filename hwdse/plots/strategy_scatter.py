"""Scatter plot of parallelism strategies: peak HBM usage and step time, with the Pareto front."""

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.label_placement import Label, LabelLayer, in_lines
from hwdse.plots.plot_style import COLORS, GRID, tidy_log_axis

MAX_TIME_RATIO = 30.0
"""Upper end of the time axis over the fastest step time; slower strategies are not shown."""
_TOO_LARGE = "#8a94a0"


def plot_strategies(
    axes: Axes,
    used_gb: np.ndarray,
    step_time_s: np.ndarray,
    capacity_gb: float,
    is_met: np.ndarray,
    front: np.ndarray,
    best: int | None,
    label: str,
) -> None:
    """Draw a point per strategy, the Pareto front as a staircase, the capacity as a line.

    `is_met` is true for strategies that meet the other limits. `front` contains the indices of the
    front of strategies that fit and meet them. The region above the capacity is shaded. `best` is
    the index with star and `label`.
    """
    fits = used_gb <= capacity_gb
    has_limits = bool(np.any(fits & ~is_met))
    fastest = float(np.min(step_time_s))
    top = min(float(np.max(step_time_s)) * 1.1, fastest * MAX_TIME_RATIO)
    _scales(axes, used_gb, (fastest / 1.9, top))
    soft = []
    name = "meets all limits" if has_limits else "fits HBM"
    looks = (
        (fits & is_met, COLORS[5], "o", name),
        (fits & ~is_met, COLORS[3], "^", "fits HBM, over another limit"),
        (~fits, _TOO_LARGE, "x", "exceeds HBM"),
    )
    for mask, color, marker, name in looks:
        if np.any(mask):
            soft.append(
                axes.scatter(
                    used_gb[mask], step_time_s[mask], s=6, marker=marker, color=color, alpha=0.5,
                    linewidths=0.4 if marker == "x" else 0.0, rasterized=True, zorder=1,
                )
            )  # fmt: skip
            shown = np.count_nonzero(mask & (step_time_s <= top))
            count = np.count_nonzero(mask)
            text = f"{shown:,}" if shown == count else f"{shown:,} of {count:,} shown"
            axes.plot([], [], marker, color=color, markersize=4.5, linestyle="none",
                      label=f"{name} ({text})")  # fmt: skip
    ordered = front[np.lexsort((step_time_s[front], used_gb[front]))]
    if len(ordered):
        line = {"color": COLORS[0], "linewidth": 1.6}
        axes.step(used_gb[ordered], step_time_s[ordered], where="post", zorder=3, **line)
        axes.scatter(used_gb[ordered], step_time_s[ordered], s=14, color=COLORS[0], zorder=4)
        axes.plot([], [], marker="o", markersize=3.8, **line,
                  label=f"Pareto front ({len(ordered):,})")  # fmt: skip
    axes.axvline(capacity_gb, color=COLORS[1], linewidth=1.4, linestyle=(0, (5, 2)), zorder=2,
                 label=f"available HBM: {capacity_gb:.4g} GB")  # fmt: skip
    right = axes.get_xlim()[1]
    axes.axvspan(capacity_gb, max(right, capacity_gb), color="#f0e4de", zorder=0, linewidth=0.0)
    axes.set_xlim(right=right)
    if best is not None:
        point = (float(used_gb[best]), float(step_time_s[best]))
        axes.scatter(*point, s=190, marker="*", color=COLORS[2], edgecolors="white", zorder=6)
        axes.plot([], [], "*", color=COLORS[2], markersize=11, linestyle="none",
                  label="best of these")  # fmt: skip
        LabelLayer(axes, [Label(in_lines(label), point, COLORS[2], radius_pt=7.5)], soft=soft)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)


def _scales(axes: Axes, used_gb: np.ndarray, times: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = float(np.min(used_gb)), float(np.max(used_gb))
    axes.set_xlim(low / 1.25, high * 1.25)
    axes.set_ylim(*times)
    axes.set_xlabel("Peak HBM usage per chip (GB)")
    axes.set_ylabel("Step time (s)")
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color=GRID, linewidth=0.7, zorder=0)
