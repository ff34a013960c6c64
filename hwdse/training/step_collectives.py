"""Collectives of a training step on the fabric: how long each takes alone, what a chip sends."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known, scaled
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.training import hierarchical_collectives
from hwdse.workload.transformer.sharding import Messages, ShardedStep


@flax.struct.dataclass
class Collectives:
    """Seconds of single collectives, zero for groups of one chip."""

    tensor_s: Leaf
    """One all-gather or reduce-scatter of the activations of a micro-batch."""
    context_s: Leaf
    """Gather of one layer's keys and values over the context group."""
    expert_s: Leaf
    """One all-to-all of a micro-batch's tokens to or from their experts."""
    send_s: Leaf
    """To the next pipeline stage."""
    layer_gather_s: Leaf
    """Weights of one layer, gathered over replicas that share them, and below their gradients'
    sum; zero where every replica holds them."""
    layer_reduce_s: Leaf
    head_gather_s: Leaf
    head_reduce_s: Leaf
    reduce_s: Leaf
    """Gradient sum of a step, and below the gather after it: of updated weights, or of the sums
    themselves where every replica updates all. Zero where layers do it one by one."""
    update_gather_s: Leaf


@dataclass(frozen=True)
class RankGroup:
    """Ranks of one kind of collective; groups lie side by side from the inside out: tensor,
    context, data, pipeline."""

    num_chips: Scalar
    inner_chips: Scalar
    design: Design

    def time_s(self, kind: str, message_bytes: Scalar) -> Scalar:
        """Seconds of one collective."""
        return hierarchical_collectives.collective_time_s(kind, message_bytes, *self._place())

    def sent_bytes(self, kind: str, message_bytes: Scalar) -> tuple[Scalar, Scalar]:
        """What a chip sends in it over the scale-up fabric and over the network."""
        return hierarchical_collectives.collective_bytes(kind, message_bytes, *self._place())

    def _place(self) -> tuple[Scalar, Scalar, Chip, Cluster]:
        return self.num_chips, self.inner_chips, self.design.chip, self.design.cluster


@dataclass(frozen=True)
class Groups:
    """The groups of a layout."""

    tensor: RankGroup
    context: RankGroup
    expert: RankGroup
    replicas: RankGroup
    """Ranks that hold the same weights but routed experts."""
    same_experts: RankGroup
    pipeline: RankGroup

    @classmethod
    def of(cls, step: ShardedStep, design: Design) -> "Groups":
        """Expert groups are neighbors among the replicas; those with the same experts lie beyond
        them. Sizes that the layout gives as plain numbers are kept as they are."""
        parallelism = design.parallelism
        copies = jnp.maximum(step.replicas / step.expert, 1.0)
        return cls(
            RankGroup(parallelism.tensor, 1.0, design),
            RankGroup(parallelism.context, step.tensor, design),
            RankGroup(parallelism.expert, step.tensor, design),
            RankGroup(step.replicas, step.tensor, design),
            RankGroup(copies, step.tensor * step.expert, design),
            RankGroup(parallelism.pipeline, step.tensor * step.replicas, design),
        )


class Gather(NamedTuple):
    """An all-gather, or a reduce-scatter, which takes as long."""

    group: RankGroup
    message_bytes: Scalar
    network_fraction: Leaf = 1.0
    """Share of a chip's network that it uses."""


def collectives(step: ShardedStep, design: Design) -> Collectives:
    """Every collective that the layout needs, alone on its links."""
    messages, groups = step.messages, Groups.of(step, design)
    cut = design.parallelism.weight_shard_fraction
    gathers = {
        "tensor": Gather(groups.tensor, messages.tensor_bytes),
        "context": Gather(groups.context, messages.context_bytes),
        "tokens": Gather(groups.tensor, messages.expert_gather_bytes),
        **_once_a_step(messages, groups, design),
        **_for_each_use(step, groups, design),
    }
    took_s = _gathers_s(gathers, design)
    num, once = design.software.num_layer_messages, 1.0 - cut
    exchange_s = groups.expert.time_s("all_to_all", messages.expert_bytes)
    return Collectives(
        tensor_s=took_s["tensor"],
        context_s=took_s["context"],
        expert_s=exchange_s + took_s["tokens"],
        send_s=groups.pipeline.time_s("point_to_point", messages.pipeline_bytes),
        layer_gather_s=cut * (num * took_s["layer"] + took_s["layer_experts"]),
        layer_reduce_s=cut * (num * took_s["layer_sum"] + took_s["layer_experts_sum"]),
        head_gather_s=cut * took_s["head"],
        head_reduce_s=cut * took_s["head_sum"],
        reduce_s=once * (took_s["sum"] + took_s["experts_sum"]),
        update_gather_s=once * (took_s["update"] + took_s["experts_update"]),
    )


FEW = 4
"""Gathers that are traced one by one: the fastest program. More go as one batch, whose program
takes a fraction of the time to compile and longer to run."""


def _gathers_s(gathers: dict[str, Gather], design: Design) -> Mapping[str, Leaf]:
    """Seconds of each, zero for others; nothing is traced for groups or messages known to be
    none."""
    network = design.chip.network

    def time_s(size: Scalar, num_chips: Scalar, inner: Scalar, fraction: Scalar) -> Scalar:
        rate = fraction * network.bandwidth_bytes_per_s
        chip = replace(design.chip, network=replace(network, bandwidth_bytes_per_s=rate))
        return hierarchical_collectives.collective_time_s(
            "all_gather", size, num_chips, inner, chip, design.cluster
        )

    live = {
        name: (size, group.num_chips, group.inner_chips, fraction)
        for name, (group, size, fraction) in gathers.items()
        if not is_known(group.num_chips, 1.0) and not is_known(size, 0.0)
    }
    if len(live) <= FEW:
        return defaultdict(float, {name: time_s(*given) for name, given in live.items()})
    columns = zip(*live.values(), strict=True)
    batch = [jnp.stack([jnp.asarray(x, float) for x in column]) for column in columns]
    found_s = jnp.asarray(jax.vmap(time_s)(*batch))
    return defaultdict(float, {name: found_s[place] for place, name in enumerate(live)})


def _update_bytes(weight_bytes: Leaf, gradient_bytes: Leaf, updated: Leaf) -> Leaf:
    """What is gathered after the sums: the weights where ranks update their parts of them, the
    sums themselves where all update."""
    if is_known(weight_bytes, 0.0):
        return weight_bytes
    return updated * weight_bytes + (1.0 - updated) * gradient_bytes


def _once_a_step(messages: Messages, groups: Groups, design: Design) -> dict[str, Gather]:
    """Gradient sums, and gathers of what was updated."""
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


def _for_each_use(step: ShardedStep, groups: Groups, design: Design) -> dict[str, Gather]:
    """Gathers of a layer's weights, sums of its gradients, and both of the head."""
    messages, software = step.messages, design.software
    if is_known(design.parallelism.weight_shard_fraction, 0.0):
        return {}
    ports, num = software.gather_network_fraction, software.num_layer_messages
    head_share = step.layers_per_stage * messages.layer_weight_bytes
    head_bytes = jnp.maximum(messages.weight_bytes - head_share, 0.0)
    # A list of layers holds no weights: one byte at least, for a finite ratio.
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


def sent_bytes(step: ShardedStep, design: Design) -> tuple[Scalar, Scalar]:
    """Bytes that a chip sends in a step over the scale-up fabric and over the network, on average.

    The last stage hands nothing on, and the first nothing back; it alone has the head, with two
    collectives of its tensor group. Where replicas share the weights, these are gathered for the
    forward and for the backward pass of every micro-batch.
    """
    messages, groups = step.messages, Groups.of(step, design)
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
        (num_expert, groups.expert, "all_to_all", messages.expert_bytes),
        (num_expert, groups.tensor, "all_gather", messages.expert_gather_bytes),
        (1.0, groups.same_experts, "all_gather", expert_bytes),
    ]
    link_bytes, network_bytes = 0.0, 0.0
    for count, group, kind, size in parts:
        near, far = group.sent_bytes(kind, size)
        link_bytes, network_bytes = link_bytes + count * near, network_bytes + count * far
    return link_bytes, network_bytes


def _replica_bytes(step: ShardedStep, design: Design) -> tuple[Scalar, Scalar]:
    """Gathers and sums of a step: over all replicas, and over those with the same experts."""
    messages, parallelism = step.messages, design.parallelism
    cut, updated = parallelism.weight_shard_fraction, parallelism.optimizer_shard_fraction

    def in_a_step(weight_bytes: Scalar, gradient_bytes: Scalar) -> Scalar:
        if is_known(weight_bytes, 0.0):
            return weight_bytes
        update_bytes = _update_bytes(weight_bytes, gradient_bytes, updated)
        each = gradient_bytes + 2.0 * weight_bytes
        return (1.0 - cut) * (gradient_bytes + update_bytes) + cut * step.num_micro_batches * each

    shared = in_a_step(messages.weight_bytes, messages.gradient_bytes)
    return shared, in_a_step(messages.expert_weight_bytes, messages.expert_gradient_bytes)
