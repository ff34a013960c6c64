"""Overlaps of boxes, points and segments in a plane, for many of each at once.

A box is `(x0, y0, x1, y1)` with `x0 <= x1` and `y0 <= y1`; a segment is `(x0, y0, x1, y1)` from
its first to its second end. Arrays have one item per row.
"""

import numpy as np

_FLAT = 1e-9
"""Extent up to which a segment counts as parallel to an axis; coordinates are pixels."""


def boxes_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """True where box i of `first` and box j of `second` share an area, of shape (i, j)."""
    a, b = first[:, None, :], second[None, :, :]
    is_beside = (a[..., 2] <= b[..., 0]) | (b[..., 2] <= a[..., 0])
    return ~(is_beside | (a[..., 3] <= b[..., 1]) | (b[..., 3] <= a[..., 1]))


def box_distances(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance from box i to point j, zero inside, of shape (i, j)."""
    gaps = points[None, :, :] - nearest_in_boxes(boxes, points)
    return np.hypot(gaps[..., 0], gaps[..., 1])


def nearest_in_boxes(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Point of box i nearest to point j, of shape (i, j, 2)."""
    return np.clip(points[None, :, :], boxes[:, None, :2], boxes[:, None, 2:])


def segments_cross_boxes(segments: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """True where segment i and box j share a point, of shape (i, j).

    Clips the segment to the two slabs of the box. Source: Liang and Barsky, ACM Transactions on
    Graphics 3(1), 1984.
    """
    start, step = segments[:, None, :2], (segments[:, 2:] - segments[:, :2])[:, None, :]
    low, high = boxes[None, :, :2] - start, boxes[None, :, 2:] - start
    is_flat = np.abs(step) < _FLAT
    safe = np.where(is_flat, 1.0, step)
    ends = np.stack([low / safe, high / safe])
    # A segment along a slab is inside it for all or for none of its length.
    is_inside = (low <= 0.0) & (high >= 0.0)
    enter = np.where(is_flat, np.where(is_inside, 0.0, 2.0), ends.min(axis=0)).max(axis=-1)
    leave = np.where(is_flat, np.where(is_inside, 1.0, -1.0), ends.max(axis=0)).min(axis=-1)
    return np.maximum(enter, 0.0) <= np.minimum(leave, 1.0)


def segments_cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """True where segment i of `first` and segment j of `second` cross, of shape (i, j).

    Segments that only touch, or that lie on one line, do not cross.
    """
    a, b = first[:, None, :], second[None, :, :]
    sides = (
        _side(b, a[..., :2]) * _side(b, a[..., 2:]),
        _side(a, b[..., :2]) * _side(a, b[..., 2:]),
    )
    return (sides[0] < 0.0) & (sides[1] < 0.0)


def _side(segments: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Sign of the side of a segment on which a point lies; zero on its line."""
    along, away = segments[..., 2:] - segments[..., :2], points - segments[..., :2]
    return np.sign(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0])


def polyline_segments(vertices: np.ndarray) -> np.ndarray:
    """Segments between successive vertices; those with an end that is not finite are left out."""
    segments = np.concatenate([vertices[:-1], vertices[1:]], axis=1)
    return segments[np.isfinite(segments).all(axis=1)]
