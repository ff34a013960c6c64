"""Plot of one mapping: the loop nest as nested boxes, beside the axes of its rooflines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hwdse.plots.plot_style import COLORS, INK, PALE_INK, RULE, STYLE, text_color
from hwdse.plots.rooflines import level_color

OPERAND_COLORS = {"weights": COLORS[0], "inputs": COLORS[3], "outputs": COLORS[2]}
PALE, RED = "#f5f7fa", "#b42318"
LINE_IN = 0.205
"""Height of one text line (inches)."""
STEP = 0.022
"""Inset of a box in its enclosing box, as a fraction of the panel width."""


@dataclass(frozen=True)
class NestBox:
    """One tier of a loop nest: occupied shares of the capacity per operand, and its loops.

    `others` are the shares of operands that the same memory keeps at other tiers of the nest.
    """

    title: str
    level: int
    """Index of the memory level; selects the color."""
    note: str
    shares: Mapping[str, float]
    lines: Sequence[str]
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_overfull(self) -> bool:
        """True if the operands exceed the capacity of the memory."""
        return sum(self.shares.values()) + sum(self.others.values()) > 1.0 + 1e-6


@dataclass(frozen=True)
class ArrayBox:
    """PE array, with the fractions of its rows and columns that the mapping uses."""

    note: str
    """Lines of text; all but the first describe the use."""
    rows_ratio: float
    cols_ratio: float


def new_mapping_figure(boxes: Sequence[NestBox]) -> tuple[Figure, Axes, Axes]:
    """Figure with the axes of the loop nest on the left and of the rooflines on the right."""
    height = max(4.8, LINE_IN * _height(boxes) + 0.75)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.0, height), layout="constrained")
        FigureCanvasAgg(figure)
        # Two subfigures, so that the legend of one does not shrink the other.
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.0, 1.05))[0]
        nest, roof = left.subplots(), right.subplots()
    return figure, nest, roof


def plot_nest(axes: Axes, boxes: Sequence[NestBox], array: ArrayBox) -> None:
    """Draw nested boxes, outermost first: memory, capacity bar, loops; the array innermost.

    The bar is red if the mapping exceeds the capacity.
    """
    bottom = _height(boxes)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom, -1.3)
    axes.axis("off")
    _legend(axes, boxes)
    top = 0.0
    for depth, box in enumerate(boxes):
        left, right = STEP * depth, 1.0 - STEP * depth
        axes.add_patch(
            Rectangle(
                (left, top), right - left, bottom - 0.3 * depth - top, facecolor="white",
                edgecolor=RULE, linewidth=0.9, zorder=depth,
            )
        )  # fmt: skip
        inside = (left + 0.015, right - 0.015)
        _text(axes, inside[0], top + 0.7, box.title, depth, fontweight="bold",
              color=text_color(level_color(box.level)))  # fmt: skip
        _text(
            axes,
            inside[1],
            top + 0.7,
            box.note,
            depth,
            ha="right",
            color=RED if box.is_overfull else INK,
        )
        _bar(axes, inside, top + 1.3, box, depth)
        for number, line in enumerate(box.lines):
            _text(axes, inside[0] + 0.02, top + 2.5 + number, line, depth)
        top += 2.15 + len(box.lines)
    _array(axes, array, top, bottom - 0.3 * len(boxes), len(boxes))


def _height(boxes: Sequence[NestBox]) -> float:
    """Height of the nest in text lines: title, bar and loops of each box, then the array."""
    return sum(2.15 + len(box.lines) for box in boxes) + 3.4 + 0.3 * len(boxes)


def _text(axes: Axes, x: float, y: float, text: str, depth: int, **options: object) -> None:
    style = {"fontsize": 8.5, "color": INK, "va": "center", "zorder": depth + 0.6}
    axes.text(x, y, text, **{**style, **options})


def _bar(axes: Axes, span: tuple[float, float], y: float, box: NestBox, depth: int) -> None:
    """Draw the occupancy of a memory, one color per operand; pale: kept at other tiers."""
    left, right = span
    kept = ((box.others, 0.3), (box.shares, 1.0))
    shares = [(o, part[o], alpha) for o in OPERAND_COLORS for part, alpha in kept if o in part]
    total = sum(share for _, share, _ in shares)
    scale = (right - left) / max(total, 1.0)
    start, height = left, 0.42
    for operand, share, alpha in shares:
        axes.add_patch(
            Rectangle((start, y), scale * share, height, facecolor=OPERAND_COLORS[operand],
                      alpha=alpha, linewidth=0.0, zorder=depth + 0.4)
        )  # fmt: skip
        start += scale * share
    axes.add_patch(
        Rectangle((left, y), right - left, height, facecolor=PALE, edgecolor="none",
                  zorder=depth + 0.3)
    )  # fmt: skip
    edge, width = (RED, 1.6) if box.is_overfull else ("#9aa5b1", 0.6)
    axes.add_patch(
        Rectangle((left, y), right - left, height, facecolor="none", edgecolor=edge,
                  linewidth=width, zorder=depth + 0.5)
    )  # fmt: skip


def _array(axes: Axes, array: ArrayBox, top: float, bottom: float, depth: int) -> None:
    """Draw the PE array as a rectangle with the used part filled."""
    left, right = STEP * depth + 0.015, STEP * depth + 0.17
    height = bottom - top - 0.5
    is_overfull = max(array.rows_ratio, array.cols_ratio) > 1.0 + 1e-6
    edge, width = (RED, 1.6) if is_overfull else (RULE, 0.9)
    frame = {"facecolor": PALE, "edgecolor": edge, "linewidth": width, "zorder": depth}
    axes.add_patch(Rectangle((left, top + 0.35), right - left, height, **frame))
    used = (right - left) * min(array.cols_ratio, 1.0), height * min(array.rows_ratio, 1.0)
    axes.add_patch(Rectangle((left, top + 0.35), *used, facecolor=PALE_INK, zorder=depth + 0.5))
    for number, line in enumerate(array.note.splitlines()):
        color = RED if is_overfull and number > 0 else INK
        _text(axes, right + 0.025, top + 0.95 + number, line, depth, color=color)


def _legend(axes: Axes, boxes: Sequence[NestBox]) -> None:
    """Draw the legend of the operands that the nest keeps."""
    kept = [o for o in OPERAND_COLORS if any(o in box.shares for box in boxes)]
    handles = [Rectangle((0, 0), 1, 1, facecolor=OPERAND_COLORS[o], linewidth=0) for o in kept]
    axes.legend(
        handles, kept, loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False,
        handlelength=1.1, handleheight=0.9, borderaxespad=0.0, columnspacing=1.4,
    )  # fmt: skip
