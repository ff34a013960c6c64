"""Collectives of a training step: time of each without contention, bytes sent per chip."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

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
from hwdse.numerics.relaxation import is_known, materialize_in_gradients, scaled
from hwdse.specs.design import Design
from hwdse.workload.transformer.group_placement import FabricGroup
from hwdse.workload.transformer.sharding import Messages, ShardedStep


@struct.dataclass
class Collectives:
    """Seconds of single collectives; zero for groups of one chip."""

    tensor_s: Leaf
    """One all-gather or reduce-scatter of the activations of a micro-batch."""
    context_s: Leaf
    """Gather of the keys and values of one layer over the context group."""
    expert_s: Leaf
    """One all-to-all of the tokens of a micro-batch to or from their experts."""
    send_s: Leaf
    """Send to the next pipeline stage."""
    layer_gather_s: Leaf
    """Gather of the sharded weights of one layer; zero if every replica stores all weights."""
    layer_reduce_s: Leaf
    """Reduce-scatter of the gradients of one layer with sharded weights."""
    head_gather_s: Leaf
    head_reduce_s: Leaf
    reduce_s: Leaf
    """Reduce-scatter of the gradients once per step; zero if layers do it one by one."""
    update_gather_s: Leaf
    """Gather after `reduce_s`: of the updated weights, or of the gradient sums if every replica
    updates all weights."""


@dataclass(frozen=True)
class RankGroup:
    """Ranks of one kind of collective.

    Order of ranks from the inside out: tensor, context, data, pipeline.
    """

    num_chips: Scalar
    inner_chips: Scalar
    design: Design

    @cached_property
    def placed(self) -> FabricGroup:
        """Slowest group on the fabric."""
        return place_on_cluster(self.num_chips, self.inner_chips, self.design.cluster)

    def runs(self, message_bytes: Scalar) -> bool:
        """True unless the group is known to be one chip or the message to be empty."""
        return not is_known(self.num_chips, 1.0) and not is_known(message_bytes, 0.0)

    def time_s(self, kind: str, message_bytes: Scalar, copies: Copies | None = None) -> Scalar:
        """Seconds of one collective of the group."""
        if not self.runs(message_bytes):
            return 0.0
        chip, cluster = self.design.chip, self.design.cluster
        return placed_time_s(kind, message_bytes, self.placed, chip, cluster, copies)

    def sent_bytes(
        self, kind: str, message_bytes: Scalar, copies: Copies | None = None
    ) -> tuple[Scalar, Scalar]:
        """Bytes that one chip sends over the scale-up fabric and over the scale-out network."""
        if not self.runs(message_bytes):
            return 0.0, 0.0
        return placed_bytes(kind, message_bytes, self.placed, copies)


@dataclass(frozen=True)
class RankGroups:
    """Rank groups of a parallelism strategy."""

    tensor: RankGroup
    context: RankGroup
    expert: RankGroup
    expert_shards: RankGroup
    """Ranks that shard each of their experts."""
    replicas: RankGroup
    """Ranks with the same weights, routed experts excluded."""
    same_experts: RankGroup
    """Ranks with the same routed experts."""
    pipeline: RankGroup

    @classmethod
    def of(cls, step: ShardedStep, design: Design) -> "RankGroups":
        """Groups of a parallelism strategy.

        Expert groups are consecutive ranks or, if the tensor ranks shard each expert, consecutive
        replicas; ranks with the same experts are one expert group apart. Plain numbers of the
        strategy stay plain.
        """
        parallelism = design.parallelism
        ranks = step.expert * step.expert_tensor
        copies = jnp.maximum(step.replicas * step.tensor / ranks, 1.0)
        return cls(
            RankGroup(parallelism.tensor, 1.0, design),
            RankGroup(parallelism.context, step.tensor, design),
            RankGroup(parallelism.expert, step.expert_tensor, design),
            RankGroup(step.expert_tensor, 1.0, design),
            RankGroup(step.replicas, step.tensor, design),
            RankGroup(copies, ranks, design),
            RankGroup(parallelism.pipeline, step.tensor * step.replicas, design),
        )


class Gather(NamedTuple):
    """An all-gather, or a reduce-scatter of equal duration."""

    group: RankGroup
    message_bytes: Scalar
    network_fraction: Leaf = 1.0
    """Fraction of the scale-out bandwidth of a chip that the gather uses."""


def collectives(step: ShardedStep, design: Design, groups: RankGroups) -> Collectives:
    """Times of all collectives of the parallelism strategy, each without contention."""
    messages = step.messages
    sharded = design.parallelism.weight_shard_fraction
    gathers = {
        "tensor": Gather(groups.tensor, messages.tensor_bytes),
        "context": Gather(groups.context, messages.context_bytes),
        "tokens": Gather(groups.expert_shards, messages.expert_gather_bytes),
        **_step_gathers(messages, groups, design),
        **_micro_batch_gathers(step, groups, design),
    }
    gather_s = _gathers_s(gathers, design)
    num, unsharded = design.software.num_layer_messages, 1.0 - sharded
    copies = Copies(messages.expert_copies, design.software.node_dispatch_fraction)
    exchange_s = groups.expert.time_s("all_to_all", messages.expert_bytes, copies)
    return Collectives(
        tensor_s=gather_s["tensor"],
        context_s=gather_s["context"],
        expert_s=exchange_s + gather_s["tokens"],
        send_s=groups.pipeline.time_s("point_to_point", messages.pipeline_bytes),
        layer_gather_s=sharded * (num * gather_s["layer"] + gather_s["layer_experts"]),
        layer_reduce_s=sharded * (num * gather_s["layer_sum"] + gather_s["layer_experts_sum"]),
        head_gather_s=sharded * gather_s["head"],
        head_reduce_s=sharded * gather_s["head_sum"],
        reduce_s=unsharded * (gather_s["sum"] + gather_s["experts_sum"]),
        update_gather_s=unsharded * (gather_s["update"] + gather_s["experts_update"]),
    )


MAX_UNBATCHED = 4
"""Largest number of gathers that are traced one by one, which gives the fastest program. More are
traced as one batch: its program compiles in a fraction of the time and runs longer."""


def _gathers_s(gathers: dict[str, Gather], design: Design) -> Mapping[str, Leaf]:
    """Seconds of each gather; zero, without tracing, for groups of one chip and empty messages."""
    network = design.chip.network

    def time_s(size: Scalar, group: FabricGroup, fraction: Scalar) -> Scalar:
        rate = fraction * network.bandwidth_bytes_per_s
        chip = replace(design.chip, network=replace(network, bandwidth_bytes_per_s=rate))
        return placed_time_s("all_gather", size, group, chip, design.cluster)

    live = {
        name: (size, group.placed, fraction)
        for name, (group, size, fraction) in gathers.items()
        if group.runs(size)
    }
    if len(live) <= MAX_UNBATCHED:
        return defaultdict(float, {name: time_s(*arguments) for name, arguments in live.items()})
    batch = jax.tree.map(
        lambda *values: jnp.stack([jnp.asarray(x, float) for x in values]), *live.values()
    )
    found_s = jnp.asarray(materialize_in_gradients(jax.vmap(time_s)(*batch)))
    return defaultdict(float, {name: found_s[index] for index, name in enumerate(live)})


def _update_bytes(weight_bytes: Leaf, gradient_bytes: Leaf, updated: Leaf) -> Leaf:
    """Bytes gathered after the gradient sums.

    Weights if ranks update their shards, gradient sums if all ranks update all weights.
    """
    if is_known(weight_bytes, 0.0):
        return weight_bytes
    return updated * weight_bytes + (1.0 - updated) * gradient_bytes


def _step_gathers(messages: Messages, groups: RankGroups, design: Design) -> dict[str, Gather]:
    """Gradient sums and following gathers, once per step."""
    parallelism = design.parallelism
    if is_known(parallelism.weight_shard_fraction, 1.0):
        return {}
    sums, expert_sums = messages.gradient_bytes, messages.expert_gradient_bytes
    updated = parallelism.optimizer_shard_fraction
    updates = _update_bytes(messages.weight_bytes, sums, updated)
    expert_updates = _update_bytes(messages.expert_weight_bytes, expert_sums, updated)
    return {
        "sum": Gather(groups.replicas, sums),
        "experts_sum": Gather(groups.same_experts, expert_sums),
        "update": Gather(groups.replicas, updates),
        "experts_update": Gather(groups.same_experts, expert_updates),
    }


def _micro_batch_gathers(
    step: ShardedStep, groups: RankGroups, design: Design
) -> dict[str, Gather]:
    """Weight gathers and gradient sums of a layer and of the head, for each micro-batch."""
    messages, software = step.messages, design.software
    if is_known(design.parallelism.weight_shard_fraction, 0.0):
        return {}
    ports, num = software.gather_network_fraction, software.num_layer_messages
    head_share = step.layers_per_stage * messages.layer_weight_bytes
    head_bytes = jnp.maximum(messages.weight_bytes - head_share, 0.0)
    # A layer list has no weights: at least one byte, for a finite ratio.
    ratio = messages.layer_gradient_bytes / jnp.maximum(messages.layer_weight_bytes, 1.0)
    layer_bytes, experts = messages.layer_weight_bytes / num, messages.layer_expert_bytes
    return {
        "layer": Gather(groups.replicas, layer_bytes, ports),
        "layer_experts": Gather(groups.same_experts, experts, ports),
        "layer_sum": Gather(groups.replicas, ratio * layer_bytes, ports),
        "layer_experts_sum": Gather(groups.same_experts, scaled(experts, ratio), ports),
        "head": Gather(groups.replicas, head_bytes, ports),
        "head_sum": Gather(groups.replicas, ratio * head_bytes, ports),
    }


def sent_bytes(step: ShardedStep, design: Design, groups: RankGroups) -> tuple[Scalar, Scalar]:
    """Mean bytes that a chip sends per step over the scale-up fabric and the scale-out network.

    The last stage sends no activations and the first no gradients. Only the last stage has the
    head, with two collectives of its tensor group. Sharded weights are gathered for the forward and
    for the backward pass of every micro-batch.
    """
    messages = step.messages
    num_layers = step.num_micro_batches * step.mean_layers_per_stage
    num_tensor = messages.num_tensor_forward + messages.num_tensor_backward
    num_tensor = num_layers * num_tensor + 2.0 * step.num_micro_batches / step.pipeline
    num_context = num_layers * (3.0 + design.parallelism.recompute_fraction)
    num_sends = 2.0 * step.num_micro_batches * (step.pipeline - 1.0) / step.pipeline
    num_expert = num_layers * messages.num_expert
    shared_bytes, expert_bytes = _replica_bytes(step, design)
    parts = [
        (num_tensor, groups.tensor, "all_gather", messages.tensor_bytes),
        (num_context, groups.context, "all_gather", messages.context_bytes),
        (1.0, groups.replicas, "all_gather", shared_bytes),
        (num_sends, groups.pipeline, "point_to_point", messages.pipeline_bytes),
        (num_expert, groups.expert_shards, "all_gather", messages.expert_gather_bytes),
        (1.0, groups.same_experts, "all_gather", expert_bytes),
    ]
    copies = Copies(messages.expert_copies, design.software.node_dispatch_fraction)
    exchanged = groups.expert.sent_bytes("all_to_all", messages.expert_bytes, copies)
    link_bytes, network_bytes = (num_expert * x for x in exchanged)
    for count, group, kind, size in parts:
        link, network = group.sent_bytes(kind, size)
        link_bytes, network_bytes = link_bytes + count * link, network_bytes + count * network
    return link_bytes, network_bytes


def _replica_bytes(step: ShardedStep, design: Design) -> tuple[Scalar, Scalar]:
    """Bytes of gathers and sums per step: over all replicas, and over those with equal experts."""
    messages, parallelism = step.messages, design.parallelism
    sharded, updated = parallelism.weight_shard_fraction, parallelism.optimizer_shard_fraction

    def bytes_per_step(weight_bytes: Scalar, gradient_bytes: Scalar) -> Scalar:
        if is_known(weight_bytes, 0.0):
            return weight_bytes
        update_bytes = _update_bytes(weight_bytes, gradient_bytes, updated)
        each = gradient_bytes + 2.0 * weight_bytes
        once = (1.0 - sharded) * (gradient_bytes + update_bytes)
        return once + sharded * step.num_micro_batches * each

    shared = bytes_per_step(messages.weight_bytes, messages.gradient_bytes)
    return shared, bytes_per_step(messages.expert_weight_bytes, messages.expert_gradient_bytes)
