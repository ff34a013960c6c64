"""Pareto front under uncertain constants, with percentile intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from hwdse.plots.plot_style import COLORS, tidy_log_axis

_SHARES = LinearSegmentedColormap.from_list("shares", ["#f4e3d7", COLORS[1], "#5c1f00"])
"""Fraction of samples on the front, from light to dark; distinct in gray too."""


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
    there. They are infinite if it attains none.
    """
    first, reached = curves
    axes.set_xscale("log")
    axes.set_yscale("log")
    top = 10.0 * np.max(high[:, 1])
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
    away = (nominal[crossed] - low[crossed]).T, (high[crossed] - nominal[crossed]).T
    axes.errorbar(
        *nominal[crossed].T, xerr=np.maximum((away[0][0], away[1][0]), 0.0),
        yerr=np.maximum((away[0][1], away[1][1]), 0.0), fmt="none", ecolor="#52606d",
        elinewidth=0.9, capsize=2.2, capthick=0.9, alpha=0.9, zorder=3, label="design, p5 to p95",
    )  # fmt: skip
    dots = axes.scatter(
        *nominal.T, c=shares, cmap=_SHARES, vmin=0.0, vmax=1.0, s=26, edgecolors="white",
        linewidths=0.5, zorder=4,
    )  # fmt: skip
    _frame(axes, low, high)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7, zorder=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.set_label("Fraction of samples on the Pareto front")
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100.0 * share:.0f} %")


def _frame(axes: Axes, low: np.ndarray, high: np.ndarray) -> None:
    """Set logarithmic axes around all percentile intervals, with a margin."""
    least, greatest = low.min(axis=0), high.max(axis=0)
    margin = np.maximum(greatest / least, 1.05) ** 0.06
    axes.set_xlim(least[0] / margin[0], greatest[0] * margin[0])
    axes.set_ylim(least[1] / margin[1], greatest[1] * margin[1])
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
