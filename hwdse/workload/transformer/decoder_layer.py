"""One decoder layer of any kind on one rank: GEMM operators, saved activations, context exchange.

`mean_*` functions are means over the layers of a model that mixes kinds.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    NORM_FLOP,
    RESIDUAL_FLOP,
    distinct_qkv_fraction,
    layer_slice,
)
from hwdse.workload.transformer.gemm_groups import (
    CORE_NAMES,
    LOG_SUM_ELEMENTS,
    GemmGroup,
    LayerSharding,
    core_work,
    elementwise,
    linear_gemms,
    linear_group,
    stack_gemms,
    tokens_of,
    trained_group,
)
from hwdse.workload.transformer.latent_attention import (
    NORM_TRAFFIC,
    RESIDUAL_TRAFFIC,
    latent_context_bytes,
    latent_core,
    latent_kept_bytes,
    latent_projections,
)
from hwdse.workload.transformer.layer_stacks import layer_stacks, mean_over_layers
from hwdse.workload.transformer.mixture_of_experts import (
    mixture_gemms,
    mixture_kept_bytes,
    mlp_gemms,
    mlp_kept_bytes_per_element,
)
from hwdse.workload.transformer.model_config import LayerKind, TransformerTraining
from hwdse.workload.transformer.state_space_gemms import (
    state_context_bytes,
    state_space_kept_bytes,
    state_space_mixer,
)

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
        CORE_NAMES,
        gemms,
        [(1.0, 2.0, recompute, 2.0, 0.0, 0.0), (1.0, 2.0 + fused, recompute, 4.0, 0.0, 0.0)],
    )


def grouped_query_projections(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """QKV projection and output projection of grouped-query attention."""
    model, part = job.model, layer_slice(job.model, sharding.tensor)
    tokens = tokens_of(job, sharding)
    own = tokens / sharding.sequence_shards * model.hidden
    norm = elementwise(own, NORM_FLOP, NORM_TRAFFIC).recomputed(sharding.norm_recompute_fraction)
    residual = elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    qkv_width = part.query_width + part.kv_width + model.num_attention_gates * part.query_width
    qkv = linear_gemms(tokens, model.hidden, qkv_width, norm.vector, norm.extra)
    out = linear_gemms(tokens, part.query_width, model.hidden, residual.vector, residual.extra)
    recompute, distinct = sharding.recompute_fraction, distinct_qkv_fraction(model, sharding.tensor)
    repeated = recompute + sharding.output_recompute_fraction
    return [linear_group("qkv", qkv, recompute, distinct), linear_group("out", out, repeated)]


def _projections(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> list[GemmGroup]:
    if not kind.has_attention:
        return []
    return (latent_projections if kind.is_latent else grouped_query_projections)(job, sharding)


def _core(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> list[GemmGroup]:
    if not kind.has_attention:
        return []
    return [(latent_core if kind.is_latent else grouped_query_core)(job, sharding)]


def _state(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> list[GemmGroup]:
    return state_space_mixer(job, sharding, kind) if kind.has_state else []


def _mlp(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> list[GemmGroup]:
    if not (kind.has_attention or kind.has_state):  # the only norm of the layer is its own
        norms = job.model.num_layer_norms + 1.0
        job = replace(job, model=job.model.replace(num_layer_norms=norms))
    if kind.is_mixture:
        return mixture_gemms(job, sharding, kind)
    if not kind.has_mlp:
        return []
    tokens = tokens_of(job, sharding)
    return mlp_gemms(job, tokens, job.model.feedforward / sharding.tensor, sharding)


_HEADS = frozenset({"num_heads", "num_kv_heads", "head_dim", "num_attention_gates"})
_LATENT = frozenset({"q_lora_rank", "kv_lora_rank", "v_head_dim"})
_KEYS = frozenset({"qk_nope_head_dim", "qk_rope_head_dim"})
_STATE = frozenset(
    {
        *("num_state_heads", "state_head_dim", "state_dim", "num_state_groups"),
        *("state_conv_width", "state_chunk", "num_delta_updates"),
    }
)
_EXPERTS = frozenset({"num_experts", "experts_per_token", "num_shared_experts", "expert_hidden"})
_WIDTHS = frozenset({"feedforward", "expert_feedforward", "num_mlp_matrices"})


class _LayerPart(NamedTuple):
    """Part of a layer, and the fields of a model that its GEMMs depend on."""

    gemms: Callable[[TransformerTraining, LayerSharding, LayerKind], list[GemmGroup]]
    fields: frozenset[str]
    kind_of: Callable[[LayerKind], tuple[bool, ...]]
    """The part of a kind that selects the code path."""


_PARTS = (
    _LayerPart(
        _projections,
        _HEADS | _LATENT | _KEYS,
        lambda kind: (kind.is_latent, kind.has_attention),
    ),
    _LayerPart(
        _core,
        _HEADS | _LATENT | _KEYS | {"sliding_window", "attention_chunk"},
        lambda kind: (kind.is_latent, kind.has_attention),
    ),
    _LayerPart(_state, _STATE, lambda kind: (kind.has_state, kind.has_delta, kind.has_attention)),
    _LayerPart(
        _mlp,
        _EXPERTS | _WIDTHS | {"num_layer_norms", "load_imbalance_ratio"},
        lambda kind: (
            *(kind.is_mixture, kind.has_mlp, kind.has_expert_latent),
            kind.has_attention or kind.has_state,
        ),
    ),
)
"""Parts of a layer, in the order of their operators."""


def decoder_gemms(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> tuple[Gemms, ExecutionCounts]:
    """GEMM operators of one layer of a kind, per micro-batch and rank, with their executions.

    The operators of the attention come first.
    """
    return stack_gemms([group for part in _PARTS for group in part.gemms(job, sharding, kind)])


def mean_layer_gemms(
    job: TransformerTraining, sharding: LayerSharding
) -> tuple[list[GemmGroup], tuple[Scalar, ...]]:
    """GEMM groups of the mean layer of a model, and multiply-accumulates per layer of each stack.

    A part that differs between kinds of layers has the operators of all of them, with their
    executions scaled by the share of the kind in the layers. Sums over executions, times the
    number of layers, equal those of the model. The second result weighs the kinds in a pipeline
    stage; it includes recomputation.
    """
    stacks = layer_stacks(job.model)
    groups: list[GemmGroup] = []
    macs: list[Scalar] = [0.0 for _ in stacks]
    for part in _PARTS:
        members: dict[tuple[int, tuple[bool, ...]], list[int]] = {}
        for index, stack in enumerate(stacks):
            entry = stack.entry if stack.own & part.fields else -1
            members.setdefault((entry, part.kind_of(stack.kind)), []).append(index)
        for (entry, _), indices in members.items():
            first = stacks[indices[0]]
            found = [
                trained_group(group, job.trainable_fraction)
                for group in part.gemms(replace(job, model=first.model), sharding, first.kind)
            ]
            if len(members) > 1:
                count = sum(stacks[index].count for index in indices)
                share, mark = count / job.model.num_layers, f"_{entry + 1}" if entry >= 0 else ""
                groups += [group.scaled(share, mark) for group in found]
            else:
                groups += found
            for index in indices if len(stacks) > 1 else ():
                macs[index] = macs[index] + sum(_num_macs(group) for group in found)
    return groups, tuple(macs)


def _num_macs(group: GemmGroup) -> Scalar:
    """Multiply-accumulates of all executions of a group."""
    pairs = zip(group.gemms, group.executions, strict=True)
    return sum(gemm[0] * gemm[1] * gemm[2] * gemm[3] * sum(runs[:3]) for gemm, runs in pairs)


def kept_bytes(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> tuple[Scalar, Scalar]:
    """Activation bytes that one layer saves for its backward pass on one rank.

    First value, without full recomputation: norm inputs and outputs (sharded by sequence
    parallelism), queries, keys and values, attention output with its FP32 log-sum, outputs of the
    MLP matrices and the gated product. Norm outputs and gated product serve the weight gradients
    alone: frozen layers do not save them. Second value, with full recomputation: the input of the
    layer. Scores are not included, see `score_bytes`.
    """
    model, tokens = job.model, tokens_of(job, sharding)
    if not kind.has_attention:
        attention = 0.0
    elif kind.is_latent:
        attention = latent_kept_bytes(job, sharding)
    else:
        attention = _grouped_query_kept_bytes(job, sharding)
    if kind.has_state:
        attention = attention + state_space_kept_bytes(job, sharding)
    if kind.is_mixture:
        mlp = mixture_kept_bytes(job, sharding)
    elif not kind.has_mlp:
        mlp = 0.0
    else:
        mlp = tokens * (1.0 - sharding.mlp_recompute_fraction) * _mlp_kept_bytes(job, sharding)
    own = recomputed_bytes(job, sharding)
    normalized = (1.0 - sharding.norm_recompute_fraction) * job.trainable_fraction
    normalized = normalized * sharding.kept_input_bytes / ACTIVATION_BYTES
    # All norms but the first follow the output projection.
    inputs = 1.0 + (model.num_layer_norms - 1.0) * (1.0 - sharding.output_recompute_fraction)
    norms = (inputs + model.num_layer_norms * normalized) * own
    return norms + tokens * attention + mlp, own


def _grouped_query_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes per token of queries, keys, values, and of the attention output with its log-sum."""
    part = layer_slice(job.model, sharding.tensor)
    elements = 2.0 * part.query_width + part.kv_width + LOG_SUM_ELEMENTS * part.num_heads
    elements = elements + job.model.num_attention_gates * part.query_width
    copy = job.trainable_fraction * sharding.kept_copy_bytes * part.query_width
    return ACTIVATION_BYTES * elements + copy


def _mlp_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes per token of the outputs of the first MLP matrices and of the gated product."""
    model, width = job.model, layer_slice(job.model, sharding.tensor).feedforward
    return width * mlp_kept_bytes_per_element(job, sharding, model.num_mlp_matrices)


def recomputed_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Activation bytes that one layer with full recomputation saves on one rank: its input."""
    tokens = tokens_of(job, sharding)
    return ACTIVATION_BYTES * tokens * job.model.hidden / sharding.sequence_shards


def context_bytes(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> Scalar:
    """Bytes of keys and values of one tensor rank for the full sequences of a micro-batch.

    Context ranks gather them or pass them around a ring: each rank sends and receives
    $(c - 1) / c$ of them forward, the same again backward, and as many gradients. State-space
    mixers exchange states.
    """
    states = state_context_bytes(job, sharding) if kind.has_state else 0.0
    if not kind.has_attention:
        return jnp.asarray(states)
    if kind.is_latent:
        return latent_context_bytes(job, sharding) + states
    width = layer_slice(job.model, sharding.tensor).kv_width
    return ACTIVATION_BYTES * job.seq_len * sharding.micro_batch * width + states


def score_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes of scores that one layer saves on one rank, for the attention that is not fused."""
    heads = layer_slice(job.model, sharding.tensor).num_heads
    scores = heads * job.seq_len * job.seq_len * sharding.micro_batch / sharding.context
    return (1.0 - sharding.fused_attention_fraction) * SCORE_BYTES * scores


def mean_of_kinds(
    job: TransformerTraining, value: Callable[[TransformerTraining, LayerKind], Scalar]
) -> Scalar:
    """Mean over the layers of a model of a value that depends on their kind."""
    stacks = layer_stacks(job.model)
    each = tuple(value(replace(job, model=stack.model), stack.kind) for stack in stacks)
    return mean_over_layers(job.model, stacks, each)


def mean_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> tuple[Scalar, Scalar]:
    """`kept_bytes` of the mean layer of a model over its kinds of layers."""
    mean = mean_of_kinds(job, lambda part, kind: kept_bytes(part, sharding, kind)[0])
    return mean, recomputed_bytes(job, sharding)
