r"""Collectives of a group of chips on the fabric of a cluster: the scale-up domain and the network.

Three tiers: the domain (`Cluster.topology` on `chip.link`), the network inside a pod (a full
bisection switch on `chip.network`) and the network between pods (the same, slower by
`network_oversubscription_ratio`). A group is placed from the inside out (`workload.placement`).

A collective over several tiers is hierarchical: an all-reduce of n bytes reduces inside, then
$n / g_0$ across, then gathers back, so that all network ports of a domain carry their share. The
message goes as one, one tier after the other, or in `NUM_PIECES` pieces that overlap; whatever is
faster. Each tier takes its best algorithm for the size (`models.network`), and the whole the
better of the two protocols of its links. Exact and smooth readings are the same here: the
gradient is the winner's.
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
"""Pieces of a message on their way at once: the slots of a channel's buffer (NCCL_STEPS)."""
UNBOUNDED = 1e15
"""Domains of a network that no group fills."""
COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "point_to_point",
)


@flax.struct.dataclass
class FabricTier:
    """One level of a fabric: its geometry (a group of all its chips), its link, its topology."""

    whole: PlacedGroup
    link: Link
    topology: str = flax.struct.field(pytree_node=False)


def domain_chips(cluster: Cluster) -> Scalar:
    """Chips of a scale-up domain."""
    product = 1.0
    for size in cluster.torus_sizes:
        product = product * size
    return product


def fabric_tiers(chip: Chip, cluster: Cluster) -> tuple[FabricTier, FabricTier, FabricTier]:
    """Domain, network inside a pod, network between pods."""
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


def place(
    num_chips: Scalar, inner_chips: Scalar, tiers: tuple[FabricTier, ...]
) -> tuple[PlacedGroup, ...]:
    """The part of a group on each tier; see `workload.placement` for the rule.

    `inner_chips` ranks of other kinds vary faster than those of the group: tensor parallel groups
    have one, data parallel groups as many as the tensor parallel degree, and so on.
    """
    return place_groups(num_chips, inner_chips, [tier.whole for tier in tiers])


def tier_time_s(
    kind: str, message_bytes: Scalar, group: PlacedGroup, tier: FabricTier, *, is_eager: bool
) -> Scalar:
    """Time on one tier by one protocol, without its start; zero for one chip."""
    link = tier.link
    fraction = link.bandwidth_efficiency_fraction
    if is_eager:
        fraction = fraction * link.eager_fraction
    rate = dataclasses.replace(link, bandwidth_bytes_per_s=fraction * link.bandwidth_bytes_per_s)
    run = getattr(topology_collectives.TOPOLOGIES[tier.topology], kind)
    return jnp.where(group.num_chips > 1.0, run(message_bytes, group, rate), 0.0)


def _tier_bytes(kind: str, message_bytes: Scalar, groups: tuple[PlacedGroup, ...]) -> list[Scalar]:
    """The message that each tier works on.

    Gathers, reductions and broadcasts hand the share of a chip's position across. Of an
    all-to-all, the part for the members of the own domain stays inside, all else is sent straight
    to its domain.
    """
    counts = [group.num_chips for group in groups]
    found = []
    for place_ in range(len(counts)):
        others = counts[:place_]
        if kind == "point_to_point":
            others = []
        elif kind == "all_to_all":
            others = counts[place_ + 1 :]
        size = message_bytes
        for count in others:
            size = size / count
        found.append(size)
    return found


def _pipelined_s(step_s: Callable[[float], list[Scalar]]) -> Scalar:
    """One piece through all tiers, or several that overlap: the slowest tier, and the others once.

    `step_s` gives the time of each tier for that part of the message.
    """
    whole = step_s(1.0)
    pieces = step_s(1.0 / NUM_PIECES)
    in_pieces_s = sum(pieces) + (NUM_PIECES - 1.0) * _largest(pieces)
    return jnp.minimum(sum(whole), in_pieces_s)


def _largest(times: list[Scalar]) -> Scalar:
    largest = times[0]
    for other in times[1:]:
        largest = jnp.maximum(largest, other)
    return largest


def _start_s(
    groups: tuple[PlacedGroup, ...], tiers: tuple[FabricTier, ...], *, is_eager: bool
) -> Scalar:
    """The slowest start among the tiers that the group reaches into."""
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
    """Seconds of one collective (a name of `COLLECTIVES`) with nothing else on its links.

    `message_bytes` as nccl-tests counts them (`workload.collective_work`): an all-gather by its
    result, a reduce-scatter by its input, an all-to-all by what one chip sends. A point-to-point
    send goes to the next rank of the group, over the outermost tier that the group reaches into,
    which is what its slowest send does. Zero for one chip or no message, and not traced at all
    where that is known before; all arguments but `kind` may be traced.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0
    tiers = fabric_tiers(chip, cluster)
    groups = place(num_chips, inner_chips, tiers)
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
    """The time of the last tier that the group reaches into."""
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
    """What one chip sends over the scale-up fabric and over the network, for energy.

    Each byte once for each time it leaves a chip for another: gathers and scatters send
    $n (p - 1) / p$, an all-reduce twice that, a broadcast and a send the message.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0, 0.0
    tiers = fabric_tiers(chip, cluster)
    groups = place(num_chips, inner_chips, tiers)
    sent = []
    for size, group in zip(_tier_bytes(kind, message_bytes, groups), groups, strict=True):
        p = group.num_chips
        if kind in ("broadcast", "point_to_point"):
            ratio = jnp.minimum(p - 1.0, 1.0)
        else:
            ratio = (2.0 if kind == "all_reduce" else 1.0) * (p - 1.0) / p
        sent.append(size * ratio)
    if kind == "point_to_point":
        reaches_out = jnp.where(groups[1].num_chips * groups[2].num_chips > 1.0, 1.0, 0.0)
        return sent[0] * (1.0 - reaches_out), message_bytes * reaches_out
    return sent[0], sent[1] + sent[2]
