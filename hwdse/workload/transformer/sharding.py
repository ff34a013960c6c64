"""A workload under a parallel layout: what one chip computes, holds and sends in a step."""

from functools import singledispatch

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import num_tiles, scaled
from hwdse.specs.design import Parallelism
from hwdse.specs.results.evaluation_result import MemoryParts
from hwdse.specs.software import COMPILED, Software
from hwdse.workload.gemms import ExecutionCounts, Gemms, single_executions
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.transformer.decoder_layer import context_bytes
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    mixture_share,
    num_parameters,
)
from hwdse.workload.transformer.gemm_groups import LayerSharding, tokens_of
from hwdse.workload.transformer.micro_batch_gemms import layer_sharding, micro_batch_gemms
from hwdse.workload.transformer.mixture_of_experts import ExpertMessages, expert_messages
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.training_memory import (
    WEIGHT_BYTES,
    StageParameters,
    training_memory,
)


@flax.struct.dataclass
class Messages:
    """Bytes of the collectives of one chip: whole tensors, before an algorithm cuts them."""

    tensor_bytes: Leaf
    """Activations that one tensor-parallel all-gather or reduce-scatter assembles."""
    num_tensor_forward: Leaf
    """All-gathers and reduce-scatters of one layer's forward pass; an all-reduce is two."""
    num_tensor_backward: Leaf
    """Those of its backward pass, recomputed ones included."""
    context_bytes: Leaf
    """Keys and values that one layer gathers over its context group; as much backward, where
    their gradients are summed too."""
    expert_bytes: Leaf
    """What one chip sends to the experts of a layer, or back, for one micro-batch."""
    expert_gather_bytes: Leaf
    """What the ranks that cut an expert gather then, or sum up and scatter before."""
    num_expert: Leaf
    """All-to-alls of one layer, forward, backward and recomputed; its mean over all layers."""
    pipeline_bytes: Leaf
    """What one chip hands to the next stage for one micro-batch, one way."""
    gradient_bytes: Leaf
    """What the data-parallel reduce-scatter of a step sums, on one chip."""
    weight_bytes: Leaf
    """What the all-gather of updated weights assembles, on one chip."""
    expert_gradient_bytes: Leaf
    """The same of routed experts, which fewer ranks hold copies of, and below their weights."""
    expert_weight_bytes: Leaf
    layer_weight_bytes: Leaf
    """Weights of a mean layer on one tensor-parallel rank, and below their gradients: what is
    gathered and summed for every use where replicas share the weights."""
    layer_expert_bytes: Leaf
    """Weights of the layer's routed experts, which fewer ranks share."""
    layer_gradient_bytes: Leaf


@flax.struct.dataclass
class ShardedStep:
    """One step on one chip: `num_micro_batches` passes over `layers_per_stage` layers, a head."""

    gemms: Gemms
    """Rows of one layer, then those of the head."""
    executions: ExecutionCounts
    layers_per_stage: Leaf
    """Of the fullest stage; sets the time."""
    mean_layers_per_stage: Leaf
    """Sets work and energy."""
    pipeline: Leaf
    tensor: Leaf
    context: Leaf
    expert: Leaf
    data: Leaf
    replicas: Leaf
    """Ranks that hold the same weights: data- and context-parallel ones."""
    num_micro_batches: Leaf
    """Whole ones, the last of them perhaps not full."""
    full_micro_batches: Leaf
    """As many full ones as the batch makes."""
    messages: Messages
    memory: MemoryParts
    optimizer_flop: Leaf
    """Vector work of one chip's update, once a step."""
    optimizer_traffic_bytes: Leaf
    """HBM traffic of it: state read and written, gradients read, weights written."""
    checkpoint_bytes: Leaf
    """Saved state of the whole job."""
    tokens_per_step: Leaf


OPTIMIZER_FLOP = 11.0
"""Adam's elementwise work per parameter: Calculon v0.1.0, optimizer of calculon/llm/llm.py."""


@singledispatch
def shard(
    workload: TransformerTraining,
    parallelism: Parallelism,
    num_chips: Scalar,
    software: Software = COMPILED,
) -> ShardedStep:
    r"""What one chip does in a training step under five-way parallelism.

    Data-parallel degree $d = N / (t p c)$, micro-batches $B / (d b)$. With sequence parallelism
    the tensor-parallel ranks cut norms and residuals too (Korthikanti et al., arXiv 2205.05198).
    Replicas share the optimizer state, and if the layout says so gradients and weights (ZeRO,
    Rajbhandari et al., SC 2020). Saved state: 16-bit weights and the optimizer's tensors.
    """
    model, tensor, pipeline = workload.model, parallelism.tensor, parallelism.pipeline
    data = num_chips / (tensor * pipeline * parallelism.context)
    replicas = data * parallelism.context
    num_micro_batches = num_tiles(workload.global_batch, data * parallelism.micro_batch)
    sharding = layer_sharding(parallelism, software)
    gemms, executions = micro_batch_gemms(workload, sharding)
    parameters = StageParameters.of(model, parallelism, replicas)
    updated = parameters.per_replica(parallelism.optimizer_shard_fraction)
    state_bytes = workload.optimizer_state_bytes_per_parameter * updated
    moved = 2.0 * state_bytes + (workload.gradient_element_bytes + WEIGHT_BYTES) * updated
    return ShardedStep(
        gemms=gemms,
        executions=executions,
        layers_per_stage=num_tiles(model.num_layers, pipeline),
        mean_layers_per_stage=model.num_layers / pipeline,
        pipeline=pipeline,
        tensor=tensor,
        context=parallelism.context,
        expert=parallelism.expert,
        data=data,
        replicas=replicas,
        num_micro_batches=num_micro_batches,
        full_micro_batches=workload.global_batch / (data * parallelism.micro_batch),
        messages=_training_messages(workload, sharding, parameters),
        memory=training_memory(workload, parallelism, sharding, parameters, num_micro_batches),
        optimizer_flop=OPTIMIZER_FLOP * updated,
        optimizer_traffic_bytes=software.optimizer_traffic_ratio * moved,
        checkpoint_bytes=num_parameters(model)
        * (WEIGHT_BYTES + workload.optimizer_state_bytes_per_parameter),
        tokens_per_step=workload.seq_len * workload.global_batch,
    )


def _training_messages(
    job: TransformerTraining, sharding: LayerSharding, parameters: StageParameters
) -> Messages:
    """Messages of a chip with that many parameters.

    Two all-reduces forward and two backward, or with sequence parallelism 2 all-gathers and 2
    reduce-scatters forward, 4 and 2 backward (the inputs of the weight gradients are gathered
    again; Korthikanti et al., arXiv 2205.05198, section 4.2.2). Attention and MLP side by side
    share them (one norm a layer).
    """
    model = job.model
    sequence_bytes = ACTIVATION_BYTES * tokens_of(job, sharding) * model.hidden
    blocks = model.num_layer_norms / 2.0
    experts, held, held_of_layer = ExpertMessages(0.0, 0.0, 0.0), 0.0, 0.0
    if any(kind.is_mixture for kind in job.kinds):
        experts = expert_messages(job, sharding)
        held, held_of_layer = parameters.experts, parameters.layer_experts
    backward = 4.0 + 2.0 * sharding.sequence_parallel_fraction + 4.0 * sharding.recompute_fraction
    return Messages(
        tensor_bytes=sequence_bytes,
        num_tensor_forward=4.0 * blocks,
        num_tensor_backward=backward * blocks,
        context_bytes=context_bytes(job, sharding, job.kinds[0]),
        expert_bytes=experts.all_to_all_bytes,
        expert_gather_bytes=experts.gather_bytes,
        num_expert=scaled(experts.num_all_to_alls, mixture_share(model)),
        pipeline_bytes=sequence_bytes / sharding.sequence_shards,
        gradient_bytes=job.gradient_element_bytes * parameters.shared,
        weight_bytes=WEIGHT_BYTES * parameters.shared,
        expert_gradient_bytes=scaled(held, job.gradient_element_bytes),
        expert_weight_bytes=scaled(held, WEIGHT_BYTES),
        layer_weight_bytes=WEIGHT_BYTES * parameters.layer,
        layer_expert_bytes=scaled(held_of_layer, WEIGHT_BYTES),
        layer_gradient_bytes=job.gradient_element_bytes * parameters.layer,
    )


@shard.register
def _shard_layers(
    workload: LayerList,
    parallelism: Parallelism,
    num_chips: Scalar,
    software: Software = COMPILED,
) -> ShardedStep:
    """Every chip passes once over the layers, on inputs of its own; nothing is sent or saved."""
    gemms = jax.tree.map(jnp.asarray, workload.gemms)
    weights = jnp.sum(WEIGHT_BYTES * gemms.k * gemms.n * gemms.b_in_hbm)
    largest = jnp.max(ACTIVATION_BYTES * (gemms.m * gemms.k + gemms.m * gemms.n) * gemms.count)
    zero = 0.0 * num_chips
    one = zero + 1.0
    return ShardedStep(
        gemms=gemms,
        executions=single_executions(gemms.m.shape[0]),
        layers_per_stage=one,
        mean_layers_per_stage=one,
        pipeline=one,
        tensor=one,
        context=one,
        expert=one,
        data=one * num_chips,
        replicas=one * num_chips,
        num_micro_batches=one,
        full_micro_batches=one,
        messages=Messages(*[zero] * 15),
        memory=MemoryParts(weights, zero, zero, largest, zero),
        optimizer_flop=zero,
        optimizer_traffic_bytes=zero,
        checkpoint_bytes=zero,
        tokens_per_step=one * num_chips,
    )
