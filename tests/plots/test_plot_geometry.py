"""Overlaps of boxes and segments: hand-worked cases, symmetry, agreement with sampled points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.plots.plot_geometry import (
    box_distances,
    boxes_overlap,
    polyline_segments,
    segments_cross,
    segments_cross_boxes,
)

BOX = np.array([[0.0, 0.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((1.0, 0.5, 3.0, 2.0), True),
        ((2.0, 0.0, 3.0, 1.0), False),  # they share an edge only
        ((0.5, 0.2, 1.0, 0.8), True),  # inside
        ((-1.0, 2.0, 3.0, 3.0), False),
    ],
)
def test_boxes_overlap_if_they_share_an_area(other, expected):
    found = boxes_overlap(BOX, np.array([other]))
    assert found.shape == (1, 1)
    assert bool(found[0, 0]) is expected
    assert bool(boxes_overlap(np.array([other]), BOX)[0, 0]) is expected


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((-1.0, 0.5, 3.0, 0.5), True),  # straight through
        ((1.0, -1.0, 1.0, 2.0), True),  # upright
        ((0.5, 0.5, 0.6, 0.6), True),  # inside
        ((-1.0, 0.5, -0.1, 0.5), False),  # ends before it
        ((-1.0, 2.0, 3.0, 2.0), False),  # parallel, above
        ((-1.0, 0.0, 1.0, 2.5), False),  # passes the corner
        ((1.0, 0.5, 1.0, 0.5), True),  # a point inside
        ((3.0, 0.5, 3.0, 0.5), False),  # a point outside
    ],
)
def test_segment_meets_box(segment, expected):
    assert bool(segments_cross_boxes(np.array([segment]), BOX)[0, 0]) is expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((0.0, 1.0, 1.0, 0.0), True),
        ((0.0, 0.1, 1.0, 1.1), False),  # parallel
        ((0.5, 0.5, 1.0, 0.0), False),  # only touches
        ((2.0, 0.0, 0.9, 0.6), False),  # ends before it
    ],
)
def test_segments_cross(second, expected):
    first = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert bool(segments_cross(first, np.array([second]))[0, 0]) is expected
    assert bool(segments_cross(np.array([second]), first)[0, 0]) is expected


numbers = st.floats(-3.0, 3.0)


@given(numbers, numbers, numbers, numbers)
def test_segment_with_a_point_inside_a_box_meets_it(x0, y0, x1, y1):
    """Points at equal distances of the segment, against the exact clipping."""
    along = np.linspace(0.0, 1.0, 401)[:, None]
    points = (1.0 - along) * np.array([[x0, y0]]) + along * np.array([[x1, y1]])
    inside = np.all((points > BOX[0, :2] + 1e-6) & (points < BOX[0, 2:] - 1e-6), axis=1)
    found = bool(segments_cross_boxes(np.array([[x0, y0, x1, y1]]), BOX)[0, 0])
    assert found or not inside.any()
    apart = np.array([[x0, y0, x1, y1]]) + 10.0
    assert not segments_cross_boxes(apart, BOX)[0, 0]


@given(numbers, numbers)
def test_distance_to_a_box_is_zero_inside_and_that_of_the_nearest_edge_outside(x, y):
    found = box_distances(BOX, np.array([[x, y]]))[0, 0]
    across, up = max(0.0 - x, x - 2.0, 0.0), max(0.0 - y, y - 1.0, 0.0)
    assert found == pytest.approx(np.hypot(across, up))


def test_polyline_without_points_that_are_not_finite():
    vertices = np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, 1.0], [2.0, 2.0], [3.0, 2.0]])
    np.testing.assert_array_equal(
        polyline_segments(vertices), [[0.0, 0.0, 1.0, 0.0], [2.0, 2.0, 3.0, 2.0]]
    )
