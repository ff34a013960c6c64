r"""Collectives of a group over the scale-out network: ports of chips, uplinks of pods.

Every chip has one port into a full-bisection switch of its pod, and pods share uplinks of
1 / `oversubscription_ratio` of the bandwidth of their ports. Members in one domain share a message:
with m members in the domain with the fewest, their ports carry $n / m$ of an all-gather of n bytes.
Bytes between pods pass the same ports. A pod therefore adds no time unless its uplinks take longer
than the ports:

    $t = \min_a [s_a \alpha + \max(w_a, o\, u)\, n / \beta]$

over algorithms a with $s_a$ steps and $w_a$ bytes sent per port and byte of the message; u are
those per port into the pod that most groups share. With o = 1 the size of a pod has no effect.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.ties import larger
from hwdse.workload.transformer.collective_algorithms import (
    ALGORITHMS,
    SWITCH_ALGORITHMS,
    CollectiveWork,
)
from hwdse.workload.transformer.group_placement import NetworkGroup


def port_share(kind: str, group: NetworkGroup) -> Scalar:
    """Share of a message that one port of the domain with the fewest members sends.

    Its members share a gathered, reduced or broadcast message. Each sends all of its own messages
    of an all-to-all or a send.
    """
    if kind in ("all_to_all", "point_to_point"):
        return 1.0
    return 1.0 / group.domains.fewest


def port_peers(kind: str, group: NetworkGroup) -> Scalar:
    """Equal senders that share the work of a collective with the slowest port, itself included.

    Domains for an all-reduce or a broadcast, whose messages are the same for every domain. A gather
    or an all-to-all brings a domain the shares of all other members, as of p / m equal domains.
    """
    if kind in ("all_reduce", "broadcast", "point_to_point"):
        return group.domains.num_blocks
    return group.num_chips / group.domains.fewest


def uplink_ratio(kind: str, group: NetworkGroup) -> Scalar:
    """Bytes per port into the pod that most groups share, over the bytes of the whole message.

    A pod receives the shares of other pods once per group: $1 / m - 1 / p$ of a gather with m
    members per pod. An all-reduce reduces and gathers over pods.
    """
    pods, p = group.pods, group.num_chips
    is_apart = jnp.minimum(pods.num_blocks - 1.0, 1.0)
    if kind == "all_reduce":
        return 2.0 * pods.cut_share * (1.0 - 1.0 / pods.num_blocks)
    if kind == "broadcast":
        return pods.cut_share * is_apart
    if kind == "all_to_all":
        return 1.0 - 1.0 / (pods.group_share * p)
    if kind == "point_to_point":
        return jnp.where(pods.num_blocks > 1.0, pods.send_share, 0.0)
    return pods.group_share - 1.0 / p


def scale_out_works(
    kind: str, group: NetworkGroup, oversubscription_ratio: Scalar
) -> tuple[CollectiveWork, ...]:
    """Work of a port by each algorithm; see the equation of the module."""
    num_peers, share = port_peers(kind, group), port_share(kind, group)
    uplink = oversubscription_ratio * uplink_ratio(kind, group)
    found = []
    for name in SWITCH_ALGORITHMS[kind]:
        work_of = ALGORITHMS[kind][name]
        sent = share * work_of(num_peers).sent_ratio
        num_steps = work_of(group.domains.num_blocks).num_steps
        found.append(CollectiveWork(num_steps, larger(sent, uplink)))
    return tuple(found)
