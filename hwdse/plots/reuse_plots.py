"""Plots that compare compute engines: curves over the array size, stacked energy by source."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, tidy_log_axis

_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "-", (0, (4, 3)), "-", "-", "-")
"""Dashed third curve: it often coincides with the second."""
_PARTS = ("#7f7f7f", "#a6cee3", "#9fd9c4", "#f5b99a", "#f4e08a", "#cc79a7")
"""Tints distinct from the colors of the engines."""


def plot_over_array_size(
    axes: Axes,
    sides: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    label: str,
    *,
    is_log: bool = True,
) -> None:
    """Draw one curve per engine over the dimension of a square array.

    The y axis begins at 0 unless `is_log`. Values that are not finite leave a gap: sizes at
    which an engine was not evaluated.
    """
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(
            sides, np.asarray(values, dtype=float), color=COLORS[index % len(COLORS)],
            linewidth=1.7, linestyle=_LINES[index % len(_LINES)], label=name,
            marker=_MARKERS[index % len(_MARKERS)], markersize=4.5,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sides), [f"{side:g}" for side in sides])
    axes.minorticks_off()
    if is_log:
        axes.set_yscale("log")
        tidy_log_axis(axes.yaxis)
    else:
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel("Array dimension d (d² MACs per cycle)")
    axes.set_ylabel(label)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7)


def plot_stacked_bars(
    axes: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]], label: str
) -> None:
    """Draw stacked horizontal bars, the first on top, with their sums at the ends.

    A third of the width on the right is left free for a legend.
    """
    rows = np.arange(len(names))[::-1]
    left = np.zeros(len(names))
    for index, (part, values) in enumerate(parts.items()):
        widths = np.asarray(values, dtype=float)
        axes.barh(
            rows, widths, left=left, height=0.66, color=_PARTS[index % len(_PARTS)], label=part
        )
        left = left + widths
    for row, total in zip(rows, left, strict=True):
        axes.annotate(
            f"{total:.2f}", (total, row), (4, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.set_xlim(0.0, 1.6 * float(left.max(initial=0.0)))
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color="#e4e7eb", linewidth=0.7)
    axes.set_xlabel(label)
