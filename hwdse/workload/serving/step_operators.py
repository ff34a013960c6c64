"""Operators of one step of an inference engine on one chip, under a parallelism strategy.

A step generates a token for each decoding sequence and processes some prompt tokens; both go
through the same products. A replica with pipeline stages has as many steps in flight: a chip
passes `1 / pipeline` of the sequences through `1 / pipeline` of the layers, `pipeline` times per
step, which is the work of all layers for its share of the sequences. Operators are those of the
chip with the mean load; the busiest expert rank is in `expert_load`.

Latent attention is absorbed: queries are projected into the latent space, so that decoding reads
one latent per token for all heads (DeepSeek-AI, arXiv 2405.04434, section 2.1.2). Products that
absorb a matrix have the FLOP of the projections of prompts, which are not absorbed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.kernel_formats import KernelFormat
from hwdse.specs.serving.engine import ServingFormats, ServingStrategy
from hwdse.specs.serving.requests import StepLoad
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
    layer_slice,
)
from hwdse.workload.transformer.latent_attention import key_dim
from hwdse.workload.transformer.layer_stacks import LayerStack, layer_stacks
from hwdse.workload.transformer.model_config import Transformer

NO_WINDOW = 1e18
"""Window of full attention (tokens)."""
NORM_TRAFFIC = 4.0
"""Elements moved per element of a norm fused with its residual: both read, both written."""
FEWEST = 1e-3
"""Least tokens and sequences inside formulas, so that times and slopes of an empty load are
finite."""


@struct.dataclass
class Products:
    """Matrix products of activations (m x k) and weights (k x n)."""

    m: Leaf
    n: Leaf
    k: Leaf
    count: Leaf
    """Executions per step."""
    fmt: KernelFormat


@struct.dataclass
class Attentions:
    """Fused attention kernels; fields as `models.compute.attention_kernels.AttentionWork`."""

    batch: Leaf
    q_len: Leaf
    kv_len: Leaf
    num_heads: Leaf
    num_kv_heads: Leaf
    head_dim: Leaf
    v_head_dim: Leaf
    is_value_in_key: Leaf
    window: Leaf
    kv_bytes: Leaf
    math_bits: Leaf
    count: Leaf
    """Executions per step."""


@struct.dataclass
class Experts:
    """Routed experts of the MoE layers of one kind."""

    tokens: Leaf
    """Tokens that are routed among all experts of a layer."""
    experts_per_token: Leaf
    num_experts: Leaf
    hidden: Leaf
    inner: Leaf
    """Inner size of an expert on one rank."""
    num_matrices: Leaf
    ranks: Leaf
    """Groups of ranks with different experts."""
    count: Leaf
    """Layers."""
    fmt: KernelFormat


@struct.dataclass
class Elementwise:
    """Norms, activations, rotary embeddings, embedding look-up."""

    hbm_bytes: Leaf
    vector_flop: Leaf
    num_kernels: Leaf
    count: Leaf
    """Executions per step."""


class Message(NamedTuple):
    """Collectives of one kind and size."""

    kind: str
    """Name in `training.hierarchical_collectives.COLLECTIVES`."""
    group: str
    """Group of ranks: tensor, expert, context, pipeline."""
    message_bytes: Leaf
    count: Leaf
    """Collectives per step."""
    copies: Leaf = 1.0
    """Destinations of each element of an all-to-all."""


@struct.dataclass
class StepOperators:
    """Operators of a step on one chip."""

    products: Products
    attentions: Attentions
    experts: tuple[Experts, ...]
    elementwise: Elementwise
    messages: tuple[Message, ...]
    num_layers: Leaf
    """Layers that the chip passes in a step."""
    num_expert_layers: Leaf
    """MoE layers among them."""
    num_quantized: Leaf
    """Products whose activations are quantized, those of experts counted once per layer."""
    sampled_sequences: Leaf
    """Sequences of the chip's group that get a token from logits."""
    vocabulary: Leaf


@struct.dataclass
class GroupLoad:
    """Load of one group of tensor-parallel ranks in one pass through the layers."""

    decode_sequences: Leaf
    decode_tokens: Leaf
    """Tokens of decoding sequences, speculated ones included."""
    decode_context: Leaf
    prefill_tokens: Leaf
    """Prompt tokens of one context rank."""
    prefill_context: Leaf
    prefill_sequences: Leaf

    @property
    def tokens(self) -> Leaf:
        """Tokens of all products."""
        return jnp.maximum(self.decode_tokens + self.prefill_tokens, FEWEST)


def group_load(load: StepLoad, strategy: ServingStrategy) -> GroupLoad:
    """Share of one group of tensor ranks in the load of a replica."""
    groups = strategy.attention_data * strategy.pipeline
    sequences = load.decode_sequences / groups
    return GroupLoad(
        decode_sequences=sequences,
        decode_tokens=sequences * (1.0 + strategy.draft_tokens),
        decode_context=load.decode_context,
        prefill_tokens=load.prefill_tokens / (groups * strategy.context),
        prefill_context=load.prefill_context,
        prefill_sequences=load.prefill_sequences / groups,
    )


def presence(amount: Scalar) -> Scalar:
    """1 if there is at least one, 0 if there is none, linear between them for the gradient."""
    return jnp.clip(amount, 0.0, 1.0)


class _Rows:
    """Operators collected so far."""

    def __init__(self, share: GroupLoad, formats: ServingFormats, strategy: ServingStrategy):
        self.share, self.formats, self.strategy = share, formats, strategy
        self.products: list[tuple[Leaf, ...]] = []
        self.product_formats: list[KernelFormat] = []
        self.attentions: list[tuple[Leaf, ...]] = []
        self.experts: list[Experts] = []
        self.elementwise: list[tuple[Leaf, ...]] = []
        self.messages: list[Message] = []
        self.quantized: Leaf = 0.0

    def product(self, m: Leaf, n: Leaf, k: Leaf, count: Leaf, fmt: KernelFormat) -> None:
        self.products.append((m, n, k, count))
        self.product_formats.append(fmt)
        self.quantized = self.quantized + count * is_quantized(fmt)

    def beside(self, traffic: Leaf, flop: Leaf, kernels: Leaf, count: Leaf) -> None:
        self.elementwise.append((traffic, flop, kernels, count))

    def reduce(self, tokens: Leaf, hidden: Leaf, count: Leaf) -> None:
        size = ACTIVATION_BYTES * tokens * hidden
        self.messages.append(Message("all_reduce", "tensor", size, count))


def kernel_format(bits: Leaf, math_bits: Leaf) -> KernelFormat:
    """Format of a product of weights of `bits` with math of `math_bits`.

    Activations have the width of the math. Weights narrower than the math are widened inside the
    product.
    """
    return KernelFormat(
        activation_bytes=math_bits / 8.0,
        weight_bytes=bits / 8.0,
        output_bytes=ACTIVATION_BYTES,
        math_bits=math_bits,
        is_dequantized=jnp.where(bits < math_bits, 1.0, 0.0),
    )


def is_quantized(fmt: KernelFormat) -> Leaf:
    """1 if activations are narrower than 16 bits, else 0."""
    return jnp.where(fmt.math_bits < 16.0, 1.0, 0.0)


def step_operators(
    model: Transformer, load: StepLoad, formats: ServingFormats, strategy: ServingStrategy
) -> StepOperators:
    """Operators of one step of a replica on one of its chips."""
    rows = _Rows(group_load(load, strategy), formats, strategy)
    expert_layers: Leaf = 0.0
    for stack in layer_stacks(model):
        if stack.kind.is_latent:
            _latent_attention(rows, stack)
        else:
            _grouped_attention(rows, stack)
        if stack.kind.is_mixture:
            _mixture(rows, stack)
            expert_layers = expert_layers + stack.count
        else:
            width = stack.model.feedforward / strategy.tensor
            dense = kernel_format(formats.dense_bits, formats.dense_math_bits)
            _mlp(rows, stack.model, width, stack.count, dense)
            _norm(rows, stack.model, stack.count)
            if_parallel = jnp.clip(stack.model.num_layer_norms - 1.0, 0.0, 1.0)
            rows.reduce(rows.share.tokens, stack.model.hidden, stack.count * if_parallel)
    sampled = _head(rows, model)
    return StepOperators(
        products=_stacked_products(rows),
        attentions=Attentions(*_columns(rows.attentions)),
        experts=tuple(rows.experts),
        elementwise=Elementwise(*_columns(rows.elementwise)),
        messages=tuple(rows.messages),
        num_layers=model.num_layers,
        num_expert_layers=expert_layers,
        num_quantized=rows.quantized,
        sampled_sequences=sampled,
        vocabulary=model.vocabulary,
    )


def _columns(rows: list[tuple[Leaf, ...]]) -> list[jax.Array]:
    return [
        jnp.stack([jnp.asarray(x, float) for x in column]) for column in zip(*rows, strict=True)
    ]


def _stacked_products(rows: _Rows) -> Products:
    def stacked(*leaves: Leaf) -> jax.Array:
        return jnp.stack([jnp.asarray(x, float) for x in leaves])

    return Products(*_columns(rows.products), fmt=jax.tree.map(stacked, *rows.product_formats))


def _norm(rows: _Rows, model: Transformer, count: Leaf) -> None:
    """Norm of the MLP or of the attention with its residual; half of those of a layer."""
    elements = rows.share.tokens * model.hidden
    norms = 0.5 * model.num_layer_norms
    flop = (norms * NORM_FLOP[0] + RESIDUAL_FLOP[0]) * elements
    rows.beside(norms * NORM_TRAFFIC * ACTIVATION_BYTES * elements, flop, norms, count)


def _grouped_attention(rows: _Rows, stack: LayerStack) -> None:
    """Projections and core of grouped-query attention."""
    model, share, strategy = stack.model, rows.share, rows.strategy
    part, tokens = layer_slice(model, strategy.tensor), share.tokens
    fmt = kernel_format(rows.formats.attention_bits, rows.formats.attention_math_bits)
    width = part.query_width + part.kv_width
    rows.product(tokens, width, model.hidden, stack.count, fmt)
    rows.product(tokens, model.hidden, part.query_width, stack.count, fmt)
    kv_heads = part.kv_width / (2.0 * model.head_dim)
    sizes = (part.num_heads, kv_heads, model.head_dim, model.head_dim, 0.0)
    _core(rows, model, stack.count, sizes, sizes)
    rotary = 2.0 * ACTIVATION_BYTES * tokens * width
    rows.beside(rotary, 4.0 * tokens * width, 1.0, stack.count)
    _norm(rows, model, stack.count)
    rows.reduce(tokens, model.hidden, stack.count)


def _latent_attention(rows: _Rows, stack: LayerStack) -> None:
    """Projections and core of absorbed latent attention."""
    model, share, strategy = stack.model, rows.share, rows.strategy
    tokens, heads = share.tokens, model.num_heads / strategy.tensor
    fmt = kernel_format(rows.formats.attention_bits, rows.formats.attention_math_bits)
    wide = kernel_format(16.0, 16.0)
    latent, rope = model.kv_lora_rank, model.qk_rope_head_dim
    query_in = jnp.where(model.q_lora_rank > 0.0, model.q_lora_rank, model.hidden)
    nope, values = model.qk_nope_head_dim, model.v_head_dim
    count = stack.count
    rows.product(tokens, model.q_lora_rank + latent + rope, model.hidden, count, fmt)
    rows.product(tokens, heads * key_dim(model), query_in, count, fmt)
    rows.product(tokens, heads * latent, nope, count, wide)
    rows.product(tokens, heads * values, latent, count, wide)
    rows.product(tokens, model.hidden, heads * values, count, fmt)
    absorbed = (heads, 1.0, latent + rope, latent, 1.0)
    plain = (heads, heads, key_dim(model), values, 0.0)
    _core(rows, model, count, absorbed, plain)
    elements = tokens * (model.q_lora_rank + latent + rope + heads * key_dim(model))
    rows.beside(2.0 * ACTIVATION_BYTES * elements, NORM_FLOP[0] * elements, 2.0, count)
    _norm(rows, model, count)
    rows.reduce(tokens, model.hidden, count)


def _core(
    rows: _Rows,
    model: Transformer,
    count: Leaf,
    decode_sizes: tuple[Leaf, ...],
    prefill_sizes: tuple[Leaf, ...],
) -> None:
    """Attention kernels of the decoding sequences and of the prompts.

    Sizes: heads, key-value heads, their dimensions, 1 if values are part of the keys. Context
    ranks share the keys of a decoding sequence and the tokens of a prompt.
    """
    share, formats, context = rows.share, rows.formats, rows.strategy.context
    window = jnp.where(model.sliding_window > 0.0, model.sliding_window, NO_WINDOW)
    ends = (window, formats.kv_bits / 8.0, formats.score_bits)
    new = 1.0 + rows.strategy.draft_tokens
    is_decoding = presence(share.decode_sequences)
    keys = jnp.maximum(share.decode_context / context, new)
    rows.attentions.append(
        (
            jnp.maximum(share.decode_sequences, FEWEST),
            new,
            keys,
            *decode_sizes,
            *ends,
            count * is_decoding,
        )
    )
    sequences = jnp.maximum(share.prefill_sequences, FEWEST)
    own = jnp.maximum(share.prefill_tokens / sequences, FEWEST)
    total = jnp.maximum(share.prefill_context + 0.5 * (own - 1.0), own)
    rows.attentions.append(
        (sequences, own, total, *prefill_sizes, *ends, count * presence(share.prefill_tokens))
    )
    heads, _, _, values, _ = decode_sizes
    size = ACTIVATION_BYTES * share.decode_tokens * heads * values
    is_shared = jnp.where(context > 1.0, 1.0, 0.0)
    rows.messages.append(Message("all_reduce", "context", size, count * is_shared))


def _mlp(rows: _Rows, model: Transformer, width: Leaf, count: Leaf, fmt: KernelFormat) -> None:
    """Up (with gate) and down projection, with the activation function between them."""
    tokens, gates = rows.share.tokens, model.num_mlp_matrices - 2.0
    rows.product(tokens, (1.0 + gates) * width, model.hidden, count, fmt)
    rows.product(tokens, model.hidden, width, count, fmt)
    traffic = ACTIVATION_BYTES * (2.0 + gates) * tokens * width
    rows.beside(traffic, (ACTIVATION_FLOP[0] + gates) * tokens * width, 1.0, count)


def _mixture(rows: _Rows, stack: LayerStack) -> None:
    """Router, routed experts and shared experts, with their exchange of tokens.

    Without attention data parallelism every rank has all tokens, computes its own experts, and an
    all-reduce adds the results. With it, tokens are sent to the ranks of their experts and back.
    """
    model, share, strategy, formats = stack.model, rows.share, rows.strategy, rows.formats
    tokens, count = share.tokens, stack.count
    rows.product(tokens, model.num_experts, model.hidden, count, kernel_format(16.0, 16.0))
    fmt = kernel_format(formats.expert_bits, formats.expert_math_bits)
    # context ranks repeat the decoded tokens and share those of prompts
    group_tokens = share.decode_tokens + strategy.context * share.prefill_tokens
    all_tokens = strategy.attention_data * group_tokens
    rows.experts.append(
        Experts(
            tokens=all_tokens,
            experts_per_token=model.experts_per_token,
            num_experts=model.num_experts,
            hidden=model.hidden,
            inner=model.expert_feedforward / strategy.expert_shards,
            num_matrices=model.num_mlp_matrices,
            ranks=strategy.expert,
            count=count,
            fmt=fmt,
        )
    )
    rows.quantized = rows.quantized + count * is_quantized(fmt)
    shared = model.num_shared_experts
    has_shared = jnp.where(shared > 0.0, 1.0, 0.0)
    width = jnp.maximum(shared, 1.0) * model.expert_feedforward / strategy.tensor
    dense = kernel_format(formats.dense_bits, formats.dense_math_bits)
    _mlp(rows, model, width, count * has_shared, dense)
    _norm(rows, model, count)
    is_spread = jnp.where(strategy.attention_data > 1.0, 1.0, 0.0)
    rows.reduce(tokens, model.hidden, count * (1.0 - is_spread))
    own = tokens / strategy.tensor * model.experts_per_token * model.hidden
    for element in (fmt.activation_bytes, ACTIVATION_BYTES):
        rows.messages.append(
            Message(
                "all_to_all", "expert", own * element, count * is_spread, model.experts_per_token
            )
        )


def _head(rows: _Rows, model: Transformer) -> Leaf:
    """Embedding, last norm, LM head and logits; returns the sequences that are sampled."""
    share, strategy, formats = rows.share, rows.strategy, rows.formats
    sampled = share.decode_sequences + jnp.minimum(share.prefill_sequences, share.prefill_tokens)
    logits = share.decode_tokens + sampled - share.decode_sequences
    width = model.vocabulary / strategy.tensor
    rows.product(logits, width, model.hidden, 1.0, kernel_format(formats.head_bits, 16.0))
    elements = share.tokens * model.hidden
    traffic = ACTIVATION_BYTES * (2.0 + NORM_TRAFFIC) * elements
    rows.beside(traffic, NORM_FLOP[0] * elements, 2.0, 1.0)
    size = ACTIVATION_BYTES * logits * model.vocabulary
    rows.messages.append(Message("all_gather", "tensor", size, 1.0))
    sent = ACTIVATION_BYTES * elements / strategy.tensor
    rows.messages.append(Message("point_to_point", "pipeline", sent, strategy.pipeline - 1.0))
    return sampled
