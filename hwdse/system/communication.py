"""Collectives of a training step on the fabric: how long each takes alone, what a chip sends."""

from dataclasses import dataclass, replace

import flax.struct
import jax.numpy as jnp

from hwdse.shapes import Leaf, Scalar
from hwdse.specs.design import Design
from hwdse.system import fabric
from hwdse.workload.sharding import Messages, ShardedStep


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
class Group:
    """Ranks of one kind of collective; groups lie side by side from the inside out: tensor,
    context, data, pipeline."""

    num_chips: Scalar
    inner_chips: Scalar
    design: Design

    def time_s(self, kind: str, message_bytes: Scalar) -> Scalar:
        """Seconds of one collective. A group known to be one chip is not traced at all."""
        if is_known(self.num_chips, 1.0):
            return 0.0 * message_bytes
        return fabric.collective_time_s(
            kind,
            message_bytes,
            self.num_chips,
            self.inner_chips,
            self.design.chip,
            self.design.cluster,
        )

    def sent_bytes(self, kind: str, message_bytes: Scalar) -> tuple[Scalar, Scalar]:
        """What a chip sends in it over the scale-up fabric and over the network."""
        if is_known(self.num_chips, 1.0):
            return 0.0 * message_bytes, 0.0 * message_bytes
        return fabric.collective_bytes(
            kind,
            message_bytes,
            self.num_chips,
            self.inner_chips,
            self.design.chip,
            self.design.cluster,
        )


def is_known(value: Leaf, number: float) -> bool:
    """Whether a leaf is that number already before tracing."""
    return isinstance(value, int | float) and value == number


@dataclass(frozen=True)
class Groups:
    """The groups of a layout."""

    tensor: Group
    context: Group
    expert: Group
    replicas: Group
    """Ranks that hold the same weights but routed experts."""
    same_experts: Group
    pipeline: Group

    @classmethod
    def of(cls, step: ShardedStep, design: Design) -> "Groups":
        """Expert groups are neighbors among the replicas; those with the same experts lie beyond
        them. Sizes that the layout gives as plain numbers are kept as they are."""
        layout = design.parallelism
        copies = jnp.maximum(step.replicas / step.expert, 1.0)
        return cls(
            Group(layout.tensor, 1.0, design),
            Group(layout.context, step.tensor, design),
            Group(layout.expert, step.tensor, design),
            Group(step.replicas, step.tensor, design),
            Group(copies, step.tensor * step.expert, design),
            Group(layout.pipeline, step.tensor * step.replicas, design),
        )


def collectives(step: ShardedStep, design: Design) -> Collectives:
    """Every collective that the layout needs, alone on its links.

    A reduce-scatter takes as long as the all-gather of the same bytes.
    """
    messages, groups, cut = (
        step.messages,
        Groups.of(step, design),
        design.parallelism.weight_cut_fraction,
    )
    gather_s, reduce_s = (0.0, 0.0) if is_known(cut, 1.0) else _once_a_step(step, groups, design)
    weights_s = (0.0,) * 4 if is_known(cut, 0.0) else _for_each_use(step, design)
    return Collectives(
        tensor_s=groups.tensor.time_s("all_gather", messages.tensor_bytes),
        context_s=groups.context.time_s("all_gather", messages.context_bytes),
        expert_s=_exchange_s(messages, groups),
        send_s=groups.pipeline.time_s("point_to_point", messages.pipeline_bytes),
        layer_gather_s=cut * weights_s[0],
        layer_reduce_s=cut * weights_s[1],
        head_gather_s=cut * weights_s[2],
        head_reduce_s=cut * weights_s[3],
        reduce_s=(1.0 - cut) * reduce_s,
        update_gather_s=(1.0 - cut) * gather_s,
    )


def _exchange_s(messages: Messages, groups: Groups) -> Scalar:
    """All-to-all of tokens, and bringing those of a cut expert together."""
    if is_known(messages.num_expert, 0.0):
        return 0.0 * messages.tensor_bytes
    return groups.expert.time_s("all_to_all", messages.expert_bytes) + groups.tensor.time_s(
        "all_gather", messages.expert_gather_bytes
    )


def _once_a_step(step: ShardedStep, groups: Groups, design: Design) -> tuple[Scalar, Scalar]:
    """Gather of updated weights (or of the sums, where all update) and gradient sums."""
    messages, updated = step.messages, design.parallelism.optimizer_cut_fraction

    def both_s(shared_bytes: Scalar, expert_bytes: Scalar) -> Scalar:
        shared_s = groups.replicas.time_s("all_gather", shared_bytes)
        if is_known(messages.expert_bytes, 0.0):
            return shared_s
        return shared_s + groups.same_experts.time_s("all_gather", expert_bytes)

    def updates(weight_bytes: Scalar, gradient_bytes: Scalar) -> Scalar:
        return updated * weight_bytes + (1.0 - updated) * gradient_bytes

    gather_s = both_s(
        updates(messages.weight_bytes, messages.gradient_bytes),
        updates(messages.expert_weight_bytes, messages.expert_gradient_bytes),
    )
    return gather_s, both_s(messages.gradient_bytes, messages.expert_gradient_bytes)


def _for_each_use(step: ShardedStep, design: Design) -> tuple[Scalar, ...]:
    """Gathers of a layer's weights, sums of its gradients, and both of the head."""
    messages, software = step.messages, design.software
    network = design.chip.network
    rate = software.gather_network_fraction * network.bandwidth_bytes_per_s
    chip = replace(design.chip, network=replace(network, bandwidth_bytes_per_s=rate))
    groups, num = Groups.of(step, replace(design, chip=chip)), software.num_layer_messages
    head_share = step.layers_per_stage * messages.layer_weight_bytes
    head_bytes = jnp.maximum(messages.weight_bytes - head_share, 0.0)
    # A list of layers holds no weights: one byte at least, for a finite ratio.
    gradient_ratio = messages.layer_gradient_bytes / jnp.maximum(messages.layer_weight_bytes, 1.0)

    def layer_s(ratio: Scalar) -> Scalar:
        shared_s = groups.replicas.time_s("all_gather", ratio * messages.layer_weight_bytes / num)
        if is_known(messages.expert_bytes, 0.0):
            return num * shared_s
        experts_s = groups.same_experts.time_s("all_gather", ratio * messages.layer_expert_bytes)
        return num * shared_s + experts_s

    return (
        layer_s(1.0),
        layer_s(gradient_ratio),
        groups.replicas.time_s("all_gather", head_bytes),
        groups.replicas.time_s("all_gather", gradient_ratio * head_bytes),
    )


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
    shared_bytes, expert_bytes = _replica_bytes(step, design)
    parts = [
        (num_tensor, groups.tensor, "all_gather", messages.tensor_bytes),
        (num_context, groups.context, "all_gather", messages.context_bytes),
        (1.0, groups.replicas, "all_gather", shared_bytes),
        (num_sends, groups.pipeline, "point_to_point", messages.pipeline_bytes),
    ]
    if not is_known(messages.num_expert, 0.0):
        num_expert = num_layers * messages.num_expert
        parts += [
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
    messages, layout = step.messages, design.parallelism
    cut, updated = layout.weight_cut_fraction, layout.optimizer_cut_fraction

    def in_a_step(weight_bytes: Scalar, gradient_bytes: Scalar) -> Scalar:
        update_bytes = updated * weight_bytes + (1.0 - updated) * gradient_bytes
        each = gradient_bytes + 2.0 * weight_bytes
        return (1.0 - cut) * (gradient_bytes + update_bytes) + cut * step.num_micro_batches * each

    shared = in_a_step(messages.weight_bytes, messages.gradient_bytes)
    return shared, in_a_step(messages.expert_weight_bytes, messages.expert_gradient_bytes)
