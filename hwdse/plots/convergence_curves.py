"""Curves of a search: best objective over model evaluations."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.label_placement import Label, LabelLayer
from hwdse.plots.plot_style import COLORS, GRID, curve_style, tidy_log_axis

LOG_RATIO = 3.0
"""Objectives that differ by more than this factor get a logarithmic axis."""


def plot_convergence(
    axes: Axes,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    label: str,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Draw the best objective so far over model evaluations, one staircase per method.

    `levels` are reference values such as that of the base design, drawn as dashed lines. The axis
    begins at the first evaluation with a finite objective. The last value has a label, with its
    ratio to the first level.
    """
    levels = levels or {}
    finite, ends = [np.array(list(levels.values()), dtype=float)], []
    for index, (name, (evaluations, best)) in enumerate(curves.items()):
        counts, best = np.asarray(evaluations, dtype=float), np.asarray(best, dtype=float)
        shown = np.flatnonzero(np.isfinite(best))
        if not len(shown):
            continue
        counts, best = counts[shown[0] :], best[shown[0] :]
        style = curve_style(index)
        marker = style.pop("marker")
        axes.step(counts, best, where="post", linewidth=1.8, label=name, **style)
        axes.plot(counts[-1:], best[-1:], marker, color=style["color"], markersize=6)
        text = f"{best[-1]:.4g}{_ratio_text(best[-1], levels)}"
        ends.append(Label(text, (float(counts[-1]), float(best[-1])), style["color"]))
        finite.append(best)
    for name, value in levels.items():
        axes.axhline(value, color=COLORS[1], linewidth=1.5, linestyle=(0, (5, 2)), label=name)
    _log_axis_if_wide(axes, np.concatenate(finite))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.margins(x=0.03)
    axes.set_xlabel("Model evaluations")
    axes.set_ylabel(label)
    axes.grid(True, which="major", color=GRID, linewidth=0.7)
    if len(curves) + len(levels) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False)
    LabelLayer(axes, ends)


def _ratio_text(best: float, levels: Mapping[str, float]) -> str:
    """Ratio of the first level to the objective; empty without a level above it."""
    for name, value in levels.items():
        return f", {value / best:.3g}x lower than {name}" if value > best > 0.0 else ""
    return ""


def _log_axis_if_wide(axes: Axes, values: np.ndarray) -> None:
    """Set a logarithmic axis for objectives of a wide range."""
    if len(values) and values.min() > 0.0 and values.max() / values.min() > LOG_RATIO:
        axes.set_yscale("log")
        margin = (values.max() / values.min()) ** 0.08
        axes.set_ylim(values.min() / margin, values.max() * margin)
        tidy_log_axis(axes.yaxis)
