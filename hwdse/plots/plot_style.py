"""What all pictures share: colors, fonts, ticks of logarithmic axes, labels beside points."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox, BboxBase

COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#e69f00", "#6a3d9a", "#56b4e9", "#cc79a7", "#7f7f7f",
    "#a6cee3", "#f5b99a", "#9fd9c4", "#f4e08a", "#332288", "#b15928",
)  # fmt: skip
"""Told apart with any color vision. Source: Okabe and Ito, Color Universal Design, 2008; its
yellow and black replaced by purple and gray, which carry text and read as lines, and six more
added for bars of many parts."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.labelsize": 10.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#52606d",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "xtick.color": "#323f4b",
    "ytick.color": "#323f4b",
}
HALO = withStroke(linewidth=2.4, foreground="white", alpha=0.85)
"""White rim that keeps text readable on top of points and lines."""
_DIRECTIONS = (
    (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0),
    (-1.0, -1.0), (0.4, 1.0), (-0.4, 1.0), (0.4, -1.0), (-0.4, -1.0), (1.0, 0.4), (-1.0, 0.4),
    (1.0, -0.4), (-1.0, -0.4),
)  # fmt: skip
_DISTANCES = (7.0, 16.0, 28.0, 44.0, 64.0, 88.0)
"""Points between a design and its label, tried from near to far."""
NUM_ROUNDS = 3
"""Times that each label looks for its place."""


def tidy_log_axis(axis: Axis) -> None:
    """Ticks of a logarithmic axis that people read: plain numbers at 1, 2, 5 below two decades."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
    if decades < 0.7:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    if decades < 0.15:
        steps = tuple(np.arange(1.0, 10.0, 0.1 if decades > 0.04 else 0.02))
    axis.set_major_locator(LogLocator(base=10.0, subs=steps, numticks=12))
    powers = bool(steps == (1.0,) and (high >= 1e5 or low < 1e-4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value, powers)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float, as_power: bool = False) -> str:
    """Number as a tick label: 0.05, 20, 3,000; powers of ten where that would be long."""
    if value == 0.0 or (not as_power and 1e-3 <= abs(value) < 1e6):
        return f"{value:,.6g}"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    mantissa = value / 10.0**exponent
    factor = "" if abs(mantissa - 1.0) < 1e-6 else rf"{mantissa:.3g} \times "
    return rf"${factor}10^{{{exponent}}}$"


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colors: Sequence[str],
    obstacles: np.ndarray | None = None,
) -> None:
    """Write `texts` beside `points` where they cover neither each other nor a point.

    Tries sixteen directions from near to far, for each point in turn, and takes the place that
    covers least; then each again beside all others. A far label gets a thin line to its point.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not points:
        return
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    spots = axes.transData.transform(np.array(points, dtype=float))
    taken = _Taken(frame, [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in spots])
    if obstacles is not None and len(obstacles):
        taken.soft = axes.transData.transform(obstacles)
    shown = [i for i, text in enumerate(texts) if text and frame.contains(*spots[i])]
    sizes = {i: _text_size(axes, texts[i]) for i in shown}
    options = {}
    for _, number in itertools.product(range(NUM_ROUNDS), shown):
        taken.labels.pop(number, None)
        taken.lines.pop(number, None)
        box, line, options[number] = _best_place(
            sizes[number], spots[number], figure.dpi / 72.0, taken, taken.points[number]
        )
        taken.labels[number] = box
        if line is not None:
            taken.lines[number] = line
    for number in shown:
        color, chosen = colors[number], options[number]
        if chosen["arrowprops"] is not None:
            chosen["arrowprops"]["color"] = color
        axes.annotate(
            texts[number], points[number], fontsize=8, color=color, zorder=8,
            path_effects=[HALO], **chosen,
        )  # fmt: skip


@dataclass
class _Taken:
    """What a label must not cover, in pixels."""

    frame: BboxBase
    points: list[Bbox]
    labels: dict[int, Bbox] = field(default_factory=dict)
    lines: dict[int, Path] = field(default_factory=dict)
    """From far labels to their points."""
    soft: np.ndarray | None = None
    """Places that weigh little, such as those of a front."""

    def penalty(self, box: Bbox, line: Path | None, own: Bbox) -> float:
        """How much a label at `box` would hide: other labels weigh most, points of a front
        little. Its line may cross its `own` point, and those that lie upon it."""
        labels, lines = list(self.labels.values()), list(self.lines.values())
        penalty = 10.0 * sum(box.overlaps(other) for other in (*self.points, *labels))
        penalty += 6.0 * sum(other.intersects_bbox(box) for other in lines)
        if line is not None:
            apart = [point for point in self.points if not point.overlaps(own)]
            penalty += 6.0 * sum(line.intersects_bbox(other) for other in (*apart, *labels))
            penalty += 2.0 * sum(line.intersects_path(other) for other in lines)
        frame = self.frame
        if not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)):
            penalty += 20.0
        if self.soft is not None:
            inside = (self.soft[:, 0] > box.x0) & (self.soft[:, 0] < box.x1)
            inside &= (self.soft[:, 1] > box.y0) & (self.soft[:, 1] < box.y1)
            penalty += min(4.0, float(inside.sum()))
        return float(penalty)


def _text_size(axes: Axes, text: str) -> np.ndarray:
    sample = axes.annotate(text, (0.5, 0.5), xycoords="axes fraction", fontsize=8)
    size = np.asarray(sample.get_window_extent().size)
    sample.remove()
    return size


def _best_place(
    size: np.ndarray, spot: np.ndarray, scale: float, taken: _Taken, own: Bbox
) -> tuple[Bbox, Path | None, dict]:
    """Extent, line and options of the place around a point whose penalty is least, the nearest
    first; `scale` is pixels a typographic point."""
    least, place = np.inf, (Bbox.null(), None, {})
    for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
        way = np.asarray(direction)
        anchor = spot + scale * distance * way
        box = Bbox.from_bounds(*(anchor + 0.5 * (np.sign(way) - 1.0) * size), *size)
        line = Path([spot, anchor]) if distance > _DISTANCES[0] else None
        penalty = taken.penalty(box, line, own) + 0.02 * distance
        if penalty < least:
            least, place = penalty, (box, line, _options(direction, distance))
        if least < 0.2:
            break
    return place


def _options(direction: tuple[float, float], distance: float) -> dict:
    x, y = (int(np.sign(part)) for part in direction)
    # The line ends where the label is nearest to its point.
    leader = {
        "arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3,
        "relpos": (0.5 * (1 - x), 0.5 * (1 - y)),
    }  # fmt: skip
    return {
        "xytext": (direction[0] * distance, direction[1] * distance),
        "textcoords": "offset points",
        "ha": ("right", "center", "left")[x + 1],
        "va": ("top", "center", "bottom")[y + 1],
        "arrowprops": leader if distance > _DISTANCES[0] else None,
    }
