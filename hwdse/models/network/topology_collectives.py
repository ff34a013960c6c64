"""Collectives in a scale-up domain: ring, torus (`torus_collectives`), switch, full mesh.

Times of a group placed in the domain (`workload/transformer/group_placement.py`) from latency and
bandwidth of its link. `training/hierarchical_collectives.py` adds library start-up times and rate
losses.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import flax.struct
import jax.numpy as jnp

from hwdse.models.network.torus_collectives import (
    Wraparound,
    all_dimensions,
    each_dimension,
    no_dimension,
    torus_all_gather_time_s,
    torus_all_to_all_time_s,
    torus_broadcast_time_s,
    torus_point_to_point_time_s,
)
from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Link
from hwdse.workload.transformer.collective_algorithms import ALGORITHMS, SWITCH_ALGORITHMS
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


CollectiveFn = Callable[[Scalar, PlacedGroup, Link], Scalar]


def _fastest(kind: str, algorithms: tuple[str, ...] | None = None) -> CollectiveFn:
    """Time of the fastest of several algorithms of `collective_algorithms` behind one switch, of
    all in `SWITCH_ALGORITHMS` by default."""

    def time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
        times = []
        for name in algorithms or SWITCH_ALGORITHMS[kind]:
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


switch_all_gather_time_s = _fastest("all_gather")
"""Time behind a full-bisection switch, limited by the injection rate of a chip (s)."""
switch_all_to_all_time_s = _fastest("all_to_all")
switch_point_to_point_time_s = _fastest("point_to_point")
switch_broadcast_time_s = _fastest("broadcast")
switch_all_reduce_time_s = _fastest("all_reduce")
reducing_all_reduce_time_s = _fastest(
    "all_reduce", ("mesh", "direct", "halving_doubling", "in_switch")
)
"""`switch_all_reduce_time_s` with a switch that can also add the values it reads (NVLink SHARP)."""


_direct_all_gather_time_s = _fastest("all_gather", ("direct",))


def _member_links(num_chips: Scalar, group: PlacedGroup, link: Link) -> Link:
    """Link with the bandwidth of a chip of a full mesh to the other members among `num_chips`."""
    used = (num_chips - 1.0) / jnp.maximum(group.sizes[0] - 1.0, 1.0)
    fraction = jnp.where(num_chips > 1.0, used, 1.0)
    rate = fraction * link.bandwidth_bytes_per_s
    return dataclasses.replace(link, bandwidth_bytes_per_s=rate)


def full_mesh_all_gather_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    r"""One message to each other chip over its own link, $\alpha + n (s - 1) / (p \beta)$ for p of
    s chips (s).

    A link carries the share of one of p members, so the domain with the fewest members is slowest.
    """
    members = dataclasses.replace(group, extents=(group.fewest_chips,))
    links = _member_links(group.fewest_chips, group, link)
    return _direct_all_gather_time_s(message_bytes, members, links)


def full_mesh_all_to_all_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """An equal part to each other chip over its own link (s)."""
    links = _member_links(group.num_chips, group, link)
    return _direct_all_gather_time_s(message_bytes, group, links)


def full_mesh_broadcast_time_s(message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
    """Broadcast as behind a switch, over the links to the members (s)."""
    members = dataclasses.replace(group, extents=(group.fewest_chips,))
    links = _member_links(group.fewest_chips, group, link)
    return switch_broadcast_time_s(message_bytes, members, links)


def full_mesh_point_to_point_time_s(
    message_bytes: Scalar, group: PlacedGroup, link: Link
) -> Scalar:
    """Transfer over the one link to that chip (s)."""
    one = link.bandwidth_bytes_per_s / jnp.maximum(group.sizes[0] - 1.0, 1.0)
    return link.latency_s + message_bytes / one


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


def _torus(wraparound: Wraparound) -> Topology:
    """Collectives of a torus with the given wraparound links."""
    return Topology(
        partial(torus_all_gather_time_s, wraparound=wraparound),
        partial(torus_all_to_all_time_s, wraparound=wraparound),
        partial(torus_point_to_point_time_s, wraparound=wraparound),
        partial(torus_broadcast_time_s, wraparound=wraparound),
    )


TOPOLOGIES: Mapping[str, Topology] = MappingProxyType(
    {
        "ring": Topology(
            ring_all_gather_time_s,
            ring_all_to_all_time_s,
            ring_point_to_point_time_s,
            ring_broadcast_time_s,
        ),
        "torus": _torus(each_dimension),
        "optical_torus": _torus(all_dimensions),
        "mesh": _torus(no_dimension),
        "switch": _SWITCH,
        "reducing_switch": dataclasses.replace(_SWITCH, own_all_reduce=reducing_all_reduce_time_s),
        "fully_connected": Topology(
            full_mesh_all_gather_time_s,
            full_mesh_all_to_all_time_s,
            full_mesh_point_to_point_time_s,
            full_mesh_broadcast_time_s,
        ),
    }
)
"""Collectives by topology. A fat tree or Clos network at full bisection is a `switch`; for lower
bisection see `Cluster.pod_chips`."""
