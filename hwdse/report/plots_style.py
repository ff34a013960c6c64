"""What all pictures share: colors, fonts, ticks of logarithmic axes, labels beside points."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
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
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES = (7.0, 16.0, 28.0, 44.0)
"""Points between a design and its label, tried from near to far."""


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

    Tries eight directions from near to far, for each point in turn, and takes the place that
    covers least; a far label gets a thin line to its point.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not points:
        return
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    spots = axes.transData.transform(np.array(points, dtype=float))
    hard: list[BboxBase] = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in spots]
    soft = axes.transData.transform(obstacles) if obstacles is not None and len(obstacles) else None
    for point, text, color, spot in zip(points, texts, colors, spots, strict=True):
        if not text or not frame.contains(*spot):
            continue
        box, options = _best_place(axes, point, text, lambda box: _covered(box, hard, soft, frame))
        hard.append(box)
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkB": 3}
        far = max(abs(x) for x in options["xytext"]) > _DISTANCES[0]
        axes.annotate(
            text, point, fontsize=8, color=color, zorder=8, path_effects=[HALO],
            arrowprops=leader if far else None, **options,
        )  # fmt: skip


def _best_place(
    axes: Axes, point: tuple[float, float], text: str, penalty_of: Callable[[BboxBase], float]
) -> tuple[BboxBase, dict]:
    """Extent and offset of the place around `point` whose penalty is least, the nearest first."""
    least, place = np.inf, (Bbox.null(), {})
    for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
        options = _offset(direction, distance)
        label = axes.annotate(text, point, fontsize=8, **options)
        box = label.get_window_extent()
        label.remove()
        penalty = penalty_of(box) + 0.02 * distance
        if penalty < least:
            least, place = penalty, (box, options)
        if least < 0.2:
            break
    return place


def _offset(direction: tuple[int, int], distance: float) -> dict:
    x, y = direction
    return {
        "xytext": (x * distance, y * distance),
        "textcoords": "offset points",
        "ha": ("right", "center", "left")[x + 1],
        "va": ("top", "center", "bottom")[y + 1],
    }


def _covered(
    box: BboxBase, hard: Sequence[BboxBase], soft: np.ndarray | None, frame: BboxBase
) -> float:
    """How much a label at `box` would hide: other labels weigh most, points of a front little."""
    penalty = 10.0 * float(sum(box.overlaps(other) for other in hard))
    if not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)):
        penalty += 20.0
    if soft is not None:
        inside = (soft[:, 0] > box.x0) & (soft[:, 0] < box.x1)
        inside &= (soft[:, 1] > box.y0) & (soft[:, 1] < box.y1)
        penalty += min(4.0, float(inside.sum()))
    return penalty
