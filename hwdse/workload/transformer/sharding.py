"""Work, memory footprint and messages of one chip per step, under a parallelism strategy."""

from functools import singledispatch

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import num_tiles, scaled
from hwdse.specs.design import Parallelism
from hwdse.specs.number_formats import WIDE, PrecisionMix
from hwdse.specs.results.evaluation_result import MemoryParts
from hwdse.specs.software import COMPILED, Software
from hwdse.workload.gemms import ExecutionCounts, Gemms, LayerList, single_executions
from hwdse.workload.loops.unrolled_inputs import input_words
from hwdse.workload.transformer.decoder_layer import context_bytes, mean_of_kinds
from hwdse.workload.transformer.dense_transformer import ACTIVATION_BYTES, num_parameters
from hwdse.workload.transformer.gemm_groups import LayerSharding, tokens_of
from hwdse.workload.transformer.layer_stacks import layer_stacks, slowest_stage_layers, stage_layers
from hwdse.workload.transformer.micro_batch_gemms import layer_sharding, micro_batch_gemms
from hwdse.workload.transformer.mixture_of_experts import ExpertMessages, mean_expert_messages
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining
from hwdse.workload.transformer.training_memory import (
    WEIGHT_BYTES,
    StageParameters,
    training_memory,
)


@struct.dataclass
class Messages:
    """Message sizes of the collectives of one chip: complete tensors, as in nccl-tests."""

    tensor_bytes: Leaf
    """Activations of one tensor-parallel all-gather or reduce-scatter."""
    num_tensor_forward: Leaf
    """All-gathers and reduce-scatters per layer and forward pass; an all-reduce counts as two."""
    num_tensor_backward: Leaf
    """All-gathers and reduce-scatters per layer and backward pass, recomputation included."""
    context_bytes: Leaf
    """Keys and values that one layer gathers over its context group. The backward pass gathers them
    again and reduces their gradients."""
    expert_bytes: Leaf
    """Tokens sent to the experts of a layer, or back, per chip and micro-batch."""
    expert_gather_bytes: Leaf
    """Tokens that the ranks sharding an expert gather after it, or reduce-scatter before it."""
    expert_copies: Leaf
    """Experts of each of these tokens."""
    num_expert: Leaf
    """All-to-alls per layer, mean over all layers: forward, backward and recomputed."""
    pipeline_bytes: Leaf
    """Activations sent to the next stage, per chip and micro-batch, in one direction."""
    gradient_bytes: Leaf
    """Gradients of the data-parallel reduce-scatter of a step, per chip."""
    weight_bytes: Leaf
    """Weights of the all-gather after the optimizer update, per chip."""
    expert_gradient_bytes: Leaf
    """Gradients of routed experts, which have fewer replicas."""
    expert_weight_bytes: Leaf
    """Weights of routed experts, which have fewer replicas."""
    layer_weight_bytes: Leaf
    """Weights of the mean layer on one tensor-parallel rank, gathered for every use with ZeRO stage
    3."""
    layer_expert_bytes: Leaf
    """Weights of the routed experts of the mean layer, which have fewer replicas."""
    layer_gradient_bytes: Leaf
    """Gradients of the mean layer on one tensor-parallel rank."""


@struct.dataclass
class ShardedStep:
    """One step on one chip: `num_micro_batches` passes over `layers_per_stage` layers and an LM
    head."""

    gemms: Gemms
    """GEMM operators of one layer, then those of the LM head."""
    executions: ExecutionCounts
    """Executions of these operators per micro-batch."""
    layers_per_stage: Leaf
    """Layers of the slowest stage, in mean layers of the model, which determine the time."""
    last_stage_slack: Leaf
    """Layers that the last stage, which has the LM head, has less than the largest one."""
    mean_layers_per_stage: Leaf
    """Mean layers per stage, which determine work and energy."""
    pipeline: Leaf
    """Pipeline-parallel degree."""
    tensor: Leaf
    """Tensor-parallel degree."""
    context: Leaf
    """Context-parallel degree."""
    expert: Leaf
    """Expert-parallel degree."""
    expert_tensor: Leaf
    """Ranks that shard each expert."""
    data: Leaf
    """Data-parallel degree."""
    replicas: Leaf
    """Ranks with the same weights: data- and context-parallel ranks."""
    num_micro_batches: Leaf
    """Micro-batches per replica, an integer; the last one may be partly filled."""
    full_micro_batches: Leaf
    """Global batch in full micro-batches per replica; may be fractional."""
    messages: Messages
    """Message sizes of the collectives."""
    memory: MemoryParts
    """Peak HBM footprint by kind of tensor."""
    optimizer_flop: Leaf
    """Vector FLOP of the optimizer update per chip and step."""
    optimizer_traffic_bytes: Leaf
    """HBM traffic of the update: state read and written, gradients read, weights written."""
    checkpoint_bytes: Leaf
    """Checkpoint size of the job."""
    tokens_per_step: Leaf
    """Tokens per step of the job."""


OPTIMIZER_FLOP = 11.0
"""Elementwise FLOP per parameter of Adam: Calculon v0.1.0, optimizer of calculon/llm/llm.py."""


@singledispatch
def shard(
    workload: TransformerTraining,
    parallelism: Parallelism,
    num_chips: Scalar,
    software: Software = COMPILED,
    mix: PrecisionMix = WIDE,
) -> ShardedStep:
    r"""Work of one chip per training step under TP, CP, EP, DP and PP.

    Data-parallel degree $d = N / (t p c)$, micro-batches $B / (d b)$. With sequence parallelism
    the tensor-parallel ranks also shard norms and residuals (Korthikanti et al., arXiv 2205.05198).
    Replicas shard the optimizer state, gradients and weights as the strategy specifies (ZeRO,
    Rajbhandari et al., SC 2020). Checkpoint: 16-bit weights and the optimizer state.
    """
    model, tensor, pipeline = workload.model, parallelism.tensor, parallelism.pipeline
    data = num_chips / (tensor * pipeline * parallelism.context)
    replicas = data * parallelism.context
    num_micro_batches = num_tiles(workload.global_batch, data * parallelism.micro_batch)
    sharding = layer_sharding(parallelism, software, mix)
    stages = stage_layers(model, parallelism)
    gemms, executions, layer_macs = micro_batch_gemms(workload, sharding)
    parameters = StageParameters.of(model, parallelism, replicas)
    updated = workload.trainable_fraction * parameters.per_replica(
        parallelism.optimizer_shard_fraction
    )
    state_bytes = workload.optimizer_state_bytes_per_parameter * updated
    traffic_bytes = 2.0 * state_bytes + (workload.gradient_element_bytes + WEIGHT_BYTES) * updated
    return ShardedStep(
        gemms=gemms,
        executions=executions,
        layers_per_stage=slowest_stage_layers(model, layer_stacks(model), layer_macs, stages.most),
        last_stage_slack=0.0 if stages.last is stages.middle else stages.most - stages.last,
        mean_layers_per_stage=model.num_layers / pipeline,
        pipeline=pipeline,
        tensor=tensor,
        context=parallelism.context,
        expert=parallelism.expert,
        expert_tensor=parallelism.expert_shards,
        data=data,
        replicas=replicas,
        num_micro_batches=num_micro_batches,
        full_micro_batches=workload.global_batch / (data * parallelism.micro_batch),
        messages=_training_messages(
            workload, sharding, parameters, parallelism.weight_shard_fraction
        ),
        memory=training_memory(workload, parallelism, sharding, parameters, num_micro_batches),
        optimizer_flop=OPTIMIZER_FLOP * updated,
        optimizer_traffic_bytes=software.optimizer_traffic_ratio * traffic_bytes,
        checkpoint_bytes=workload.trainable_fraction
        * num_parameters(model)
        * (WEIGHT_BYTES + workload.optimizer_state_bytes_per_parameter),
        tokens_per_step=workload.seq_len * workload.global_batch,
    )


def _training_messages(
    job: TransformerTraining,
    sharding: LayerSharding,
    parameters: StageParameters,
    weight_shard: Scalar,
) -> Messages:
    """Messages of a chip with the given parameters.

    Tensor parallelism: two all-reduces forward and two backward. With sequence parallelism: 2
    all-gathers and 2 reduce-scatters forward, 4 and 2 backward, since the inputs of the weight
    gradients are gathered again (Korthikanti et al., arXiv 2205.05198, section 4.2.2). Parallel
    attention and MLP share them (one norm per layer). Norms after attention and MLP (Gemma) add
    none. Replicas gather all weights of ZeRO stage 3 (`weight_shard` of them), else the trained
    ones.
    """
    model = job.model
    sequence_bytes = ACTIVATION_BYTES * tokens_of(job, sharding) * model.hidden
    blocks = mean_of_kinds(job, lambda part, _: _tensor_parallel_blocks(part.model))
    experts, stage_experts, layer_experts = ExpertMessages(0.0, 0.0, 0.0, 0.0), 0.0, 0.0
    if any(kind.is_mixture for kinds in model.kinds for kind in kinds):
        experts = mean_expert_messages(job, sharding)
        stage_experts, layer_experts = parameters.experts, parameters.layer_experts
    gradient_bytes = job.trainable_fraction * job.gradient_element_bytes
    weight_bytes = WEIGHT_BYTES * (weight_shard + (1.0 - weight_shard) * job.trainable_fraction)
    backward = 4.0 + 2.0 * sharding.sequence_parallel_fraction + 4.0 * sharding.recompute_fraction
    return Messages(
        tensor_bytes=sequence_bytes,
        num_tensor_forward=4.0 * blocks,
        num_tensor_backward=backward * blocks,
        context_bytes=mean_of_kinds(job, lambda part, kind: context_bytes(part, sharding, kind)),
        expert_bytes=experts.all_to_all_bytes,
        expert_gather_bytes=experts.gather_bytes,
        expert_copies=experts.copies,
        num_expert=experts.num_all_to_alls,
        pipeline_bytes=sequence_bytes / sharding.sequence_shards,
        gradient_bytes=gradient_bytes * parameters.shared,
        weight_bytes=weight_bytes * parameters.shared,
        expert_gradient_bytes=scaled(stage_experts, gradient_bytes),
        expert_weight_bytes=scaled(stage_experts, weight_bytes),
        layer_weight_bytes=WEIGHT_BYTES * parameters.layer,
        layer_expert_bytes=scaled(layer_experts, WEIGHT_BYTES),
        layer_gradient_bytes=gradient_bytes * parameters.layer,
    )


def _tensor_parallel_blocks(model: Transformer) -> Scalar:
    """Pairs of a gather and a scatter per pass over a layer, in halves of two: attention and MLP.

    1, or 1/2 for parallel attention and MLP, which have one norm.
    """
    return jnp.minimum(model.num_layer_norms, 2.0) / 2.0


@shard.register
def _shard_layers(
    workload: LayerList,
    parallelism: Parallelism,
    num_chips: Scalar,
    software: Software = COMPILED,
    mix: PrecisionMix = WIDE,
) -> ShardedStep:
    """One pass over the layers per chip, on its own inputs, without messages or checkpoints."""
    gemms = jax.tree.map(jnp.asarray, workload.gemms)
    weights = jnp.sum(WEIGHT_BYTES * gemms.k * gemms.n * gemms.b_in_hbm * gemms.count)
    inputs = input_words(gemms, gemms.m)
    largest = jnp.max(ACTIVATION_BYTES * (inputs + gemms.m * gemms.n) * gemms.count)
    zero = 0.0 * num_chips
    one = zero + 1.0
    return ShardedStep(
        gemms=gemms,
        executions=single_executions(gemms.m.shape[0]),
        layers_per_stage=one,
        last_stage_slack=0.0,
        mean_layers_per_stage=one,
        pipeline=one,
        tensor=one,
        context=one,
        expert=one,
        expert_tensor=one,
        data=one * num_chips,
        replicas=one * num_chips,
        num_micro_batches=one,
        full_micro_batches=one,
        messages=Messages(*[zero] * 16),
        memory=MemoryParts(weights, zero, zero, largest, zero),
        optimizer_flop=zero,
        optimizer_traffic_bytes=zero,
        checkpoint_bytes=zero,
        tokens_per_step=one * num_chips,
    )
