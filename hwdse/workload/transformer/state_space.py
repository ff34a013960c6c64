r"""State-space layers: extents on a rank, parameters, state of a sequence, FLOP of one token.

A head keeps a matrix of P x N elements (`state_head_dim` x `state_dim`) for all tokens before. A
token has an input x of P elements per head, and keys B and queries C of N elements per group of
heads. Mamba-2: $S \leftarrow a S + x B^T$, $y = S C + D x$ (Dao and Gu, arXiv 2405.21060, sections
5 and 8). Gated delta rule, `num_delta_updates` = 1: $S \leftarrow a (S - \beta (S B - x) B^T)$,
$y = S C$ (Yang et al., arXiv 2412.06464, section 3). Before the state, one projection gives gate z,
x, B, C and the scalars of each head, and a causal convolution along the tokens filters x, B and C;
after it, a gated norm and the output projection.
"""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.workload.transformer.model_config import Transformer

STATE_BYTES = 4.0
"""Bytes per element of a cached state. Published: `mamba_ssm_cache_dtype` and `mamba_ssm_dtype`
"float32" of Nemotron and Qwen3.5 (config.json)."""
CONV_BYTES = 2.0
"""Bytes per element of the cached inputs of the convolution, 16-bit activations."""


@struct.dataclass
class StateSlice:
    """Extents of a state-space layer on one tensor-parallel rank."""

    heads: Leaf
    """State heads of the rank."""
    inner: Leaf
    """Elements of the inputs x of all heads, of their gates and of the output."""
    keys: Leaf
    """Elements of the keys B of all groups; the queries C have as many."""
    groups: Leaf
    """Groups with common keys and queries."""
    scalars: Leaf
    """Projected scalars of all heads: step size of Mamba-2, decay and write strength of the delta
    rule."""

    @property
    def channels(self) -> Leaf:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2.0 * self.keys

    @property
    def projected(self) -> Leaf:
        """Outputs of the input projection: z, x, B, C and the scalars."""
        return 2.0 * self.inner + 2.0 * self.keys + self.scalars


def state_slice(model: Transformer, tensor: Scalar = 1.0) -> StateSlice:
    """Extents of a state-space layer on one of `tensor` ranks.

    A group is not sharded: beyond `num_state_groups` ranks each rank has a copy of one.
    """
    heads = model.num_state_heads / tensor
    groups = jnp.maximum(model.num_state_groups / tensor, 1.0)
    return StateSlice(
        heads=heads,
        inner=heads * model.state_head_dim,
        keys=groups * model.state_dim,
        groups=groups,
        scalars=heads * (1.0 + model.num_delta_updates),
    )


def state_parameters(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    """Parameters of a state-space mixer on one of `tensor` ranks, without the norm of the layer.

    Projections, convolution, gated norm (of all inner elements in Mamba-2, of one head for the
    delta rule) and learned numbers of each head: A, D and the bias of the step size; the delta rule
    has no D.
    """
    part, delta = state_slice(model, tensor), model.num_delta_updates
    projections = model.hidden * (part.projected + part.inner)
    conv = part.channels * (model.state_conv_width + model.num_state_conv_bias)
    norm = delta * model.state_head_dim + (1.0 - delta) * part.inner
    biases = model.num_bias * (part.projected + model.hidden)
    return projections + conv + norm + (3.0 - delta) * part.heads + biases


def state_bytes(
    model: Transformer, tensor: Scalar = 1.0, element_bytes: Scalar = STATE_BYTES
) -> Scalar:
    """Bytes that one state-space layer caches for a sequence of any length on one rank.

    The states of all heads, and the last inputs of the convolution (all taps but the newest).
    """
    part = state_slice(model, tensor)
    conv = (model.state_conv_width - 1.0) * part.channels
    return element_bytes * part.inner * model.state_dim + CONV_BYTES * conv


def recurrent_flop(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    r"""FLOP of convolution and state for one token in decoding, without the projections.

    Per state element: decay, outer product and its sum (3), and the query (2); the delta rule also
    reads the state at the key (2). Per channel two FLOP a tap. A step reads and writes the whole
    state, so the bytes of `state_bytes` bound its time, not these FLOP.
    """
    part = state_slice(model, tensor)
    per_state = 5.0 + 2.0 * model.num_delta_updates
    elements = part.inner * model.state_dim
    return per_state * elements + 2.0 * model.state_conv_width * part.channels


def chunked_flop(model: Transformer, tensor: Scalar = 1.0) -> Scalar:
    r"""FLOP of convolution and state per token with the chunked scan (training and prefill).

    With Q tokens per chunk, per head 2QP within the chunk and 4NP for its state and for that of the
    chunks before, and 2QN per group: arXiv 2405.21060, section 6. The delta rule solves for the
    values that a chunk writes (arXiv 2412.06464, section 3.3): keys times keys, the inverse of a
    triangular matrix by $Q^3 / 3$ multiply-accumulates, two products with it and one with the
    state, and scores per head. Blocks above the diagonal of a chunk are computed.
    """
    part, delta = state_slice(model, tensor), model.num_delta_updates
    chunk, size, keys = model.state_chunk, model.state_head_dim, model.state_dim
    scores = 2.0 * chunk * keys * (part.groups + delta * (part.heads - part.groups))
    scan = part.heads * (2.0 * chunk * size + 4.0 * keys * size)
    solve = 4.0 * chunk * keys + 2.0 * chunk * size + 2.0 * keys * size + 2.0 * chunk * chunk / 3.0
    conv = 2.0 * model.state_conv_width * part.channels
    return scores + scan + delta * part.heads * solve + conv
