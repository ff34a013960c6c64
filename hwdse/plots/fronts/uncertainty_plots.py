"""Pareto front under uncertain constants, with percentile intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from hwdse.plots.plot_style import COLORS, GRID, INK, PALE_INK, percent_text, tidy_log_axis

_SHARES = LinearSegmentedColormap.from_list("shares", ["#f4e3d7", COLORS[1], "#5c1f00"])
"""Fraction of samples on the front, from light to dark; distinct in gray too."""
ONE_DESIGN = "One design only: there is no front to vary."


def plot_front_uncertainty(
    axes: Axes,
    nominal: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    shares: np.ndarray,
    curves: tuple[np.ndarray, np.ndarray],
    crossed: np.ndarray,
    labels: tuple[str, str],
) -> None:
    """Draw designs of two objectives colored by `shares`, and the percentile interval of the front.

    Crosses span `low` to `high` at the designs with the indices `crossed`. `curves` are values of
    the first objective, and p5, median and p95 of the second objective that the front attains
    there. They are infinite if it attains none. A front of one design has its cross only, with a
    sentence that says so.
    """
    axes.set_xscale("log")
    axes.set_yscale("log")
    is_one = len(nominal) == 1
    if not is_one:
        _draw_interval(axes, curves, 10.0 * np.max(high[:, 1]))
    _draw_crosses(axes, nominal[crossed], low[crossed], high[crossed])
    dots = axes.scatter(
        *nominal.T, c=shares, cmap=_SHARES, vmin=0.0, vmax=1.0, s=60 if is_one else 30,
        edgecolors=INK, linewidths=0.6, zorder=4,
    )  # fmt: skip
    axes.plot(
        [], [], "o", color=COLORS[1], markeredgecolor=INK, markersize=5.5, linestyle="none",
        label="design, nominal constants",
    )  # fmt: skip
    _frame(axes, low, high)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(True, which="major", color=GRID, linewidth=0.7, zorder=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)
    if is_one:
        axes.annotate(ONE_DESIGN, (0.02, 0.97), xycoords="axes fraction", va="top", color=PALE_INK)
        return
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.set_label("Fraction of samples on the Pareto front")
    bar.ax.yaxis.set_major_formatter(lambda share, _: percent_text(share))


def _draw_interval(axes: Axes, curves: tuple[np.ndarray, np.ndarray], top: float) -> None:
    """Draw the percentile interval and the median of the front."""
    first, reached = curves
    axes.fill_between(
        first, np.minimum(reached[0], top), np.minimum(reached[2], top),
        color=COLORS[5], alpha=0.28, linewidth=0, zorder=1,
        label="front, p5 to p95", where=reached[0] < np.inf,
    )  # fmt: skip
    middle = np.isfinite(reached[1])
    axes.plot(
        first[middle], reached[1][middle], color=COLORS[0], linewidth=1.4, zorder=2,
        label="front, median",
    )  # fmt: skip


def _draw_crosses(axes: Axes, nominal: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Draw the percentile intervals of both objectives at some designs."""
    below, above = np.maximum(nominal - low, 0.0).T, np.maximum(high - nominal, 0.0).T
    axes.errorbar(
        *nominal.T, xerr=(below[0], above[0]), yerr=(below[1], above[1]), fmt="none",
        ecolor=PALE_INK, elinewidth=0.9, capsize=2.2, capthick=0.9, alpha=0.9, zorder=3,
        label="design, p5 to p95",
    )  # fmt: skip


def _frame(axes: Axes, low: np.ndarray, high: np.ndarray) -> None:
    """Set logarithmic axes around all percentile intervals, with a margin."""
    least, greatest = low.min(axis=0), high.max(axis=0)
    margin = np.maximum(greatest / least, 1.1) ** (0.06 if len(low) > 1 else 0.35)
    axes.set_xlim(least[0] / margin[0], greatest[0] * margin[0])
    axes.set_ylim(least[1] / margin[1], greatest[1] * margin[1])
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
