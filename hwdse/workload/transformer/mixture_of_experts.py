r"""Mixture of experts (MoE) in training: GEMM operators, saved activations and dispatch messages.

Each token is sent to k of E routed experts. The experts are distributed over e groups of ranks, and
each expert is sharded over the ranks of its group. Shared experts form one MLP for all tokens. With
T tokens per rank an expert processes $T e k / E$ tokens on average, times the load imbalance on the
busiest rank, which determines the time.
Sources: Lepikhin et al. (GShard), arXiv 2006.16668; DeepSeek-AI, arXiv 2412.19437, section 2.1.2.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
    SOFTMAX_FLOP,
    expert_hidden,
)
from hwdse.workload.transformer.gemm_groups import (
    Elementwise,
    GemmGroup,
    LayerSharding,
    elementwise,
    linear_gemms,
    linear_group,
    tokens_of,
)
from hwdse.workload.transformer.latent_attention import NORM_TRAFFIC, RESIDUAL_TRAFFIC
from hwdse.workload.transformer.layer_stacks import layer_stacks
from hwdse.workload.transformer.model_config import LayerKind, Transformer, TransformerTraining

COPY_TRAFFIC = (2.0 * ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES)
"""HBM bytes per element to sort tokens by expert, and back: one read and one write."""
LOGIT_ELEMENTS = 2.0
"""16-bit elements per FP32 router logit."""


def busiest_rank_ratio(model: Transformer, expert: Scalar) -> Scalar:
    """Tokens of the busiest rank over the mean of all ranks.

    Equal to the load imbalance, at most `expert` (all tokens on one rank); 1 if one rank has all
    experts.
    """
    return jnp.minimum(model.load_imbalance_ratio, jnp.maximum(expert, 1.0))


def _own_tokens(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Tokens routed by one rank."""
    return tokens_of(job, sharding) / sharding.sequence_shards


def expert_tokens(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    r"""Tokens per expert of the busiest rank, $T x e k / E$ times the imbalance.

    The ranks that shard an expert gather their tokens first, which is the factor x =
    `expert_tensor`. Without sequence parallelism every rank of a tensor group has all tokens,
    nothing is gathered, and `expert_tensor` must equal `tensor`.
    """
    gathered = jnp.minimum(sharding.expert_tensor, sharding.sequence_shards)
    mean = job.model.experts_per_token / jnp.maximum(job.model.num_experts, 1.0)
    group = _own_tokens(job, sharding) * gathered * sharding.expert
    return group * mean * busiest_rank_ratio(job.model, sharding.expert)


def mlp_gemms(
    job: TransformerTraining, tokens: Scalar, width: Scalar, sharding: LayerSharding
) -> list[GemmGroup]:
    """GEMM groups of a dense MLP: up (with gate) and down, with its norm and residual."""
    model = job.model
    own = _own_tokens(job, sharding) * model.hidden
    repeats = 1.0 - sharding.mlp_recompute_fraction  # with the MLP: by the recomputed GEMM
    norm = _norms(model, own).recomputed(repeats * sharding.norm_recompute_fraction)
    residual = elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    act = _activation(model, tokens * width)
    up = norm + act.recomputed(repeats * sharding.activation_recompute_fraction)
    up_width = (model.num_mlp_matrices - 1.0) * width
    first = linear_gemms(tokens, model.hidden, up_width, up.vector, up.extra)
    last = linear_gemms(tokens, width, model.hidden, residual.vector, residual.extra)
    recompute = sharding.recompute_fraction
    repeated = recompute + sharding.mlp_recompute_fraction
    return [linear_group("up", first, repeated), linear_group("down", last, recompute)]


def _norms(model: Transformer, elements: Scalar) -> Elementwise:
    """Norms of a layer except the first, which the attention has.

    Parallel attention and MLP share that one. Norms after attention and MLP (Gemma) are fused with
    the residuals, which read and write the same elements: they add FLOP and no traffic.
    """
    num_norms = model.num_layer_norms - 1.0
    beside = elementwise(num_norms * elements, NORM_FLOP, NORM_TRAFFIC)
    alone = elementwise(jnp.minimum(num_norms, 1.0) * elements, NORM_FLOP, NORM_TRAFFIC)
    return Elementwise(beside.vector, alone.extra)


def _activation(model: Transformer, elements: Scalar) -> Elementwise:
    """Elementwise work of activation function and gate, with the GEMM that computes its
    operands."""
    gates = model.num_mlp_matrices - 2.0
    flop = (ACTIVATION_FLOP[0] + gates, ACTIVATION_FLOP[1] + gates)
    return elementwise(elements, flop, (ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES))


def mixture_gemms(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> list[GemmGroup]:
    """GEMM groups of an MoE layer on one rank: router, routed experts and shared experts.

    The vector work of norm and residual belongs to the router, sorting and summation of tokens to
    the experts. The model FLOP of the experts exclude the load imbalance. Without shared experts
    their operators have count 0. Each rank projects its own tokens to and from the input of the
    experts, if that is not the hidden state.
    """
    model, recompute = job.model, sharding.recompute_fraction
    own = _own_tokens(job, sharding)
    tokens = expert_tokens(job, sharding)
    beside = _norms(model, own * model.hidden).recomputed(sharding.norm_recompute_fraction)
    beside = beside + elementwise(own * model.hidden, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    beside = beside + elementwise(own * model.num_experts, SOFTMAX_FLOP, (4.0, 4.0))
    router = linear_gemms(own, model.hidden, model.num_experts, beside.vector, beside.extra)
    width = model.expert_feedforward / sharding.expert_tensor
    count = model.num_experts / sharding.expert
    hidden = expert_hidden(model)
    sort = elementwise(tokens * hidden, (0.0, 1.0), COPY_TRAFFIC)
    add = elementwise(tokens * hidden, (2.0, 2.0), COPY_TRAFFIC)
    act = _activation(model, tokens * width)
    up = sort + act.recomputed(sharding.activation_recompute_fraction)
    up_width = (model.num_mlp_matrices - 1.0) * width
    gemms_up = linear_gemms(tokens, hidden, up_width, up.vector, up.extra, count)
    gemms_down = linear_gemms(tokens, width, hidden, add.vector, add.extra, count)
    model_share = 1.0 / busiest_rank_ratio(model, sharding.expert)
    # Replicas of the router on tensor ranks without sequence parallelism are not model FLOP.
    router_share = sharding.sequence_shards / sharding.tensor
    groups = [
        linear_group("router", router, recompute, router_share),
        linear_group("expert_up", gemms_up, recompute, model_share),
        linear_group("expert_down", gemms_down, recompute, model_share),
    ]
    if kind.has_expert_latent:
        none = (0.0, 0.0)
        down = linear_gemms(own, model.hidden, model.expert_hidden, none, none)
        up = linear_gemms(own, model.expert_hidden, model.hidden, none, none)
        groups.append(linear_group("expert_in", down, recompute, router_share))
        groups.append(linear_group("expert_out", up, recompute, router_share))
    return groups + _shared_expert_gemms(job, sharding)


def _shared_expert_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    model = job.model
    tokens = tokens_of(job, sharding)
    has_shared = model.num_shared_experts > 0.0
    width = model.num_shared_experts * model.expert_feedforward / sharding.tensor
    width = jnp.where(has_shared, width, 1.0)
    act = _activation(model, tokens * width)
    count = jnp.where(has_shared, 1.0, 0.0)
    up_width = (model.num_mlp_matrices - 1.0) * width
    up = linear_gemms(tokens, model.hidden, up_width, act.vector, act.extra, count)
    down = linear_gemms(tokens, width, model.hidden, (0.0, 0.0), (0.0, 0.0), count)
    recompute = sharding.recompute_fraction
    return [linear_group("shared_up", up, recompute), linear_group("shared_down", down, recompute)]


def mlp_kept_bytes_per_element(
    job: TransformerTraining, sharding: LayerSharding, num_matrices: Scalar
) -> Scalar:
    """Bytes that an MLP saves per token and inner element: outputs of its first matrices, and the
    gated product, which only the weight gradient of the last one needs."""
    product = (1.0 - sharding.activation_recompute_fraction) * job.trainable_fraction
    first = sharding.activation_input_bytes * (num_matrices - 1.0)
    return first + product * sharding.kept_input_bytes


def mixture_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Activation bytes that the experts of one layer save for the backward pass on the busiest
    rank.

    Router logits. Per routed token: its sorted copy, the outputs of the matrices, the gated
    product, and the expert output, which the gradient of its router weight requires unless the
    stack applies the weight before the last matrix. The shared MLP.
    """
    model, inputs = job.model, job.trainable_fraction * sharding.kept_input_bytes
    width = model.expert_feedforward / sharding.expert_tensor
    routed = expert_tokens(job, sharding) * model.num_experts / sharding.expert
    each = mlp_kept_bytes_per_element(job, sharding, model.num_mlp_matrices)
    outputs = ACTIVATION_BYTES * sharding.expert_output_kept_fraction
    logits = ACTIVATION_BYTES * LOGIT_ELEMENTS * _own_tokens(job, sharding) * model.num_experts
    shared = model.num_shared_experts * model.expert_feedforward / sharding.tensor
    tokens = tokens_of(job, sharding)
    return (
        routed * ((inputs + outputs) * expert_hidden(model) + each * width)
        + logits
        + tokens * (each * shared)
    )


@struct.dataclass
class ExpertMessages:
    """Messages of the expert collectives per layer, micro-batch and rank."""

    all_to_all_bytes: Leaf
    """Message of the busiest rank before or after one all-to-all; (e - 1) / e of it leaves the
    rank."""
    num_all_to_alls: Leaf
    """All-to-alls for dispatch and combine: forward, recomputed and backward."""
    gather_bytes: Leaf
    """Message that the ranks sharding an expert gather after each dispatch, and reduce-scatter
    before each combine; 0 if all ranks have the tokens."""
    copies: Leaf
    """Experts per token."""


def expert_messages(job: TransformerTraining, sharding: LayerSharding) -> ExpertMessages:
    """Messages of the routed tokens, one per expert.

    `models.network.hierarchical_collectives.Copies` says how many of them a library sends.
    """
    model = job.model
    routed = (
        _own_tokens(job, sharding)
        * model.experts_per_token
        * busiest_rank_ratio(model, sharding.expert)
    )
    sent = ACTIVATION_BYTES * routed * expert_hidden(model)
    gathered = jnp.minimum(sharding.expert_tensor, sharding.sequence_shards)
    return ExpertMessages(
        all_to_all_bytes=sent,
        num_all_to_alls=2.0 * (1.0 + sharding.recompute_fraction) + 2.0,
        gather_bytes=jnp.where(gathered > 1.0, sent * gathered, 0.0),
        copies=model.experts_per_token,
    )


def mean_expert_messages(job: TransformerTraining, sharding: LayerSharding) -> ExpertMessages:
    """Messages of the mean MoE layer, with the all-to-alls per mean layer of the model."""
    stacks = [stack for stack in layer_stacks(job.model) if stack.kind.is_mixture]
    each = [expert_messages(replace(job, model=stack.model), sharding) for stack in stacks]
    if stacks[0].count is job.model.num_layers:
        return each[0]
    mixtures = sum(stack.count for stack in stacks)
    weights = [stack.count / jnp.where(mixtures > 0.0, mixtures, 1.0) for stack in stacks]

    def mean(*values: Leaf) -> Leaf:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    messages = jax.tree.map(mean, *each)
    share = mixtures / job.model.num_layers
    return replace(messages, num_all_to_alls=share * messages.num_all_to_alls)
