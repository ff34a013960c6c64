"""Parameter counts of decoder transformers, per model, layer, rank and pipeline stage."""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import num_tiles
from hwdse.workload.transformer.layer_stacks import (
    LayerStack,
    largest_sum,
    layer_stacks,
    stage_candidates,
)
from hwdse.workload.transformer.model_config import Transformer
from hwdse.workload.transformer.state_space import state_parameters

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


@struct.dataclass
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
    queries = part.query_width + model.num_attention_gates * part.query_width
    return (queries + distinct_kv) / (queries + part.kv_width)


def _bias(model: Transformer, own: Leaf | None) -> Leaf:
    """1 if matrices have a bias: their own field, or that of all matrices."""
    return model.num_bias if own is None else own


def _projection_parameters(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the QKV and output projections of grouped-query attention, with biases."""
    part = layer_slice(model, tensor)
    qkv_width = part.query_width + part.kv_width + model.num_attention_gates * part.query_width
    biases = _bias(model, model.num_qkv_bias) * qkv_width
    biases = biases + _bias(model, model.num_output_bias) * model.hidden
    return model.hidden * (qkv_width + part.query_width) + biases


def _latent_parameters(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the projections of latent attention and of the norms of its latents.

    The down projections to the latents are replicated, the up projections to the heads are sharded.
    Only the down projections and the output projection can have biases, as in the published code
    (`attention_bias`).
    """
    key_width = model.qk_nope_head_dim + model.qk_rope_head_dim
    heads = model.num_heads / tensor
    direct = model.hidden * heads * key_width
    low_rank = model.q_lora_rank * (model.hidden + heads * key_width + model.num_norm_vectors)
    queries = jnp.where(model.q_lora_rank > 0.0, low_rank, direct)
    down = model.hidden * (model.kv_lora_rank + model.qk_rope_head_dim)
    up = model.kv_lora_rank * heads * (model.qk_nope_head_dim + model.v_head_dim)
    norm = model.num_norm_vectors * model.kv_lora_rank
    latents = model.q_lora_rank + model.kv_lora_rank + model.qk_rope_head_dim
    biases = _bias(model, model.num_qkv_bias) * latents
    biases = biases + _bias(model, model.num_output_bias) * model.hidden
    return queries + down + up + norm + heads * model.v_head_dim * model.hidden + biases


def attention_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of the attention of one layer on one of `tensor` ranks, with the layer norms."""
    norms = model.num_norm_vectors * model.num_layer_norms * model.hidden
    head_norms = model.num_head_norm_vectors * model.head_dim
    is_latent = model.kv_lora_rank > 0.0
    grouped, latent = _projection_parameters(model, tensor), _latent_parameters(model, tensor)
    return jnp.where(is_latent, latent, grouped) + norms + head_norms


def mlp_parameters(model: Transformer, width: Scalar, hidden: Scalar | None = None) -> Scalar:
    """Parameters of an MLP with `width` inner elements on one rank, with biases.

    `hidden` is the size of its input and output, by default that of the model.
    """
    hidden = model.hidden if hidden is None else hidden
    up_width = (model.num_mlp_matrices - 1.0) * width
    biases = _bias(model, model.num_mlp_bias) * (up_width + hidden)
    return hidden * (up_width + width) + biases


def expert_hidden(model: Transformer) -> Scalar:
    """Elements of the input and output of a routed expert."""
    return jnp.where(model.expert_hidden > 0.0, model.expert_hidden, model.hidden)


def expert_parameters(model: Transformer, width: Scalar) -> Scalar:
    """Parameters of one routed expert with `width` inner elements on one rank."""
    return mlp_parameters(model, width, expert_hidden(model))


def layer_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of one dense layer on one of `tensor` ranks (matrices, biases, norms)."""
    return attention_parameters(model, tensor) + mlp_parameters(model, model.feedforward / tensor)


def mixture_layer_parameters(
    model: Transformer,
    tensor: Scalar = 1.0,
    expert: Scalar = 1.0,
    expert_tensor: Scalar = 1.0,
    mixers: Scalar | None = None,
) -> Scalar:
    """Parameters of one MoE layer on one rank.

    The routed experts are distributed over `expert` groups of ranks, and each expert is sharded
    over `expert_tensor` ranks. Attention and shared experts are sharded over `tensor` ranks. The
    router is replicated, as the projections to the input of the experts. `mixers` are the
    parameters of the layer's mixers and norms, by default those of attention.
    """
    num_local = model.num_experts / expert
    experts = num_local * expert_parameters(model, model.expert_feedforward / expert_tensor)
    router = model.num_experts * (model.hidden + model.num_router_bias)
    router = router + 2.0 * model.hidden * model.expert_hidden
    mixers = attention_parameters(model, tensor) if mixers is None else mixers
    return mixers + experts + router + _shared(model, tensor)


def _shared(model: Transformer, tensor: Scalar) -> Scalar:
    """Parameters of the shared experts (one MLP) on one rank; 0 without shared experts."""
    width = model.num_shared_experts * model.expert_feedforward / tensor
    return jnp.where(model.num_shared_experts > 0.0, mlp_parameters(model, width), 0.0)


def mixer_parameters(stack: LayerStack, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of attention and state-space mixer of one layer on one rank, with all norms."""
    model, kind = stack.model, stack.kind
    mixers = attention_parameters(model, tensor)
    if not kind.has_attention:
        mixers = model.num_norm_vectors * model.num_layer_norms * model.hidden
    return mixers + state_parameters(model, tensor) if kind.has_state else mixers


def stack_parameters(
    stack: LayerStack, tensor: Scalar = 1.0, expert: Scalar = 1.0, expert_tensor: Scalar = 1.0
) -> Scalar:
    """Parameters of one layer of a stack on one rank."""
    model, kind, mixers = stack.model, stack.kind, mixer_parameters(stack, tensor)
    if kind.is_mixture:
        return mixture_layer_parameters(model, tensor, expert, expert_tensor, mixers)
    return mixers + mlp_parameters(model, model.feedforward / tensor) if kind.has_mlp else mixers


def num_parameters(model: Transformer) -> Scalar:
    """Parameters of the model: layers, embeddings, final norm.

    Equal to the published counts (Llama 2 7B 6,738,415,616; Mixtral 8x7B 46,702,792,704).
    """
    embeddings = model.hidden * (
        model.num_embeddings * model.vocabulary + model.num_positions + model.num_norm_vectors
    )
    layers = sum(stack.count * stack_parameters(stack) for stack in layer_stacks(model))
    return layers + embeddings + model.num_lm_head_bias * model.vocabulary


def num_active_parameters(model: Transformer) -> Scalar:
    """Active parameters per token.

    Routed experts that do not process the token and lookup-only embeddings are excluded, as in the
    36.6 G of DeepSeek-V3.
    """
    looked_up = model.hidden * ((model.num_embeddings - 1.0) * model.vocabulary)
    idle = looked_up + model.hidden * model.num_positions
    for stack in layer_stacks(model):
        if stack.kind.is_mixture:
            inner = stack.model
            expert = expert_parameters(inner, inner.expert_feedforward)
            idle = idle + stack.count * (inner.num_experts - inner.experts_per_token) * expert
    return num_parameters(model) - idle


def routed_parameters(
    stack: LayerStack, expert: Scalar = 1.0, expert_tensor: Scalar = 1.0
) -> Scalar:
    """Parameters of the routed experts of one layer of a stack on one rank; 0 if it has none."""
    if not stack.kind.is_mixture:
        return 0.0
    one = expert_parameters(stack.model, stack.model.expert_feedforward / expert_tensor)
    return stack.model.num_experts / expert * one


def stage_parameters(
    model: Transformer,
    tensor: Scalar,
    pipeline: Scalar,
    expert: Scalar = 1.0,
    expert_tensor: Scalar = 1.0,
    largest: Scalar | None = None,
) -> tuple[Scalar, Scalar]:
    """Parameters on one rank of the stage with most of them, and its routed experts among them.

    The layers of the stage (`stage_candidates`) and one embedding, or without a pipeline all
    embeddings. `largest` is the number of layers of the largest stage; default: of equal stages.
    """
    stacks = layer_stacks(model)
    layers_of_stage = num_tiles(model.num_layers, pipeline) if largest is None else largest
    layers, experts = largest_sum(
        stage_candidates(model, stacks, layers_of_stage),
        tuple(stack_parameters(stack, tensor, expert, expert_tensor) for stack in stacks),
        tuple(routed_parameters(stack, expert, expert_tensor) for stack in stacks),
    )
    num_embeddings = jnp.where(pipeline > 1.0, 1.0, model.num_embeddings)
    embeddings = model.hidden * (num_embeddings * model.vocabulary + model.num_positions) / tensor
    return layers + (embeddings + model.num_lm_head_bias * model.vocabulary / tensor), experts
