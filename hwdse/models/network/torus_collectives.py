r"""Collectives on a torus or mesh of several dimensions in a scale-up domain.

Dimensions with wraparound links are rings for groups that span them, all others are lines. A ring
uses both directions; a line has one link at its ends, half the rate. Members t chips apart leave
t - 1 chips between them to other groups of the kind, which share the links. Groups of a kind that
do not fit the rows of the torus differ: some lie in a row, others pass its end. The slowest counts.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.ties import larger, smaller
from hwdse.workload.transformer.collective_algorithms import CollectiveWork
from hwdse.workload.transformer.group_placement import PlacedGroup

Wraparound = Callable[[tuple[Leaf, ...]], tuple[Leaf, ...]]
"""Dimensions of a torus of given sizes that wraparound links close into rings: 1 or 0 each."""
MIN_RING_CHIPS = 3.0
"""Fewest chips of a ring: a wraparound link of two chips would join them a second time."""


def each_dimension(sizes: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    """Wraparound in every dimension of at least `MIN_RING_CHIPS`, as in servers of Trainium."""
    return tuple(jnp.where(jnp.asarray(size) >= MIN_RING_CHIPS, 1.0, 0.0) for size in sizes)


def all_dimensions(sizes: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    """Wraparound in every dimension, or in none if one has two chips.

    Optical switches close slices of TPU v4 and v5p that consist of whole cubes of 4 x 4 x 4 chips.
    Smaller slices, such as 2 x 2 x 1 and 2 x 2 x 4, have no wraparound links (Google Cloud
    documentation, TPU v5p).
    """
    closed = 1.0
    for size in sizes:
        chips = jnp.asarray(size)
        closed = closed * jnp.where((chips > 1.0) & (chips < MIN_RING_CHIPS), 0.0, 1.0)
    return tuple(closed for _ in sizes)


def no_dimension(sizes: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    """No wraparound: a mesh, as slices of TPU v5e with fewer than 16 chips per dimension."""
    return tuple(0.0 for _ in sizes)


@struct.dataclass
class _Axis:
    """One dimension as a group uses it."""

    extent: Leaf
    """Members along the dimension."""
    is_closed: Leaf
    """1 if they form a ring, 0 for a line."""
    fraction: Leaf
    """Fraction of a chip's bandwidth in both directions of the dimension, per sharing group."""
    stride: Leaf
    """Chips from one member to the next."""
    latency_ratio: Leaf
    """Latency of a hop over the latency of the link."""

    def used_fraction(self) -> Scalar:
        """Bandwidth fraction that a member at an end can use; nothing along one chip."""
        return jnp.where(self.extent > 1.0, 0.5 + 0.5 * self.is_closed, 0.0) * self.fraction

    def hops(self) -> Scalar:
        r"""Hops to the farthest member, in latencies of the link: $\lfloor g / 2 \rfloor$ strides
        of a ring, $g - 1$ of a line."""
        half_way = 0.5 * (self.extent - _oddness(self.extent))
        strides = jnp.where(self.is_closed > 0.0, half_way, self.extent - 1.0)
        return self.latency_ratio * self.stride * strides

    def exchange_ratio(self) -> Scalar:
        r"""Transfer time of an all-to-all over that of its message at the full bandwidth.

        A byte travels $\lfloor g^2 / 4 \rfloor / g$ hops of a ring on average, $g / 4$ for even and
        $(g^2 - 1) / (4 g)$ for odd g. In a line that many messages per chip cross the middle link.
        """
        hops = (self.extent * self.extent - _oddness(self.extent)) / (4.0 * self.extent)
        used = self.used_fraction()
        return jnp.where(self.extent > 1.0, hops / jnp.where(used > 0.0, used, 1.0), 0.0)

    def send_ratio(self) -> Scalar:
        """Transfer time of a send to the next member over that of its message at the full
        bandwidth: one of two links, or both ways around a ring of two members."""
        both = jnp.where((self.is_closed > 0.0) & (self.extent <= 2.0), 1.0, 0.5)
        return 1.0 / (both * self.fraction)


def _oddness(extent: Scalar) -> Scalar:
    """1 for odd and 0 for even extents, linear between them, without gradient."""
    above_even = extent - 2.0 * jnp.floor(0.5 * extent)
    return jax.lax.stop_gradient(1.0 - jnp.abs(above_even - 1.0))


def _axes(group: PlacedGroup, wraparound: Wraparound) -> tuple[list[_Axis], list[_Axis]]:
    """Dimensions of a group, and lines of the groups that end in each dimension.

    A ring spans a dimension with wraparound, at any stride, in all groups of the kind.
    """
    axes, lines = [], []
    for extent, row, size, fraction, ratio, stride, is_even, closed in zip(
        group.extents,
        group.row_extents,
        group.sizes,
        group.fractions,
        group.latency_ratios,
        group.strides,
        group.is_even,
        wraparound(group.sizes),
        strict=True,
    ):
        is_ring = jnp.where((extent * stride >= size) & (is_even > 0.0), closed, 0.0)
        axes.append(_Axis(extent, is_ring, fraction / stride, stride, ratio))
        lines.append(_Axis(row, 0.0, fraction / stride, stride, ratio))
    return axes, lines


def _largest_sum(terms: Sequence[Scalar], lines: Sequence[Scalar]) -> Scalar:
    """Sum over all dimensions, or over the first ones up to a line, whichever is larger."""
    largest, inner = 0.0, 0.0
    for term, line in zip(terms, lines, strict=True):
        largest = larger(largest, inner + line)
        inner = inner + term
    return larger(largest, inner)


def _used_fraction(axes: Sequence[_Axis], lines: Sequence[_Axis]) -> Scalar:
    """Bandwidth fraction of the slowest group: of all dimensions, or of the first up to a line."""
    least, inner = 1.0, 0.0
    for axis, line in zip(axes, lines, strict=True):
        ended = jnp.where(line.extent > 1.0, inner + line.used_fraction(), 1.0)
        least = smaller(least, ended)
        inner = inner + axis.used_fraction()
    return smaller(least, jnp.where(inner > 0.0, inner, 1.0))


def _slowest_hops(axes: Sequence[_Axis], lines: Sequence[_Axis]) -> Scalar:
    """Hops to the farthest member of the slowest group, in latencies of the link."""
    return _largest_sum([axis.hops() for axis in axes], [line.hops() for line in lines])


def torus_all_gather_work(
    group: PlacedGroup, wraparound: Wraparound = each_dimension
) -> CollectiveWork:
    r"""All-gather (or reduce-scatter) on a torus, bucket algorithm over all dimensions at once.

    The message is split over dimensions in proportion to their bandwidth; each part starts in a
    different dimension: $t = \sum_i \alpha_i h_i + n (g - 1) / (g \beta \sum_i f_i)$ over the
    dimensions with more than one chip, $h_i$ hops to the farthest chip, both directions of a ring.
    Source: Chan et al., Concurrency and Computation 19(13), 2007 (bucket algorithms).
    """
    axes, lines = _axes(group, wraparound)
    g = group.num_chips
    return CollectiveWork(_slowest_hops(axes, lines), (g - 1.0) / (g * _used_fraction(axes, lines)))


def torus_broadcast_work(
    group: PlacedGroup, wraparound: Wraparound = each_dimension
) -> CollectiveWork:
    """Pipelined broadcast along all dimensions at once, each piece once through every chip's
    ports."""
    axes, lines = _axes(group, wraparound)
    moved = jnp.minimum(group.num_chips - 1.0, 1.0)
    return CollectiveWork(_slowest_hops(axes, lines), moved / _used_fraction(axes, lines))


def torus_all_to_all_work(
    group: PlacedGroup, wraparound: Wraparound = each_dimension
) -> CollectiveWork:
    r"""All-to-all on a torus, one dimension after the other.

    $t = \sum_i [\alpha_i h_i + n \lfloor g_i^2 / 4 \rfloor / (g_i f_i \beta)]$ with $h_i$ hops to
    the farthest of $g_i$ members; a line is twice as slow as a ring.
    """
    axes, lines = _axes(group, wraparound)
    ratio = _largest_sum(
        [axis.exchange_ratio() for axis in axes], [line.exchange_ratio() for line in lines]
    )
    return CollectiveWork(_slowest_hops(axes, lines), ratio)


def torus_point_to_point_work(
    group: PlacedGroup, wraparound: Wraparound = each_dimension
) -> CollectiveWork:
    """Transfer to the next member in the outermost dimension of the group.

    A send over a stride of t hops shares its links with t - 1 others. Uneven groups use the slower
    of their dimensions.
    """
    axes, lines = _axes(group, wraparound)
    hops, ratio = 0.0, 0.0
    for axis in axes:
        hops = jnp.where(axis.extent > 1.0, axis.latency_ratio * axis.stride, hops)
        ratio = jnp.where(axis.extent > 1.0, axis.send_ratio(), ratio)
    for line in lines:
        ends = line.extent > 1.0
        hops = larger(hops, jnp.where(ends, line.latency_ratio * line.stride, 0.0))
        ratio = larger(ratio, jnp.where(ends, line.send_ratio(), 0.0))
    return CollectiveWork(hops, ratio)
