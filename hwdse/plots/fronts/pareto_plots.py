"""Pareto fronts of two minimized objectives, with named designs beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from hwdse.plots.label_placement import Label, LabelLayer, in_lines
from hwdse.plots.plot_style import (
    COLORS,
    GRID,
    INK,
    tidy_log_axis,
)

CLOUD_COLOR = "#9aa5b1"
MIN_FRONT_SHARE = 0.35
"""Smallest part of the axes that the front fills, as the geometric mean of both; a base design that
would leave it less is drawn at the edge."""
NEAR = 0.3
"""Presets at most this far outside the front and the base, relative to their range, extend the
axes."""
MIN_RATIO = 1.25
"""Smallest ratio of the ends of an axis."""
MARGIN = 0.07
"""Free part of the axes at each side."""
SAME_RATIO = 0.004
"""Named designs that differ by less in all objectives share one marker and one label."""
_NO_BREAK = "\N{NO-BREAK SPACE}"
MAX_LISTED = 6
"""Number of designs outside the axes that the note names."""


@dataclass(frozen=True)
class PointBand:
    """Ends of the bands for both objectives of a design."""

    objectives: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def scaled(self, scales: np.ndarray) -> "PointBand":
        """The band in other units."""
        ends = (self.objectives, self.low, self.high)
        return PointBand(*(tuple((np.array(end) * scales).tolist()) for end in ends))


@dataclass(frozen=True)
class Marker:
    """A named design in a plot."""

    label: str
    objectives: tuple[float, ...]
    role: str
    """`preset`, `baseline` or `best`."""
    note: str = ""
    """Limits that the design exceeds, such as `over area limit`; its marker is hollow then."""
    band: PointBand | None = None
    """Bands for its objectives, drawn as bars."""


@dataclass(frozen=True)
class FrontPoints:
    """Designs of one run, of shape (point, objective)."""

    label: str
    objectives: np.ndarray
    is_front: np.ndarray
    """True for the designs on the Pareto front of all runs."""
    bands: tuple[PointBand, ...] = ()
    """Bands for some of the designs, drawn as bars."""


_ROLES = {
    "preset": {"marker": "v", "s": 40, "color": COLORS[4], "zorder": 5},
    "baseline": {"marker": "D", "s": 52, "color": COLORS[1], "zorder": 6},
    "best": {"marker": "*", "s": 190, "color": COLORS[2], "zorder": 7},
}
_RUN_LOOKS = (("o", 0), ("s", 6), ("^", 5), ("P", 3), ("X", 4), ("h", 7))
"""Marker and index of the color of each run; other than those of named designs."""
_ROLE_KEYS = {
    "preset": ("preset systems", "preset systems over a limit"),
    "baseline": ("base design", "base design, over a limit"),
    "best": ("optimum", "optimum, over a limit"),
}


def plot_pareto(
    axes: Axes,
    runs: Sequence[FrontPoints],
    labels: tuple[str, str],
    markers: Sequence[Marker] = (),
    cloud: np.ndarray | None = None,
    cloud_label: str = "designs",
) -> str:
    """Draw the front of one or several runs, a cloud of other designs and named designs.

    The axes are set around the front and the base design. The text that is returned names the
    presets outside of them; it is empty if there are none. One run has one staircase; of several,
    each has its own color and marker, with hollow markers for designs that another run dominates.
    Bars are bands for designs. Points that are not finite are not drawn.
    """
    runs = [replace(run, objectives=_points(run.objectives)) for run in runs]
    front = np.concatenate([run.objectives[run.is_front] for run in runs] or [np.zeros((0, 2))])
    markers = _merged([one for one in markers if _is_drawable(one)])
    low, high = front_limits(front, markers)
    set_log_axes(axes, low, high, labels)
    _draw_cloud(axes, _points(cloud), cloud_label, low, high)
    soft = list(axes.collections)
    _draw_runs(axes, runs, front)
    bands = [band for run in runs for band in run.bands]
    _draw_bands(axes, [*bands, *(one.band for one in markers if one.band is not None)], low, high)
    far = draw_named(axes, markers, (low, high), labels, soft)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, columnspacing=1.6,
        borderaxespad=0.3,
    )  # fmt: skip
    return _note(far, labels, front)


def draw_named(
    axes: Axes,
    markers: Sequence[Marker],
    limits: tuple[np.ndarray, np.ndarray],
    labels: tuple[str, str],
    soft: Sequence[Artist] = (),
) -> list[Marker]:
    """Draw named designs with their labels; the presets outside the axes are returned.

    Base design and optimum have an arrow at the edge if they are outside. Labels avoid the points
    of the artists `soft`.
    """
    low, high = limits
    inside, outside = _split(markers, low, high)
    _draw_markers(axes, inside)
    far = [one for one in outside if one.role != "preset"]
    clipped = _draw_arrows(axes, far, low, high, labels)
    # Labels of baseline and optimum are placed first, at the best positions.
    ordered = sorted(inside, key=lambda marker: marker.role == "preset")
    LabelLayer(axes, [*clipped, *map(_label_of, ordered)], soft=soft)
    return [one for one in outside if one.role == "preset"]


def _points(values: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 2)) if values is None else np.asarray(values, dtype=float).reshape(-1, 2)


def _is_drawable(marker: Marker) -> bool:
    return all(np.isfinite(x) and x > 0.0 for x in marker.objectives)


def _merged(markers: Sequence[Marker]) -> list[Marker]:
    """Markers, with one for designs of the same role at the same place."""
    found: list[Marker] = []
    for marker in markers:
        at = np.log(marker.objectives)
        for index, other in enumerate(found):
            is_same = np.allclose(at, np.log(other.objectives), rtol=0.0, atol=SAME_RATIO)
            if is_same and (marker.role, marker.note) == (other.role, other.note):
                found[index] = replace(other, label=f"{other.label}, {marker.label}")
                break
        else:
            found.append(marker)
    return found


def front_limits(front: np.ndarray, markers: Sequence[Marker]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of both axes: around the front, base and optimum, and around presets near them."""
    front = front[np.all(np.isfinite(front) & (front > 0.0), axis=1)]
    named = [one for one in markers if one.role != "preset"]
    ends = np.log(front if len(front) else [one.objectives for one in markers] or [[1.0, 1.0]])
    core_low, core_high = ends.min(axis=0), ends.max(axis=0)
    core = _at_least(core_low, core_high)
    low, high = core
    for marker in named:
        at = np.log(marker.objectives)
        wider = np.minimum(low, at), np.maximum(high, at)
        if _fills(core, wider):
            low, high = wider
    reach = NEAR * (high - low)
    near = low - reach, high + reach
    for marker in markers:
        at = np.log(marker.objectives)
        wider = np.minimum(low, at), np.maximum(high, at)
        is_near = np.all(at >= near[0]) and np.all(at <= near[1])
        if marker.role == "preset" and is_near and _fills(core, wider):
            low, high = wider
    margin = MARGIN * (high - low)
    return np.exp(low - margin), np.exp(high + margin)


def _fills(core: tuple[np.ndarray, np.ndarray], wider: tuple[np.ndarray, np.ndarray]) -> bool:
    """True if the core is large enough in the wider range."""
    shares = (core[1] - core[0]) / (wider[1] - wider[0])
    return bool(np.sqrt(np.prod(shares)) >= MIN_FRONT_SHARE)


def _at_least(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range (logarithms) widened about its middle to at least `MIN_RATIO`."""
    missing = np.maximum(np.log(MIN_RATIO) - (high - low), 0.0)
    return low - 0.5 * missing, high + 0.5 * missing


def set_log_axes(axes: Axes, low: np.ndarray, high: np.ndarray, labels: tuple[str, str]) -> None:
    """Set logarithmic axes with these ends and labels."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    for axis in (axes.xaxis, axes.yaxis):
        tidy_log_axis(axis)
    axes.grid(True, which="major", color=GRID, linewidth=0.7, zorder=0)


def _draw_cloud(
    axes: Axes, cloud: np.ndarray, label: str, low: np.ndarray, high: np.ndarray
) -> None:
    """Draw the cloud; its legend counts the points inside the axes."""
    if not len(cloud):
        return
    axes.scatter(
        *cloud.T, s=7, color=CLOUD_COLOR, alpha=0.6, linewidths=0, rasterized=True, zorder=1
    )
    shown = int(np.all((cloud >= low) & (cloud <= high), axis=1).sum())
    count = f"{shown:,}" if shown == len(cloud) else f"{shown:,} of {len(cloud):,} shown"
    axes.plot([], [], "o", color=CLOUD_COLOR, markersize=4, linestyle="none",
              label=f"{label} ({count})")  # fmt: skip


def _draw_runs(axes: Axes, runs: Sequence[FrontPoints], front: np.ndarray) -> None:
    """Draw the staircase of the front and the designs of each run."""
    if not len(front):
        return
    ordered = front[np.lexsort((front[:, 1], front[:, 0]))]
    if len(runs) == 1:
        color, size = COLORS[0], 60 if len(front) == 1 else 26 if len(front) < 12 else 14
        style = {"color": color, "linewidth": 1.6}
        axes.step(*ordered.T, where="post", zorder=3, **style)
        axes.scatter(*ordered.T, s=size, color=color, zorder=4, linewidths=0)
        text = f"{runs[0].label} ({_designs(len(front))})"
        axes.plot([], [], marker="o", markersize=np.sqrt(size), label=text, **style)
        return
    axes.step(*ordered.T, where="post", zorder=2, color=INK, linewidth=1.2,
              label=f"merged front ({_designs(len(front))})")  # fmt: skip
    for index, run in enumerate(runs):
        marker, color = _RUN_LOOKS[index % len(_RUN_LOOKS)]
        key: dict[str, Any] = {"marker": marker, "color": COLORS[color]}
        for chosen, face in ((run.is_front, key["color"]), (~run.is_front, "white")):
            if np.any(chosen):
                axes.scatter(
                    *run.objectives[chosen].T, s=30, marker=marker, facecolors=face,
                    edgecolors=key["color"], linewidths=1.0, zorder=4 if face != "white" else 3,
                )  # fmt: skip
        count = f"{int(run.is_front.sum()):,} of {len(run.objectives):,} on the merged front"
        axes.plot([], [], markersize=5.5, linestyle="none", label=f"{run.label} ({count})", **key)
    if any(not run.is_front.all() for run in runs):
        axes.plot([], [], "o", markersize=5.5, linestyle="none", color=INK, markerfacecolor="white",
                  label="hollow: dominated by another run")  # fmt: skip


def _draw_bands(
    axes: Axes, bands: Sequence[PointBand], low: np.ndarray, high: np.ndarray
) -> None:
    """Draw bars between the ends of bands for designs inside the axes.

    A bar that ends outside the axes has no cap there.
    """
    shown = [
        band
        for band in bands
        if np.all(np.isfinite([*band.objectives, *band.low, *band.high]))
        and np.all((np.array(band.objectives) >= low) & (np.array(band.objectives) <= high))
    ]
    if not shown:
        return
    points, lows, highs = (
        np.array([getattr(band, name) for band in shown]) for name in ("objectives", "low", "high")
    )
    # Rounding may move the value beyond an end.
    less, more = np.maximum(points - lows, 0.0), np.maximum(highs - points, 0.0)
    axes.errorbar(
        points[:, 0], points[:, 1],
        xerr=np.stack([less[:, 0], more[:, 0]]), yerr=np.stack([less[:, 1], more[:, 1]]),
        linestyle="none", ecolor=INK, elinewidth=0.8, capsize=2.5, alpha=0.55, zorder=3.5,
        label="band from the kinds of constants",
    )  # fmt: skip


def _designs(count: int) -> str:
    return f"{count:,} design" if count == 1 else f"{count:,} designs"


def _split(
    markers: Sequence[Marker], low: np.ndarray, high: np.ndarray
) -> tuple[list[Marker], list[Marker]]:
    """Markers inside and outside the axes."""
    inside, outside = [], []
    for marker in markers:
        at = np.array(marker.objectives)
        (inside if np.all((at >= low) & (at <= high)) else outside).append(marker)
    return inside, outside


def _draw_markers(axes: Axes, markers: Sequence[Marker]) -> None:
    """Draw named designs, hollow if over a limit, with a legend entry per role."""
    for role, style in _ROLES.items():
        for is_over, text in zip((False, True), _ROLE_KEYS[role], strict=True):
            points = [m.objectives for m in markers if m.role == role and bool(m.note) == is_over]
            if not points:
                continue
            key = {"marker": style["marker"], "linewidths": 1.3 if is_over else 0.8}
            faces = {"facecolors": "white", "edgecolors": style["color"]}
            if not is_over:
                faces = {"facecolors": style["color"], "edgecolors": "white"}
            axes.scatter(*np.array(points).T, s=style["s"], zorder=style["zorder"], **key, **faces)
            axes.plot(
                [], [], marker=style["marker"], linestyle="none", label=text,
                color=style["color"], markersize=0.85 * np.sqrt(style["s"]),
                markerfacecolor="white" if is_over else style["color"],
            )  # fmt: skip


def _label_of(marker: Marker) -> Label:
    """Label of a named design, with the limits that it exceeds in a second line."""
    style = _ROLES[marker.role]
    text = "\n".join(part for part in (in_lines(marker.label), marker.note) if part)
    point = (marker.objectives[0], marker.objectives[1])
    return Label(text, point, str(style["color"]), radius_pt=0.5 * np.sqrt(style["s"]) + 1.0)


def _draw_arrows(
    axes: Axes,
    markers: Sequence[Marker],
    low: np.ndarray,
    high: np.ndarray,
    names: tuple[str, str],
) -> list[Label]:
    """Draw an arrow at the edge of the axes for each design outside; their labels with values."""
    labels = []
    for marker in markers:
        at, style = np.array(marker.objectives), _ROLES[marker.role]
        inset = (high / low) ** 0.03
        edge = np.clip(at, low * inset, high / inset)
        way = np.sign(np.log(at / np.clip(at, low, high)))
        angle = float(np.degrees(np.arctan2(way[1], way[0])))
        axes.plot(
            *edge, marker=(3, 0, angle - 90.0), markersize=8, color=style["color"],
            markeredgecolor="white", markeredgewidth=0.6, zorder=6, linestyle="none",
            label=f"{_ROLE_KEYS[marker.role][bool(marker.note)]}, outside the axes",
        )  # fmt: skip
        text = f"{marker.label}\n({_values(marker, names)})"
        labels.append(Label(text, (float(edge[0]), float(edge[1])), str(style["color"])))
    return labels


def _values(marker: Marker, labels: tuple[str, str]) -> str:
    """Objectives of a design with their units."""
    units = [label.partition(" (")[2].partition(")")[0] for label in labels]
    pairs = zip(marker.objectives, units, strict=True)
    texts = [f"{float(f'{value:.3g}'):,.6g}{_NO_BREAK}{unit}" for value, unit in pairs]
    return ", ".join(text.strip() for text in texts)


def _note(markers: Sequence[Marker], labels: tuple[str, str], front: np.ndarray) -> str:
    """Sentences that name the presets outside the axes with their values, nearest first."""
    if not markers:
        return ""
    middle = np.log(front).mean(axis=0) if len(front) else np.zeros(2)

    def distance(marker: Marker) -> float:
        return float(np.linalg.norm(np.log(marker.objectives) - middle))

    shown = sorted(markers, key=distance)[:MAX_LISTED]
    sentences = []
    for note in dict.fromkeys(marker.note for marker in shown):
        names = [f"{one.label} ({_values(one, labels)})" for one in shown if one.note == note]
        sentences.append(f"Outside the axes{f', {note}' if note else ''}: {'; '.join(names)}.")
    if len(markers) > MAX_LISTED:
        sentences.append(f"{len(markers) - MAX_LISTED} more systems lie farther away.")
    return " ".join(sentences)
