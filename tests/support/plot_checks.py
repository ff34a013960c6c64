"""Checks of drawn plots: overlaps and cut texts, from the extents of the renderer."""

import itertools

from matplotlib.collections import PathCollection
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hwdse.plots.label_placement import LabelLayer

INVISIBLE = ("None", "none", "", " ", None)


def drawn(figure):
    """The figure with all artists at their final places."""
    figure.draw_without_rendering()
    return figure


def layers_of(figure):
    """Axes and label layer of each plot with labels."""
    return [
        (axes, child)
        for axes in figure.get_axes()
        for child in axes.get_children()
        if isinstance(child, LabelLayer)
    ]


def label_boxes(layer):
    """Text and extent of each placed label."""
    return [(text.get_text(), text.get_window_extent()) for text in layer.texts]


def line_paths(axes):
    """Path in pixels of each drawn line, with the steps of staircases."""
    paths = []
    for line in axes.lines:
        if line.get_linestyle() in INVISIBLE or len(line.get_xydata()) < 2:
            continue
        path = line.get_path()
        if line.get_drawstyle() == "steps-post":
            points = line.get_xydata()
            corners = [points[0]]
            for before, after in itertools.pairwise(points):
                corners += [(after[0], before[1]), after]
            path = Path(corners)
        elif line.get_drawstyle() != "default":
            raise AssertionError(f"no path for {line.get_drawstyle()}")
        paths.append(line.get_transform().transform_path(path))
    return paths


def marker_boxes(axes, soft=()):
    """Extents of all markers in pixels, except those of the artists `soft`."""
    scale = axes.get_figure(root=True).dpi / 72.0
    found = []
    for dots in axes.collections:
        if isinstance(dots, PathCollection) and dots not in soft and len(dots.get_sizes()):
            for x, y in dots.get_offset_transform().transform(dots.get_offsets()):
                found.append((x, y, 0.5 * scale * float(dots.get_sizes()[0]) ** 0.5))
    for line in axes.lines:
        if line.get_marker() not in INVISIBLE and line not in soft:
            radius = 0.5 * scale * line.get_markersize()
            found += [(x, y, radius) for x, y in line.get_transform().transform(line.get_xydata())]
    return [Bbox([[x - r, y - r], [x + r, y + r]]) for x, y, r in found]


def assert_labels_are_free(figure):
    """Check that no label is left out or meets another label, a marker, a line, a text, a legend
    or the edge."""
    for axes, layer in layers_of(drawn(figure)):
        assert layer.left_out == []
        boxes = label_boxes(layer)
        for (name, box), (other, second) in itertools.combinations(boxes, 2):
            assert not box.overlaps(second), (name, other)
        for name, box in boxes:
            for marker in marker_boxes(axes, layer.soft):
                assert not box.overlaps(marker), name
            for path in line_paths(axes):
                assert not path.intersects_bbox(box, filled=False), name
            for text in axes.texts:
                assert not box.overlaps(Text.get_window_extent(text)), (name, text.get_text())
            if axes.get_legend() is not None:
                assert not box.overlaps(axes.get_legend().get_window_extent()), name
            frame = axes.get_window_extent()
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1, name
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1, name
        for leader in layer.leaders:
            path = leader.get_path()
            crossed = [name for name, box in boxes if path.intersects_bbox(box.padded(-1.5))]
            assert crossed == [], leader.get_xydata()


def all_texts(figure):
    """Visible texts of a figure with their extents: titles, axis labels, ticks, legends, notes."""
    hidden = {text for axes in drawn(figure).get_axes() for text in _hidden_texts(axes)}
    return [
        (text.get_text(), Text.get_window_extent(text))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def _hidden_texts(axes):
    """Texts of the axes that are switched off, and tick labels outside the view."""
    found = set()
    for axis in (axes.xaxis, axes.yaxis):
        for tick in (*axis.majorTicks, *axis.minorTicks):
            found |= {tick.label1, tick.label2}
        if axes.axison and axis.get_visible():
            for tick in axis._update_ticks():
                found -= {tick.label1, tick.label2}
        else:
            found |= {axis.label, axis.offsetText}
    return found


def assert_texts_are_apart(figure):
    """Check that no two texts of a figure overlap and that none is cut off at its edge."""
    texts, frame = all_texts(figure), figure.bbox
    for name, box in texts:
        assert frame.x0 - 1.0 <= box.x0 <= box.x1 <= frame.x1 + 1.0, name
        assert frame.y0 - 1.0 <= box.y0 <= box.y1 <= frame.y1 + 1.0, name
    for (name, box), (other, second) in itertools.combinations(texts, 2):
        assert not box.padded(-0.5).overlaps(second.padded(-0.5)), (name, other)
