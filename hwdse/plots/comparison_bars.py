"""Jobs side by side: bars of rates relative to the first job, and curves over one parameter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import GRID, INK, curve_style, part_style, tidy_log_axis

BAR = 0.8
"""Height of all bars of a group; the distance of groups is 1."""
LOG_RATIO = 3.0
"""Values of a curve that differ by more than this factor get a logarithmic axis."""


@dataclass(frozen=True)
class Quantity:
    """Values of one quantity along the axis of a comparison, one row per curve."""

    label: str
    """Axis label with unit."""
    values: np.ndarray
    """Shape (curves, points)."""


def plot_rates(axes: Axes, names: Sequence[str], rates: Mapping[str, Sequence[float]]) -> None:
    """Draw bars of rates relative to the first job, one group per rate, on a logarithmic axis.

    `rates` maps the name of a rate to one ratio per job, larger is better. The first job is the
    line at 1; the bars of the others begin there and carry their ratio.
    """
    heads = list(rates)
    ratios = np.array([rates[head] for head in heads], dtype=float)[:, 1:]
    rows = -np.arange(len(heads), dtype=float)
    height = BAR / ratios.shape[1]
    for index, name in enumerate(names[1:]):
        each = ratios[:, index]
        at = rows + 0.5 * BAR - height * (index + 0.5)
        known = np.where(np.isfinite(each), each, 1.0)
        axes.barh(
            at, known - 1.0, left=1.0, height=height, linewidth=0.6, label=name, **part_style(index)
        )
        for row, value in zip(at, each, strict=True):
            _write_ratio(axes, row, float(value))
    axes.axvline(1.0, color=INK, linewidth=0.9)
    axes.set_yticks(rows, heads)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows[-1] - 0.6, 0.6)
    _set_ratio_axis(axes, ratios)
    axes.set_xlabel(f"Relative to {names[0]} (larger is better)")
    axes.grid(True, axis="x", which="major", color=GRID, linewidth=0.7)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False)


def _write_ratio(axes: Axes, row: float, value: float) -> None:
    """Write a ratio at the end of its bar."""
    is_known = np.isfinite(value)
    side = -1 if is_known and value < 1.0 else 1
    axes.annotate(
        f"{value:.2f}x" if is_known else "no value", (value if is_known else 1.0, row),
        (4 * side, 0), textcoords="offset points", va="center", fontsize=7.5,
        ha="left" if side > 0 else "right",
    )  # fmt: skip


def _set_ratio_axis(axes: Axes, ratios: np.ndarray) -> None:
    """Set a logarithmic axis around 1 with room for the texts at the ends of the bars."""
    finite = ratios[np.isfinite(ratios) & (ratios > 0.0)]
    low, high = min(float(finite.min(initial=1.0)), 1.0), max(float(finite.max(initial=1.0)), 1.0)
    room = max(high / low, 1.5) ** 0.16
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    tidy_log_axis(axes.xaxis)


def plot_curves(
    panels: Sequence[Axes],
    label: str,
    points: np.ndarray,
    names: Sequence[str],
    quantities: Sequence[Quantity],
) -> None:
    """Draw quantities over one parameter, one panel each, with one curve per name.

    `label` is that of the parameter, with unit. One curve needs no legend.
    """
    is_wide = points.min() > 0.0 and points.max() / points.min() >= LOG_RATIO**2
    for axes, quantity in zip(panels, quantities, strict=True):
        for index, name in enumerate(names):
            style = curve_style(index)
            axes.plot(
                points, quantity.values[index], label=name, linewidth=1.6, markersize=4.5, **style
            )
        if is_wide:
            axes.set_xscale("log")
            tidy_log_axis(axes.xaxis)
        else:
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
        _set_value_axis(axes, quantity.values)
        axes.set_ylabel(quantity.label)
        axes.grid(True, which="major", color=GRID, linewidth=0.7)
    panels[-1].set_xlabel(label)
    if len(names) > 1:
        panels[0].legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False)


def _set_value_axis(axes: Axes, values: np.ndarray) -> None:
    """Set a logarithmic axis for values of a wide range; one from zero for a narrow range."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    low, high = float(finite.min()), float(finite.max())
    if low > 0.0 and high / low > LOG_RATIO:
        axes.set_yscale("log")
        tidy_log_axis(axes.yaxis)
        return
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.set_ylim(0.0, 1.08 * high if high > 0.0 else 1.0)
