r"""Mixture of experts in training: products, what a layer keeps, and what is dispatched.

Of E routed experts a token is sent to k. They are dealt to e groups of ranks, each expert cut over
the ranks of its group; shared experts are one MLP that every token passes. With T tokens on each
of the groups' ranks an expert gets $T e k / E$ on the mean, times the load imbalance on the
busiest rank, which all wait for.
Sources: Lepikhin et al. (GShard), arXiv 2006.16668; DeepSeek-AI, arXiv 2412.19437, section 2.1.2.
"""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
    SOFTMAX_FLOP,
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
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

COPY_TRAFFIC = (2.0 * ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES)
"""A token read and written: sorted by expert, and back."""
LOGIT_ELEMENTS = 2.0
"""16-bit elements in a router's fp32 logit."""


def busiest_rank_ratio(model: Transformer, expert: Scalar) -> Scalar:
    """Tokens of the busiest rank over the mean: the load imbalance, but no more than all tokens
    on one of the ranks, and so 1 where one rank has all experts."""
    return jnp.minimum(model.load_imbalance_ratio, jnp.maximum(expert, 1.0))


def _own_tokens(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Tokens that one rank routes."""
    return tokens_of(job, sharding) / sharding.sequence_shards


def expert_tokens(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    r"""Tokens of one expert of the busiest rank, $T x e k / E$ times the imbalance.

    The ranks that cut an expert bring their tokens together first, hence the factor x of
    `expert_tensor`. Without sequence parallelism a tensor group has all tokens on every rank,
    nothing is brought together, and `expert_tensor` must be `tensor`.
    """
    brought = jnp.minimum(sharding.expert_tensor, sharding.sequence_shards)
    mean = job.model.experts_per_token / jnp.maximum(job.model.num_experts, 1.0)
    group = _own_tokens(job, sharding) * brought * sharding.expert
    return group * mean * busiest_rank_ratio(job.model, sharding.expert)


def mlp_gemms(
    job: TransformerTraining, tokens: Scalar, width: Scalar, sharding: LayerSharding
) -> list[GemmGroup]:
    """Up (with gate) and down matrices of a dense MLP, between a norm and a residual."""
    model = job.model
    own = _own_tokens(job, sharding) * model.hidden
    # The MLP's own norm; none where it shares that of the attention.
    norm = elementwise((model.num_layer_norms - 1.0) * own, NORM_FLOP, NORM_TRAFFIC)
    residual = elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    up = norm + _activation(model, tokens * width)
    up_width = (model.num_mlp_matrices - 1.0) * width
    first = linear_gemms(tokens, model.hidden, up_width, up.vector, up.extra)
    last = linear_gemms(tokens, width, model.hidden, residual.vector, residual.extra)
    return [linear_group(rows, sharding.recompute_fraction) for rows in (first, last)]


def _activation(model: Transformer, elements: Scalar) -> Elementwise:
    """Activation function and gate, beside the product that makes its operands."""
    gates = model.num_mlp_matrices - 2.0
    flop = (ACTIVATION_FLOP[0] + gates, ACTIVATION_FLOP[1] + gates)
    return elementwise(elements, flop, (ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES))


def mixture_gemms(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """Router, routed experts (up with gate, down) and shared experts of one rank.

    The norm and the residual stand beside the router, sorting and summing tokens beside the
    experts. The useful part of the experts' rows leaves out the imbalance. Without shared experts
    their rows have count 0.
    """
    model, recompute = job.model, sharding.recompute_fraction
    own = _own_tokens(job, sharding)
    tokens = expert_tokens(job, sharding)
    normed = (model.num_layer_norms - 1.0) * own * model.hidden
    beside = elementwise(normed, NORM_FLOP, NORM_TRAFFIC)
    beside = beside + elementwise(own * model.hidden, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    beside = beside + elementwise(own * model.num_experts, SOFTMAX_FLOP, (4.0, 4.0))
    router = linear_gemms(own, model.hidden, model.num_experts, beside.vector, beside.extra)
    width = model.expert_feedforward / sharding.expert_tensor
    count = model.num_experts / sharding.expert
    sort = elementwise(tokens * model.hidden, (0.0, 1.0), COPY_TRAFFIC)
    add = elementwise(tokens * model.hidden, (2.0, 2.0), COPY_TRAFFIC)
    up = sort + _activation(model, tokens * width)
    up_width = (model.num_mlp_matrices - 1.0) * width
    rows_up = linear_gemms(tokens, model.hidden, up_width, up.vector, up.extra, count)
    rows_down = linear_gemms(tokens, width, model.hidden, add.vector, add.extra, count)
    useful = 1.0 / busiest_rank_ratio(model, sharding.expert)
    # Copies of the router on tensor ranks that do not cut the sequence are no useful work.
    parts = [linear_group(router, recompute, sharding.sequence_shards / sharding.tensor)]
    parts += [linear_group(rows, recompute, useful) for rows in (rows_up, rows_down)]
    return parts + _shared_expert_gemms(job, sharding)


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
    return [linear_group(rows, sharding.recompute_fraction) for rows in (up, down)]


def mixture_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes that the experts of one layer keep for the backward pass on the busiest rank.

    Router logits; of each routed token its sorted copy, the matrices' outputs and the gated
    product, and the expert's output, which the gradient of its weight needs; the shared MLP.
    """
    model = job.model
    width = model.expert_feedforward / sharding.expert_tensor
    routed = expert_tokens(job, sharding) * model.num_experts / sharding.expert
    elements = routed * (2.0 * model.hidden + model.num_mlp_matrices * width)
    elements = elements + LOGIT_ELEMENTS * _own_tokens(job, sharding) * model.num_experts
    shared = model.num_shared_experts * model.expert_feedforward / sharding.tensor
    tokens = tokens_of(job, sharding)
    return ACTIVATION_BYTES * (elements + tokens * model.num_mlp_matrices * shared)


@flax.struct.dataclass
class ExpertMessages:
    """Collectives of the experts of one layer and micro-batch, on one rank."""

    all_to_all_bytes: Leaf
    """What the busiest rank of the `expert` groups holds before, or after, one all-to-all; the
    share (e - 1) / e of it leaves the rank."""
    num_all_to_alls: Leaf
    """Dispatch and combination, forward, repeated and backward."""
    gather_bytes: Leaf
    """What the ranks that cut an expert gather after a dispatch, and reduce and scatter before a
    combination, as often; 0 where they all have the tokens."""


def expert_messages(
    job: TransformerTraining, sharding: LayerSharding, bytes_per_element: Scalar = ACTIVATION_BYTES
) -> ExpertMessages:
    """Messages of the routed tokens: every token is sent once for each of its experts.

    Libraries that send a token once to each node it needs, or in 8 bits, send less: give them
    fewer `bytes_per_element`.
    """
    model = job.model
    routed = (
        _own_tokens(job, sharding)
        * model.experts_per_token
        * busiest_rank_ratio(model, sharding.expert)
    )
    sent = bytes_per_element * routed * model.hidden
    brought = jnp.minimum(sharding.expert_tensor, sharding.sequence_shards)
    return ExpertMessages(
        all_to_all_bytes=sent,
        num_all_to_alls=2.0 * (1.0 + sharding.recompute_fraction) + 2.0,
        gather_bytes=jnp.where(brought > 1.0, sent * brought, 0.0),
    )
