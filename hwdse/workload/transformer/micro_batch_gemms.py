"""What one rank computes for one micro-batch: rows of a layer and of the head, and their runs."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from hwdse.specs.design import Parallelism
from hwdse.specs.software import Software
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.decoder_layer import mean_layer_gemms
from hwdse.workload.transformer.dense_transformer import SOFTMAX_FLOP
from hwdse.workload.transformer.gemm_groups import (
    LayerSharding,
    linear_gemms,
    linear_group,
    stack_gemms,
    tokens_of,
)
from hwdse.workload.transformer.model_config import TransformerTraining

LOGIT_STREAMS = (4.0, 2.0)
"""Bytes that the loss moves for each logit, forward and backward."""


def _three(name: str) -> tuple[str, str, str]:
    return name, f"{name}_dx", f"{name}_dw"


GEMM_NAMES = (
    *(row for name in ("qkv", "out") for row in _three(name)),
    "scores",
    "values",
    *(row for name in ("up", "down", "head") for row in _three(name)),
)
"""Rows of a dense transformer: forward, gradient of the inputs (dx) and of the weights (dw) of
each matrix, attention, and last the vocabulary projection."""


def layer_sharding(parallelism: Parallelism, software: Software) -> LayerSharding:
    """How a layout cuts one layer. The tensor-parallel ranks cut each expert too."""
    return LayerSharding(
        micro_batch=parallelism.micro_batch,
        tensor=parallelism.tensor,
        context=parallelism.context,
        expert=parallelism.expert,
        expert_tensor=parallelism.tensor,
        sequence_parallel_fraction=parallelism.sequence_parallel_fraction,
        recompute_fraction=parallelism.recompute_fraction,
        attention_recompute_fraction=parallelism.attention_recompute_fraction,
        fused_attention_fraction=software.fused_attention_fraction,
    )


def lm_head_gemms(
    job: TransformerTraining, sharding: LayerSharding
) -> tuple[Gemms, ExecutionCounts]:
    """Vocabulary projection of one micro-batch on one rank of the last stage, with the loss."""
    tokens, width = tokens_of(job, sharding), job.model.vocabulary / sharding.tensor
    logits = tokens * width
    loss = (SOFTMAX_FLOP[0] * logits, SOFTMAX_FLOP[1] * logits)
    extra = (LOGIT_STREAMS[0] * logits, LOGIT_STREAMS[1] * logits)
    rows = linear_gemms(tokens, job.model.hidden, width, loss, extra)
    return stack_gemms([linear_group(rows, recompute=0.0)])


def micro_batch_gemms(
    job: TransformerTraining, sharding: LayerSharding
) -> tuple[Gemms, ExecutionCounts]:
    """Rows of the mean layer, then those of the head."""
    layer, layer_runs = stack_gemms(mean_layer_gemms(job, sharding))
    head, head_runs = lm_head_gemms(job, sharding)
    head_runs = replace(head_runs, is_lm_head=jnp.ones_like(head_runs.is_lm_head))

    def join(first: jax.Array, second: jax.Array) -> jax.Array:
        return jnp.concatenate([first, second], axis=-1)

    return jax.tree.map(join, layer, head), jax.tree.map(join, layer_runs, head_runs)
