"""GEMM operators of one micro-batch on one rank: mean layer and LM head, with their executions."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.design import Parallelism
from hwdse.specs.number_formats import FORMATS, WIDE, PrecisionMix
from hwdse.specs.software import Software
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.decoder_layer import mean_layer_gemms
from hwdse.workload.transformer.dense_transformer import ACTIVATION_BYTES, SOFTMAX_FLOP
from hwdse.workload.transformer.gemm_groups import (
    CORE_NAMES,
    LayerSharding,
    linear_gemms,
    linear_group,
    linear_names,
    stack_gemms,
    tokens_of,
    trained_group,
)
from hwdse.workload.transformer.model_config import TransformerTraining

LOGIT_STREAMS = (4.0, 2.0)
"""HBM bytes of the loss per logit, forward and backward."""


GEMM_NAMES = (
    *(*linear_names("qkv"), *linear_names("out"), *CORE_NAMES),
    *(*linear_names("up"), *linear_names("down"), *linear_names("head")),
)
"""GEMM operators of a dense transformer: forward, input gradient (dx) and weight gradient (dw) of
each matrix, attention, and the vocabulary projection (LM head) last."""


def gemm_names(job: TransformerTraining) -> tuple[str, ...]:
    """Names of the operators of `micro_batch_gemms`, as `GEMM_NAMES` for any kinds of layers.

    Operators that differ between entries of `[[layers]]` end with the number of the entry.
    """
    groups, _ = mean_layer_gemms(job, LayerSharding())
    return (*(name for group in groups for name in group.names), *linear_names("head"))


LOW_BYTES = {
    "fp8_flop_fraction": FORMATS["fp8_e4m3"].stored_bits / 8.0,
    "fp4_flop_fraction": FORMATS["nvfp4_e2m1"].stored_bits / 8.0,
}
"""Bytes per saved element by the field of `PrecisionMix` whose GEMMs use it."""


def layer_sharding(
    parallelism: Parallelism, software: Software, mix: PrecisionMix = WIDE
) -> LayerSharding:
    """Sharding of one layer under a parallelism strategy.

    Inputs of low-precision GEMMs are saved in that format as far as the stack does so.
    """
    low = [(getattr(mix, name), size) for name, size in LOW_BYTES.items()]
    kept = software.low_precision_kept_fraction
    saved_bytes = kept * sum(share * (ACTIVATION_BYTES - size) for share, size in low)
    return LayerSharding(
        micro_batch=parallelism.micro_batch,
        tensor=parallelism.tensor,
        context=parallelism.context,
        expert=parallelism.expert,
        expert_tensor=parallelism.expert_shards,
        sequence_parallel_fraction=parallelism.sequence_parallel_fraction,
        recompute_fraction=parallelism.recompute_fraction,
        attention_recompute_fraction=parallelism.attention_recompute_fraction,
        fused_attention_fraction=software.fused_attention_fraction,
        norm_recompute_fraction=parallelism.norm_recompute_fraction,
        activation_recompute_fraction=parallelism.activation_recompute_fraction,
        mlp_recompute_fraction=parallelism.mlp_recompute_fraction,
        projection_recompute_fraction=parallelism.projection_recompute_fraction,
        kept_input_bytes=ACTIVATION_BYTES - saved_bytes,
        kept_copy_bytes=kept * sum(share * size for share, size in low),
        output_recompute_fraction=parallelism.output_recompute_fraction,
        activation_input_bytes=software.activation_input_bytes,
        expert_output_kept_fraction=software.expert_output_kept_fraction,
        num_loss_tiles=software.num_loss_tiles,
    )


def lm_head_gemms(
    job: TransformerTraining, sharding: LayerSharding
) -> tuple[Gemms, ExecutionCounts]:
    """Vocabulary projection with the loss, per micro-batch, on one rank of the last stage.

    It runs once per predicted token.
    """
    tokens, width = tokens_of(job, sharding), job.model.vocabulary / sharding.tensor
    logits = tokens * width
    loss = (SOFTMAX_FLOP[0] * logits, SOFTMAX_FLOP[1] * logits)
    extra = (LOGIT_STREAMS[0] * logits, LOGIT_STREAMS[1] * logits)
    gemms = linear_gemms(tokens, job.model.hidden, width, loss, extra)
    head = trained_group(linear_group("head", gemms, recompute=0.0), job.trainable_fraction)
    return stack_gemms([head.scaled(job.model.num_predicted_tokens)])


def micro_batch_gemms(
    job: TransformerTraining, sharding: LayerSharding
) -> tuple[Gemms, ExecutionCounts, tuple[Scalar, ...]]:
    """GEMM operators of the mean layer, then those of the LM head, with their executions.

    Third value: multiply-accumulates per layer of each kind.
    """
    groups, layer_macs = mean_layer_gemms(job, sharding)
    layer, layer_executions = stack_gemms(groups)
    head, head_executions = lm_head_gemms(job, sharding)
    is_lm_head = jnp.ones_like(head_executions.is_lm_head)
    head_executions = replace(head_executions, is_lm_head=is_lm_head)

    def join(first: jax.Array, second: jax.Array) -> jax.Array:
        return jnp.concatenate([first, second], axis=-1)

    executions = jax.tree.map(join, layer_executions, head_executions)
    return jax.tree.map(join, layer, head), executions, layer_macs
