"""One decoder layer of any kind on one rank: its rows, what it keeps, what context ranks pass."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    NORM_FLOP,
    RESIDUAL_FLOP,
    distinct_qkv_fraction,
    layer_slice,
    mixture_share,
)
from hwdse.workload.transformer.gemm_groups import (
    GemmGroup,
    LayerSharding,
    core_work,
    elementwise,
    linear_gemms,
    linear_group,
    stack_gemms,
    tokens_of,
)
from hwdse.workload.transformer.latent_attention import (
    NORM_TRAFFIC,
    RESIDUAL_TRAFFIC,
    latent_context_bytes,
    latent_core,
    latent_kept_elements,
    latent_projections,
)
from hwdse.workload.transformer.mixture_of_experts import (
    mixture_kept_bytes,
    mixture_gemms,
    mlp_gemms,
)
from hwdse.workload.transformer.model_config import LayerKind, TransformerTraining

SCORE_BYTES = 5.0
"""Kept of a score where attention is not fused: outputs of softmax and dropout and a mask of one
byte (Korthikanti et al., arXiv 2205.05198, section 4.1)."""


def grouped_query_core(job: TransformerTraining, sharding: LayerSharding) -> GemmGroup:
    """Scores and values; the softmax of all runs is spread over the scores'.

    The query heads that share a key-value head run together and read it once. A fused kernel
    keeps scores on chip, skips causal blocks, and repeats the scores in its backward pass; there a
    block of queries reads the mean share of the keys that it attends to. Without it all scores are
    computed, written and read in memory. Each context rank has its share of the queries and meets
    all keys.
    """
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    fused = sharding.fused_attention_fraction
    in_memory = 1.0 - fused
    shared = jnp.maximum(model.num_kv_heads / sharding.tensor, 1.0) / part.num_heads
    queries, head_dim = job.seq_len / sharding.context, model.head_dim
    recompute = sharding.recompute_fraction + sharding.attention_recompute_fraction
    num_products = part.num_heads * sharding.micro_batch
    keys, vector, extra = core_work(job, sharding, 1.0 + recompute + 2.0)
    rows = [
        (queries, head_dim, keys, num_products, 1.0, shared, in_memory, vector, extra),
        (queries, keys, head_dim, num_products, in_memory, shared, 1.0, 0.0, 0.0),
    ]
    return GemmGroup(
        rows, [(1.0, 2.0, recompute, 2.0, 0.0), (1.0, 2.0 + fused, recompute, 4.0, 0.0)]
    )


def grouped_query_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """Queries, keys and values, output, then scores and values of grouped-query attention."""
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    tokens = tokens_of(job, sharding)
    own = tokens / sharding.sequence_shards * model.hidden
    norm = elementwise(own, NORM_FLOP, NORM_TRAFFIC)
    residual = elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    qkv_width = part.query_width + part.kv_width
    qkv = linear_gemms(tokens, model.hidden, qkv_width, norm.vector, norm.extra)
    out = linear_gemms(tokens, part.query_width, model.hidden, residual.vector, residual.extra)
    recompute, useful = sharding.recompute_fraction, distinct_qkv_fraction(model, sharding.tensor)
    core = grouped_query_core(job, sharding)
    return [linear_group(qkv, recompute, useful), linear_group(out, recompute), core]


def _attention_gemms(
    job: TransformerTraining, sharding: LayerSharding, is_latent: bool
) -> list[GemmGroup]:
    if is_latent:
        return [*latent_projections(job, sharding), latent_core(job, sharding)]
    return grouped_query_gemms(job, sharding)


def _layer_mlp_gemms(
    job: TransformerTraining, sharding: LayerSharding, is_mixture: bool
) -> list[GemmGroup]:
    if is_mixture:
        return mixture_gemms(job, sharding)
    tokens = tokens_of(job, sharding)
    return mlp_gemms(job, tokens, job.model.feedforward / sharding.tensor, sharding)


def decoder_gemms(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> tuple[Gemms, ExecutionCounts]:
    """Products of one layer of that kind and micro-batch on one rank, and how often each runs.

    The rows of the attention come first.
    """
    attention = _attention_gemms(job, sharding, kind.is_latent)
    return stack_gemms(attention + _layer_mlp_gemms(job, sharding, kind.is_mixture))


def mean_layer_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """Parts of the mean layer of a model, by the kinds of layers it has.

    A model with dense layers and layers with experts has the rows of both after the attention,
    each with runs times its share of the layers: sums over runs, times the number of layers, are
    those of the whole model. A stage of a pipeline may have more of one kind than the mean.
    """
    share = mixture_share(job.model)
    parts = _attention_gemms(job, sharding, job.kinds[0].is_latent)
    for kind in job.kinds:
        part_of_layers = share if kind.is_mixture else 1.0 - share
        for part in _layer_mlp_gemms(job, sharding, kind.is_mixture):
            runs = [(*(part_of_layers * x for x in row[:4]), row[4]) for row in part.executions]
            parts.append(GemmGroup(part.rows, runs))
    return parts


def kept_bytes(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> tuple[Scalar, Scalar]:
    """Bytes that one layer keeps for its backward pass on one rank: whole, and recomputed.

    Whole: norm inputs and outputs (cut by sequence parallelism), queries, keys and values,
    attention output with its fp32 log-sum, MLP matrices' outputs and the gated product.
    Recomputed: the layer's input alone. Scores are not among them, see `score_bytes`.
    """
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    tokens = tokens_of(job, sharding)
    if kind.is_latent:
        attention = latent_kept_elements(model, sharding)
    else:
        attention = 2.0 * part.query_width + part.kv_width + 2.0 * part.num_heads
    if kind.is_mixture:
        mlp = mixture_kept_bytes(job, sharding)
    else:
        mlp = ACTIVATION_BYTES * tokens * model.num_mlp_matrices * part.feedforward
    own = ACTIVATION_BYTES * tokens * model.hidden / sharding.sequence_shards
    return 2.0 * model.num_layer_norms * own + ACTIVATION_BYTES * tokens * attention + mlp, own


def context_bytes(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> Scalar:
    """Keys and values of one tensor rank for the whole sequences of a micro-batch.

    Context ranks gather them, or pass them around a ring: each sends and gets $(c - 1) / c$ of
    them forward; backward again, and as many gradients.
    """
    if kind.is_latent:
        return latent_context_bytes(job, sharding)
    width = layer_slice(job.model, sharding.tensor).kv_width
    return ACTIVATION_BYTES * job.seq_len * sharding.micro_batch * width


def score_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes of scores that one layer keeps on one rank where attention is not fused."""
    heads = layer_slice(job.model, sharding.tensor).num_heads
    scores = heads * job.seq_len * job.seq_len * sharding.micro_batch / sharding.context
    return (1.0 - sharding.fused_attention_fraction) * SCORE_BYTES * scores


def mean_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> tuple[Scalar, Scalar]:
    """`kept_bytes` of the mean layer of a model with the kinds of layers that it has."""
    share = mixture_share(job.model)
    whole, own = 0.0 * share, 0.0 * share
    for kind in job.kinds:
        part = share if kind.is_mixture else 1.0 - share
        kept, own = kept_bytes(job, sharding, kind)
        whole = whole + part * kept
    return whole, own
