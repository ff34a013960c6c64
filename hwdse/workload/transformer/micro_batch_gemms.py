"""What one rank computes for one micro-batch: rows of a layer and of the head, and their runs."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from hwdse.specs.design import Parallelism
from hwdse.specs.software import Software
from hwdse.workload.gemms import Gemms, Runs
from hwdse.workload.transformer.decoder_layer import mean_layer_parts
from hwdse.workload.transformer.dense_transformer import SOFTMAX_FLOP
from hwdse.workload.transformer.gemm_groups import (
    LayerCut,
    rows_of,
    tokens_of,
    weight_part,
    weight_rows,
)
from hwdse.workload.transformer.model_config import TransformerTraining

LOGIT_STREAMS = (4.0, 2.0)
"""Bytes that the loss moves for each logit, forward and backward."""


def _three(name: str) -> tuple[str, str, str]:
    return name, f"{name}_dx", f"{name}_dw"


ROW_NAMES = (
    *(row for name in ("qkv", "out") for row in _three(name)),
    "scores",
    "values",
    *(row for name in ("up", "down", "head") for row in _three(name)),
)
"""Rows of a dense transformer: forward, gradient of the inputs (dx) and of the weights (dw) of
each matrix, attention, and last the vocabulary projection."""


def cut_of(layout: Parallelism, software: Software) -> LayerCut:
    """How a layout cuts one layer. The tensor-parallel ranks cut each expert too."""
    return LayerCut(
        micro_batch=layout.micro_batch,
        tensor=layout.tensor,
        context=layout.context,
        expert=layout.expert,
        expert_tensor=layout.tensor,
        sequence_fraction=layout.sequence_fraction,
        recompute_fraction=layout.recompute_fraction,
        attention_recompute_fraction=layout.attention_recompute_fraction,
        fused_attention_fraction=software.fused_attention_fraction,
    )


def head_rows(job: TransformerTraining, cut: LayerCut) -> tuple[Gemms, Runs]:
    """Vocabulary projection of one micro-batch on one rank of the last stage, with the loss."""
    tokens, width = tokens_of(job, cut), job.model.vocabulary / cut.tensor
    logits = tokens * width
    loss = (SOFTMAX_FLOP[0] * logits, SOFTMAX_FLOP[1] * logits)
    extra = (LOGIT_STREAMS[0] * logits, LOGIT_STREAMS[1] * logits)
    rows = weight_rows(tokens, job.model.hidden, width, loss, extra)
    return rows_of([weight_part(rows, again=0.0)])


def micro_batch_rows(job: TransformerTraining, cut: LayerCut) -> tuple[Gemms, Runs]:
    """Rows of the mean layer, then those of the head."""
    layer, layer_runs = rows_of(mean_layer_parts(job, cut))
    head, head_runs = head_rows(job, cut)
    head_runs = replace(head_runs, is_head=jnp.ones_like(head_runs.is_head))

    def join(first: jax.Array, second: jax.Array) -> jax.Array:
        return jnp.concatenate([first, second], axis=-1)

    return jax.tree.map(join, layer, head), jax.tree.map(join, layer_runs, head_runs)
