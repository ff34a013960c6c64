"""Peak HBM footprint of training on a chip of the most loaded stage, by kind of tensor."""

import functools

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.design import Parallelism
from hwdse.specs.results.evaluation_result import MemoryParts
from hwdse.workload.transformer.decoder_layer import (
    mean_kept_bytes,
    mean_of_kinds,
    score_bytes,
)
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    routed_parameters,
    stack_parameters,
    stage_parameters,
)
from hwdse.workload.transformer.gemm_groups import LayerSharding, tokens_of
from hwdse.workload.transformer.layer_stacks import layer_stacks, mean_over_layers, stage_layers
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining
from hwdse.workload.transformer.state_space import state_slice

WEIGHT_BYTES = 2.0
"""Bytes per 16-bit weight."""
SUM_BYTES = 4.0
"""Bytes per element of a weight gradient, accumulated in FP32."""
LOGIT_BYTES = 4.0
"""Bytes per FP32 logit, overwritten by its gradient."""


def num_shards(is_sharded: Scalar, ranks: Scalar) -> Scalar:
    """Shards of a tensor: `ranks` if it is sharded, otherwise 1."""
    return 1.0 + is_sharded * (ranks - 1.0)


@struct.dataclass
class StageParameters:
    """Parameters on one rank of the most loaded stage, by their number of replicas."""

    shared: Leaf
    """Parameters without routed experts, on `replicas` ranks."""
    experts: Leaf
    """Routed expert parameters, on `expert_replicas` ranks."""
    layer: Leaf
    """Parameters of the mean layer, without routed experts."""
    layer_experts: Leaf
    """Routed expert parameters of the mean layer."""
    replicas: Leaf
    """Ranks with the same weights, without routed experts."""
    expert_replicas: Leaf
    """Ranks with the same routed experts."""

    @classmethod
    def of(
        cls, model: Transformer, parallelism: Parallelism, replicas: Scalar
    ) -> "StageParameters":
        """Stage parameters under a parallelism strategy.

        DualPipe has each stage on two ranks, and two stages on each rank.
        """
        tensor, pipeline, expert = parallelism.tensor, parallelism.pipeline, parallelism.expert
        shards = parallelism.expert_shards
        most = stage_layers(model, parallelism).most
        stage, experts = stage_parameters(model, tensor, pipeline, expert, shards, most)
        stacks = layer_stacks(model)
        each = tuple(stack_parameters(stack, tensor, expert, shards) for stack in stacks)
        routed = tuple(routed_parameters(stack, expert, shards) for stack in stacks)
        layer = mean_over_layers(model, stacks, each)
        layer_experts = mean_over_layers(model, stacks, routed)
        copies = jnp.maximum(replicas * tensor / (expert * shards), 1.0)
        held = 1.0 + parallelism.dual_pipe_fraction
        return cls(
            held * (stage - experts),
            held * experts,
            layer - layer_experts,
            layer_experts,
            held * replicas,
            held * copies,
        )

    def per_replica(self, is_sharded: Scalar) -> Scalar:
        """Parameters per rank of a tensor that is sharded over the replicas, or replicated."""
        shared = self.shared / num_shards(is_sharded, self.replicas)
        return shared + self.experts / num_shards(is_sharded, self.expert_replicas)


def _working_bytes(job: TransformerTraining, sharding: LayerSharding) -> tuple[Scalar, Scalar]:
    """Backward buffers of the largest GEMM of a layer, and of the LM head.

    Both include the FP32 gradient of the weight matrix before accumulation. Activation gradients of
    the layer: inner elements of the MLP and one hidden state. Of the head: FP32 logits of one tile
    of tokens, and two hidden states.
    """
    model, tokens = job.model, tokens_of(job, sharding)
    stacks = layer_stacks(model)
    widths = [
        (stack.model.num_mlp_matrices - 1.0) * stack.model.feedforward / sharding.tensor
        for stack in stacks
    ]
    widths += [
        state_slice(stack.model, sharding.tensor).projected
        for stack in stacks
        if stack.kind.has_state
    ]
    inner = functools.reduce(jnp.maximum, widths)
    vocabulary = model.vocabulary / sharding.tensor
    hidden_bytes = ACTIVATION_BYTES * tokens * model.hidden
    layer = SUM_BYTES * model.hidden * inner + ACTIVATION_BYTES * tokens * inner + hidden_bytes
    logit_bytes = LOGIT_BYTES * tokens / sharding.num_loss_tiles * vocabulary
    head = SUM_BYTES * model.hidden * vocabulary + logit_bytes
    return layer, head + 2.0 * hidden_bytes


def _peak_activations(
    job: TransformerTraining,
    parallelism: Parallelism,
    sharding: LayerSharding,
    num_micro_batches: Scalar,
) -> tuple[Scalar, Scalar]:
    r"""Activations and buffers of the more loaded of the first and last stages.

    The first stage has the most micro-batches, the last stage the LM head. 1F1B keeps
    $\min(p, m)$ micro-batches on the first stage, one less on the second; with v virtual stages per
    stage $1 + (p - 1) / (p v)$ times as many (Narayanan et al., SC 2021; Korthikanti et al.,
    4.2.3). Layers that do not fill the virtual stages leave the first stage short, beside its
    embedding: the second then holds the most, $2 / (p v)$ less. ZB-H1 keeps as many on the last
    stage as on the first, since weight gradients wait with their inputs (Qi et al., arXiv
    2401.10241, section 2.1). DualPipe keeps $\min(p + 1, m)$ on every rank (DeepSeek-V3, arXiv
    2412.19437, table 2).
    """
    full, recomputed = mean_kept_bytes(job, sharding)
    scores = mean_of_kinds(job, lambda part, _: score_bytes(part, sharding))
    recompute = parallelism.recompute_fraction
    core_recompute = parallelism.attention_recompute_fraction
    layers = stage_layers(job.model, parallelism)
    kept = (1.0 - recompute - core_recompute) * scores + (1.0 - recompute) * full
    one_layer = (1.0 - parallelism.offload_fraction) * (kept + recompute * recomputed)
    stages, chunks = parallelism.pipeline, parallelism.pipeline * parallelism.virtual_pipeline
    is_short = jnp.where(layers.middle * stages > job.model.num_layers, 1.0, 0.0)
    virtual = 1.0 + (stages - 1.0 - 2.0 * is_short) / chunks
    virtual = jnp.where(parallelism.virtual_pipeline > 1.0, virtual, 1.0)
    dual_pipe = parallelism.dual_pipe_fraction
    held = jnp.minimum(num_micro_batches, stages + dual_pipe)
    first = held * virtual * layers.first * one_layer
    if layers.first is not layers.middle:
        second = jnp.minimum(num_micro_batches, stages - 1.0) * layers.middle * one_layer
        first = jnp.maximum(first, second)
    held_by_last = 1.0 + (parallelism.zero_bubble_fraction + dual_pipe) * (held - 1.0)
    last = held_by_last * layers.last * one_layer
    layer_buffers, head_buffers = _working_bytes(job, sharding)
    # The backward pass of a recomputed layer needs all of its activations.
    running = recompute * (full + scores) + core_recompute * scores
    is_first = first + running + layer_buffers >= last + head_buffers
    activations = jnp.where(is_first, first + running, last)
    return activations, jnp.where(is_first, layer_buffers, head_buffers)


def _weight_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes per stored weight: 16 bits if it is trained, the format of saved inputs if frozen."""
    trained = job.trainable_fraction
    return trained * WEIGHT_BYTES + (1.0 - trained) * sharding.kept_input_bytes


def training_memory(
    job: TransformerTraining,
    parallelism: Parallelism,
    sharding: LayerSharding,
    parameters: StageParameters,
    num_micro_batches: Scalar,
) -> MemoryParts:
    """Peak HBM footprint of a chip of the most loaded stage, by kind of tensor.

    With sharded weights (ZeRO stage 3) two layers are gathered at a time: the executed layer and
    the next one. Frozen weights are stored in the format of their GEMMs as far as the stack saves
    inputs in it. Recomputed modules of one layer, which exist twice for a moment, are left out.
    """
    gathered = (
        2.0 * parallelism.weight_shard_fraction * (parameters.layer + parameters.layer_experts)
    )
    gradient_sharding = jnp.maximum(
        parallelism.gradient_shard_fraction, parallelism.weight_shard_fraction
    )
    state = parameters.per_replica(parallelism.optimizer_shard_fraction)
    activations, buffers = _peak_activations(job, parallelism, sharding, num_micro_batches)
    return MemoryParts(
        weights=_weight_bytes(job, sharding)
        * parameters.per_replica(parallelism.weight_shard_fraction),
        gradients=job.trainable_fraction
        * job.gradient_element_bytes
        * parameters.per_replica(gradient_sharding),
        optimizer=job.trainable_fraction * job.optimizer_state_bytes_per_parameter * state,
        activations=activations,
        buffers=buffers + WEIGHT_BYTES * gathered,
    )
