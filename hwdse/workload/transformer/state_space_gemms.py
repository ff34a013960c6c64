r"""State-space layers in training: GEMM operators of the chunked scan, saved activations, exchange.

The chunked scan splits a sequence into chunks of Q tokens (`state_chunk`). The products within a
chunk are those of attention without softmax; each chunk adds a state, and a recurrence over the
chunks gives every chunk the state before it. The backward pass repeats scores and states, which are
not saved. Sources: Dao and Gu, arXiv 2405.21060, section 6; kernels of state-spaces/mamba
(`ops/triton/ssd_combined.py`, 2.2) and fla-org/flash-linear-attention (`ops/gated_delta_rule`).

Assumptions: products of the scan run at the efficiency of fused attention, and the recurrence over
chunks at the bandwidth of the HBM. The latency of that recurrence is left out.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
)
from hwdse.workload.transformer.gemm_groups import (
    GemmGroup,
    LayerSharding,
    OperatorFields,
    elementwise,
    linear_gemms,
    linear_group,
    tokens_of,
)
from hwdse.workload.transformer.latent_attention import NORM_TRAFFIC, RESIDUAL_TRAFFIC
from hwdse.workload.transformer.model_config import LayerKind, TransformerTraining
from hwdse.workload.transformer.state_space import STATE_BYTES, state_bytes, state_slice

DECAY_FLOP = 4.0
"""Vector FLOP per score of a head: difference of the summed decays, exponential, product with it
and with the step size. Derived from the equations."""
CONV_TRAFFIC = (2.0 * ACTIVATION_BYTES, 5.0 * ACTIVATION_BYTES)
"""HBM bytes per channel and token of convolution and activation function: read and write; in the
backward pass repeated, then two reads and a write."""
GATED_NORM_TRAFFIC = (3.0 * ACTIVATION_BYTES, 5.0 * ACTIVATION_BYTES)
"""HBM bytes per inner element of the gated norm: output and gate read, one write; backward the
gradient as well, and two gradients written."""
PASS_BYTES = 2.0 * (STATE_BYTES - ACTIVATION_BYTES) + 2.0 * ACTIVATION_BYTES
"""HBM bytes per state element of a chunk beside one 16-bit write and one 16-bit read: states are
written in FP32, read by the recurrence, written in 16 bits."""


def state_space_mixer(
    job: TransformerTraining, sharding: LayerSharding, kind: LayerKind
) -> list[GemmGroup]:
    """GEMM groups of a state-space mixer: input projection, chunked scan, output projection.

    The norm of the layer belongs to the attention if the two are parallel.
    """
    model, part = job.model, state_slice(job.model, sharding.tensor)
    tokens, recompute = tokens_of(job, sharding), sharding.recompute_fraction
    own = tokens / sharding.sequence_shards * model.hidden
    norm = elementwise(0.0 if kind.has_attention else own, NORM_FLOP, NORM_TRAFFIC)
    taps = 2.0 * model.state_conv_width
    conv_flop = (taps + ACTIVATION_FLOP[0], 3.0 * taps + ACTIVATION_FLOP[0] + ACTIVATION_FLOP[1])
    conv = elementwise(tokens * part.channels, conv_flop, CONV_TRAFFIC)
    first = norm.recomputed(sharding.norm_recompute_fraction) + conv
    gate_flop = tuple(a + b + 1.0 for a, b in zip(NORM_FLOP, ACTIVATION_FLOP, strict=True))
    gated_norm = elementwise(tokens * part.inner, (gate_flop[0], gate_flop[1]), GATED_NORM_TRAFFIC)
    last = gated_norm + elementwise(own, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    into = linear_gemms(tokens, model.hidden, part.projected, first.vector, first.extra)
    out = linear_gemms(tokens, part.inner, model.hidden, last.vector, last.extra)
    keys = 2.0 * model.num_state_groups * model.state_dim / sharding.tensor
    distinct = (part.projected - 2.0 * part.keys + keys) / part.projected
    return [
        linear_group("state_in", into, recompute, distinct),
        _scan(job, sharding, kind),
        linear_group("state_out", out, recompute),
    ]


def _scan(job: TransformerTraining, sharding: LayerSharding, kind: LayerKind) -> GemmGroup:
    """Products of the chunked scan, and those that solve for the updates of the delta rule."""
    model, part = job.model, state_slice(job.model, sharding.tensor)
    chunk, size, keys = model.state_chunk, model.state_head_dim, model.state_dim
    delta, recompute = model.num_delta_updates, sharding.recompute_fraction
    chunks = tokens_of(job, sharding) / chunk
    heads, groups = chunks * part.heads, chunks * part.groups
    share = part.groups / part.heads
    # The delta rule has scores per head, on chip; Mamba-2 writes those of a group once.
    scores = groups + delta * (heads - groups)
    in_memory, read = 1.0 - delta, share * (1.0 - delta)
    own = share + delta * (1.0 - share)
    decay = DECAY_FLOP * chunk * chunk
    passed = PASS_BYTES * size * keys
    update = 2.0 * size * keys
    rows: list[tuple[str, OperatorFields, float]] = [
        ("chunk_scores", (chunk, keys, chunk, scores, own, own, in_memory, 0.0, 0.0), 3.0),
        ("chunk_values", (chunk, chunk, size, heads, read, 1.0, 1.0, decay, 0.0), 3.0),
        ("chunk_states", (size, chunk, keys, heads, 1.0, share, 1.0, update, passed), 3.0),
        ("state_outputs", (chunk, keys, size, heads, share, 1.0, 0.0, 0.0, 0.0), 2.0),
    ]
    solved = heads * delta
    solution: list[tuple[str, OperatorFields, float]] = [
        ("delta_scores", (chunk, keys, chunk, solved, share, share, 1.0, decay, 0.0), 3.0),
        ("delta_inverse", (chunk, chunk / 3.0, chunk, solved, 1.0, 0.0, 1.0, 0.0, 0.0), 3.0),
        ("delta_keys", (chunk, chunk, keys, solved, 1.0, share, 1.0, 0.0, 0.0), 3.0),
        ("delta_values", (chunk, chunk, size, solved, 0.0, 1.0, 1.0, 0.0, 0.0), 3.0),
        ("delta_states", (chunk, keys, size, solved, 1.0, 0.0, 1.0, 0.0, 0.0), 3.0),
    ]
    rows += solution if kind.has_delta else []
    return GemmGroup(
        tuple(name for name, _, _ in rows),
        [gemm for _, gemm, _ in rows],
        [(1.0, backward, recompute, 3.0, 0.0, 0.0) for _, _, backward in rows],
    )


def state_space_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes per token that a state-space mixer saves for its backward pass on one rank.

    Output of the input projection (the convolution is repeated), output of the scan, and that of
    the gated norm, which only the weight gradient of the output projection needs.
    """
    part = state_slice(job.model, sharding.tensor)
    normed = job.trainable_fraction * sharding.kept_input_bytes * part.inner
    return ACTIVATION_BYTES * (part.projected + part.inner) + normed


def state_context_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes of the states of one tensor rank that context ranks gather, one per rank and sequence.

    Assumes that each rank scans its own tokens and gathers the states of the others (Sun et al.,
    arXiv 2502.07563, LASP-2). All-to-alls of heads, as in Megatron Core, send more.
    """
    states = state_bytes(job.model, sharding.tensor)
    return jnp.asarray(sharding.context * sharding.micro_batch * states)
