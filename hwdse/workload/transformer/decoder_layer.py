"""One decoder layer of any kind on one rank: GEMM operators, saved activations, context
exchange."""

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
    mixture_gemms,
    mixture_kept_bytes,
    mlp_gemms,
)
from hwdse.workload.transformer.model_config import LayerKind, TransformerTraining

SCORE_BYTES = 5.0
"""Bytes saved per score without fused attention: outputs of softmax and dropout, and a mask of one
byte (Korthikanti et al., arXiv 2205.05198, section 4.1)."""


def grouped_query_core(job: TransformerTraining, sharding: LayerSharding) -> GemmGroup:
    """Score and value GEMMs of grouped-query attention.

    The vector work of the softmax is assigned to the score GEMM. Query heads that share a key-value
    head are executed together and read it once. A fused kernel keeps scores on chip, skips causal
    blocks and repeats the scores in its backward pass, in which a block of queries reads the mean
    share of the keys that it attends to. Otherwise all scores are computed, written to HBM and read
    back. Each context rank has its share of the queries and all keys.
    """
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    fused = sharding.fused_attention_fraction
    in_memory = 1.0 - fused
    shared = jnp.maximum(model.num_kv_heads / sharding.tensor, 1.0) / part.num_heads
    queries, head_dim = job.seq_len / sharding.context, model.head_dim
    recompute = sharding.recompute_fraction + sharding.attention_recompute_fraction
    num_gemms = part.num_heads * sharding.micro_batch
    keys, vector, extra = core_work(job, sharding, 1.0 + recompute + 2.0)
    gemms = [
        (queries, head_dim, keys, num_gemms, 1.0, shared, in_memory, vector, extra),
        (queries, keys, head_dim, num_gemms, in_memory, shared, 1.0, 0.0, 0.0),
    ]
    return GemmGroup(
        gemms, [(1.0, 2.0, recompute, 2.0, 0.0), (1.0, 2.0 + fused, recompute, 4.0, 0.0)]
    )


def grouped_query_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """QKV projection, output projection, then score and value GEMMs of grouped-query attention."""
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    tokens = tokens_of(job, sharding)
    own = tokens / sharding.sequence_shards * model.hidden
    norm = elementwise(own, NORM_FLOP, NORM_TRAFFIC)
    residual = elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    qkv_width = part.query_width + part.kv_width
    qkv = linear_gemms(tokens, model.hidden, qkv_width, norm.vector, norm.extra)
    out = linear_gemms(tokens, part.query_width, model.hidden, residual.vector, residual.extra)
    recompute, distinct = sharding.recompute_fraction, distinct_qkv_fraction(model, sharding.tensor)
    core = grouped_query_core(job, sharding)
    return [linear_group(qkv, recompute, distinct), linear_group(out, recompute), core]


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
    """GEMM operators of one layer of a kind, per micro-batch and rank, with their executions.

    The operators of the attention come first.
    """
    attention = _attention_gemms(job, sharding, kind.is_latent)
    return stack_gemms(attention + _layer_mlp_gemms(job, sharding, kind.is_mixture))


def mean_layer_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """GEMM groups of the mean layer of a model over its kinds of layers.

    A model with dense and MoE layers has the operators of both MLPs after the attention, with their
    executions scaled by the share of the kind in the layers. Sums over executions, times the number
    of layers, equal those of the model. A pipeline stage may have more of one kind than the mean.
    """
    share = mixture_share(job.model)
    groups = _attention_gemms(job, sharding, job.kinds[0].is_latent)
    for kind in job.kinds:
        kind_share = share if kind.is_mixture else 1.0 - share
        for group in _layer_mlp_gemms(job, sharding, kind.is_mixture):
            executions = [(*(kind_share * x for x in row[:4]), row[4]) for row in group.executions]
            groups.append(GemmGroup(group.gemms, executions))
    return groups


def kept_bytes(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> tuple[Scalar, Scalar]:
    """Activation bytes that one layer saves for its backward pass on one rank.

    First value, without recomputation: norm inputs and outputs (sharded by sequence parallelism),
    queries, keys and values, attention output with its FP32 log-sum, outputs of the MLP matrices
    and the gated product. Second value, with full recomputation: the input of the layer. Scores are
    not included, see `score_bytes`.
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
    """Bytes of keys and values of one tensor rank for the full sequences of a micro-batch.

    Context ranks gather them or pass them around a ring: each rank sends and receives
    $(c - 1) / c$ of them forward, the same again backward, and as many gradients.
    """
    if kind.is_latent:
        return latent_context_bytes(job, sharding)
    width = layer_slice(job.model, sharding.tensor).kv_width
    return ACTIVATION_BYTES * job.seq_len * sharding.micro_batch * width


def score_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes of scores that one layer saves on one rank, for the attention that is not fused."""
    heads = layer_slice(job.model, sharding.tensor).num_heads
    scores = heads * job.seq_len * job.seq_len * sharding.micro_batch / sharding.context
    return (1.0 - sharding.fused_attention_fraction) * SCORE_BYTES * scores


def mean_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> tuple[Scalar, Scalar]:
    """`kept_bytes` of the mean layer of a model over its kinds of layers."""
    share = mixture_share(job.model)
    total, own = 0.0 * share, 0.0 * share
    for kind in job.kinds:
        kind_share = share if kind.is_mixture else 1.0 - share
        kept, own = kept_bytes(job, sharding, kind)
        total = total + kind_share * kept
    return total, own
