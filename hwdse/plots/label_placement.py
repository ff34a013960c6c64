"""Labels beside points, clear of markers, lines, other texts and each other.

Placement happens when the plot is drawn, so it fits the final size of the axes in every format.
It is deterministic: the same figure gives the same labels.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import cbook
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.text import Text

from hwdse.plots.plot_geometry import (
    box_distances,
    boxes_overlap,
    polyline_segments,
    segments_cross,
    segments_cross_boxes,
)
from hwdse.plots.plot_style import HALO, text_color

_ANGLES = np.radians(np.arange(0.0, 360.0, 15.0))
_ORDER = np.argsort(np.abs((np.degrees(_ANGLES) + 180.0) % 360.0 - 180.0), kind="stable")
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)[_ORDER]
"""Directions from a marker to its label; to the right first."""
_GAPS = np.array([2.5, 9.0, 18.0, 30.0, 45.0, 65.0, 90.0, 120.0])
"""Gaps between a marker and its label (typographic points)."""
_LEADER_GAP = 5.0
"""A label farther from its marker than this gets a line to it (typographic points)."""
LINE_LENGTH = 34
"""Longest line of a long label (characters)."""
_NUM_ROUNDS = 10
_NUM_ORDERS = 6
_FAULT = 100.0
"""Penalty of an overlap; a label with one is left out in the end."""
_GOOD = 2.0
"""Mean penalty of labels that need no other order."""
_MARGIN = 1.5
"""Free space around labels (typographic points)."""


@dataclass(frozen=True)
class Label:
    """A text beside a point in data coordinates."""

    text: str
    point: tuple[float, float]
    color: str
    size_pt: float = 8.0
    """Size of the font."""
    radius_pt: float = 4.5
    """Radius of the marker of the point (typographic points)."""


def in_lines(text: str) -> str:
    """Text in lines of at most `LINE_LENGTH` characters, broken between words."""
    return "\n".join(textwrap.wrap(text, LINE_LENGTH))


class LabelLayer(Artist):
    """Labels of one plot; `texts` and `leaders` are the artists of the last drawing.

    Obstacles are the markers, lines, texts and the legend of the axes; points of the artists
    `soft`, such as a cloud of designs, are only avoided. A label without a free position is left
    out.
    """

    def __init__(self, axes: Axes, labels: Sequence[Label], soft: Sequence[Artist] = ()) -> None:
        super().__init__()
        self.labels = [label for label in labels if label.text]
        self.soft = tuple(soft)
        self._geometry: tuple[float, ...] = ()
        self.texts: list[Text] = []
        self.leaders: list[Line2D] = []
        self.left_out: list[str] = []
        self.set_zorder(8)
        self.set_in_layout(False)
        axes.add_artist(self)
        self.set_clip_path(None)

    def draw(self, renderer: Any) -> None:
        """Place the labels for the present size of the axes and draw them."""
        axes = self.axes
        if not (self.get_visible() and self.labels and isinstance(axes, Axes)):
            return
        # A figure is drawn several times before it is saved, mostly with the same geometry.
        geometry = (
            renderer.points_to_pixels(1.0), *axes.get_window_extent(renderer).extents,
            *axes.viewLim.extents,
        )  # fmt: skip
        if geometry != self._geometry:
            self._place(axes, renderer)
            self._geometry = geometry
        for artist in (*self.leaders, *self.texts):
            artist.draw(renderer)

    def _place(self, axes: Axes, renderer: Any) -> None:
        """Choose the positions and make the artists."""
        self.texts, self.leaders, self.left_out = [], [], []
        shown = self._inside(axes)
        texts = [self._text(label, axes) for label in shown]
        sizes = np.array([text.get_window_extent(renderer).size for text in texts]).reshape(-1, 2)
        scale = renderer.points_to_pixels(1.0)
        obstacles = _obstacles(axes, self.soft, renderer, scale)
        anchors = axes.transData.transform(
            np.array([label.point for label in shown]).reshape(-1, 2)
        )
        radii = scale * np.array([label.radius_pt for label in shown])
        options = _Options.around(anchors, radii, sizes, scale)
        for index, choice in enumerate(_choose(options, obstacles, scale)):
            if choice is None:
                self.left_out.append(shown[index].text)
                continue
            box, leader = options.boxes[index, choice], options.leaders[index, choice]
            texts[index].set_position((0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3])))
            self.texts.append(texts[index])
            if options.has_leader[choice]:
                self.leaders.append(_leader(leader, shown[index].color, axes))

    def _inside(self, axes: Axes) -> list[Label]:
        """Labels whose point lies inside the axes."""
        frame = axes.get_window_extent().padded(1.0)
        points = np.array([label.point for label in self.labels], dtype=float)
        pixels = axes.transData.transform(points)
        return [
            label
            for label, (x, y) in zip(self.labels, pixels, strict=True)
            if np.isfinite(x) and np.isfinite(y) and frame.contains(x, y)
        ]

    def _text(self, label: Label, axes: Axes) -> Text:
        """Artist of a label; coordinates are pixels."""
        text = Text(
            0.0, 0.0, label.text, color=text_color(label.color), ha="center", va="center",
            fontsize=label.size_pt, path_effects=[HALO], parse_math=False, linespacing=1.05,
        )  # fmt: skip
        figure = axes.get_figure()
        assert figure is not None
        text.set_figure(figure)
        return text


@dataclass(frozen=True)
class _Options:
    """Positions of each label: boxes and leaders of shape (label, position, 4), in pixels."""

    boxes: np.ndarray
    leaders: np.ndarray
    has_leader: np.ndarray
    """True for the positions far from the marker, of shape (position,)."""
    distance: np.ndarray
    """Distance of the position from the marker (typographic points), of shape (position,)."""
    anchors: np.ndarray

    @classmethod
    def around(
        cls, anchors: np.ndarray, radii: np.ndarray, sizes: np.ndarray, scale: float
    ) -> "_Options":
        """All positions around the anchors, near ones first."""
        gaps = np.repeat(_GAPS, len(_DIRECTIONS))
        ways = np.tile(_DIRECTIONS, (len(_GAPS), 1))
        # A direction near an axis of the plane slides the label along its side.
        slide = np.clip(1.6 * ways, -1.0, 1.0)
        reach = (radii[:, None] + scale * gaps)[..., None] * ways
        centers = anchors[:, None, :] + reach + 0.5 * slide * sizes[:, None, :]
        half = 0.5 * sizes[:, None, :]
        boxes = np.concatenate([centers - half, centers + half], axis=-1)
        ends = np.clip(anchors[:, None, :], boxes[..., :2], boxes[..., 2:])
        away = ends - anchors[:, None, :]
        length = np.maximum(np.hypot(away[..., :1], away[..., 1:]), 1e-9)
        starts = anchors[:, None, :] + away * np.minimum(radii[:, None, None] / length, 1.0)
        leaders = np.concatenate([starts, ends], axis=-1)
        return cls(boxes, leaders, gaps > _LEADER_GAP, gaps, anchors)


@dataclass(frozen=True)
class _Obstacles:
    """Occupied parts of a plot, in pixels."""

    frame: np.ndarray
    markers: np.ndarray
    """Boxes of single markers."""
    texts: np.ndarray
    """Boxes of other texts and of the legend."""
    lines: np.ndarray
    """Segments of the lines."""
    cloud: np.ndarray
    """Points that are only avoided."""


def _obstacles(axes: Axes, soft: Sequence[Artist], renderer: Any, scale: float) -> _Obstacles:
    """Obstacles among the artists of the axes."""
    extent = axes.get_window_extent(renderer)
    markers, segments, cloud = [np.zeros((0, 4))], [np.zeros((0, 4))], [np.zeros((0, 2))]
    for line in axes.lines:
        vertices = _vertices(line)
        if line.get_linestyle() not in ("None", "none", "", " ") and len(vertices) > 1:
            segments.append(polyline_segments(vertices))
        if line.get_marker() not in ("None", "none", "", " ", None):
            (cloud.append(vertices) if line in soft else
             markers.append(_squares(vertices, 0.5 * scale * line.get_markersize())))  # fmt: skip
    for dots in axes.collections:
        if not isinstance(dots, PathCollection):
            continue
        pixels = dots.get_offset_transform().transform(np.asarray(dots.get_offsets(), dtype=float))
        if dots in soft:
            cloud.append(pixels)
            continue
        sizes = np.broadcast_to(dots.get_sizes(), len(pixels)) if len(dots.get_sizes()) else 0.0
        markers.append(_squares(pixels, 0.5 * scale * np.sqrt(sizes)))
    texts = [text for text in axes.texts if text.get_visible() and text.get_text()]
    boxes = [Text.get_window_extent(text, renderer).extents for text in texts]
    legend = axes.get_legend()
    if legend is not None and legend.get_visible():
        boxes.append(legend.get_window_extent(renderer).extents)
    frame = np.asarray(extent.extents)
    lines = np.concatenate(segments)
    dots = np.concatenate(markers)
    return _Obstacles(
        frame,
        dots[np.isfinite(dots).all(axis=1) & boxes_overlap(dots, frame[None])[:, 0]],
        np.array(boxes, dtype=float).reshape(-1, 4),
        lines[segments_cross_boxes(lines, frame[None])[:, 0]],
        np.concatenate(cloud),
    )


def _vertices(line: Line2D) -> np.ndarray:
    """Corners of a line in pixels, with the steps of a staircase."""
    points = np.asarray(line.get_xydata(), dtype=float).reshape(-1, 2)
    style = line.get_drawstyle()
    if style != "default" and len(points):
        points = np.stack(cbook.STEP_LOOKUP_MAP[style](*points.T), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return line.get_transform().transform(points)


def _squares(points: np.ndarray, radius: Any) -> np.ndarray:
    """Boxes around points."""
    reach = np.broadcast_to(np.asarray(radius, dtype=float), len(points))[:, None]
    return np.concatenate([points - reach, points + reach], axis=1)


def _choose(options: _Options, obstacles: _Obstacles, scale: float) -> list[int | None]:
    """Position of each label with the smallest sum of penalties; None if none is free.

    Labels take turns, each at its best position given the others, until none moves. This is
    repeated with the labels in other orders.
    """
    count = len(options.boxes)
    own = np.stack([_own_penalty(options, i, obstacles, scale) for i in range(count)])
    best, least = [], np.inf
    for turn in range(min(_NUM_ORDERS, max(count, 1))):
        order = np.roll(np.arange(count), -turn)
        chosen, penalties = _settled(options, own, order, scale)
        if penalties.sum() < least:
            best, least = chosen, penalties.sum()
        if least < _GOOD * count:
            break
    return _without_faults(options, own, best, scale)


def _settled(
    options: _Options, own: np.ndarray, order: np.ndarray, scale: float
) -> tuple[list[int | None], np.ndarray]:
    """Positions after labels have taken turns in `order`, and their penalties."""
    chosen: list[int | None] = [None] * len(own)
    penalties = np.zeros(len(own))
    for _ in range(_NUM_ROUNDS):
        before = list(chosen)
        for index in order.tolist():
            total = own[index] + _mutual_penalty(options, index, chosen, scale)
            chosen[index] = int(np.argmin(total))
        if chosen == before:
            break
    for index, position in enumerate(chosen):
        total = own[index] + _mutual_penalty(options, index, chosen, scale)
        penalties[index] = total[position]
    return chosen, penalties


def _without_faults(
    options: _Options, own: np.ndarray, chosen: list[int | None], scale: float
) -> list[int | None]:
    """Positions, with None for labels that still overlap something; the worst goes first."""
    chosen = list(chosen)
    while True:
        faults = [
            own[i, position] + _mutual_penalty(options, i, chosen, scale)[position]
            if position is not None
            else 0.0
            for i, position in enumerate(chosen)
        ]
        if max(faults, default=0.0) < _FAULT:
            return chosen
        chosen[int(np.argmax(faults))] = None


def _own_penalty(options: _Options, index: int, obstacles: _Obstacles, scale: float) -> np.ndarray:
    """Penalty of each position of one label for the distance and for the obstacles."""
    boxes, leaders = _padded(options.boxes[index], scale), options.leaders[index]
    frame = obstacles.frame
    is_outside = (boxes[:, :2] < frame[:2]).any(axis=1) | (boxes[:, 2:] > frame[2:]).any(axis=1)
    num_faults = (
        is_outside
        + boxes_overlap(boxes, obstacles.markers).sum(axis=1)
        + boxes_overlap(boxes, obstacles.texts).sum(axis=1)
        + segments_cross_boxes(obstacles.lines, boxes).sum(axis=0)
    )
    anchor = options.anchors[index]
    apart = obstacles.markers[box_distances(obstacles.markers, anchor[None])[:, 0] > 0.0]
    crossed = segments_cross_boxes(leaders, apart).sum(axis=1)
    crossed = crossed + segments_cross_boxes(leaders, obstacles.texts).sum(axis=1)
    num_faults = num_faults + np.where(options.has_leader, crossed, 0)
    lines = np.where(options.has_leader, segments_cross(leaders, obstacles.lines).sum(axis=1), 0)
    inside = box_distances(boxes, obstacles.cloud) == 0.0
    penalty = 0.05 * options.distance + 0.5 * options.has_leader
    penalty += np.minimum(30.0, 0.2 * inside.sum(axis=1)) + 12.0 * np.minimum(lines, 3)
    penalty += 1.5 * _is_ambiguous(options, index, obstacles)
    return penalty + _FAULT * num_faults


def _is_ambiguous(options: _Options, index: int, obstacles: _Obstacles) -> np.ndarray:
    """True at positions without a leader that are nearer to another marker than to their own."""
    boxes, anchor = options.boxes[index], options.anchors[index]
    centers = 0.5 * (obstacles.markers[:, :2] + obstacles.markers[:, 2:])
    others = centers[np.hypot(*(centers - anchor).T) > 1.0]
    if not len(others):
        return np.zeros(len(boxes), bool)
    nearest = box_distances(boxes, others).min(axis=1)
    return ~options.has_leader & (nearest < 1.5 * box_distances(boxes, anchor[None])[:, 0])


def _mutual_penalty(
    options: _Options, index: int, chosen: Sequence[int | None], scale: float
) -> np.ndarray:
    """Penalty of each position of one label for the chosen positions of the others."""
    others = [(i, place) for i, place in enumerate(chosen) if place is not None and i != index]
    boxes, leaders = _padded(options.boxes[index], scale), options.leaders[index]
    if not others:
        return np.zeros(len(boxes))
    taken = np.array([options.boxes[i, place] for i, place in others])
    lines = np.array([options.leaders[i, place] for i, place in others])
    is_line = np.array([options.has_leader[place] for _, place in others])
    faults = boxes_overlap(boxes, taken).sum(axis=1)
    faults = faults + segments_cross_boxes(lines[is_line], boxes).sum(axis=0)
    own = segments_cross_boxes(leaders, taken).sum(axis=1)
    own = own + segments_cross(leaders, lines[is_line]).sum(axis=1)
    return _FAULT * (faults + np.where(options.has_leader, own, 0))


def _padded(boxes: np.ndarray, scale: float) -> np.ndarray:
    return boxes + _MARGIN * scale * np.array([-1.0, -1.0, 1.0, 1.0])


def _leader(ends: np.ndarray, color: str, axes: Axes) -> Line2D:
    """Thin line from a marker to its label; coordinates are pixels."""
    line = Line2D(ends[[0, 2]], ends[[1, 3]], color=text_color(color), linewidth=0.6)
    figure = axes.get_figure()
    assert figure is not None
    line.set_figure(figure)
    return line
