r"""Time and sent bytes of hierarchical collectives on the fabric of a cluster.

Two tiers: scale-up domain (`Cluster.topology` on `chip.link`) and scale-out network
(`models.network.scale_out_collectives` on `chip.network`): full bisection inside a pod, bandwidth
divided by `network_oversubscription_ratio` between pods. `workload/transformer/group_placement`
places groups from the inside out and finds the slowest group of a kind.

A collective over both tiers is hierarchical. An all-reduce of n bytes reduce-scatters inside the
domain, all-reduces $n / m$ across and gathers back, so that the network ports of the m members in a
domain carry their share. The message passes the tiers one after another, or in `NUM_PIECES`
pipelined pieces; the faster variant counts. Pods are no tier of their own, since their traffic
passes the same ports. Every tier uses its best algorithm for the message size (`models/network`),
and the collective the faster of two protocols (eager, rendezvous). The exact model and the smooth
relaxation are equal here: the gradient is that of the fastest variant.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwdse.models.network.scale_out_collectives import scale_out_works
from hwdse.models.network.topology_collectives import TOPOLOGIES, fastest_time_s
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, is_known
from hwdse.numerics.ties import larger, smaller
from hwdse.specs.hardware.chip import Chip, Link
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.transformer.group_placement import FabricGroup, FabricShape, place_group

NUM_PIECES = 8.0
"""Pieces of a message in flight: slots of a channel buffer (NCCL_STEPS)."""
COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "point_to_point",
)
"""Names of the collectives."""


def place_on_cluster(num_chips: Scalar, inner_chips: Scalar, cluster: Cluster) -> FabricGroup:
    """Slowest group of a kind on a cluster (rule: `workload/transformer/group_placement`).

    Consecutive ranks of the group are `inner_chips` chips apart: 1 for tensor-parallel groups, the
    tensor-parallel degree for data-parallel groups, and so on.
    """
    fabric = FabricShape(
        cluster.torus_sizes,
        cluster.torus_bandwidth_fractions,
        cluster.torus_latency_ratios,
        cluster.pod_chips,
        cluster.num_chips,
    )
    # Equal types of all numbers: `place_group` is traced once for all groups.
    numbers = (num_chips, inner_chips, fabric)
    return place_group(*jax.tree.map(lambda x: jnp.asarray(x, float), numbers))


def _effective_link(link: Link, *, is_eager: bool) -> Link:
    """Link with the bandwidth that long messages of a protocol reach."""
    fraction = link.bandwidth_efficiency_fraction
    if is_eager:
        fraction = fraction * link.eager_fraction
    return dataclasses.replace(link, bandwidth_bytes_per_s=fraction * link.bandwidth_bytes_per_s)


def _domain_bytes(kind: str, message_bytes: Scalar, group: FabricGroup) -> Scalar:
    """Message inside a scale-up domain: of an all-to-all, the part for members of the domain."""
    if kind == "all_to_all":
        return message_bytes * group.domain.num_chips / group.network.num_chips
    return message_bytes


class Copies(NamedTuple):
    """Copies of each element of an all-to-all, as of a token for its experts."""

    number: Scalar
    """Destinations of an element, chosen at random."""
    once_fraction: Scalar
    """Part of the traffic that is sent once to each domain and forwarded inside it once to each
    rank; the rest is sent once per destination."""


def distinct_places(number: Scalar, places: Scalar) -> Scalar:
    r"""Distinct places of `number` random choices with replacement, $b (1 - (1 - 1/b)^k)$; at most
    `number`."""
    missed = jnp.maximum(1.0 - 1.0 / jnp.maximum(places, 1.0), SMALLEST)
    return places * -jnp.expm1(number * jnp.log(missed))


def copy_ratios(copies: Copies, group: FabricGroup) -> tuple[Scalar, Scalar]:
    """Bytes inside the domain and to other domains over those of one message per destination.

    A message per destination counts as `message_bytes` of an all-to-all. Sent once to each domain,
    an element crosses the network once for all its destinations there, and each rank that has some
    gets it once over the scale-up fabric. Source: DeepSeek-AI, arXiv 2412.19437, section 3.2.2.
    """
    number = jnp.maximum(copies.number, 1.0)
    ranks, domains = group.network.num_chips, group.network.domains.mean_blocks
    once_inside = distinct_places(number, ranks) / number
    once_across = distinct_places(number, domains) / number
    plain_inside = group.domain.num_chips / ranks
    once = copies.once_fraction
    return once * once_inside + (1.0 - once) * plain_inside, once * once_across + (1.0 - once)


def _pipelined_s(tiers_s: Callable[[float], tuple[Scalar, Scalar]]) -> Scalar:
    """Seconds of one piece through both tiers or of several pipelined pieces, whichever is less.

    Pipelined: both tiers once, plus the slower tier for each further piece. `tiers_s` returns the
    time of each tier for a fraction of the message.
    """
    inside_s, across_s = tiers_s(1.0)
    first_s, second_s = tiers_s(1.0 / NUM_PIECES)
    slower_s = larger(first_s, second_s)
    in_pieces_s = first_s + second_s + (NUM_PIECES - 1.0) * slower_s
    return smaller(inside_s + across_s, in_pieces_s)


def _start_s(group: FabricGroup, chip: Chip, *, is_eager: bool) -> Scalar:
    """Largest start-up time of the tiers that the group spans."""
    starts = []
    for link in (chip.link, chip.network):
        start_s = link.collective_launch_s
        starts.append(start_s if is_eager else start_s + link.rendezvous_s)
    inside_s = jnp.where(group.domain.num_chips > 1.0, starts[0], 0.0)
    across_s = jnp.where(group.network.domains.num_blocks > 1.0, starts[1], 0.0)
    return larger(inside_s, across_s)


def placed_time_s(
    kind: str,
    message_bytes: Scalar,
    group: FabricGroup,
    chip: Chip,
    cluster: Cluster,
    copies: Copies | None = None,
) -> Scalar:
    """Seconds of one collective of a placed group; see `collective_time_s`.

    `copies` says how an all-to-all sends elements with several destinations; None: one by one.
    """

    inside = TOPOLOGIES[cluster.topology].works(kind, group.domain)
    across = scale_out_works(kind, group.network, cluster.network_oversubscription_ratio)
    is_inside, is_across = group.domain.num_chips > 1.0, group.network.domains.num_blocks > 1.0
    inside_bytes, across_bytes = _domain_bytes(kind, message_bytes, group), message_bytes
    if copies is not None:
        ratios = copy_ratios(copies, group)
        inside_bytes, across_bytes = (ratio * message_bytes for ratio in ratios)

    def protocol_s(is_eager: bool) -> Scalar:
        link, network = (_effective_link(x, is_eager=is_eager) for x in (chip.link, chip.network))

        def tiers_s(part: float) -> tuple[Scalar, Scalar]:
            inside_s = fastest_time_s(inside, part * inside_bytes, link)
            across_s = fastest_time_s(across, part * across_bytes, network)
            return jnp.where(is_inside, inside_s, 0.0), jnp.where(is_across, across_s, 0.0)

        start_s = _start_s(group, chip, is_eager=is_eager)
        if kind == "point_to_point":
            inside_s, across_s = tiers_s(1.0)
            return start_s + jnp.where(is_across, across_s, inside_s)
        return start_s + _pipelined_s(tiers_s)

    runs = (group.network.num_chips > 1.0) & (jnp.asarray(message_bytes) > 0.0)
    return jnp.where(runs, smaller(protocol_s(True), protocol_s(False)), 0.0)


def collective_time_s(
    kind: str,
    message_bytes: Scalar,
    num_chips: Scalar,
    inner_chips: Scalar,
    chip: Chip,
    cluster: Cluster,
) -> Scalar:
    """Seconds of one collective (a name of `COLLECTIVES`) without other traffic on its links.

    All groups of the kind run at the same time, and the slowest counts. `message_bytes` follows
    nccl-tests (`workload/transformer/collective_algorithms`): result of an all-gather, input of a
    reduce-scatter, bytes sent by one chip in an all-to-all. A point-to-point send to the next rank
    uses the outermost tier that the group spans, as its slowest send does. Zero for one chip or an
    empty message, without tracing if known before. All arguments except `kind` may be traced.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0
    group = place_on_cluster(num_chips, inner_chips, cluster)
    return placed_time_s(kind, message_bytes, group, chip, cluster)


def placed_bytes(
    kind: str, message_bytes: Scalar, group: FabricGroup, copies: Copies | None = None
) -> tuple[Leaf, Leaf]:
    """Bytes that one chip of a placed group sends; see `collective_bytes`, `placed_time_s`."""
    p, d = group.network.num_chips, group.network.domains.mean_blocks
    is_apart = jnp.minimum(d - 1.0, 1.0)
    if kind == "point_to_point":
        leaves_domain = jnp.where(group.network.domains.num_blocks > 1.0, 1.0, 0.0)
        return message_bytes * (1.0 - leaves_domain), message_bytes * leaves_domain
    if kind == "broadcast":
        is_inside = jnp.minimum(p / d - 1.0, 1.0)
        return message_bytes * is_inside, message_bytes * is_apart * d / p
    if kind == "all_to_all":
        inside, across = (1.0 / d, 1.0) if copies is None else copy_ratios(copies, group)
        return message_bytes * inside * (1.0 - d / p), message_bytes * across * (1.0 - 1.0 / d)
    size = message_bytes * (2.0 if kind == "all_reduce" else 1.0)
    return size * (p - d) / p, size * (d - 1.0) / p


def collective_bytes(
    kind: str,
    message_bytes: Scalar,
    num_chips: Scalar,
    inner_chips: Scalar,
    chip: Chip,
    cluster: Cluster,
) -> tuple[Leaf, Leaf]:
    """Mean bytes that a chip sends over the scale-up fabric and over the scale-out network.

    Every byte counts each time it leaves a chip: $n (p - 1) / p$ for gathers and scatters, twice
    that for an all-reduce, n for a broadcast or a send. Of p members in d domains, $(d - 1) / p$
    cross the network, with d the mean over all groups.
    """
    if is_known(num_chips, 1.0) or is_known(message_bytes, 0.0):
        return 0.0, 0.0
    return placed_bytes(kind, message_bytes, place_on_cluster(num_chips, inner_chips, cluster))
