r"""Time and sent bytes of hierarchical collectives on the fabric of a cluster.

Three tiers: scale-up domain (`Cluster.topology` on `chip.link`), scale-out network inside a pod
(full-bisection switch on `chip.network`) and network between pods (the same switch with bandwidth
divided by `network_oversubscription_ratio`). `workload/transformer/group_placement` places groups
from the inside out.

A collective over several tiers is hierarchical. An all-reduce of n bytes reduce-scatters inside the
domain, all-reduces $n / g_0$ across and gathers back, so that all network ports of a domain carry
their share. The message passes the tiers one after another, or in `NUM_PIECES` pipelined pieces;
the faster variant counts. Every tier uses its best algorithm for the message size
(`models/network`), and the collective the faster of two protocols (eager, rendezvous). The exact
model and the smooth relaxation are equal here: the gradient is that of the fastest variant.
"""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax.numpy as jnp

from hwdse.models.network import topology_collectives
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.specs.hardware.chip import Chip, Link
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.transformer.group_placement import PlacedGroup, place_groups

NUM_PIECES = 8.0
"""Pieces of a message in flight: slots of a channel buffer (NCCL_STEPS)."""
UNBOUNDED = 1e15
"""Size of the outermost tier, larger than any group."""
COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "point_to_point",
)
"""Names of the collectives."""


@flax.struct.dataclass
class FabricTier:
    """One tier of a fabric: geometry, link and topology."""

    extent: PlacedGroup
    """Group of all chips of the tier."""
    link: Link
    topology: str = flax.struct.field(pytree_node=False)


def domain_chips(cluster: Cluster) -> Scalar:
    """Number of chips of a scale-up domain."""
    product = 1.0
    for size in cluster.torus_sizes:
        product = product * size
    return product


def fabric_tiers(chip: Chip, cluster: Cluster) -> tuple[FabricTier, FabricTier, FabricTier]:
    """Tiers of a cluster: scale-up domain, network inside a pod, network between pods."""
    sizes = cluster.torus_sizes
    domain = PlacedGroup(
        sizes, sizes, cluster.torus_bandwidth_fractions, cluster.torus_latency_ratios
    )
    pod_size = jnp.maximum(cluster.pod_chips / domain_chips(cluster), 1.0)
    slower = dataclasses.replace(
        chip.network,
        bandwidth_bytes_per_s=chip.network.bandwidth_bytes_per_s
        / cluster.network_oversubscription_ratio,
    )
    return (
        FabricTier(domain, chip.link, cluster.topology),
        FabricTier(_switch(pod_size), chip.network, "switch"),
        FabricTier(_switch(UNBOUNDED), slower, "switch"),
    )


def _switch(size: Scalar) -> PlacedGroup:
    return PlacedGroup((size,), (size,), (1.0,), (1.0,))


def place_on_tiers(
    num_chips: Scalar, inner_chips: Scalar, tiers: tuple[FabricTier, ...]
) -> tuple[PlacedGroup, ...]:
    """Part of a group on each tier (rule: `workload/transformer/group_placement`).

    Consecutive ranks of the group are `inner_chips` chips apart: 1 for tensor-parallel groups, the
    tensor-parallel degree for data-parallel groups, and so on.
    """
    return place_groups(num_chips, inner_chips, [tier.extent for tier in tiers])


def tier_time_s(
    kind: str, message_bytes: Scalar, group: PlacedGroup, tier: FabricTier, *, is_eager: bool
) -> Scalar:
    """Seconds on one tier with one protocol, without start-up; zero for one chip."""
    link = tier.link
    fraction = link.bandwidth_efficiency_fraction
    if is_eager:
        fraction = fraction * link.eager_fraction
    rate = dataclasses.replace(link, bandwidth_bytes_per_s=fraction * link.bandwidth_bytes_per_s)
    collective = getattr(topology_collectives.TOPOLOGIES[tier.topology], kind)
    return jnp.where(group.num_chips > 1.0, collective(message_bytes, group, rate), 0.0)


def _tier_bytes(kind: str, message_bytes: Scalar, groups: tuple[PlacedGroup, ...]) -> list[Scalar]:
    """Message size on each tier.

    All-gathers, reductions and broadcasts send one shard per inner rank across the outer tiers. The
    part of an all-to-all for ranks of the own domain stays inside; the remainder goes directly to
    its domain.
    """
    counts = [group.num_chips for group in groups]
    sizes = []
    for index in range(len(counts)):
        others = counts[:index]
        if kind == "point_to_point":
            others = []
        elif kind == "all_to_all":
            others = counts[index + 1 :]
        size = message_bytes
        for count in others:
            size = size / count
        sizes.append(size)
    return sizes


def _pipelined_s(step_s: Callable[[float], list[Scalar]]) -> Scalar:
    """Seconds of one piece through all tiers or of several pipelined pieces, whichever is less.

    Pipelined: all tiers once, plus the slowest tier for each further piece. `step_s` returns the
    time of each tier for a fraction of the message.
    """
    unsplit = step_s(1.0)
    pieces = step_s(1.0 / NUM_PIECES)
    in_pieces_s = sum(pieces) + (NUM_PIECES - 1.0) * _largest(pieces)
    return jnp.minimum(sum(unsplit), in_pieces_s)


def _largest(times: list[Scalar]) -> Scalar:
    largest = times[0]
    for other in times[1:]:
        largest = jnp.maximum(largest, other)
    return largest


def _start_s(
    groups: tuple[PlacedGroup, ...], tiers: tuple[FabricTier, ...], *, is_eager: bool
) -> Scalar:
    """Largest start-up time of the tiers that the group spans."""
    starts = []
    for group, tier in zip(groups, tiers, strict=True):
        start_s = tier.link.collective_launch_s
        if not is_eager:
            start_s = start_s + tier.link.rendezvous_s
        starts.append(jnp.where(group.num_chips > 1.0, start_s, 0.0))
    return _largest(starts)


def collective_time_s(
    kind: str,
    message_bytes: Scalar,
    num_chips: Scalar,
    inner_chips: Scalar,
    chip: Chip,
    cluster: Cluster,
) -> Scalar:
    """Seconds of one collective (a name of `COLLECTIVES`) without other traffic on its links.

    `message_bytes` follows nccl-tests (`workload/transformer/collective_algorithms`): result of an
    all-gather, input of a reduce-scatter, bytes sent by one chip in an all-to-all. A point-to-point
    send to the next rank uses the outermost tier that the group spans, as its slowest send does.
    Zero for one chip or an empty message, without tracing if known before. All arguments except
    `kind` may be traced.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0
    tiers = fabric_tiers(chip, cluster)
    groups = place_on_tiers(num_chips, inner_chips, tiers)
    sizes = _tier_bytes(kind, message_bytes, groups)

    def protocol_s(is_eager: bool) -> Scalar:
        def step_s(part: float) -> list[Scalar]:
            return [
                tier_time_s(kind, part * size, group, tier, is_eager=is_eager)
                for size, group, tier in zip(sizes, groups, tiers, strict=True)
            ]

        start_s = _start_s(groups, tiers, is_eager=is_eager)
        if kind == "point_to_point":
            return start_s + _outermost(step_s(1.0), groups)
        return start_s + _pipelined_s(step_s)

    runs = (jnp.asarray(num_chips) > 1.0) & (jnp.asarray(message_bytes) > 0.0)
    return jnp.where(runs, jnp.minimum(protocol_s(True), protocol_s(False)), 0.0)


def _outermost(times: list[Scalar], groups: tuple[PlacedGroup, ...]) -> Scalar:
    """Time of the outermost tier that the group spans."""
    time_s = times[0]
    for group, other_s in zip(groups[1:], times[1:], strict=True):
        time_s = jnp.where(group.num_chips > 1.0, other_s, time_s)
    return time_s


def collective_bytes(
    kind: str,
    message_bytes: Scalar,
    num_chips: Scalar,
    inner_chips: Scalar,
    chip: Chip,
    cluster: Cluster,
) -> tuple[Leaf, Leaf]:
    """Bytes that one chip sends over the scale-up fabric and over the scale-out network.

    Every byte counts each time it leaves a chip: $n (p - 1) / p$ for gathers and scatters, twice
    that for an all-reduce, n for a broadcast or a send.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0, 0.0
    tiers = fabric_tiers(chip, cluster)
    groups = place_on_tiers(num_chips, inner_chips, tiers)
    sent = []
    for size, group in zip(_tier_bytes(kind, message_bytes, groups), groups, strict=True):
        p = group.num_chips
        if kind in ("broadcast", "point_to_point"):
            ratio = jnp.minimum(p - 1.0, 1.0)
        else:
            ratio = (2.0 if kind == "all_reduce" else 1.0) * (p - 1.0) / p
        sent.append(size * ratio)
    if kind == "point_to_point":
        leaves_domain = jnp.where(groups[1].num_chips * groups[2].num_chips > 1.0, 1.0, 0.0)
        return sent[0] * (1.0 - leaves_domain), message_bytes * leaves_domain
    return sent[0], sent[1] + sent[2]
