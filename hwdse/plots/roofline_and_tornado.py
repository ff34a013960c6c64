"""Plots of one design or one search: roofline, elasticities, convergence."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import COLORS, place_labels, tidy_log_axis

TERA = 1e12
BOUND_COLORS = {"matrix": COLORS[0], "hbm": COLORS[1], "vector": COLORS[2], "sram": COLORS[4]}
"""Color of an operator by the resource that bounds it."""
BOUND_LABELS = {
    "matrix": "matrix engines",
    "hbm": "HBM",
    "vector": "vector engines",
    "sram": "SRAM",
}


def plot_roofline(
    axes: Axes,
    intensity: np.ndarray,
    achieved_flop_per_s: np.ndarray,
    peak_flop_per_s: float,
    bandwidth_bytes_per_s: float,
    names: Sequence[str],
    bounds: Sequence[str] = (),
) -> None:
    """Draw the achieved rate of operators over arithmetic intensity, and the roofline of a chip.

    `bounds` is the binding resource of each operator; by default HBM below the ridge point and
    the matrix engines above. Operators with an empty name get no label.
    """
    intensity = np.asarray(intensity, dtype=float)
    achieved = np.asarray(achieved_flop_per_s, dtype=float) / TERA
    ridge = peak_flop_per_s / bandwidth_bytes_per_s
    left = min(float(intensity.min(initial=ridge)), ridge) / 3.0
    right = max(float(intensity.max(initial=ridge)), ridge) * 4.0
    peak, slope = peak_flop_per_s / TERA, bandwidth_bytes_per_s / TERA
    axes.plot([left, ridge, right], [slope * left, peak, peak], color="#323f4b", linewidth=1.8)
    axes.fill_between(
        [left, ridge, right], [slope * left, peak, peak], color="#e4e7eb", alpha=0.45, zorder=0
    )
    sides = np.where(intensity < ridge, "hbm", "matrix")
    kinds = np.array(bounds if len(bounds) else sides, dtype=str)
    color_of = {kind: BOUND_COLORS.get(kind, COLORS[7]) for kind in sorted(set(kinds))}
    for kind, color in color_of.items():
        axes.scatter(
            intensity[kinds == kind], achieved[kinds == kind], s=42, color=color, zorder=5,
            label=f"bound by {BOUND_LABELS.get(kind, kind)}", edgecolors="white", linewidths=0.8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    low = min(float(achieved.min(initial=peak)), slope * left * 2.0) / 2.0
    axes.set_ylim(low, peak * 2.2)
    axes.set_xlabel("Arithmetic intensity (FLOP/B of HBM traffic)")
    axes.set_ylabel("Achieved rate per chip (TFLOP/s)")
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.annotate(
        f"{peak:,.4g} TFLOP/s", (right, peak), (-4, 4), textcoords="offset points", ha="right"
    )
    middle = float(np.sqrt(left * ridge))
    _along_slope(axes, middle, slope, f"{slope:.3g} TB/s")
    axes.legend(loc="lower right", frameon=False)
    points = list(zip(intensity.tolist(), achieved.tolist(), strict=True))
    colors = [color_of[kind] for kind in kinds]
    along = np.geomspace(left, right, 120)
    roof = np.stack([along, np.minimum(slope * along, peak)], axis=1)
    place_labels(axes, points, names, colors, obstacles=roof)


def plot_tornado(axes: Axes, names: Sequence[str], elasticities: np.ndarray, metric: str) -> None:
    """Draw bars of d ln(metric) / d ln(parameter), in the order given, the first on top."""
    elasticities = np.asarray(elasticities, dtype=float)
    rows = np.arange(len(names))[::-1]
    colors = [COLORS[1] if value > 0 else COLORS[0] for value in elasticities]
    axes.barh(rows, elasticities, height=0.68, color=colors)
    for row, value in zip(rows, elasticities, strict=True):
        side = 1 if value >= 0 else -1
        text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
        axes.annotate(
            text, (value, row), (4 * side, 0), textcoords="offset points",
            va="center", ha="left" if side > 0 else "right", fontsize=8,
        )  # fmt: skip
    low, high = float(elasticities.min(initial=0.0)), float(elasticities.max(initial=0.0))
    margin = 0.18 * max(high - low, 1e-3)
    axes.set_xlim(low - margin if low < 0 else low, high + margin if high > 0 else high)
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0.0, color="#323f4b", linewidth=0.9)
    axes.grid(True, axis="x", color="#e4e7eb", linewidth=0.7)
    axes.set_xlabel(f"Elasticity of {metric}\n(% per +1 % of the parameter)")


def plot_convergence(
    axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str
) -> None:
    """Draw the best objective so far over model evaluations, one staircase per method."""
    first = np.inf
    for index, (name, (evaluations, best)) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        style = ("-", "--", ":", "-.")[index % 4]
        axes.step(
            evaluations, best, where="post", color=color, linewidth=1.8, linestyle=style, label=name
        )
        finite = np.flatnonzero(np.isfinite(best))
        if len(finite):
            axes.scatter(evaluations[finite[-1]], best[finite[-1]], s=22, color=color, zorder=5)
            first = min(first, float(evaluations[finite[0]]))
    axes.set_xscale("log")
    if np.isfinite(first):
        axes.set_xlim(left=0.9 * first)
    values = np.concatenate([np.asarray(best) for _, best in curves.values()] or [np.ones(1)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 3.0:
        axes.set_yscale("log")
        tidy_log_axis(axes.yaxis)
    tidy_log_axis(axes.xaxis)
    axes.set_xlabel("Model evaluations")
    axes.set_ylabel(label)
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.7)
    if len(curves) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _along_slope(axes: Axes, x: float, slope: float, text: str) -> None:
    """Write text along the slanted part of a roofline."""
    (x0, y0), (x1, y1) = axes.transData.transform([(x, slope * x), (2.0 * x, slope * 2.0 * x)])
    angle = float(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
    axes.annotate(
        text, (x, slope * x), (-4, 4), textcoords="offset points", ha="center", va="bottom",
        rotation=angle, rotation_mode="anchor",
    )  # fmt: skip
