"""Transformer model configuration and pre-training job."""

import dataclasses
from typing import NamedTuple

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class Transformer:
    """Decoder transformer: grouped-query or latent attention, MLP of two or three matrices, MoE.

    Fields from `num_layer_norms` on are optional in TOML. Their defaults mean that the model does
    not have the feature.
    """

    num_layers: Leaf
    """Decoder layers. Typical: 80 (Llama 3 70B)."""
    hidden: Leaf
    """Hidden size. Typical: 8192 (Llama 3 70B)."""
    feedforward: Leaf
    """Inner size of the MLP of a dense layer. Typical: 28,672 (Llama 3 70B)."""
    num_heads: Leaf
    """Query heads. Typical: 64 (Llama 3 70B)."""
    num_kv_heads: Leaf
    """Key-value heads of grouped-query attention; not used by latent attention. Typical: 8 (Llama 3
    70B)."""
    head_dim: Leaf
    """Elements per head; not used by latent attention. Typical: 128 (Llama 3 70B)."""
    vocabulary: Leaf
    """Vocabulary size. Typical: 128,256 (Llama 3 70B)."""
    num_positions: Leaf
    """Learned position embeddings; 0 for rotary embeddings. Typical: 0 (Llama 3 70B)."""
    num_mlp_matrices: Leaf
    """Matrices per MLP: 3 with a gate (gate, up, down), 2 without. Typical: 3 (Llama 3 70B)."""
    num_embeddings: Leaf
    """Vocabulary matrices: 2 with a separate output projection, 1 if it is tied to the input
    embedding. Typical: 2 (Llama 3 70B)."""
    num_norm_vectors: Leaf
    """Learned vectors per normalization: 1 for RMSNorm, 2 for LayerNorm. Typical: 1 (Llama 3
    70B)."""
    num_bias: Leaf
    """1 if matrices have bias vectors, 0 if not. Typical: 0 (Llama 3 70B)."""
    num_layer_norms: Leaf = 2.0
    """Normalizations per layer: 1 if attention and MLP are parallel (PaLM). Typical: 2."""
    num_head_norm_vectors: Leaf = 0.0
    """Learned vectors of `head_dim` elements per layer for queries and keys. Typical: 0, or 2 for
    RMSNorm of both (Qwen3)."""
    q_lora_rank: Leaf = 0.0
    """Elements of the query latent (latent attention: DeepSeek-AI, arXiv 2405.04434, section 2.1);
    0 if queries are projected from the hidden state. Typical: 1536 (DeepSeek-V3)."""
    kv_lora_rank: Leaf = 0.0
    """Elements of the latent shared by keys and values; 0 without latent attention, as for its head
    dimensions. Typical: 512 (DeepSeek-V3)."""
    qk_nope_head_dim: Leaf = 0.0
    """Query and key elements per head without position. Typical: 128 (DeepSeek-V3)."""
    qk_rope_head_dim: Leaf = 0.0
    """Query and key elements per head with rotary position; all heads share the key's. Typical: 64
    (DeepSeek-V3)."""
    v_head_dim: Leaf = 0.0
    """Value elements per head of latent attention. Typical: 128 (DeepSeek-V3)."""
    num_experts: Leaf = 0.0
    """Routed experts per MoE layer; 0: all layers are dense. Typical: 256 (DeepSeek-V3)."""
    experts_per_token: Leaf = 0.0
    """Routed experts per token. Typical: 8 (DeepSeek-V3)."""
    num_shared_experts: Leaf = 0.0
    """Experts that process all tokens, modeled as one MLP. Typical: 1 (DeepSeek-V3)."""
    expert_feedforward: Leaf = 0.0
    """Inner size of the MLP of an expert. Typical: 2048 (DeepSeek-V3)."""
    num_dense_layers: Leaf = 0.0
    """First layers without experts, with `feedforward`. Typical: 3 (DeepSeek-V3)."""
    num_router_bias: Leaf = 0.0
    """1 if the router has a bias per expert, learned or balanced. Typical: 1 (DeepSeek-V3)."""
    load_imbalance_ratio: Leaf = 1.0
    """Tokens of the busiest expert rank over the mean of all. Typical: 1."""


class LayerKind(NamedTuple):
    """Code path of a layer; static, determined before tracing by `kinds_of`."""

    is_latent: bool
    """True for latent attention, false for grouped-query attention."""
    is_mixture: bool
    """True for a mixture of experts, false for a dense MLP."""


def kinds_of(model: Transformer) -> tuple[LayerKind, ...]:
    """Kinds of layers of a model, in order. Requires a model of plain numbers, outside jit."""
    is_latent = float(model.kv_lora_rank) > 0.0
    has_experts = float(model.num_experts) > 0.0
    has_dense = not has_experts or float(model.num_dense_layers) > 0.0
    has_mixtures = has_experts and float(model.num_dense_layers) < float(model.num_layers)
    kinds = ((False, has_dense), (True, has_mixtures))
    return tuple(LayerKind(is_latent, mixed) for mixed, exists in kinds if exists)


@flax.struct.dataclass
class TransformerTraining:
    """Pre-training job: model, sequence length and batch."""

    model: Transformer
    """Transformer model."""
    seq_len: Leaf
    """Tokens per sequence. Typical: 8192 (Llama 3 70B)."""
    global_batch: Leaf
    """Sequences per optimizer step, over all replicas. Typical: 1024 (Llama 3 70B)."""
    attention_fraction: Leaf
    """Fraction of the score matrix that kernels compute. Typical: 0.5, causal blocks above the
    diagonal are skipped."""
    gradient_element_bytes: Leaf
    """Bytes per gradient element, in memory and in collectives. Typical: 4 B (FP32 accumulation and
    reduction). Assumed."""
    optimizer_state_bytes_per_parameter: Leaf
    """Bytes of master weights and moments per parameter. Typical: 12 B (Adam in mixed precision,
    ZeRO, section 3.1)."""
    kinds: tuple[LayerKind, ...] = flax.struct.field(
        pytree_node=False, default=(LayerKind(is_latent=False, is_mixture=False),)
    )
    """Kinds of layers of the model, set by `with_kinds`."""


def with_kinds(job: TransformerTraining) -> TransformerTraining:
    """Job with the kinds of layers of its model. Call outside jit."""
    return dataclasses.replace(job, kinds=kinds_of(job.model))
