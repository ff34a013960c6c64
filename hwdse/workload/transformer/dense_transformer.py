"""Parameter counts of decoder transformers, per model, layer, rank and pipeline stage."""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import num_tiles
from hwdse.workload.transformer.model_config import Transformer

# Elementwise FLOP per element, forward and backward: Calculon v0.1.0, calculon/llm/layers.py
# (LayerNorm 9N and 14N + 7N, Softmax 5N and 8N, GeLU 8N and 13N, Add N and 2N).
NORM_FLOP = (9.0, 21.0)
SOFTMAX_FLOP = (5.0, 8.0)
ACTIVATION_FLOP = (8.0, 13.0)
RESIDUAL_FLOP = (1.0, 2.0)
ACTIVATION_BYTES = 2.0
"""Bytes per activation element: 16-bit in every format mix."""
LOGIT_BYTES = 6.0
"""Bytes per logit: FP32 logits and their 16-bit gradient."""


@flax.struct.dataclass
class LayerSlice:
    """Extents of a layer on one tensor-parallel rank."""

    query_width: Leaf
    """Elements of all queries of the rank."""
    kv_width: Leaf
    """Elements of all keys and values of the rank."""
    feedforward: Leaf
    """Inner size of the MLP on the rank."""
    num_heads: Leaf
    """Query heads of the rank."""


def layer_slice(model: Transformer, tensor: Scalar) -> LayerSlice:
    """Extents of a layer on one of `tensor` ranks.

    A key-value head is not sharded: beyond `num_kv_heads` ranks each rank has a copy of one head,
    as in Megatron and NeuronX Distributed.
    """
    return LayerSlice(
        query_width=model.num_heads * model.head_dim / tensor,
        kv_width=2.0 * jnp.maximum(model.num_kv_heads / tensor, 1.0) * model.head_dim,
        feedforward=model.feedforward / tensor,
        num_heads=model.num_heads / tensor,
    )


def distinct_qkv_fraction(model: Transformer, tensor: Scalar) -> Scalar:
    """Share of a rank's query, key and value projections that is not replicated on other ranks."""
    part = layer_slice(model, tensor)
    distinct_kv = 2.0 * model.num_kv_heads * model.head_dim / tensor
    return (part.query_width + distinct_kv) / (part.query_width + part.kv_width)


def _projection_parameters(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the QKV and output projections of grouped-query attention, with biases."""
    part = layer_slice(model, tensor)
    qkv_width = part.query_width + part.kv_width
    return model.hidden * (qkv_width + part.query_width) + model.num_bias * (
        qkv_width + model.hidden
    )


def _latent_parameters(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the projections of latent attention and of the norms of its latents.

    The down projections to the latents are replicated, the up projections to the heads are sharded.
    """
    key_width = model.qk_nope_head_dim + model.qk_rope_head_dim
    heads = model.num_heads / tensor
    direct = model.hidden * heads * key_width
    low_rank = model.q_lora_rank * (model.hidden + heads * key_width + model.num_norm_vectors)
    queries = jnp.where(model.q_lora_rank > 0.0, low_rank, direct)
    down = model.hidden * (model.kv_lora_rank + model.qk_rope_head_dim)
    up = model.kv_lora_rank * heads * (model.qk_nope_head_dim + model.v_head_dim)
    norm = model.num_norm_vectors * model.kv_lora_rank
    return queries + down + up + norm + heads * model.v_head_dim * model.hidden


def attention_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of the attention of one layer on one of `tensor` ranks, with the layer norms."""
    norms = model.num_norm_vectors * model.num_layer_norms * model.hidden
    head_norms = model.num_head_norm_vectors * model.head_dim
    is_latent = model.kv_lora_rank > 0.0
    grouped, latent = _projection_parameters(model, tensor), _latent_parameters(model, tensor)
    return jnp.where(is_latent, latent, grouped) + norms + head_norms


def mlp_parameters(model: Transformer, width: Scalar) -> Scalar:
    """Parameters of an MLP with `width` inner elements on one rank, with biases."""
    up_width = (model.num_mlp_matrices - 1.0) * width
    return model.hidden * (up_width + width) + model.num_bias * (up_width + model.hidden)


def layer_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of one dense layer on one of `tensor` ranks (matrices, biases, norms)."""
    return attention_parameters(model, tensor) + mlp_parameters(model, model.feedforward / tensor)


def mixture_layer_parameters(
    model: Transformer, tensor: Scalar = 1.0, expert: Scalar = 1.0, expert_tensor: Scalar = 1.0
) -> Scalar:
    """Parameters of one MoE layer on one rank.

    The routed experts are distributed over `expert` groups of ranks, and each expert is sharded
    over `expert_tensor` ranks. Attention and shared experts are sharded over `tensor` ranks. The
    router is replicated.
    """
    num_local = model.num_experts / expert
    experts = num_local * mlp_parameters(model, model.expert_feedforward / expert_tensor)
    router = model.num_experts * (model.hidden + model.num_router_bias)
    return attention_parameters(model, tensor) + experts + router + _shared(model, tensor)


def _shared(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the shared experts (one MLP) on one rank; 0 without shared experts."""
    width = model.num_shared_experts * model.expert_feedforward / tensor
    return jnp.where(model.num_shared_experts > 0.0, mlp_parameters(model, width), 0.0)


def num_mixture_layers(model: Transformer) -> Scalar:
    """MoE layers: all except the first dense layers; 0 in a dense model."""
    return jnp.where(model.num_experts > 0.0, model.num_layers - model.num_dense_layers, 0.0)


def mixture_share(model: Transformer) -> Scalar:
    """Share of MoE layers in all layers."""
    return num_mixture_layers(model) / model.num_layers


def num_parameters(model: Transformer) -> Scalar:
    """Parameters of the model: layers, embeddings, final norm.

    Equal to the published counts (Llama 2 7B 6,738,415,616; Mixtral 8x7B 46,702,792,704).
    """
    embeddings = model.hidden * (
        model.num_embeddings * model.vocabulary + model.num_positions + model.num_norm_vectors
    )
    num_mixtures = num_mixture_layers(model)
    dense = (model.num_layers - num_mixtures) * layer_parameters(model)
    return dense + num_mixtures * mixture_layer_parameters(model) + embeddings


def num_active_parameters(model: Transformer) -> Scalar:
    """Active parameters per token.

    Routed experts that do not process the token and lookup-only embeddings are excluded, as in the
    36.6 G of DeepSeek-V3.
    """
    idle = model.num_experts - model.experts_per_token
    expert = mlp_parameters(model, model.expert_feedforward)
    looked_up = model.hidden * ((model.num_embeddings - 1.0) * model.vocabulary)
    looked_up = looked_up + model.hidden * model.num_positions
    return num_parameters(model) - looked_up - num_mixture_layers(model) * idle * expert


def stage_parameters(
    model: Transformer,
    tensor: Scalar,
    pipeline: Scalar,
    expert: Scalar = 1.0,
    expert_tensor: Scalar = 1.0,
) -> Scalar:
    """Parameters on one rank of the most loaded stage: its layers and one embedding.

    Without a pipeline: all embeddings. The stage has as many MoE layers as the model, at most its
    number of layers.
    """
    layers = num_tiles(model.num_layers, pipeline)
    num_mixtures = jnp.minimum(num_mixture_layers(model), layers)
    mixture = mixture_layer_parameters(model, tensor, expert, expert_tensor)
    num_embeddings = jnp.where(pipeline > 1.0, 1.0, model.num_embeddings)
    embeddings = model.hidden * (num_embeddings * model.vocabulary + model.num_positions) / tensor
    dense = (layers - num_mixtures) * layer_parameters(model, tensor)
    return dense + num_mixtures * mixture + embeddings


def routed_parameters(model: Transformer, expert: Scalar, expert_tensor: Scalar) -> Scalar:
    """Parameters of the routed experts of one layer on one rank."""
    one = mlp_parameters(model, model.expert_feedforward / expert_tensor)
    return model.num_experts / expert * one


def stage_expert_parameters(
    model: Transformer, pipeline: Scalar, expert: Scalar, expert_tensor: Scalar
) -> Scalar:
    """Routed expert parameters within `stage_parameters`, which have fewer replicas."""
    layers = num_tiles(model.num_layers, pipeline)
    num_mixtures = jnp.minimum(num_mixture_layers(model), layers)
    return num_mixtures * routed_parameters(model, expert, expert_tensor)
