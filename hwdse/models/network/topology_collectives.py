r"""Collectives in a scale-up domain: ring, torus (`torus_collectives`), switch, full mesh.

Work of a group placed in the domain (`workload/transformer/group_placement.py`): for each algorithm
steps and bytes sent per byte of message. The fastest algorithm counts,

    $t = \min_a [s_a \alpha + w_a n / \beta]$,

with $s_a$ steps of latency $\alpha$ (s), n bytes and bandwidth $\beta$ (B/s).
`models/network/hierarchical_collectives.py` adds library start-up times and rate losses.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.models.network.torus_collectives import (
    Wraparound,
    all_dimensions,
    each_dimension,
    no_dimension,
    torus_all_gather_work,
    torus_all_to_all_work,
    torus_broadcast_work,
    torus_point_to_point_work,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Scalar
from hwdse.numerics.ties import smaller
from hwdse.specs.hardware.chip import Link
from hwdse.workload.transformer.collective_algorithms import (
    ALGORITHMS,
    SWITCH_ALGORITHMS,
    CollectiveWork,
)
from hwdse.workload.transformer.group_placement import PlacedGroup

IN_SWITCH_FRACTION = 0.85
"""Rate of loads and stores that the switch reduces and multicasts, relative to plain ones. Source:
NVIDIA/nccl, src/graph/tuning.cc, nvlsEfficiency of Hopper (fits of H100: 0.87)."""

Works = tuple[CollectiveWork, ...]
"""Work of a collective by each of several algorithms."""
GroupWorkFn = Callable[[PlacedGroup], Works]


def fastest_time_s(works: Sequence[CollectiveWork], message_bytes: Scalar, link: Link) -> Scalar:
    """Time of the fastest of several algorithms (s); see the equation of the module."""
    unit_s = message_bytes / link.bandwidth_bytes_per_s
    times = [work.num_steps * link.latency_s + work.sent_ratio * unit_s for work in works]
    return functools.reduce(smaller, times)


def ring_all_gather_work(group: PlacedGroup) -> Works:
    """All-gather (or reduce-scatter) on a one-way ring of the group: $p - 1$ steps of a share.

    Assumes reductions hidden behind transfers. Groups on a part of a ring close it over the
    opposite direction of its links. Source: Patarasuk and Yuan, JPDC 69(2), 2009.
    """
    p = group.num_chips
    return (CollectiveWork(p - 1.0, (p - 1.0) / p),)


def ring_all_to_all_work(group: PlacedGroup) -> Works:
    """All-to-all on a one-way ring: $n / p$ bytes per pair of chips, p/2 hops on average.

    Every link carries $p (p - 1) / 2$ messages.
    """
    p = group.num_chips
    return (CollectiveWork(p - 1.0, 0.5 * (p - 1.0)),)


def ring_point_to_point_work(group: PlacedGroup) -> Works:
    """Transfer to the next chip of the ring."""
    return (CollectiveWork(1.0, 1.0),)


def ring_broadcast_work(group: PlacedGroup) -> Works:
    """Pipelined broadcast on the ring in many pieces: $p - 1$ steps and the whole message."""
    p = group.num_chips
    return (CollectiveWork(p - 1.0, jnp.minimum(p - 1.0, 1.0)),)


def _switched(kind: str, algorithms: tuple[str, ...] = ()) -> GroupWorkFn:
    """Algorithms of `collective_algorithms` behind a full-bisection switch, all of
    `SWITCH_ALGORITHMS` by default, limited by the injection rate of a chip."""

    def works(group: PlacedGroup) -> Works:
        found = []
        for name in algorithms or SWITCH_ALGORITHMS[kind]:
            work = ALGORITHMS[kind][name](group.num_chips)
            steps, sent = work.num_steps * group.latency_ratios[0], work.sent_ratio
            found.append(
                CollectiveWork(steps, sent / IN_SWITCH_FRACTION if name == "in_switch" else sent)
            )
        return tuple(found)

    return works


_direct_all_gather_works = _switched("all_gather", ("direct",))
_switch_broadcast_works = _switched("broadcast")


def _over_member_links(works: Works, num_chips: Scalar, group: PlacedGroup) -> Works:
    """Work over the links of a full mesh to the other members among `num_chips`, out of the
    bandwidth to all chips."""
    used = (num_chips - 1.0) / jnp.maximum(group.sizes[0] - 1.0, 1.0)
    fraction = jnp.where(num_chips > 1.0, used, 1.0)
    return tuple(CollectiveWork(work.num_steps, work.sent_ratio / fraction) for work in works)


def _fewest_members(group: PlacedGroup) -> PlacedGroup:
    """Group in the domain with the fewest members, which is slowest in a full mesh: a link carries
    the share of one member."""
    return dataclasses.replace(group, extents=(group.fewest_chips,))


def full_mesh_all_gather_work(group: PlacedGroup) -> Works:
    r"""One message to each other chip over its own link, $\alpha + n (s - 1) / (p \beta)$ for p of
    s chips."""
    members = _fewest_members(group)
    return _over_member_links(_direct_all_gather_works(members), members.num_chips, group)


def full_mesh_all_to_all_work(group: PlacedGroup) -> Works:
    """An equal part to each other chip over its own link."""
    return _over_member_links(_direct_all_gather_works(group), group.num_chips, group)


def full_mesh_broadcast_work(group: PlacedGroup) -> Works:
    """Broadcast as behind a switch, over the links to the members."""
    members = _fewest_members(group)
    return _over_member_links(_switch_broadcast_works(members), members.num_chips, group)


def full_mesh_point_to_point_work(group: PlacedGroup) -> Works:
    """Transfer over the one link to that chip."""
    return (CollectiveWork(1.0, jnp.maximum(group.sizes[0] - 1.0, 1.0)),)


@struct.dataclass
class Topology:
    """Collectives of one scale-up domain.

    `all_gather` takes the size of the gathered message; a reduce-scatter of the same message takes
    as long, an all-reduce twice as long. `all_to_all` takes the bytes that one chip sends.
    """

    all_gather: GroupWorkFn = struct.field(pytree_node=False)
    all_to_all: GroupWorkFn = struct.field(pytree_node=False)
    point_to_point: GroupWorkFn = struct.field(pytree_node=False)
    broadcast: GroupWorkFn = struct.field(pytree_node=False)
    own_all_reduce: GroupWorkFn | None = struct.field(pytree_node=False, default=None)
    """All-reduces other than reduce-scatter and all-gather."""

    def reduce_scatter(self, group: PlacedGroup) -> Works:
        """Work equal to that of the all-gather; sums are hidden behind transfers."""
        return self.all_gather(group)

    def all_reduce(self, group: PlacedGroup) -> Works:
        """Reduce-scatter plus all-gather, and the all-reduces of the topology itself."""
        both = [
            CollectiveWork(2.0 * work.num_steps, 2.0 * work.sent_ratio)
            for work in self.all_gather(group)
        ]
        return (*both, *(self.own_all_reduce(group) if self.own_all_reduce else ()))

    def works(self, kind: str, group: PlacedGroup) -> Works:
        """Work of a collective by each algorithm."""
        return getattr(self, kind)(group)

    def time_s(self, kind: str, message_bytes: Scalar, group: PlacedGroup, link: Link) -> Scalar:
        """Time of a collective by its fastest algorithm (s)."""
        return fastest_time_s(self.works(kind, group), message_bytes, link)


_SWITCH = Topology(
    _switched("all_gather"),
    _switched("all_to_all"),
    _switched("point_to_point"),
    _switch_broadcast_works,
    _switched("all_reduce"),
)


def _torus(wraparound: Wraparound) -> Topology:
    """Collectives of a torus with the given wraparound links."""
    kinds = (
        torus_all_gather_work,
        torus_all_to_all_work,
        torus_point_to_point_work,
        torus_broadcast_work,
    )
    return Topology(*(partial(_only, kind, wraparound) for kind in kinds))


def _only(
    work: Callable[[PlacedGroup, Wraparound], CollectiveWork],
    wraparound: Wraparound,
    group: PlacedGroup,
) -> Works:
    """Work of the one algorithm of a torus."""
    return (work(group, wraparound),)


TOPOLOGIES: Mapping[str, Topology] = MappingProxyType(
    {
        "ring": Topology(
            ring_all_gather_work,
            ring_all_to_all_work,
            ring_point_to_point_work,
            ring_broadcast_work,
        ),
        "torus": _torus(each_dimension),
        "optical_torus": _torus(all_dimensions),
        "mesh": _torus(no_dimension),
        "switch": _SWITCH,
        # The switch can also add the values it reads (NVLink SHARP).
        "reducing_switch": dataclasses.replace(
            _SWITCH,
            own_all_reduce=_switched(
                "all_reduce", ("mesh", "direct", "halving_doubling", "in_switch")
            ),
        ),
        "fully_connected": Topology(
            full_mesh_all_gather_work,
            full_mesh_all_to_all_work,
            full_mesh_point_to_point_work,
            full_mesh_broadcast_work,
        ),
    }
)
"""Collectives by topology. A fat tree or Clos network at full bisection is a `switch`; for lower
bisection see `Cluster.pod_chips`."""
