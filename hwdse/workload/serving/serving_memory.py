"""Memory of a chip that serves: weights, KV cache per token, tokens that fit."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.serving.engine import ServingEngine, ServingFormats, ServingStrategy
from hwdse.workload.serving.step_operators import NO_WINDOW
from hwdse.workload.transformer.dense_transformer import (
    mixer_parameters,
    routed_parameters,
    stack_parameters,
)
from hwdse.workload.transformer.layer_stacks import LayerStack, layer_stacks
from hwdse.workload.transformer.model_config import Transformer
from hwdse.workload.transformer.state_space import state_bytes


def weight_bytes(model: Transformer, formats: ServingFormats, strategy: ServingStrategy) -> Scalar:
    """Bytes of the weights on a chip of the mean pipeline stage.

    The first and the last stage hold one embedding each; without a pipeline a chip holds all.
    """
    total: Leaf = 0.0
    for stack in layer_stacks(model):
        experts = routed_parameters(stack, strategy.expert, strategy.expert_shards)
        layer = stack_parameters(stack, strategy.tensor, strategy.expert, strategy.expert_shards)
        mixer = mixer_parameters(stack, strategy.tensor)
        router = stack.model.num_experts * stack.model.hidden if stack.kind.is_mixture else 0.0
        bits = (
            formats.attention_bits * mixer
            + formats.dense_bits * (layer - mixer - experts - router)
            + formats.expert_bits * experts
            + 16.0 * router
        )
        total = total + stack.count * bits / 8.0
    num_embeddings = jnp.where(strategy.pipeline > 1.0, 1.0, model.num_embeddings)
    embeddings = num_embeddings * model.vocabulary * model.hidden / strategy.tensor
    return total / strategy.pipeline + embeddings * formats.head_bits / 8.0


def layer_kv_elements(stack: LayerStack, tensor: Scalar) -> Scalar:
    """Elements per token of the KV cache of one layer on one rank.

    A key-value head is not sharded: beyond `num_kv_heads` ranks each rank has a copy of one. The
    latent and the rotary key of latent attention are on every rank.
    """
    model = stack.model
    if not stack.kind.has_attention:
        return 0.0
    if stack.kind.is_latent:
        return model.kv_lora_rank + model.qk_rope_head_dim
    return 2.0 * jnp.maximum(model.num_kv_heads / tensor, 1.0) * model.head_dim


def kv_bytes_per_token(
    model: Transformer, formats: ServingFormats, strategy: ServingStrategy
) -> Scalar:
    """Bytes of the KV cache per token of long contexts on one chip, without sliding windows."""
    elements = sum(
        stack.count
        * jnp.where(stack.model.sliding_window > 0.0, 0.0, 1.0)
        * layer_kv_elements(stack, strategy.tensor)
        for stack in layer_stacks(model)
    )
    return elements * formats.kv_bits / 8.0 / (strategy.pipeline * strategy.context)


def sequence_bytes(
    model: Transformer, formats: ServingFormats, strategy: ServingStrategy, tokens: Scalar
) -> Scalar:
    """Bytes on one chip of a sequence of `tokens` tokens: KV cache and recurrent states.

    Layers with a window keep its tokens, layers with chunks those of a chunk.
    """
    kept_bytes: Leaf = 0.0
    states: Leaf = 0.0
    for stack in layer_stacks(model):
        each = stack.model
        most = jnp.where(each.sliding_window > 0.0, each.sliding_window, NO_WINDOW)
        most = jnp.where(each.attention_chunk > 0.0, each.attention_chunk, most)
        elements = layer_kv_elements(stack, strategy.tensor) * jnp.minimum(most, tokens)
        kept_bytes = kept_bytes + stack.count * elements * formats.kv_bits / 8.0
        if stack.kind.has_state:
            state = state_bytes(each, strategy.tensor, formats.state_bits / 8.0)
            states = states + stack.count * state
    return (kept_bytes / strategy.context + states) / strategy.pipeline


def cache_bytes(
    model: Transformer,
    formats: ServingFormats,
    strategy: ServingStrategy,
    engine: ServingEngine,
    hbm_bytes: Scalar,
) -> Scalar:
    """HBM of a chip for the KV cache: what weights and runtime leave of the engine's share."""
    rest = engine.memory_fraction * hbm_bytes - engine.runtime_memory_bytes
    return jnp.maximum(rest - weight_bytes(model, formats, strategy), 0.0)


def max_sequences(
    model: Transformer,
    formats: ServingFormats,
    strategy: ServingStrategy,
    engine: ServingEngine,
    hbm_bytes: Scalar,
    tokens: Scalar,
) -> Scalar:
    """Sequences of a replica that fit with `tokens` tokens each, at most the engine's limit.

    Half a page per sequence is lost. Attention groups hold different sequences.
    """
    with_page = tokens + 0.5 * engine.page_tokens
    each = sequence_bytes(model, formats, strategy, with_page)
    fits = cache_bytes(model, formats, strategy, engine, hbm_bytes) / each
    return jnp.minimum(strategy.attention_data * fits, engine.max_sequences)
