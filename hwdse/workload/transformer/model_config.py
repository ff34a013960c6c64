"""Transformer model configuration, kinds of its layers, and pre-training job."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax.core import Tracer

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


class LayerKind(NamedTuple):
    """Code path of a layer."""

    is_latent: bool
    """True for latent attention, false for grouped-query attention."""
    is_mixture: bool
    """True for a mixture of experts, false for a dense MLP."""
    has_attention: bool = True
    """False for a layer without attention."""
    has_state: bool = False
    """True for a state-space mixer, instead of attention or parallel to it."""
    has_mlp: bool = True
    """False for a layer without experts and MLP."""
    has_expert_latent: bool = False
    """True for experts that process a projection of the hidden state."""
    has_delta: bool = False
    """True for a state that follows the gated delta rule."""


@struct.dataclass
class LayerOverrides:
    """Layers of one kind in a model that mixes kinds: their number, and the fields that differ.

    Fields that are left out have the values of `Transformer`. The layers of a model are those of
    its list of kinds, in this order, repeated until `num_layers`.
    """

    count: Leaf
    """Consecutive layers of this kind in one repetition of the list. Typical: 5 (Gemma 3, local
    attention)."""
    feedforward: Leaf | None = None
    num_heads: Leaf | None = None
    num_kv_heads: Leaf | None = None
    head_dim: Leaf | None = None
    sliding_window: Leaf | None = None
    attention_chunk: Leaf | None = None
    num_attention_gates: Leaf | None = None
    num_state_heads: Leaf | None = None
    state_head_dim: Leaf | None = None
    state_dim: Leaf | None = None
    num_state_groups: Leaf | None = None
    state_conv_width: Leaf | None = None
    state_chunk: Leaf | None = None
    num_state_conv_bias: Leaf | None = None
    num_delta_updates: Leaf | None = None
    num_mlp_matrices: Leaf | None = None
    num_bias: Leaf | None = None
    num_qkv_bias: Leaf | None = None
    num_output_bias: Leaf | None = None
    num_mlp_bias: Leaf | None = None
    num_layer_norms: Leaf | None = None
    num_head_norm_vectors: Leaf | None = None
    q_lora_rank: Leaf | None = None
    kv_lora_rank: Leaf | None = None
    qk_nope_head_dim: Leaf | None = None
    qk_rope_head_dim: Leaf | None = None
    v_head_dim: Leaf | None = None
    num_experts: Leaf | None = None
    experts_per_token: Leaf | None = None
    num_shared_experts: Leaf | None = None
    expert_feedforward: Leaf | None = None
    expert_hidden: Leaf | None = None
    num_router_bias: Leaf | None = None
    load_imbalance_ratio: Leaf | None = None

    def given(self) -> dict[str, Leaf]:
        """Fields that differ from those of the model, without `count`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if k != "count" and v is not None}


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Transformer:
    """Decoder: grouped-query or latent attention, state-space layers, MLP, mixture of experts.

    Fields from `num_layer_norms` on are optional in TOML. Their defaults mean that the model does
    not have the feature. Zero and above zero are different code paths for `num_experts`,
    `num_dense_layers`, `kv_lora_rank`, `num_heads`, `num_state_heads`, `num_delta_updates`,
    `feedforward` and `expert_hidden`: see `kinds`. A layer has attention if it has heads, a
    state-space mixer if it has state heads, and an MLP if it has experts or a feedforward size:
    zeros in `layers` give layers of one of them alone (Nemotron-H), a model with both kinds of
    heads has them in parallel.
    """

    num_layers: Leaf
    """Decoder layers. Typical: 80 (Llama 3 70B)."""
    hidden: Leaf
    """Hidden size. Typical: 8192 (Llama 3 70B)."""
    feedforward: Leaf
    """Inner size of the MLP of a dense layer; 0 with 0 experts: no MLP. Typical: 28,672 (Llama 3
    70B)."""
    num_heads: Leaf
    """Query heads; 0 in layers without attention. Typical: 64 (Llama 3 70B)."""
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
    """1 if the matrices of the layers have bias vectors, 0 if not. Typical: 0 (Llama 3 70B)."""
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
    sliding_window: Leaf = 0.0
    """Keys that a query attends to at most, its own included; 0 for all keys before it. Typical: 0,
    or 1024 in local layers (Gemma 3)."""
    attention_chunk: Leaf = 0.0
    """Tokens per chunk of chunked attention: a query attends to the keys of its own chunk up to
    itself; 0 without chunks. Typical: 0, or 8192 in three of four layers (Llama 4)."""
    num_attention_gates: Leaf = 0.0
    """1 if the attention output is multiplied by a gate as wide as the queries, projected from the
    hidden state; 0 if not. Not for latent attention. Typical: 0, or 1 (Qwen3.5)."""
    num_state_heads: Leaf = 0.0
    """Heads of a state-space mixer, each with a state of `state_head_dim` x `state_dim` (Mamba-2:
    Dao and Gu, arXiv 2405.21060; gated delta rule: Yang et al., arXiv 2412.06464); 0 without.
    Typical: 0, or 128 (Nemotron Nano v2)."""
    state_head_dim: Leaf = 0.0
    """Elements of the input (value) of a state head. Typical: 64 (Mamba-2)."""
    state_dim: Leaf = 0.0
    """Elements of the keys B and queries C of a state head. Typical: 128 (Mamba-2)."""
    num_state_groups: Leaf = 0.0
    """Groups of state heads with common keys and queries. Typical: 8 (Nemotron Nano v2)."""
    state_conv_width: Leaf = 0.0
    """Taps of the causal convolution before the state, one filter per channel. Typical: 4."""
    state_chunk: Leaf = 0.0
    """Tokens per chunk of the parallel scan in training and prefill: products within a chunk, a
    recurrence between chunks. Typical: 128 (Nemotron), 64 (gated delta rule)."""
    num_state_conv_bias: Leaf = 0.0
    """1 if the convolution has a bias per channel, 0 if not. Typical: 1 (Mamba-2)."""
    num_delta_updates: Leaf = 0.0
    """1 if a token first removes what the state has for its key (gated delta rule), 0 if it only
    decays the state (Mamba-2). Typical: 0, or 1 (Qwen3.5)."""
    expert_hidden: Leaf = 0.0
    """Elements of the hidden state that routed experts process, between a down and an up projection
    that all of them share; 0: `hidden`, without projections. Typical: 0, or 1024 (Nemotron 3
    Super)."""
    num_spread_layers: Leaf = 0.0
    """1 if the layers of each table `layers` are spread over the model, so that every pipeline
    stage has its share of them; 0 if they are consecutive. Typical: 0, or 1 (Nemotron-H)."""
    num_qkv_bias: Leaf | None = None
    """1 or 0 for the biases of the query, key and value projections alone. Default: `num_bias`.
    Typical: 1 (Qwen2.5)."""
    num_output_bias: Leaf | None = None
    """1 or 0 for the bias of the output projection of the attention alone. Default: `num_bias`."""
    num_mlp_bias: Leaf | None = None
    """1 or 0 for the biases of the MLP matrices alone, those of experts included. Default:
    `num_bias`. Typical: 1 (GPT-J)."""
    num_lm_head_bias: Leaf = 0.0
    """1 if the output projection to the vocabulary has a bias, 0 if not. Typical: 0, or 1
    (GPT-J)."""
    num_predicted_tokens: Leaf = 1.0
    """Tokens that a position predicts, each with a pass of the LM head: 1, and one more for every
    module of multi-token prediction (MTP, arXiv 2412.19437, section 2.2). The layer of a module
    counts in `num_layers`; its projection of 2 hidden x hidden is left out. Typical: 1, or 2
    (DeepSeek-V3 in pre-training)."""
    layers: tuple[LayerOverrides, ...] = ()
    """Kinds of layers that the model mixes, in order; empty if all layers follow from the fields
    above."""

    @functools.cached_property
    def kinds(self) -> tuple[tuple[LayerKind, ...], ...]:
        """Possible kinds of the layers of each entry of `layers`, or of all layers without entries.

        Determined from the numbers of this object, so a replaced number is never out of step with
        them. A traced number of experts, of dense layers or latent elements may be zero or not:
        both kinds are then possible, and the numbers decide which of them has layers. Traced
        numbers of heads, of elements of an MLP or of an expert's input count as above zero.
        Inside `jit`, a model that was an argument has the kinds of that argument.
        """
        return tuple(_possible_kinds(model) for model in self.layer_models)

    @functools.cached_property
    def layer_models(self) -> tuple[Self, ...]:
        """Models of the layers of each entry of `layers`; the model itself without entries."""
        if not self.layers:
            return (self,)
        return tuple(
            self.replace(layers=(), num_dense_layers=0.0, **entry.given()) for entry in self.layers
        )

    @property
    def program_key(self) -> tuple[Any, ...]:
        """Values that a compiled program depends on, the kinds of layers among them."""
        return self.kinds, *(getattr(self, name) for name in _FIELDS)

    def replace(self, **changes: Any) -> Self:
        """Copy with changed fields.

        Traced numbers that are not changed keep the kinds that they stood for.
        """
        copy = dataclasses.replace(self, **changes)
        if "kinds" in self.__dict__ and len(copy.layer_models) == len(self.kinds):
            same = not KIND_FIELDS & changes.keys()
            copy.__dict__["kinds"] = self.kinds if same else _updated(self.kinds, copy, changes)
        return copy

    def with_values(self, changes: dict[str, Any], kinds: tuple[LayerKind, ...]) -> Self:
        """Copy with changed fields and known kinds of layers; for traced numbers."""
        values = {name: changes.get(name, getattr(self, name)) for name in _FIELDS}
        return self._of(values.values(), (kinds,))

    @classmethod
    def _of(cls, values: Iterable[Any], kinds: tuple[tuple[LayerKind, ...], ...]) -> Self:
        copy = object.__new__(cls)
        copy.__dict__.update(zip(_FIELDS, values, strict=True), kinds=kinds)
        return copy

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], Any]:
        """Values with their keys, and kinds of layers, for JAX."""
        keys = ((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in _FIELDS)
        return tuple(keys), self.kinds

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Values, and kinds of layers, for JAX."""
        return tuple(getattr(self, name) for name in _FIELDS), self.kinds

    @classmethod
    def tree_unflatten(cls, kinds: Any, values: Iterable[Any]) -> Self:
        """Model of any values (numbers, tracers, gradients) with the kinds of another one."""
        return cls._of(values, kinds)


_FIELDS = tuple(field.name for field in dataclasses.fields(Transformer))
KIND_FIELDS = frozenset(
    {
        *("layers", "num_layers", "num_dense_layers", "num_experts", "kv_lora_rank"),
        *("num_heads", "num_state_heads", "feedforward"),
        *("expert_hidden", "num_delta_updates"),
    }
)
"""Fields that decide on the kinds of layers."""
DECIDED_BY: Mapping[str, str] = MappingProxyType(
    {
        "has_attention": "num_heads",
        "has_state": "num_state_heads",
        "has_expert_latent": "expert_hidden",
        "has_delta": "num_delta_updates",
    }
)
"""Field by the part of a kind that it decides on."""


def _signs(value: Leaf) -> tuple[bool, bool]:
    """True if a number can be zero, true if it can be above zero; both for a traced number."""
    if isinstance(value, int | float):
        return value <= 0, value > 0
    is_array = isinstance(value, np.ndarray | np.generic | jax.Array)
    if not is_array or isinstance(value, Tracer):
        return True, True
    numbers = np.asarray(value)
    return bool(np.any(numbers <= 0)), bool(np.any(numbers > 0))


def _is_positive(value: Leaf) -> bool:
    """True for a number above zero, and for a traced number."""
    return _signs(value)[1]


def _updated(
    before: tuple[tuple[LayerKind, ...], ...], model: Transformer, changes: dict[str, Any]
) -> tuple[tuple[LayerKind, ...], ...]:
    """Kinds of a changed model, with the parts that unchanged traced numbers decided on before."""
    found = []
    for old, layer in zip(before, model.layer_models, strict=True):
        kept = {
            flag: any(getattr(kind, flag) for kind in old)
            for flag, name in DECIDED_BY.items()
            if name not in changes and all(_signs(getattr(layer, name)))
        }
        found.append(tuple(kind._replace(**kept) for kind in _possible_kinds(layer)))
    return tuple(found)


def _possible_kinds(model: Transformer) -> tuple[LayerKind, ...]:
    """Kinds of layers that a model without entries in `layers` can have, dense layers first."""
    no_experts, has_experts = _signs(model.num_experts)
    has_dense = no_experts or _signs(model.num_dense_layers)[1]
    has_mixtures = has_experts and _signs(_difference(model.num_layers, model.num_dense_layers))[1]
    is_grouped, is_latent = _signs(model.kv_lora_rank)
    attentions = ((False, is_grouped), (True, is_latent))
    mlps = ((False, has_dense), (True, has_mixtures))
    has_width, in_latent = _is_positive(model.feedforward), _is_positive(model.expert_hidden)
    mixers = _is_positive(model.num_heads), _is_positive(model.num_state_heads)
    has_delta = mixers[1] and _is_positive(model.num_delta_updates)
    return tuple(
        LayerKind(latent, mixture, *mixers, mixture or has_width, mixture and in_latent, has_delta)
        for latent, can_attend in attentions
        for mixture, exists in mlps
        if can_attend and exists
    )


def _difference(first: Leaf, second: Leaf) -> Leaf:
    """Difference of two numbers; not traced, and None where one of them is no number."""
    traced = any(not isinstance(x, int | float | np.ndarray | np.generic) for x in (first, second))
    return None if traced else first - second


@struct.dataclass
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
    trainable_fraction: Leaf = 1.0
    """Fraction of the weights that are trained. Frozen weights have no weight-gradient GEMM, no
    gradient, no optimizer state and no data-parallel reduction; the gradients of their inputs are
    computed. The GEMMs of adapters are left out. Typical: 1, or 0.0006 (LoRA of rank 16 on the
    attention of Llama 2 70B: 44.6 M parameters of 69.0 G)."""
    segment_tokens: Leaf = 0.0
    """Tokens per document in a packed sequence, mean over tokens; a token attends only to its own
    document. 0: one document per sequence. Typical: 0."""
