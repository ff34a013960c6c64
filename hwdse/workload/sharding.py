"""A workload under a parallel layout: what one chip computes, holds and sends in a step."""

from functools import singledispatch

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics import num_tiles
from hwdse.shapes import Leaf, PerOp, Scalar
from hwdse.specs.design import Parallelism
from hwdse.specs.evaluation import HbmParts
from hwdse.workload.gemms import Gemms
from hwdse.workload.layers import LayerList
from hwdse.workload.transformer import (
    ACTIVATION_BYTES,
    LOGIT_BYTES,
    TransformerTraining,
    head_gemms,
    layer_activation_bytes,
    layer_gemms,
    num_parameters,
    stage_parameters,
)


@flax.struct.dataclass
class Messages:
    """Bytes of the collectives of one chip: whole tensors, before an algorithm cuts them."""

    tensor_bytes: Leaf
    """Activations that one tensor-parallel all-gather or reduce-scatter assembles."""
    num_tensor_gathers: Leaf
    """All-gathers of one layer and micro-batch, forward, backward and recomputed."""
    num_tensor_scatters: Leaf
    pipeline_bytes: Leaf
    """What one chip hands to the next stage for one micro-batch, one way."""
    gradient_bytes: Leaf
    """What the data-parallel reduce-scatter of a step sums, on one chip."""
    weight_bytes: Leaf
    """What the all-gather of updated weights assembles, on one chip."""


@flax.struct.dataclass
class ShardedStep:
    """One step on one chip: `num_micro_batches` passes over `layers_per_stage` layers, a head."""

    gemms: Gemms
    """Rows of one layer, then those of the head."""
    runs: PerOp
    """How often each row runs for one micro-batch (and layer), recomputing included."""
    useful_runs: PerOp
    """The same without recomputing and without copies of key-value heads; may be a fraction."""
    is_head: PerOp
    """1 for rows that run once on the last stage, 0 for rows of every layer."""
    layers_per_stage: Leaf
    """Of the fullest stage; sets the time."""
    mean_layers_per_stage: Leaf
    """Sets work and energy."""
    pipeline: Leaf
    tensor: Leaf
    data: Leaf
    num_micro_batches: Leaf
    """Whole ones, the last of them perhaps not full."""
    useful_micro_batches: Leaf
    """As many full ones as the batch makes."""
    messages: Messages
    held: HbmParts
    optimizer_flop: Leaf
    """Vector work of one chip's update, once a step."""
    optimizer_traffic_bytes: Leaf
    """HBM traffic of it: state read and written, gradients read, weights written."""
    checkpoint_bytes: Leaf
    """Saved state of the whole job."""
    tokens_per_step: Leaf


OPTIMIZER_FLOP = 11.0
"""Adam's elementwise work per parameter: Calculon v0.1.0, optimizer of calculon/llm/llm.py."""
WEIGHT_BYTES = 2.0


@singledispatch
def shard(workload: TransformerTraining, layout: Parallelism, num_chips: Scalar) -> ShardedStep:
    r"""What one chip does in a training step under tensor x pipeline x data parallelism.

    Data parallel degree $d = N / (t p)$, micro-batches $B / (d b)$. Sequence parallelism goes
    with tensor parallelism (Korthikanti et al., arXiv 2205.05198).
    1F1B keeps min(p, micro-batches) activations on the first stage. The optimizer state is cut
    over the replicas (ZeRO-1). Saved state: 16-bit weights and the optimizer's tensors.
    """
    model, tensor, pipeline = workload.model, layout.tensor, layout.pipeline
    data = num_chips / (tensor * pipeline)
    num_micro_batches = num_tiles(workload.global_batch, data * layout.micro_batch)
    layer, runs, useful = layer_gemms(
        workload, tensor, layout.micro_batch, layout.recompute_fraction
    )
    head = head_gemms(workload, tensor, layout.micro_batch)
    head_runs = jnp.ones_like(head.m)
    parameters = stage_parameters(model, tensor, pipeline)
    held_optimizer = workload.optimizer_bytes_per_parameter * parameters / data
    return ShardedStep(
        gemms=jax.tree.map(_joined, layer, head),
        runs=_joined(runs, head_runs),
        useful_runs=_joined(useful, head_runs),
        is_head=_joined(jnp.zeros_like(layer.m), head_runs),
        layers_per_stage=num_tiles(model.num_layers, pipeline),
        mean_layers_per_stage=model.num_layers / pipeline,
        pipeline=pipeline,
        tensor=tensor,
        data=data,
        num_micro_batches=num_micro_batches,
        useful_micro_batches=workload.global_batch / (data * layout.micro_batch),
        messages=_training_messages(workload, layout, parameters),
        held=HbmParts(
            weights=WEIGHT_BYTES * parameters,
            gradients=workload.gradient_bytes * parameters,
            optimizer=held_optimizer,
            activations=_held_activations(workload, layout, num_micro_batches),
        ),
        optimizer_flop=OPTIMIZER_FLOP * parameters / data,
        optimizer_traffic_bytes=2.0 * held_optimizer
        + (workload.gradient_bytes + WEIGHT_BYTES) * parameters / data,
        checkpoint_bytes=num_parameters(model)
        * (WEIGHT_BYTES + workload.optimizer_bytes_per_parameter),
        tokens_per_step=workload.seq_len * workload.global_batch,
    )


def _joined(first: Leaf, second: Leaf) -> jax.Array:
    """Rows of a layer and of the head; not of one length, so not `PerOp`."""
    return jnp.concatenate([first, second], axis=-1)


def _training_messages(
    job: TransformerTraining, layout: Parallelism, parameters: Scalar
) -> Messages:
    """Messages of a chip with that many parameters, under sequence parallelism.

    2 all-gathers and 2 reduce-scatters forward, 4 and 2 backward (the inputs of the weight
    gradients are gathered again; Korthikanti et al., arXiv 2205.05198, section 4.2.2).
    """
    sequence_bytes = ACTIVATION_BYTES * job.seq_len * layout.micro_batch * job.model.hidden
    forward = 1.0 + layout.recompute_fraction
    return Messages(
        tensor_bytes=sequence_bytes,
        num_tensor_gathers=2.0 * forward + 4.0,
        num_tensor_scatters=2.0 * forward + 2.0,
        pipeline_bytes=sequence_bytes / layout.tensor,
        gradient_bytes=job.gradient_bytes * parameters,
        weight_bytes=WEIGHT_BYTES * parameters,
    )


def _held_activations(
    job: TransformerTraining, layout: Parallelism, num_micro_batches: Scalar
) -> Scalar:
    """Activations of the fuller of the first stage (most micro-batches) and the last (logits)."""
    whole, recomputed = layer_activation_bytes(job, layout.tensor, layout.micro_batch)
    fraction = layout.recompute_fraction
    layers = num_tiles(job.model.num_layers, layout.pipeline)
    one_pass = layers * ((1.0 - fraction) * whole + fraction * recomputed)
    tokens = job.seq_len * layout.micro_batch
    logits = LOGIT_BYTES * tokens * job.model.vocabulary / layout.tensor
    first = jnp.minimum(num_micro_batches, layout.pipeline) * one_pass
    # While a recomputed layer runs backward, it stands in memory whole.
    return jnp.maximum(first, one_pass + logits) + fraction * whole


@shard.register
def _shard_layers(workload: LayerList, layout: Parallelism, num_chips: Scalar) -> ShardedStep:
    """Every chip passes once over the layers, on inputs of its own; nothing is sent or saved."""
    gemms = jax.tree.map(jnp.asarray, workload.gemms)
    weights = jnp.sum(WEIGHT_BYTES * gemms.k * gemms.n * gemms.b_in_hbm)
    largest = jnp.max(ACTIVATION_BYTES * (gemms.m * gemms.k + gemms.m * gemms.n) * gemms.count)
    zero = 0.0 * num_chips
    one = zero + 1.0
    return ShardedStep(
        gemms=gemms,
        runs=jnp.ones_like(gemms.m),
        useful_runs=jnp.ones_like(gemms.m),
        is_head=jnp.zeros_like(gemms.m),
        layers_per_stage=one,
        mean_layers_per_stage=one,
        pipeline=one,
        tensor=one,
        data=one * num_chips,
        num_micro_batches=one,
        useful_micro_batches=one,
        messages=Messages(zero, zero, zero, zero, zero, zero),
        held=HbmParts(weights, zero, zero, largest),
        optimizer_flop=zero,
        optimizer_traffic_bytes=zero,
        checkpoint_bytes=zero,
        tokens_per_step=one * num_chips,
    )
