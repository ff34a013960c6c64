"""Collectives inside a scale-up domain: one-way ring, torus, switch; and across domains."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.struct
import jax.numpy as jnp

from hwdse.numerics import SMALLEST
from hwdse.shapes import Leaf, Scalar
from hwdse.specs.hardware import Link


@flax.struct.dataclass
class Group:
    """Chips of one collective, by dimension of the fabric they sit in.

    `extents` chips of the group along each dimension out of `sizes`; `fractions` of a chip's
    bandwidth belong to each dimension. A ring or switch has one dimension.
    """

    extents: tuple[Leaf, ...]
    sizes: tuple[Leaf, ...]
    fractions: tuple[Leaf, ...]

    @property
    def num_chips(self) -> Leaf:
        """Chips of the group."""
        product = 1.0
        for extent in self.extents:
            product = product * extent
        return product


def place_group(
    num_chips: Scalar, inner_chips: Scalar, sizes: tuple[Leaf, ...], fractions: tuple[Leaf, ...]
) -> Group:
    """Places a group after `inner_chips` neighbors have filled the first dimensions.

    The group takes what is left of a dimension before it goes on to the next; what goes beyond
    the fabric is not part of it. One-chip extents cost nothing.
    """
    extents, inner, rest = [], inner_chips, num_chips
    for size in sizes:
        taken = jnp.minimum(inner, size)
        extent = jnp.clip(rest, 1.0, size / taken)
        inner, rest = inner / taken, rest / extent
        extents.append(extent)
    return Group(tuple(extents), sizes, fractions)


def ring_all_gather_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""All-gather (or reduce-scatter) of `message_bytes` around a one-way ring.

    $t = (p - 1)(\alpha + n / (p \beta))$; zero for one chip. Reductions hide behind transfers.
    Source: Patarasuk and Yuan, JPDC 69(2), 2009.
    """
    p = group.num_chips
    return (p - 1.0) * (link.latency_s + message_bytes / (p * link.bandwidth_bytes_per_s))


def ring_all_to_all_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""Every chip sends $n / p$ to every other around a one-way ring, p/2 hops on average.

    $t = (p - 1)\alpha + n (p - 1) / (2 \beta)$: every link carries $p (p - 1) / 2$ shares.
    """
    p = group.num_chips
    transfer_s = message_bytes * (p - 1.0) / (2.0 * link.bandwidth_bytes_per_s)
    return (p - 1.0) * link.latency_s + transfer_s


def ring_point_to_point_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""To the next chip of the ring: $\alpha + n / \beta$."""
    return link.latency_s + message_bytes / link.bandwidth_bytes_per_s


def _used_fractions(group: Group) -> tuple[Scalar, ...]:
    """Bandwidth share of each dimension that the group can use.

    A group that spans a dimension closes its ring and uses both directions all the time; a part
    of a dimension is a line, whose middle link makes it half as fast. One chip uses nothing.
    """
    return tuple(
        jnp.where(extent > 1.0, jnp.where(extent >= size, 1.0, 0.5), 0.0) * fraction
        for extent, size, fraction in zip(group.extents, group.sizes, group.fractions, strict=True)
    )


def torus_all_gather_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""All-gather (or reduce-scatter) on a torus, bucket algorithm over all dimensions at once.

    The message is cut in one part a dimension, sized by its bandwidth, each starting in another
    dimension: $t = \alpha \sum_i g_i / 2 + n (g - 1) / (g \beta \sum_i f_i)$ over the dimensions
    with more than one chip; both directions of a ring are used, so a chunk travels half of it
    (all of a line, $g_i - 1$).
    Source: Chan et al., Concurrency and Computation 19(13), 2007 (bucket algorithms).
    """
    g = group.num_chips
    hops = sum(
        jnp.where(extent >= size, jnp.where(extent > 1.0, extent / 2.0, 0.0), extent - 1.0)
        for extent, size in zip(group.extents, group.sizes, strict=True)
    )
    usable = sum(_used_fractions(group))
    bandwidth = link.bandwidth_bytes_per_s * jnp.where(g > 1.0, usable, 1.0)
    return link.latency_s * hops + message_bytes * (g - 1.0) / (g * bandwidth)


def torus_all_to_all_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""All-to-all on a torus, one dimension after the other.

    In dimension i a byte travels $g_i / 4$ hops of a two-way ring on average:
    $t = \alpha \sum_i g_i / 2 + \sum_i n g_i / (4 f_i \beta)$; a line is twice as slow.
    """
    time_s = 0.0 * message_bytes
    for extent, fraction in zip(group.extents, _used_fractions(group), strict=True):
        bandwidth = link.bandwidth_bytes_per_s * jnp.where(fraction > 0.0, fraction, 1.0)
        dimension_s = extent * (link.latency_s / 2.0 + message_bytes / (4.0 * bandwidth))
        time_s = time_s + jnp.where(extent > 1.0, dimension_s, 0.0)
    return time_s


def torus_point_to_point_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""To a neighbor in the outermost dimension, over one of its two links."""
    bandwidth = 0.5 * group.fractions[-1] * link.bandwidth_bytes_per_s
    return link.latency_s + message_bytes / bandwidth


def switch_all_gather_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""All-gather (or reduce-scatter) through a full-bisection switch, direct.

    $t = \alpha + n (p - 1) / (p \beta)$: the injection of a chip is the limit; zero for one chip.
    """
    p = group.num_chips
    start_s = link.latency_s * jnp.minimum(p - 1.0, 1.0)
    return start_s + message_bytes * (p - 1.0) / (p * link.bandwidth_bytes_per_s)


def switch_point_to_point_time_s(message_bytes: Scalar, group: Group, link: Link) -> Scalar:
    r"""Through the switch to any chip: $\alpha + n / \beta$."""
    return link.latency_s + message_bytes / link.bandwidth_bytes_per_s


CollectiveFn = Callable[[Scalar, Group, Link], Scalar]


@flax.struct.dataclass
class Topology:
    """Collectives of one fabric. `all_gather` gets the whole gathered message; a reduce-scatter
    of the same message takes as long, an all-reduce both. `all_to_all` gets what one chip sends.
    """

    all_gather: CollectiveFn = flax.struct.field(pytree_node=False)
    all_to_all: CollectiveFn = flax.struct.field(pytree_node=False)
    point_to_point: CollectiveFn = flax.struct.field(pytree_node=False)

    def reduce_scatter(self, message_bytes: Scalar, group: Group, link: Link) -> Scalar:
        """Mirror image of the all-gather; the sums hide behind the transfers."""
        return self.all_gather(message_bytes, group, link)

    def all_reduce(self, message_bytes: Scalar, group: Group, link: Link) -> Scalar:
        """Reduce-scatter, then all-gather."""
        return 2.0 * self.all_gather(message_bytes, group, link)


TOPOLOGIES: Mapping[str, Topology] = MappingProxyType(
    {
        "ring": Topology(
            ring_all_gather_time_s, ring_all_to_all_time_s, ring_point_to_point_time_s
        ),
        "torus": Topology(
            torus_all_gather_time_s, torus_all_to_all_time_s, torus_point_to_point_time_s
        ),
        "switch": Topology(
            # Direct: every chip sends its (p - 1) shares one after the other, as in a gather.
            switch_all_gather_time_s,
            switch_all_gather_time_s,
            switch_point_to_point_time_s,
        ),
    }
)


def outer_all_gather_time_s(message_bytes: Scalar, num_chips: Scalar, network: Link) -> Scalar:
    r"""All-gather over a full-bisection network of `num_chips` ranks: a ring over its switches.

    $t = (p - 1)(\alpha + n / (p \beta))$, as a ring: the collective libraries of scale-out
    networks pass shares from rank to rank.
    """
    step_s = message_bytes / (num_chips * network.bandwidth_bytes_per_s)
    return (num_chips - 1.0) * (network.latency_s + step_s)


def hierarchical_all_gather_time_s(
    message_bytes: Scalar,
    num_chips: Scalar,
    inner_chips: Scalar,
    sizes: tuple[Leaf, ...],
    fractions: tuple[Leaf, ...],
    link: Link,
    network: Link,
    topology: Topology,
) -> Scalar:
    """All-gather (or reduce-scatter) of a group that may reach beyond its scale-up domain.

    Across domains each chip gathers the share of its position, then all gather inside; a domain
    of one chip of the group leaves everything to the network.
    """
    group = place_group(num_chips, inner_chips, sizes, fractions)
    inside = group.num_chips
    outside = jnp.maximum(num_chips / jnp.maximum(inside, SMALLEST), 1.0)
    return topology.all_gather(message_bytes, group, link) + outer_all_gather_time_s(
        message_bytes / inside, outside, network
    )
