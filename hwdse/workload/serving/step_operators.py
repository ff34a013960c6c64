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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.attention_work import AttentionWork
from hwdse.specs.kernel_formats import KernelFormat
from hwdse.specs.serving.engine import ServingFormats, ServingStrategy
from hwdse.specs.serving.requests import StepLoad
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
    expert_hidden,
    layer_slice,
)
from hwdse.workload.transformer.latent_attention import key_dim
from hwdse.workload.transformer.layer_stacks import LayerStack, layer_stacks
from hwdse.workload.transformer.model_config import Transformer
from hwdse.workload.transformer.state_space import (
    chunked_flop,
    recurrent_flop,
    state_bytes,
    state_slice,
)

NO_WINDOW = 1e18
"""Window of full attention (tokens)."""
STATE_PASSES = 6.0
"""Elements moved per projected element of a prompt in a state-space layer: three reads, three
writes. Assumed."""
SCAN_KERNELS = 7.0
"""Kernels of the scan of a prompt in chunks (mamba_ssm, ssd_combined: convolution, five of the
scan, norm)."""
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
    """Fused attention kernels."""

    work: AttentionWork
    """Of one execution."""
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
    """Norms, activations, rotary embeddings, recurrent states, embedding look-up."""

    hbm_bytes: Leaf
    vector_flop: Leaf
    matrix_flop: Leaf
    """FLOP on the matrix engines: scan of a state-space layer over a prompt."""
    num_kernels: Leaf
    count: Leaf
    """Executions per step."""


class Message(NamedTuple):
    """Collectives of one kind and size."""

    kind: str
    """Name in `models.network.hierarchical_collectives.COLLECTIVES`."""
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
    num_blocks: Leaf
    """Blocks that the chip passes in a step: attention, state-space mixers, MLPs, mixtures."""
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
        self.attentions: list[Attentions] = []
        self.experts: list[Experts] = []
        self.elementwise: list[tuple[Leaf, ...]] = []
        self.messages: list[Message] = []
        self.quantized: Leaf = 0.0

    def product(self, m: Leaf, n: Leaf, k: Leaf, count: Leaf, fmt: KernelFormat) -> None:
        self.products.append((m, n, k, count))
        self.product_formats.append(fmt)
        self.quantized = self.quantized + count * fmt.is_cast

    def beside(
        self, traffic: Leaf, flop: Leaf, kernels: Leaf, count: Leaf, matrix_flop: Leaf = 0.0
    ) -> None:
        self.elementwise.append((traffic, flop, matrix_flop, kernels, count))

    def reduce(self, tokens: Leaf, hidden: Leaf, count: Leaf) -> None:
        size = ACTIVATION_BYTES * tokens * hidden
        self.messages.append(Message("all_reduce", "tensor", size, count))


def kernel_format(bits: Leaf, math_bits: Leaf) -> KernelFormat:
    """Format of a product of weights of `bits` with math of `math_bits`.

    Activations have the width of the math. Weights narrower than the math are widened inside the
    product. 8- and 4-bit activations are quantized by a pass over them; the fixed time of that is
    `ServingEngine.quantization_s`.
    """
    return KernelFormat(
        activation_bytes=math_bits / 8.0,
        weight_bytes=bits / 8.0,
        output_bytes=ACTIVATION_BYTES,
        math_bits=math_bits,
        is_cast=jnp.where(math_bits < 16.0, 1.0, 0.0),
        is_split=jnp.where(math_bits > 4.0, 1.0, 0.0),
    )


def step_operators(
    model: Transformer, load: StepLoad, formats: ServingFormats, strategy: ServingStrategy
) -> StepOperators:
    """Operators of one step of a replica on one of its chips."""
    rows = _Rows(group_load(load, strategy), formats, strategy)
    num_blocks: Leaf = 0.0
    expert_layers: Leaf = 0.0
    for stack in layer_stacks(model):
        kind, blocks = stack.kind, _blocks(stack)
        if kind.has_attention:
            (_latent_attention if kind.is_latent else _grouped_attention)(rows, stack)
        if kind.has_state:
            _state_mixer(rows, stack)
        if kind.is_mixture:
            _mixture(rows, stack)
            expert_layers = expert_layers + stack.count
        elif kind.has_mlp:
            _dense_mlp(rows, stack)
        _norms(rows, stack)
        num_blocks = num_blocks + blocks * stack.count
    sampled = _head(rows, model)
    return StepOperators(
        products=Products(*_columns(rows.products), fmt=_stacked(*rows.product_formats)),
        attentions=_stacked(*rows.attentions),
        experts=tuple(rows.experts),
        elementwise=Elementwise(*_columns(rows.elementwise)),
        messages=tuple(rows.messages),
        num_blocks=num_blocks,
        num_expert_layers=expert_layers,
        num_quantized=rows.quantized,
        sampled_sequences=sampled,
        vocabulary=model.vocabulary,
    )


def _blocks(stack: LayerStack) -> float:
    """Blocks of one layer: mixer of tokens, MLP; attention beside a state counts as one."""
    kind = stack.kind
    return float(kind.has_attention or kind.has_state) + float(kind.has_mlp)


def _columns(rows: list[tuple[Leaf, ...]]) -> tuple[jax.Array, ...]:
    return _stacked(*rows)


def _stacked(*items: Any) -> Any:
    """Pytrees with traced or plain leaves as one of arrays."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x, float) for x in leaves]), *items)


def _norms(rows: _Rows, stack: LayerStack) -> None:
    """Norms of a layer, each with the residual before it."""
    model = stack.model
    elements = rows.share.tokens * model.hidden
    flop = (model.num_layer_norms * NORM_FLOP[0] + _blocks(stack) * RESIDUAL_FLOP[0]) * elements
    traffic = model.num_layer_norms * NORM_TRAFFIC * ACTIVATION_BYTES * elements
    rows.beside(traffic, flop, model.num_layer_norms, stack.count)


def _grouped_attention(rows: _Rows, stack: LayerStack) -> None:
    """Projections and core of grouped-query attention."""
    model, share, strategy = stack.model, rows.share, rows.strategy
    part, tokens = layer_slice(model, strategy.tensor), share.tokens
    fmt = kernel_format(rows.formats.attention_bits, rows.formats.attention_math_bits)
    gates = model.num_attention_gates * part.query_width
    width = part.query_width + part.kv_width
    rows.product(tokens, width + gates, model.hidden, stack.count, fmt)
    rows.product(tokens, model.hidden, part.query_width, stack.count, fmt)
    kv_heads = part.kv_width / (2.0 * model.head_dim)
    sizes = (part.num_heads, kv_heads, model.head_dim, model.head_dim, 0.0)
    _core(rows, model, stack.count, sizes, sizes)
    rotary = ACTIVATION_BYTES * tokens * (2.0 * width + 3.0 * gates)
    rows.beside(rotary, 4.0 * tokens * (width + gates), 1.0, stack.count)
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
    rows.reduce(tokens, model.hidden, count)


def attention_window(model: Transformer, context: Scalar) -> Scalar:
    """Tokens that a query attends to at most: those of its window, or of its chunk.

    A token of a chunk attends to half of it on average, once the context is longer than a chunk.
    """
    window = jnp.where(model.sliding_window > 0.0, model.sliding_window, NO_WINDOW)
    chunk = jnp.where(model.attention_chunk > 0.0, model.attention_chunk, NO_WINDOW)
    return jnp.minimum(window, jnp.where(context > chunk, 0.5 * chunk, chunk))


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
    window = attention_window(model, share.decode_context)
    new = 1.0 + rows.strategy.draft_tokens
    is_decoding = presence(share.decode_sequences)

    def core(
        batch: Leaf, q_len: Leaf, kv_len: Leaf, sizes: tuple[Leaf, ...], decodes: float
    ) -> Any:
        heads, kv_heads, head_dim, v_head_dim, is_value_in_key = sizes
        return AttentionWork(
            batch=batch,
            q_len=q_len,
            kv_len=kv_len,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            v_head_dim=v_head_dim,
            kv_bytes=formats.kv_bits / 8.0,
            math_bits=formats.score_bits,
            is_value_in_key=is_value_in_key,
            window=window,
            is_decode=decodes,
        )

    keys = jnp.maximum(share.decode_context / context, new)
    batch = jnp.maximum(share.decode_sequences, FEWEST)
    decoding = core(batch, new, keys, decode_sizes, 1.0)
    rows.attentions.append(Attentions(decoding, count * is_decoding))
    sequences = jnp.maximum(share.prefill_sequences, FEWEST)
    own = jnp.maximum(share.prefill_tokens / sequences, FEWEST)
    total = jnp.maximum(share.prefill_context + 0.5 * (own - 1.0), own)
    prompts = core(sequences, own, total, prefill_sizes, 0.0)
    rows.attentions.append(Attentions(prompts, count * presence(share.prefill_tokens)))
    heads, _, _, values, _ = decode_sizes
    size = ACTIVATION_BYTES * share.decode_tokens * heads * values
    is_shared = jnp.where(context > 1.0, 1.0, 0.0)
    rows.messages.append(Message("all_reduce", "context", size, count * is_shared))


def _state_mixer(rows: _Rows, stack: LayerStack) -> None:
    """State-space mixer: projections, convolution, state, gated norm.

    A decoding sequence reads and writes its whole state. Prompts are scanned in chunks, whose
    inputs pass the HBM three times: convolution, scan, norm (assumed).
    """
    model, share, count = stack.model, rows.share, stack.count
    part, tokens = state_slice(model, rows.strategy.tensor), share.tokens
    fmt = kernel_format(rows.formats.attention_bits, rows.formats.attention_math_bits)
    rows.product(tokens, part.projected, model.hidden, count, fmt)
    rows.product(tokens, model.hidden, part.inner, count, fmt)
    tensor, decoded = rows.strategy.tensor, share.decode_tokens
    state = state_bytes(model, tensor, rows.formats.state_bits / 8.0)
    moved = 2.0 * state * share.decode_sequences + ACTIVATION_BYTES * decoded * part.projected
    is_decoding = presence(share.decode_sequences)
    moved = jnp.maximum(moved, FEWEST)
    rows.beside(moved, decoded * recurrent_flop(model, tensor), 3.0, count * is_decoding)
    scanned = STATE_PASSES * ACTIVATION_BYTES * share.prefill_tokens * part.projected
    flop = share.prefill_tokens * chunked_flop(model, tensor)
    is_scanning = presence(share.prefill_tokens)
    rows.beside(jnp.maximum(scanned, FEWEST), 0.0, SCAN_KERNELS, count * is_scanning, flop)
    rows.reduce(tokens, model.hidden, count)


def _dense_mlp(rows: _Rows, stack: LayerStack) -> None:
    """MLP of a layer without experts, with its all-reduce."""
    model, formats = stack.model, rows.formats
    dense = kernel_format(formats.dense_bits, formats.dense_math_bits)
    _mlp(rows, model, model.feedforward / rows.strategy.tensor, stack.count, dense)
    is_apart = jnp.clip(model.num_layer_norms - 1.0, 0.0, 1.0)
    has_mixer = stack.kind.has_attention or stack.kind.has_state
    rows.reduce(rows.share.tokens, model.hidden, stack.count * (is_apart if has_mixer else 1.0))


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
    size = expert_hidden(model)
    if stack.kind.has_expert_latent:
        dense = kernel_format(formats.dense_bits, formats.dense_math_bits)
        rows.product(tokens, size, model.hidden, count, dense)
        rows.product(tokens, model.hidden, size, count, dense)
    rows.experts.append(
        Experts(
            tokens=all_tokens,
            experts_per_token=model.experts_per_token,
            num_experts=model.num_experts,
            hidden=size,
            inner=model.expert_feedforward / strategy.expert_shards,
            num_matrices=model.num_mlp_matrices,
            ranks=strategy.expert,
            count=count,
            fmt=fmt,
        )
    )
    rows.quantized = rows.quantized + count * fmt.is_cast
    shared = model.num_shared_experts
    has_shared = jnp.where(shared > 0.0, 1.0, 0.0)
    width = jnp.maximum(shared, 1.0) * model.expert_feedforward / strategy.tensor
    dense = kernel_format(formats.dense_bits, formats.dense_math_bits)
    _mlp(rows, model, width, count * has_shared, dense)
    is_spread = jnp.where(strategy.attention_data > 1.0, 1.0, 0.0)
    rows.reduce(tokens, model.hidden, count * (1.0 - is_spread))
    own = tokens / strategy.tensor * model.experts_per_token * size
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
