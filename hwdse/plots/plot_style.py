"""Shared style of the plots: colors, fonts, ticks of logarithmic axes, labels beside points."""

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
"""Palette for every type of color vision. Source: Okabe and Ito, Color Universal Design, 2008.
Yellow and black are replaced by purple and gray, which are readable as text and lines; six colors
are added for bars of many parts."""
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
"""White outline of text on top of points and lines."""
_DIRECTIONS = (
    (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0),
    (-1.0, -1.0), (0.4, 1.0), (-0.4, 1.0), (0.4, -1.0), (-0.4, -1.0), (1.0, 0.4), (-1.0, 0.4),
    (1.0, -0.4), (-1.0, -0.4),
)  # fmt: skip
_DISTANCES = (7.0, 16.0, 28.0, 44.0, 64.0, 88.0)
"""Distances between a design and its label (typographic points), tried in this order."""
NUM_ROUNDS = 3
"""Placement rounds over all labels."""


def tidy_log_axis(axis: Axis) -> None:
    """Set plain tick labels on a logarithmic axis, denser for a shorter range."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
    if decades < 1.0:
        steps = (1.0, 2.0, 3.0, 5.0, 7.0)
    if decades < 0.7:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    if decades < 0.15:
        steps = tuple(np.arange(1.0, 10.0, 0.1 if decades > 0.04 else 0.02))
    axis.set_major_locator(LogLocator(base=10.0, subs=steps, numticks=12))
    powers = bool(steps == (1.0,) and (high >= 1e5 or low < 1e-4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value, powers)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float, as_power: bool = False) -> str:
    """Tick label of a number: 0.05, 20, 3,000; a power of ten outside 0.001 to 10^6."""
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
    """Write `texts` beside `points` with the least overlap.

    Tries sixteen directions from near to far for each point and takes the position with the
    smallest penalty. Further rounds repeat this with all labels placed. A distant label gets a
    thin line to its point.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not points:
        return
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    pixels = axes.transData.transform(np.array(points, dtype=float))
    taken = _Taken(frame, [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in pixels])
    if obstacles is not None and len(obstacles):
        taken.soft = axes.transData.transform(obstacles)
    shown = [i for i, text in enumerate(texts) if text and frame.contains(*pixels[i])]
    sizes = {i: _text_size(axes, texts[i]) for i in shown}
    options = {}
    for _, index in itertools.product(range(NUM_ROUNDS), shown):
        taken.labels.pop(index, None)
        taken.lines.pop(index, None)
        box, line, options[index] = _best_position(
            sizes[index], pixels[index], figure.dpi / 72.0, taken, taken.points[index]
        )
        taken.labels[index] = box
        if line is not None:
            taken.lines[index] = line
    for index in shown:
        color, chosen = colors[index], options[index]
        if chosen["arrowprops"] is not None:
            chosen["arrowprops"]["color"] = color
        axes.annotate(
            texts[index], points[index], fontsize=8, color=color, zorder=8,
            path_effects=[HALO], **chosen,
        )  # fmt: skip


@dataclass
class _Taken:
    """Occupied areas of the plot (pixels)."""

    frame: BboxBase
    points: list[Bbox]
    labels: dict[int, Bbox] = field(default_factory=dict)
    lines: dict[int, Path] = field(default_factory=dict)
    """Lines from distant labels to their points."""
    soft: np.ndarray | None = None
    """Points with a small penalty, such as those of a front."""

    def penalty(self, box: Bbox, line: Path | None, own: Bbox) -> float:
        """Penalty of a label at `box`: high for other labels, low for points of a front.

        Its line may cross its `own` point and points that overlap it.
        """
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


def _best_position(
    size: np.ndarray, point: np.ndarray, scale: float, taken: _Taken, own: Bbox
) -> tuple[Bbox, Path | None, dict]:
    """Extent, line and options of the position around a point with the smallest penalty.

    Near positions are tried first. `scale` is pixels per typographic point.
    """
    least, best = np.inf, (Bbox.null(), None, {})
    for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
        offset = np.asarray(direction)
        anchor = point + scale * distance * offset
        box = Bbox.from_bounds(*(anchor + 0.5 * (np.sign(offset) - 1.0) * size), *size)
        line = Path([point, anchor]) if distance > _DISTANCES[0] else None
        penalty = taken.penalty(box, line, own) + 0.02 * distance
        if penalty < least:
            least, best = penalty, (box, line, _options(direction, distance))
        if least < 0.2:
            break
    return best


def _options(direction: tuple[float, float], distance: float) -> dict:
    x, y = (int(np.sign(part)) for part in direction)
    # The line ends at the side of the label that faces the point.
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
