"""Collectives on one tier of a fabric: ring, torus, switch, full mesh.

Times of a group placed on the tier (`workload/transformer/group_placement.py`) from latency and
bandwidth of its link. `training/hierarchical_collectives.py` adds library start-up times and rate
losses.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Link
from hwdse.workload.transformer.collective_algorithms import ALGORITHMS
from hwdse.workload.transformer.group_placement import PlacedGroup

IN_SWITCH_FRACTION = 0.85
"""Rate of loads and stores that the switch reduces and multicasts, relative to plain ones. Source:
NVIDIA/nccl, src/graph/tuning.cc, nvlsEfficiency of Hopper (fits of H100: 0.87)."""


def ring_all_gather_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""All-gather (or reduce-scatter) of `message_bytes` on a one-way ring (s).

    $t = (p - 1)(\alpha + n / (p \beta))$; zero for one chip. p chips, n bytes, latency $\alpha$
    (s), bandwidth $\beta$ (B/s). Assumes reductions hidden behind transfers. Source: Patarasuk and
    Yuan, JPDC 69(2), 2009.
    """
    p = group.num_chips
    return (p - 1.0) * (link.latency_s + message_bytes / (p * link.bandwidth_bytes_per_s))


def ring_all_to_all_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""All-to-all on a one-way ring: $n / p$ bytes per pair of chips, p/2 hops on average (s).

    $t = (p - 1)\alpha + n (p - 1) / (2 \beta)$: every link carries $p (p - 1) / 2$ messages.
    """
    p = group.num_chips
    transfer_s = message_bytes * (p - 1.0) / (2.0 * link.bandwidth_bytes_per_s)
    return (p - 1.0) * link.latency_s + transfer_s


def ring_point_to_point_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""Transfer to the next chip of the ring: $\alpha + n / \beta$ (s)."""
    return link.latency_s + message_bytes / link.bandwidth_bytes_per_s


def ring_broadcast_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""Pipelined broadcast on the ring in many pieces: $(p - 1)\alpha + n / \beta$ (s)."""
    p = group.num_chips
    moved_bytes = message_bytes * jnp.minimum(p - 1.0, 1.0)
    return (p - 1.0) * link.latency_s + moved_bytes / link.bandwidth_bytes_per_s


def _used_fractions(group: PlacedGroup) -> tuple[Scalar, ...]:
    """Bandwidth fraction of each dimension that the group can use.

    A group that spans a dimension closes its ring and uses both directions. A part of a dimension
    is a line, whose middle link halves the rate. One chip uses nothing.
    """
    return tuple(
        jnp.where(extent > 1.0, jnp.where(extent >= size, 1.0, 0.5), 0.0) * fraction
        for extent, size, fraction in zip(group.extents, group.sizes, group.fractions, strict=True)
    )


def _hops(group: PlacedGroup) -> Scalar:
    """Hops to the farthest chip in units of the link's latency: half of a closed ring, all of a
    line."""
    return sum(
        ratio * jnp.where(extent >= size, jnp.where(extent > 1.0, extent / 2.0, 0.0), extent - 1.0)
        for extent, size, ratio in zip(
            group.extents, group.sizes, group.latency_ratios, strict=True
        )
    )


def _used_bandwidth(group: PlacedGroup, link: Link) -> Scalar:
    usable = sum(_used_fractions(group))
    return link.bandwidth_bytes_per_s * jnp.where(group.num_chips > 1.0, usable, 1.0)


def torus_all_gather_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""All-gather (or reduce-scatter) on a torus, bucket algorithm over all dimensions at once (s).

    The message is split over dimensions in proportion to their bandwidth; each part starts in a
    different dimension: $t = \sum_i \alpha_i g_i / 2 + n (g - 1) / (g \beta \sum_i f_i)$ over the
    dimensions with more than one chip. Both directions of a ring are used, so a chunk travels half
    of it (all of a line, $g_i - 1$). Source: Chan et al., Concurrency and Computation 19(13), 2007
    (bucket algorithms).
    """
    g = group.num_chips
    transfer_s = message_bytes * (g - 1.0) / (g * _used_bandwidth(group, link))
    return link.latency_s * _hops(group) + transfer_s


def torus_broadcast_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """Pipelined broadcast along all dimensions at once, each piece once through every chip's ports
    (s)."""
    moved_bytes = message_bytes * jnp.minimum(group.num_chips - 1.0, 1.0)
    return link.latency_s * _hops(group) + moved_bytes / _used_bandwidth(group, link)


def torus_all_to_all_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""All-to-all on a torus, one dimension after the other (s).

    In dimension i a byte travels $g_i / 4$ hops of a two-way ring on average:
    $t = \sum_i [\alpha_i g_i / 2 + n g_i / (4 f_i \beta)]$; a line is twice as slow.
    """
    time_s = 0.0 * message_bytes
    for extent, fraction, ratio in zip(
        group.extents, _used_fractions(group), group.latency_ratios, strict=True
    ):
        bandwidth = link.bandwidth_bytes_per_s * jnp.where(fraction > 0.0, fraction, 1.0)
        hop_s = ratio * link.latency_s
        dimension_s = extent * (hop_s / 2.0 + message_bytes / (4.0 * bandwidth))
        time_s = time_s + jnp.where(extent > 1.0, dimension_s, 0.0)
    return time_s


def torus_point_to_point_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """Transfer to a neighbor in the outermost dimension of the group, over one of its two links
    (s)."""
    fraction, ratio = group.fractions[0], group.latency_ratios[0]
    for extent, other, other_ratio in zip(
        group.extents, group.fractions, group.latency_ratios, strict=True
    ):
        fraction = jnp.where(extent > 1.0, other, fraction)
        ratio = jnp.where(extent > 1.0, other_ratio, ratio)
    bandwidth = 0.5 * fraction * link.bandwidth_bytes_per_s
    return link.latency_s * ratio + message_bytes / bandwidth


def _fastest(
    kind: str, algorithms: tuple[str, ...]
) -> Callable[[Scalar, PlacedGroup, Link], Scalar]:
    """Time of the fastest of several algorithms of `collective_algorithms` behind one switch."""

    def time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
        times = []
        for name in algorithms:
            work = ALGORITHMS[kind][name](group.num_chips)
            sent_s = message_bytes * work.sent_ratio / link.bandwidth_bytes_per_s
            if name == "in_switch":
                sent_s = sent_s / IN_SWITCH_FRACTION
            times.append(work.num_steps * link.latency_s * group.latency_ratios[0] + sent_s)
        fastest_s = times[0]
        for other_s in times[1:]:
            fastest_s = jnp.minimum(fastest_s, other_s)
        return fastest_s

    return time_s


switch_all_gather_time_s = _fastest("all_gather", ("direct", "halving_doubling"))
"""Time behind a full-bisection switch, limited by the injection rate of a chip (s)."""
switch_all_to_all_time_s = _fastest("all_to_all", ("direct", "bruck"))
switch_point_to_point_time_s = _fastest("point_to_point", ("direct",))
switch_broadcast_time_s = _fastest(
    "broadcast", ("binomial_tree", "scatter_all_gather", "chain", "direct")
)
switch_all_reduce_time_s = _fastest(
    "all_reduce", ("mesh", "direct", "halving_doubling", "double_binary_tree")
)
reducing_all_reduce_time_s = _fastest(
    "all_reduce", ("mesh", "direct", "halving_doubling", "in_switch")
)
"""`switch_all_reduce_time_s` with a switch that can also add the values it reads (NVLink SHARP)."""


def _mesh_bandwidth(group: PlacedGroup, link: Link) -> Link:
    """Link with the bandwidth to the group's members, out of that to all chips of a full mesh."""
    used = (group.num_chips - 1.0) / jnp.maximum(group.sizes[0] - 1.0, 1.0)
    fraction = jnp.where(group.num_chips > 1.0, used, 1.0)
    rate = fraction * link.bandwidth_bytes_per_s
    return dataclasses.replace(link, bandwidth_bytes_per_s=rate)


def mesh_all_gather_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""One message to each other chip over its own link, $\alpha + n (s - 1) / (p \beta)$ for p of
    s chips (s)."""
    return switch_all_gather_time_s(message_bytes, group, _mesh_bandwidth(group, link))


def mesh_broadcast_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """Broadcast as behind a switch, over the links to the members (s)."""
    return switch_broadcast_time_s(message_bytes, group, _mesh_bandwidth(group, link))


def mesh_point_to_point_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """Transfer over the one link to that chip (s)."""
    one = link.bandwidth_bytes_per_s / jnp.maximum(group.sizes[0] - 1.0, 1.0)
    return link.latency_s + message_bytes / one


CollectiveFn = Callable[[Scalar, PlacedGroup, Link], Scalar]


@flax.struct.dataclass
class Topology:
    """Collectives of one tier.

    `all_gather` takes the size of the gathered message; a reduce-scatter of the same message takes
    as long, an all-reduce twice as long. `all_to_all` takes the bytes that one chip sends.
    """

    all_gather: CollectiveFn = flax.struct.field(pytree_node=False)
    all_to_all: CollectiveFn = flax.struct.field(pytree_node=False)
    point_to_point: CollectiveFn = flax.struct.field(pytree_node=False)
    broadcast: CollectiveFn = flax.struct.field(pytree_node=False)
    own_all_reduce: CollectiveFn | None = flax.struct.field(pytree_node=False, default=None)
    """An all-reduce other than reduce-scatter and all-gather."""

    def reduce_scatter(self, message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
        """Time equal to that of the all-gather; sums are hidden behind transfers (s)."""
        return self.all_gather(message_bytes, group, link)

    def all_reduce(self, message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
        """The faster of reduce-scatter plus all-gather and the tier's own all-reduce (s)."""
        both_s = 2.0 * self.all_gather(message_bytes, group, link)
        if self.own_all_reduce is None:
            return both_s
        return jnp.minimum(both_s, self.own_all_reduce(message_bytes, group, link))


_SWITCH = Topology(
    switch_all_gather_time_s,
    switch_all_to_all_time_s,
    switch_point_to_point_time_s,
    switch_broadcast_time_s,
    switch_all_reduce_time_s,
)
TOPOLOGIES: Mapping[str, Topology] = MappingProxyType(
    {
        "ring": Topology(
            ring_all_gather_time_s,
            ring_all_to_all_time_s,
            ring_point_to_point_time_s,
            ring_broadcast_time_s,
        ),
        "torus": Topology(
            torus_all_gather_time_s,
            torus_all_to_all_time_s,
            torus_point_to_point_time_s,
            torus_broadcast_time_s,
        ),
        "switch": _SWITCH,
        "reducing_switch": dataclasses.replace(_SWITCH, own_all_reduce=reducing_all_reduce_time_s),
        "fully_connected": Topology(
            mesh_all_gather_time_s,
            # A chip sends an equal part to each other chip, over separate links.
            mesh_all_gather_time_s,
            mesh_point_to_point_time_s,
            mesh_broadcast_time_s,
        ),
    }
)
"""Collectives by topology. A fat tree or Clos network at full bisection is a `switch`; for lower
bisection see `Cluster.pod_chips`."""
