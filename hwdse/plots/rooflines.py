"""Rooflines: operators of a workload on a chip, and one operator at every level of memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from hwdse.plots.label_placement import Label, LabelLayer
from hwdse.plots.plot_style import COLORS, GRID, INK, MARKERS, tidy_log_axis

TERA = 1e12
BOUND_COLORS = {"matrix": COLORS[0], "hbm": COLORS[1], "vector": COLORS[2], "sram": COLORS[4]}
"""Color of an operator by the resource that bounds it."""
BOUND_MARKERS = dict(zip(BOUND_COLORS, MARKERS, strict=False))
BOUND_LABELS = {
    "matrix": "matrix engines",
    "hbm": "HBM",
    "vector": "vector engines",
    "sram": "SRAM",
}
LEVEL_COLORS = (COLORS[4], COLORS[1], COLORS[5], COLORS[6], "#7f6a3a", "#0f766e", "#9aa5b1")
"""Colors of memory levels, outermost first; distinct from the operand colors."""
LEVEL_MARKERS = ("o", "s", "^", "v", "P", "X", "h")
LEVEL_LINES = ("-", (0, (8, 2)), "-.", (0, (4, 1.5)), (0, (1.5, 1.5)), "-", "--")
GRADIENTS = ("dx", "dw")
"""Last words of operators of the backward pass."""
SAME_RATIO = 0.03
"""Operators whose rate and intensity differ by less share one label."""


@dataclass(frozen=True)
class OperatorPoint:
    """One operator in a roofline; several operators at one place share a point."""

    name: str
    """Label; no label if empty."""
    intensity_flop_per_byte: float
    achieved_flop_per_s: float
    bound: str
    """Resource that bounds the operator: a key of `BOUND_COLORS`."""


def plot_roofline(
    axes: Axes,
    operators: Sequence[OperatorPoint],
    peak_flop_per_s: float,
    bandwidth_bytes_per_s: float,
    *,
    memory: str = "HBM",
) -> None:
    """Draw the achieved rate of operators over arithmetic intensity, and the roofline of a chip.

    Color and marker state the resource that bounds an operator.
    """
    intensity = np.array([one.intensity_flop_per_byte for one in operators])
    achieved = np.array([one.achieved_flop_per_s for one in operators]) / TERA
    ridge = peak_flop_per_s / bandwidth_bytes_per_s
    left = min(float(intensity.min(initial=ridge)), ridge) / 3.0
    right = max(float(intensity.max(initial=ridge)), ridge) * 3.0
    peak, slope = peak_flop_per_s / TERA, bandwidth_bytes_per_s / TERA
    low = min(float(achieved.min(initial=peak)), slope * left * 2.0) / 2.5
    _log_axes(axes, (left, right), (low, peak * 2.4))
    roof = ([left, ridge, right], [slope * left, peak, peak])
    axes.plot(*roof, color=INK, linewidth=1.8)
    axes.fill_between(*roof, color=GRID, alpha=0.45, zorder=0)
    kinds = [kind for kind in BOUND_COLORS if any(one.bound == kind for one in operators)]
    for kind in kinds:
        chosen = np.array([one.bound == kind for one in operators])
        name = BOUND_LABELS[kind] if kind != "hbm" else memory
        axes.scatter(
            intensity[chosen], achieved[chosen], s=46, color=BOUND_COLORS[kind], zorder=5,
            marker=BOUND_MARKERS[kind], label=f"bound by {name}", edgecolors="white",
            linewidths=0.8,
        )  # fmt: skip
    axes.set_xlabel(f"Arithmetic intensity (FLOP/B of {memory} traffic)")
    axes.set_ylabel("Achieved rate per chip (TFLOP/s)")
    if kinds:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False,
            columnspacing=1.0, handletextpad=0.2,
        )  # fmt: skip
    axes.annotate(
        f"peak {scaled_text(peak, 'FLOP/s')}", (right, peak), (-4, 7), textcoords="offset points",
        ha="right",
    )  # fmt: skip
    _along_slope(axes, (left, ridge), slope, f"{memory} {scaled_text(slope, 'B/s')}")
    LabelLayer(axes, _labels(operators))


def plot_chip_roofline(
    axes: Axes, peaks_flop_per_s: Mapping[str, float], bandwidths_bytes_per_s: Mapping[str, float]
) -> None:
    """Draw the roofline of each memory and port of a chip under the peak rate of each format.

    A point marks where a bandwidth reaches the first peak: the balance point.
    """
    peaks = {name: rate / TERA for name, rate in peaks_flop_per_s.items()}
    slopes = {name: rate / TERA for name, rate in bandwidths_bytes_per_s.items()}
    first, top = next(iter(peaks.values())), max(peaks.values())
    left = 0.05 * first / max(slopes.values())
    right = 600.0 * first / min(slopes.values())
    low = 0.5 * min(*peaks.values(), max(slopes.values()) * left)
    _log_axes(axes, (left, right), (low, 3.0 * top))
    for index, (name, slope) in enumerate(slopes.items()):
        color, style = level_color(index), LEVEL_LINES[index % len(LEVEL_LINES)]
        axes.plot(
            [low / slope, top / slope], [low, top], color=color, linewidth=1.5, linestyle=style,
            label=f"{name} {scaled_text(slope, 'B/s')}", zorder=2,
        )  # fmt: skip
        axes.scatter(
            [first / slope], [first], s=46, color=color, edgecolors="white", linewidths=0.8,
            marker=LEVEL_MARKERS[index % len(LEVEL_MARKERS)], zorder=6,
        )  # fmt: skip
    for name, peak in peaks.items():
        start = peak / max(slopes.values())
        axes.plot([start, right], [peak, peak], color=INK, linewidth=1.4, zorder=3)
        axes.annotate(
            f"{name} {scaled_text(peak, 'FLOP/s')}", (right, peak), (-4, 3), fontsize=8.5,
            textcoords="offset points", ha="right",
        )  # fmt: skip
    axes.set_xlabel("Arithmetic intensity (FLOP per byte of the level)")
    axes.set_ylabel("Attainable rate per chip (TFLOP/s)")
    _legend_below(axes)
    LabelLayer(
        axes,
        [
            Label(f"{first / slope:,.0f} FLOP/B", (first / slope, first), level_color(index))
            for index, slope in enumerate(slopes.values())
        ],
    )


def plot_level_rooflines(
    axes: Axes,
    names: Sequence[str],
    intensity_macs_per_byte: np.ndarray,
    bandwidth_bytes_per_s: np.ndarray,
    peak_macs_per_s: float,
    array_macs_per_s: float,
    macs_per_s: float,
    notes: Sequence[str],
) -> None:
    """Draw the roofline of each level over its own intensity, and the point of the operator.

    The slope of a line is the bandwidth of the level, and the ceiling is the peak rate of the
    array. A dashed ceiling is the rate with the idle PEs of the mapping (`array_macs_per_s`).
    `notes` are the labels of the points. Levels without traffic or timing are left out.
    """
    intensity = np.asarray(intensity_macs_per_byte, dtype=float)
    slopes = np.asarray(bandwidth_bytes_per_s, dtype=float) / TERA
    peak, reached = peak_macs_per_s / TERA, macs_per_s / TERA
    is_roof = np.isfinite(intensity) & np.isfinite(slopes) & (slopes > 0.0)
    shown = np.flatnonzero(is_roof).tolist()
    left = 0.1 * float(intensity[shown].min(initial=1.0))
    right = 10.0 * float(intensity[shown].max(initial=1.0))
    _log_axes(axes, (left, right), (min(0.1 * reached, 0.01 * peak), 6.0 * peak))
    _ceilings(axes, (left, right), peak, array_macs_per_s / TERA)
    for index in shown:
        label = f"{names[index]} {scaled_text(slopes[index], 'B/s')}"
        _roof(axes, index, label, slopes[index], (left, right), peak)
        _point(axes, index, intensity[index], slopes[index], peak, reached)
    axes.set_xlabel("Arithmetic intensity at the level (MAC/B)")
    axes.set_ylabel("Achieved rate (TMAC/s)")
    _legend_below(axes)
    labels = [
        Label(notes[index], (float(intensity[index]), reached), level_color(index))
        for index in shown
    ]
    LabelLayer(axes, labels)


def _legend_below(axes: Axes) -> None:
    """Legend in two columns below the label of the horizontal axis."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, handlelength=2.6,
        columnspacing=1.4, fontsize=8,
    )  # fmt: skip


def level_color(index: int) -> str:
    """Color of a memory level."""
    return LEVEL_COLORS[index % len(LEVEL_COLORS)]


def scaled_text(value: float, unit: str) -> str:
    """Text of a value in tera units with the best prefix: 0.128 gives `128 GB/s`."""
    prefixes = ((1e-3, "P"), (1.0, "T"), (1e3, "G"), (1e6, "M"))
    factor, prefix = next((x for x in prefixes if value * x[0] >= 1.0), prefixes[-1])
    return f"{value * factor:.4g} {prefix}{unit}"


def _log_axes(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*across)
    axes.set_ylim(*up)
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color=GRID, linewidth=0.7, zorder=0)


def _ceilings(axes: Axes, span: tuple[float, float], peak: float, used: float) -> None:
    """Draw the peak rate of the array, and the rate of its used PEs."""
    label = f"array {scaled_text(peak, 'MAC/s')}"
    axes.plot(span, [peak, peak], color=INK, linewidth=1.8, zorder=3, label=label)
    if used < 0.995 * peak:
        label = f"used PEs {scaled_text(used, 'MAC/s')}"
        axes.plot(span, [used, used], color=INK, linewidth=1.2, linestyle=(0, (5, 2)), zorder=3,
                  label=label)  # fmt: skip


def _roof(
    axes: Axes, index: int, label: str, slope: float, span: tuple[float, float], peak: float
) -> None:
    """Draw the bandwidth limit of one level up to the ceiling, within the axis range."""
    left, right = span
    end = min(max(peak / slope, left), right)
    axes.plot(
        [left, end], [min(slope * left, peak), min(slope * end, peak)], color=level_color(index),
        linewidth=1.5, zorder=2, label=label, linestyle=LEVEL_LINES[index % len(LEVEL_LINES)],
    )  # fmt: skip


def _point(
    axes: Axes, index: int, intensity: float, slope: float, peak: float, reached: float
) -> None:
    """Draw the operator at one level, and the distance to the roofline of that level."""
    roof, color = min(peak, slope * intensity), level_color(index)
    axes.plot(
        [intensity, intensity], [reached, roof], color=color, linewidth=0.9,
        linestyle=(0, (2, 2)), zorder=4,
    )  # fmt: skip
    axes.scatter(
        [intensity], [reached], s=46, color=color, edgecolors="white", linewidths=0.8, zorder=6,
        marker=LEVEL_MARKERS[index % len(LEVEL_MARKERS)],
    )  # fmt: skip


def _along_slope(axes: Axes, span: tuple[float, float], slope: float, text: str) -> None:
    """Write text along the slanted part of a roofline, above it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    x = float(span[0] ** 0.6 * span[1] ** 0.4)
    above = ScaledTranslation(-3.0 / 72.0, 4.0 / 72.0, figure.dpi_scale_trans)
    axes.text(
        x, slope * x, text, transform=axes.transData + above, ha="center", va="bottom",
        rotation=float(np.degrees(np.arctan(slope))), rotation_mode="anchor",
        transform_rotates_text=True,
    )  # fmt: skip


def _joined(names: Sequence[str]) -> str:
    """Names of operators at one place: `MLP down, dx` for `MLP down` and `MLP down dx`."""
    ends: dict[str, list[str]] = {}
    for name in names:
        base, _, end = name.rpartition(" ")
        base, end = (base, f" {end}") if end in GRADIENTS else (name, "")
        ends.setdefault(base, []).append(end)
    groups = (f"{base}{','.join(dict.fromkeys(found))}" for base, found in ends.items())
    return ", ".join(groups)


def _labels(operators: Sequence[OperatorPoint]) -> list[Label]:
    """Labels of the named operators; those at one place share one."""
    groups: list[list[OperatorPoint]] = []
    for one in (one for one in operators if one.name):
        at = np.log([one.intensity_flop_per_byte, one.achieved_flop_per_s])
        for group in groups:
            first = np.log([group[0].intensity_flop_per_byte, group[0].achieved_flop_per_s])
            if group[0].bound == one.bound and np.all(np.abs(first - at) < SAME_RATIO):
                group.append(one)
                break
        else:
            groups.append([one])
    return [
        Label(
            _joined([one.name for one in group]),
            (group[0].intensity_flop_per_byte, group[0].achieved_flop_per_s / TERA),
            BOUND_COLORS[group[0].bound],
        )
        for group in groups
    ]
