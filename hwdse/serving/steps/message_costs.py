"""Times of the collectives of a step by message size, in tables that a design fixes.

A step model is evaluated many times for one design. Only the sizes of its messages change, so that
the time of each kind of collective is tabulated at powers of two once, and interpolated linearly:
exact where the time is linear in the size, between the sizes at which the best algorithm changes.
"""

import dataclasses

import jax
import jax.numpy as jnp

from hwdse.models.network.hierarchical_collectives import (
    Copies,
    place_on_cluster,
    placed_bytes,
    placed_time_s,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.specs.serving.engine import ServingDesign
from hwdse.workload.serving.step_operators import Message
from hwdse.workload.transformer.group_placement import FabricGroup

SMALLEST_BYTES = 256.0
NUM_SIZES = 26
"""Sizes of the table: 256 B to 8 GiB; larger messages take time in proportion."""
KINDS = (
    ("all_reduce", "tensor"),
    ("all_reduce", "context"),
    ("all_gather", "tensor"),
    ("all_to_all", "expert"),
    ("point_to_point", "pipeline"),
)
"""Collectives of a step: kind, and group of ranks."""


@struct.dataclass
class MessageCost:
    """One kind of collective on one group."""

    times_s: Leaf
    """Times at the sizes of the table."""
    link_ratio: Leaf
    """Bytes that a chip sends over the scale-up fabric, over those of the message."""
    network_ratio: Leaf
    """The same over the scale-out network."""

    def time_s(self, message_bytes: Scalar) -> Scalar:
        """Time of a message, linear between the sizes of the table and constant below them."""
        octave = jnp.log2(jnp.maximum(message_bytes, SMALLEST_BYTES) / SMALLEST_BYTES)
        index = jnp.clip(jnp.floor(jax.lax.stop_gradient(octave)), 0.0, NUM_SIZES - 2.0)
        row = index.astype(jnp.int32)
        low_bytes = SMALLEST_BYTES * 2.0**index
        share = jnp.maximum(message_bytes, SMALLEST_BYTES) / low_bytes - 1.0
        low_s, high_s = self.times_s[row], self.times_s[row + 1]
        return low_s + share * (high_s - low_s)


MessageCosts = dict[tuple[str, str], MessageCost]
"""Costs by kind and group; kinds of groups that are known to be one chip are left out."""


def message_costs(design: ServingDesign, copies: Leaf = 1.0) -> MessageCosts:
    """Costs of the collectives of a design without other traffic.

    `copies`: destinations of each element of an all-to-all, the experts of a token.
    """
    strategy, engine = design.strategy, design.engine
    sizes = {
        "tensor": (strategy.tensor, 1.0),
        "context": (strategy.context, strategy.tensor),
        "expert": (strategy.expert, strategy.expert_shards),
        "pipeline": (strategy.pipeline, strategy.replica_chips / strategy.pipeline),
    }
    grid = SMALLEST_BYTES * 2.0 ** jnp.arange(NUM_SIZES, dtype=float)
    found = {}
    groups: dict[str, FabricGroup] = {}
    for kind, name in KINDS:
        num_chips, inner = sizes[name]
        if is_known(num_chips, 1.0):
            continue
        if name not in groups:
            groups[name] = place_on_cluster(num_chips, inner, design.cluster)
        group = groups[name]
        is_exchange = kind == "all_to_all"
        launch_s = engine.exchange_launch_s if is_exchange else engine.collective_launch_s
        chip = _with_launch(design, launch_s).chip
        sent_to = Copies(copies, 1.0) if is_exchange else None

        def time_s(size: Scalar, kind=kind, group=group, chip=chip, sent_to=sent_to) -> Scalar:
            return placed_time_s(kind, size, group, chip, design.cluster, sent_to)

        link, network = placed_bytes(kind, 1.0, group, sent_to)
        found[kind, name] = MessageCost(jax.vmap(time_s)(grid), link, network)
    return found


def _with_launch(design: ServingDesign, launch_s: Leaf | None) -> ServingDesign:
    """Design whose scale-up link starts a collective in `launch_s`, if given."""
    if launch_s is None:
        return design
    link = dataclasses.replace(
        design.chip.link,
        collective_launch_s=launch_s,
        rendezvous_s=jnp.minimum(design.chip.link.rendezvous_s, launch_s),
    )
    return dataclasses.replace(design, chip=dataclasses.replace(design.chip, link=link))


def messages_time_s(messages: tuple[Message, ...], costs: MessageCosts) -> Scalar:
    """Time of all messages of a step, one after another."""
    seconds: Leaf = 0.0
    for message in messages:
        cost = costs.get((message.kind, message.group))
        if cost is not None:
            seconds = seconds + message.count * cost.time_s(message.message_bytes)
    return seconds


def messages_sent_bytes(messages: tuple[Message, ...], costs: MessageCosts) -> tuple[Leaf, Leaf]:
    """Bytes that a chip sends in a step, over the scale-up and the scale-out fabric."""
    link, network = 0.0, 0.0
    for message in messages:
        cost = costs.get((message.kind, message.group))
        if cost is not None:
            size = message.count * message.message_bytes
            link, network = link + size * cost.link_ratio, network + size * cost.network_ratio
    return link, network
