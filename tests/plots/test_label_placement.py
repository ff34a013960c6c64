"""Placement of labels: free of overlaps, near their points, reproducible, independent of units."""

import numpy as np
import pytest
from support.plot_checks import assert_labels_are_free, drawn, label_boxes, layers_of

from hwdse.plots import label_placement
from hwdse.plots.figure_files import new_figure
from hwdse.plots.label_placement import Label, LabelLayer

WORDS = ("DGX H100", "trn2.48xlarge", "GH200 NVL32\nover area limit", "MI300X platform (8 GPUs)")


def plot_of(points, texts=WORDS, lines=()):
    """Figure with markers and lines in the unit square, and its label layer."""
    figure, (axes,) = new_figure()
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    for line in lines:
        axes.plot(*np.array(line).T, color="black")
    axes.scatter(*np.array(points).T, s=50)
    labels = [
        Label(texts[i % len(texts)], (float(x), float(y)), "#004f9e")
        for i, (x, y) in enumerate(points)
    ]
    return figure, LabelLayer(axes, labels)


@pytest.mark.parametrize("seed", range(8))
def test_labels_of_random_points_and_lines_meet_nothing(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.05, 0.95, (9, 2))
    staircase = np.stack([np.linspace(0.0, 1.0, 9), np.sort(rng.uniform(0.0, 1.0, 9))[::-1]], 1)
    figure, layer = plot_of(points, lines=[staircase])
    assert_labels_are_free(figure)
    assert len(layer.texts) == len(points)


def test_label_of_a_lone_point_is_to_its_right_without_a_leader():
    figure, layer = plot_of([(0.3, 0.5)])
    drawn(figure)
    ((_, box),) = label_boxes(layer)
    x, y = layer.axes.transData.transform((0.3, 0.5))
    assert 0.0 < box.x0 - x < 15.0
    assert box.y0 < y < box.y1
    assert layer.leaders == []


def test_label_in_a_corner_stays_inside():
    for corner in ((0.001, 0.001), (0.999, 0.001), (0.001, 0.999), (0.999, 0.999)):
        assert_labels_are_free(plot_of([corner])[0])


def test_crowded_points_get_leaders_that_cross_neither_each_other_nor_labels():
    points = [(0.5 + 0.01 * i, 0.5) for i in range(6)]
    figure, layer = plot_of(points, [f"operator {i}" for i in range(6)])
    assert_labels_are_free(figure)
    assert len(layer.texts) == 6
    assert layer.leaders


def test_label_without_a_free_place_is_left_out_and_named():
    rows = [[(0.0, y), (1.0, y)] for y in np.linspace(0.0, 1.0, 60)]
    figure, layer = plot_of([(0.5, 0.505)], ["hidden"], rows)
    drawn(figure)
    assert layer.texts == []
    assert layer.left_out == ["hidden"]


def test_label_of_a_point_outside_the_axes_is_not_drawn():
    figure, layer = plot_of([(0.5, 0.5), (2.0, 0.5)])
    drawn(figure)
    assert [text for text, _ in label_boxes(layer)] == [WORDS[0]]


def test_positions_are_the_same_twice_and_follow_a_change_of_the_limits():
    figures = [plot_of([(0.2, 0.2), (0.22, 0.21)])[0] for _ in range(2)]
    first, second = ([text.get_position() for text in layer_of(figure).texts] for figure in figures)
    assert first == second
    axes = figures[0].get_axes()[0]
    axes.set_xlim(-1.0, 1.0)
    assert [text.get_position() for text in layer_of(figures[0]).texts] != first
    assert_labels_are_free(figures[0])


def layer_of(figure):
    ((_, layer),) = layers_of(drawn(figure))
    return layer


def test_check_of_overlaps_finds_labels_at_their_first_position(monkeypatch):
    """The test of free labels fails for labels that are not placed with regard to others."""
    monkeypatch.setattr(label_placement, "_choose", lambda options, *_: [0] * len(options.boxes))
    with pytest.raises(AssertionError):
        assert_labels_are_free(plot_of([(0.5, 0.5), (0.51, 0.5)])[0])
