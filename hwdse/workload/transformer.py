"""Dense decoder transformers: shape, parameters, products and activations of a layer."""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics import num_tiles
from hwdse.shapes import Leaf, PerOp, Scalar
from hwdse.workload.gemms import Gemms

# Elementwise work per element, forward and backward: Calculon v0.1.0, calculon/llm/layers.py
# (LayerNorm 9N and 14N + 7N, Softmax 5N and 8N, GeLU 8N and 13N, Add N and 2N).
NORM_FLOP = (9.0, 21.0)
SOFTMAX_FLOP = (5.0, 8.0)
ACTIVATION_FLOP = (8.0, 13.0)
RESIDUAL_FLOP = (1.0, 2.0)
ACTIVATION_BYTES = 2.0
"""Activations are 16-bit in every format mix."""
LOGIT_BYTES = 6.0
"""fp32 logits and their 16-bit gradient."""


@flax.struct.dataclass
class Transformer:
    """Shape of a decoder with grouped-query attention and an MLP of two or three matrices."""

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


@flax.struct.dataclass
class TransformerTraining:
    """A pre-training job: the model, its sequences and its batch."""

    model: Transformer
    seq_len: Leaf
    global_batch: Leaf
    """Sequences of one optimizer step, over all replicas."""
    attention_fraction: Leaf
    """Share of the score matrix that kernels compute: 0.5 where causal blocks are skipped."""
    gradient_bytes: Leaf
    """Bytes of one gradient element, in memory and on the wire."""
    optimizer_bytes_per_parameter: Leaf
    """Master weights and moments held for each parameter (12 for Adam in mixed precision)."""


@flax.struct.dataclass
class LayerSlice:
    """Extents that one tensor-parallel rank holds of a layer."""

    query_width: Leaf
    kv_width: Leaf
    feedforward: Leaf
    num_heads: Leaf


def layer_slice(model: Transformer, tensor: Scalar) -> LayerSlice:
    """Extents of a layer on one of `tensor` ranks.

    A key-value head cannot be cut: beyond `num_kv_heads` ranks each holds a copy of one, as
    Megatron and NeuronX Distributed do.
    """
    return LayerSlice(
        query_width=model.num_heads * model.head_dim / tensor,
        kv_width=2.0 * jnp.maximum(model.num_kv_heads / tensor, 1.0) * model.head_dim,
        feedforward=model.feedforward / tensor,
        num_heads=model.num_heads / tensor,
    )


def _distinct_qkv_fraction(model: Transformer, tensor: Scalar) -> Scalar:
    """Share of a rank's query, key and value projections that is no copy of another rank's."""
    part = layer_slice(model, tensor)
    distinct_kv = 2.0 * model.num_kv_heads * model.head_dim / tensor
    return (part.query_width + distinct_kv) / (part.query_width + part.kv_width)


def layer_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of one layer on one of `tensor` ranks (matrices, biases, norms)."""
    part = layer_slice(model, tensor)
    up_width = (model.num_mlp_matrices - 1.0) * part.feedforward
    qkv_width = part.query_width + part.kv_width
    matrices = model.hidden * (qkv_width + part.query_width + up_width + part.feedforward)
    biases = model.num_bias * (qkv_width + up_width + 2.0 * model.hidden)
    norms = 2.0 * model.num_norm_vectors * model.hidden
    return matrices + biases + norms


def num_parameters(model: Transformer) -> Scalar:
    """Parameters of the whole model: layers, embeddings, final norm.

    Agrees with the published counts (Llama 2 7B 6,738,415,616; Llama 3 70B 70,553,706,496).
    """
    embeddings = model.hidden * (
        model.num_embeddings * model.vocabulary + model.num_positions + model.num_norm_vectors
    )
    return model.num_layers * layer_parameters(model) + embeddings


def _stack(columns: list[tuple[Leaf, ...]]) -> tuple[PerOp, ...]:
    return tuple(
        jnp.stack([jnp.asarray(x, dtype=float) for x in col]) for col in zip(*columns, strict=True)
    )


def _weight_rows(
    tokens: Scalar, k: Scalar, n: Scalar, vector: tuple[Leaf, Leaf], extra: tuple[Leaf, Leaf]
) -> list[tuple[Leaf, ...]]:
    """Forward, input-gradient and weight-gradient rows of one weight matrix k x n."""
    return [
        (tokens, k, n, 1.0, 1.0, 1.0, 1.0, vector[0], extra[0]),
        (tokens, n, k, 1.0, 1.0, 1.0, 1.0, vector[1], extra[1]),
        (k, tokens, n, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
    ]


def _attention_rows(
    job: TransformerTraining, tensor: Scalar, num_products: Scalar, num_forward_runs: Scalar
) -> list[tuple[Leaf, ...]]:
    """Scores and values of a fused kernel; the softmax of all runs is spread over the scores'.

    The query heads that share a key-value head run together and read it once. Where causal blocks
    are skipped, a block of queries reads the mean share of the keys that it attends to.
    """
    own_heads = jnp.maximum(job.model.num_kv_heads / tensor, 1.0)
    shared = own_heads / (job.model.num_heads / tensor)
    keys, head_dim = job.seq_len * job.attention_fraction, job.model.head_dim
    # Forward runs, one more in the backward pass, and the backward softmax itself.
    softmax = SOFTMAX_FLOP[0] * (num_forward_runs + 1.0) + SOFTMAX_FLOP[1]
    vector = job.seq_len * keys * softmax / (num_forward_runs + 2.0)
    return [
        (job.seq_len, head_dim, keys, num_products, 1.0, shared, 0.0, vector, 0.0),
        (job.seq_len, keys, head_dim, num_products, 0.0, shared, 1.0, 0.0, 0.0),
    ]


def layer_gemms(
    job: TransformerTraining, tensor: Scalar, micro_batch: Scalar, recompute_fraction: Scalar
) -> tuple[Gemms, PerOp, PerOp]:
    r"""Products of one layer and micro-batch on one rank: rows, runs, and runs that are useful.

    Rows: QKV, output, up (with gate), down, each forward, input gradient and weight gradient
    ($2 m n k$ FLOP each), then scores $Q K^T$ and values $P V$ of a fused attention kernel whose
    score matrix stays on chip. Its backward pass repeats the scores and needs one more product
    of their shape and three of the values' shape. A recomputed layer runs its forward rows twice;
    the second result counts runs with that, the third without, and without copies of key-value
    heads.

    Elementwise work follows Calculon's counts. Sequence parallelism divides norms and residuals.
    """
    model, part = job.model, layer_slice(job.model, tensor)
    hidden, tokens = model.hidden, job.seq_len * micro_batch
    own_elements = tokens * hidden / tensor
    ffn_elements = tokens * part.feedforward
    gate_flop = model.num_mlp_matrices - 2.0
    norm = [f * own_elements for f in NORM_FLOP]
    residual = tuple(f * own_elements for f in RESIDUAL_FLOP)
    act = [(f + gate_flop) * ffn_elements for f in ACTIVATION_FLOP]
    # A norm or a residual reads and writes its elements once more (two and three streams).
    norm_bytes = 2.0 * ACTIVATION_BYTES * own_elements
    residual_bytes = 3.0 * ACTIVATION_BYTES * own_elements
    act_bytes = ACTIVATION_BYTES * ffn_elements
    up_width = (model.num_mlp_matrices - 1.0) * part.feedforward
    forward = 1.0 + recompute_fraction
    rows = [
        *_weight_rows(
            tokens, hidden, part.query_width + part.kv_width, tuple(norm), (norm_bytes, norm_bytes)
        ),
        *_weight_rows(tokens, part.query_width, hidden, residual, (residual_bytes, residual_bytes)),
        *_weight_rows(
            tokens,
            hidden,
            up_width,
            (norm[0] + act[0], norm[1] + act[1]),
            (norm_bytes + act_bytes, norm_bytes + 2.0 * act_bytes),
        ),
        *_weight_rows(tokens, part.feedforward, hidden, residual, (residual_bytes, residual_bytes)),
        *_attention_rows(job, tensor, part.num_heads * micro_batch, forward),
    ]
    runs = [(forward,), (1.0,), (1.0,)] * 4 + [(forward + 2.0,), (forward + 3.0,)]
    distinct = _distinct_qkv_fraction(model, tensor)
    useful = [(distinct,)] * 3 + [(1.0,)] * 9 + [(2.0,), (4.0,)]
    return Gemms(*_stack(rows)), _stack(runs)[0], _stack(useful)[0]


def head_gemms(job: TransformerTraining, tensor: Scalar, micro_batch: Scalar) -> Gemms:
    """Vocabulary projection of one micro-batch on one rank of the last stage, three rows."""
    model, tokens = job.model, job.seq_len * micro_batch
    width = model.vocabulary / tensor
    logits = tokens * width
    loss = (SOFTMAX_FLOP[0] * logits, SOFTMAX_FLOP[1] * logits)
    rows = _weight_rows(tokens, model.hidden, width, loss, (4.0 * logits, 2.0 * logits))
    return Gemms(*_stack(rows))


def layer_activation_bytes(
    job: TransformerTraining, tensor: Scalar, micro_batch: Scalar
) -> tuple[Scalar, Scalar]:
    """Bytes that one layer keeps for its backward pass on one rank: whole, and recomputed.

    Whole: both norm inputs and outputs (cut by sequence parallelism), queries, keys and values,
    attention output with its fp32 log-sum, MLP matrices' outputs and the gated product.
    Recomputed: the layer's input alone. Fused attention keeps no score matrix.
    """
    model, part = job.model, layer_slice(job.model, tensor)
    tokens = job.seq_len * micro_batch
    own = 4.0 * model.hidden / tensor
    attention = 2.0 * part.query_width + part.kv_width + 2.0 * part.num_heads
    mlp = model.num_mlp_matrices * part.feedforward
    whole = ACTIVATION_BYTES * tokens * (own + attention + mlp)
    return whole, ACTIVATION_BYTES * tokens * model.hidden / tensor


def stage_parameters(model: Transformer, tensor: Scalar, pipeline: Scalar) -> Scalar:
    """Parameters on one rank of the fullest stage: its layers and one embedding (all without
    a pipeline)."""
    layers = num_tiles(model.num_layers, pipeline)
    num_embeddings = jnp.where(pipeline > 1.0, 1.0, model.num_embeddings)
    embeddings = model.hidden * (num_embeddings * model.vocabulary + model.num_positions) / tensor
    return layers * layer_parameters(model, tensor) + embeddings
