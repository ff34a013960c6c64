"""Shapes of the models that are trained, and their training."""

import dataclasses
from typing import NamedTuple

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class Transformer:
    """Shape of a decoder: grouped-query or latent attention, an MLP of two or three matrices.

    The fields from `num_layer_norms` on may be left out of a file; their values here mean that a
    model does not have what they describe.
    """

    num_layers: Leaf
    hidden: Leaf
    feedforward: Leaf
    num_heads: Leaf
    num_kv_heads: Leaf
    head_dim: Leaf
    vocabulary: Leaf
    num_positions: Leaf
    """Learned position embeddings; 0 for rotary ones."""
    num_mlp_matrices: Leaf
    """3 for a gated MLP (gate, up, down), 2 for a plain one."""
    num_embeddings: Leaf
    """2 with a vocabulary projection of its own, 1 where it is the input embedding."""
    num_norm_vectors: Leaf
    """Learned vectors of one normalisation: 1 for RMSNorm, 2 for LayerNorm."""
    num_bias: Leaf
    """1 where matrices have bias vectors, 0 where not."""
    num_layer_norms: Leaf = 2.0
    """Normalisations of a layer: 1 where attention and MLP run side by side (PaLM)."""
    num_head_norm_vectors: Leaf = 0.0
    """Learned vectors of `head_dim` that a layer has for its queries and keys: 2 for RMSNorm of
    both (Qwen3)."""
    q_lora_rank: Leaf = 0.0
    """Latent attention (DeepSeek-AI, arXiv 2405.04434, section 2.1): elements of the query latent,
    0 where queries come from the hidden state itself."""
    kv_lora_rank: Leaf = 0.0
    """Elements of the latent that keys and values share; 0: no latent attention, then the fields
    of its heads are 0 too. `head_dim` and `num_kv_heads` say nothing about latent attention."""
    qk_nope_head_dim: Leaf = 0.0
    """Elements of a query and a key of one head without position."""
    qk_rope_head_dim: Leaf = 0.0
    """Elements with rotary position; the key's are the same for all heads."""
    v_head_dim: Leaf = 0.0
    num_experts: Leaf = 0.0
    """Routed experts of a layer; 0: every layer is dense and has `feedforward`."""
    experts_per_token: Leaf = 0.0
    num_shared_experts: Leaf = 0.0
    """Experts that every token passes, together one MLP."""
    expert_feedforward: Leaf = 0.0
    num_dense_layers: Leaf = 0.0
    """First layers, which have `feedforward` and no experts."""
    num_router_bias: Leaf = 0.0
    """1 where the router has a learned or balanced bias for each expert (DeepSeek-V3)."""
    load_imbalance_ratio: Leaf = 1.0
    """Tokens of the busiest expert rank over the mean of all."""


class LayerKind(NamedTuple):
    """Which code a layer runs; static, so it is told apart before tracing (`kinds_of`)."""

    is_latent: bool
    is_mixture: bool


def kinds_of(model: Transformer) -> tuple[LayerKind, ...]:
    """The kinds of layers of a model, in their order. For a model of plain numbers, outside jit."""
    is_latent = float(model.kv_lora_rank) > 0.0
    has_experts = float(model.num_experts) > 0.0
    has_dense = not has_experts or float(model.num_dense_layers) > 0.0
    has_mixtures = has_experts and float(model.num_dense_layers) < float(model.num_layers)
    kinds = ((False, has_dense), (True, has_mixtures))
    return tuple(LayerKind(is_latent, mixed) for mixed, exists in kinds if exists)


@flax.struct.dataclass
class TransformerTraining:
    """A pre-training job: the model, its sequences and its batch."""

    model: Transformer
    seq_len: Leaf
    global_batch: Leaf
    """Sequences of one optimizer step, over all replicas."""
    attention_fraction: Leaf
    """Share of the score matrix that kernels compute: 0.5 where causal blocks are skipped."""
    gradient_element_bytes: Leaf
    """Bytes of one gradient element, in memory and on the wire."""
    optimizer_state_bytes_per_parameter: Leaf
    """Master weights and moments held for each parameter (12 for Adam in mixed precision)."""
    kinds: tuple[LayerKind, ...] = flax.struct.field(
        pytree_node=False, default=(LayerKind(is_latent=False, is_mixture=False),)
    )
    """Of the model, as `kinds_of` finds them: what `with_kinds` fills in."""


def with_kinds(job: TransformerTraining) -> TransformerTraining:
    """The job with the kinds of layers that its model has; outside of jit."""
    return dataclasses.replace(job, kinds=kinds_of(job.model))
