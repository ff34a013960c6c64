"""GEMM groups of a layer, their stacking to a layer, and the sharding of a layer over ranks."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.dense_transformer import SOFTMAX_FLOP
from hwdse.workload.transformer.model_config import TransformerTraining

OperatorFields = tuple[Leaf, ...]
"""Values of the fields of `Gemms` or of `ExecutionCounts` for one operator, in field order."""


@struct.dataclass
class LayerSharding:
    """Sharding of one layer over ranks, and its recomputation. Default: one rank, none."""

    micro_batch: Leaf = 1.0
    """Sequences per micro-batch."""
    tensor: Leaf = 1.0
    """Ranks that shard attention heads, dense MLPs and shared experts."""
    context: Leaf = 1.0
    """Ranks that shard the sequence; each attends to the keys of all ranks."""
    expert: Leaf = 1.0
    """Groups of ranks with different routed experts."""
    expert_tensor: Leaf = 1.0
    """Ranks of such a group, which shard each of its experts: usually `tensor`, or 1 if the tensor
    ranks have different experts."""
    sequence_parallel_fraction: Leaf = 1.0
    """1: tensor ranks shard norms, residuals and dispatched tokens. 0: these are replicated."""
    recompute_fraction: Leaf = 0.0
    """Fraction of the layers with full recomputation."""
    attention_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with recomputation of scores and values only."""
    fused_attention_fraction: Leaf = 1.0
    """Fraction of the attention with scores kept on chip."""
    norm_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with recomputed norm outputs."""
    activation_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with recomputed products of activation function and gate."""
    mlp_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with a recomputed dense MLP."""
    projection_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with recomputed up projections of latent attention."""
    output_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with a recomputed output projection of the attention."""
    kept_input_bytes: Leaf = 2.0
    """Bytes per element of a GEMM input saved for the weight gradient alone."""
    kept_copy_bytes: Leaf = 0.0
    """The same of an input that the backward pass needs in 16 bits as well: a second copy in low
    precision, or 0."""
    activation_input_bytes: Leaf = 2.0
    """Bytes per element of the saved inputs of activation functions."""
    expert_output_kept_fraction: Leaf = 1.0
    """Fraction of the outputs of routed experts that is saved."""
    num_loss_tiles: Leaf = 1.0
    """Parts of the tokens for which the logits are in memory one after another."""

    @property
    def sequence_shards(self) -> Scalar:
        """Ranks of a tensor group that shard norms, residuals and dispatched tokens."""
        return 1.0 + self.sequence_parallel_fraction * (self.tensor - 1.0)


def tokens_of(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Tokens per micro-batch on one rank of a context group."""
    return job.seq_len * sharding.micro_batch / sharding.context


class GemmGroup(NamedTuple):
    """GEMM operators of a part of a layer, with their executions."""

    names: tuple[str, ...]
    """Name of each operator."""
    gemms: list[OperatorFields]
    """Fields of `Gemms` per operator."""
    executions: list[OperatorFields]
    """Forward, backward, recomputed and model executions per operator, 1 for GEMMs with weights,
    and 1 for GEMMs whose first operand is cast."""

    def scaled(self, share: Scalar, mark: str = "") -> "GemmGroup":
        """The group with its executions times `share`, and names that end with `mark`."""
        rows = [scaled_executions(row, share) for row in self.executions]
        return GemmGroup(tuple(f"{name}{mark}" for name in self.names), self.gemms, rows)


NUM_COUNTS = 4
"""Leading fields of executions that are counts."""


def scaled_executions(row: OperatorFields, share: Scalar) -> OperatorFields:
    """Executions of one operator times `share`."""
    return (*(share * x for x in row[:NUM_COUNTS]), *row[NUM_COUNTS:])


def linear_gemms(
    tokens: Scalar,
    k: Scalar,
    n: Scalar,
    vector: tuple[Leaf, Leaf],
    extra: tuple[Leaf, Leaf],
    count: Scalar = 1.0,
) -> list[OperatorFields]:
    """Forward, input-gradient and weight-gradient GEMMs of `count` weight matrices k x n.

    `vector` is the elementwise FLOP during the first two, `extra` its HBM bytes; both per matrix.
    """
    return [
        (tokens, k, n, count, 1.0, 1.0, 1.0, vector[0], extra[0]),
        (tokens, n, k, count, 1.0, 1.0, 1.0, vector[1], extra[1]),
        (k, tokens, n, count, 1.0, 1.0, 1.0, 0.0, 0.0),
    ]


WEIGHT_GRADIENT = "_dw"
"""End of the name of the weight-gradient GEMM of a matrix."""


def linear_names(name: str) -> tuple[str, str, str]:
    """Names of the forward, input-gradient (dx) and weight-gradient (dw) GEMMs of a matrix."""
    return name, f"{name}_dx", f"{name}{WEIGHT_GRADIENT}"


def linear_group(
    name: str, gemms: list[OperatorFields], recompute: Scalar, model: Leaf = 1.0
) -> GemmGroup:
    """GEMMs of `linear_gemms` of one matrix, with their executions.

    `model` is the share of each execution that counts as model FLOP.
    """
    executions = [
        (1.0, 0.0, recompute, model, 1.0, 1.0),
        (0.0, 1.0, 0.0, model, 1.0, 1.0),
        (0.0, 1.0, 0.0, model, 1.0, 0.0),
    ]
    return GemmGroup(linear_names(name), gemms, executions)


def trained_group(group: GemmGroup, trainable: Scalar) -> GemmGroup:
    """The group with the weight-gradient GEMMs of the trained fraction of the weights only."""
    executions = [
        scaled_executions(runs, trainable) if name.endswith(WEIGHT_GRADIENT) else runs
        for name, runs in zip(group.names, group.executions, strict=True)
    ]
    return GemmGroup(group.names, group.gemms, executions)


def stacked_fields(operators: list[OperatorFields]) -> tuple[PerOp, ...]:
    """One array per field, over all operators."""
    return tuple(
        jnp.stack([jnp.asarray(x, dtype=float) for x in col])
        for col in zip(*operators, strict=True)
    )


def stack_gemms(groups: list[GemmGroup]) -> tuple[Gemms, ExecutionCounts]:
    """GEMM operators of all groups of a layer, in order, with their executions."""
    m, k, n, count, a_in_hbm, b_in_hbm, c_in_hbm, vector_flop, extra_bytes = stacked_fields(
        [gemm for group in groups for gemm in group.gemms]
    )
    gemms = Gemms(m, k, n, count, a_in_hbm, b_in_hbm, c_in_hbm, vector_flop, extra_bytes)
    forward, backward, recompute, model, is_linear, casts = stacked_fields(
        [counts for group in groups for counts in group.executions]
    )
    zero = jnp.zeros_like(forward)
    executions = ExecutionCounts(forward, backward, recompute, model, zero, is_linear, casts)
    return gemms, executions


@dataclass(frozen=True)
class Elementwise:
    """Elementwise work of a tensor, forward and backward."""

    vector: tuple[Leaf, Leaf]
    """Vector FLOP."""
    extra: tuple[Leaf, Leaf]
    """HBM bytes."""

    def recomputed(self, fraction: Scalar) -> "Elementwise":
        """The work with a fraction of the forward work repeated in the backward pass."""
        return Elementwise(
            (self.vector[0], self.vector[1] + fraction * self.vector[0]),
            (self.extra[0], self.extra[1] + fraction * self.extra[0]),
        )

    def __add__(self, other: "Elementwise") -> "Elementwise":
        return Elementwise(
            (self.vector[0] + other.vector[0], self.vector[1] + other.vector[1]),
            (self.extra[0] + other.extra[0], self.extra[1] + other.extra[1]),
        )


def elementwise(
    elements: Scalar, flop: tuple[Leaf, Leaf], num_bytes: tuple[float, float]
) -> Elementwise:
    """Elementwise work of `elements`, from FLOP and bytes per element, forward and backward."""
    return Elementwise(
        (flop[0] * elements, flop[1] * elements),
        (num_bytes[0] * elements, num_bytes[1] * elements),
    )


CORE_NAMES = ("scores", "values")
"""Operators of the attention between the projections."""
LOG_SUM_ELEMENTS = 2.0
"""16-bit elements of the FP32 log-sum that fused attention saves per query and head."""
SCORE_STREAMS = (9.0, 11.0)
"""HBM bytes per 16-bit score of softmax and dropout, forward and backward, without fused attention.

Forward: read, write; read, write and a mask of one byte. Backward: one more read in the softmax.
"""


def attended_fraction(job: TransformerTraining) -> Scalar:
    r"""Fraction of the score matrix that a fused kernel computes.

    $f (d / s) (1 - (1 - w / d)^2)$ for documents of d of s tokens and a sliding window of w keys:
    half of it is the band below the diagonal of $w - w^2 / 2d$ keys per query. $f$ is
    `attention_fraction`, which is also the value of a sequence of one document without a window.
    Chunks of chunked attention are as documents. Assumes that kernels skip the blocks outside of
    the band, and between documents, as those above the diagonal.
    """
    window, segment = job.model.sliding_window, job.segment_tokens
    document = jnp.where(segment > 0.0, jnp.minimum(segment, job.seq_len), job.seq_len)
    chunk = job.model.attention_chunk
    document = jnp.where(chunk > 0.0, jnp.minimum(chunk, document), document)
    outside = jnp.where(window > 0.0, jnp.maximum(1.0 - window / document, 0.0), 0.0)
    return job.attention_fraction * document / job.seq_len * (1.0 - outside * outside)


def core_work(
    job: TransformerTraining, sharding: LayerSharding, score_executions: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """Keys per query, and vector FLOP and HBM bytes per execution of the score GEMM.

    A fused kernel keeps scores on chip, skips blocks without visible keys and repeats the softmax
    in its backward pass. Otherwise all scores are computed, written to HBM and read back. The
    softmax work of all passes is divided evenly among the `score_executions`.
    """
    fused = sharding.fused_attention_fraction
    recompute = sharding.recompute_fraction + sharding.attention_recompute_fraction
    keys = job.seq_len * (fused * attended_fraction(job) + 1.0 - fused)
    elements = job.seq_len / sharding.context * keys
    softmax = SOFTMAX_FLOP[0] * (1.0 + recompute + fused) + SOFTMAX_FLOP[1]
    streams = SCORE_STREAMS[0] * (1.0 + recompute) + SCORE_STREAMS[1]
    vector = elements * softmax / score_executions
    return keys, vector, (1.0 - fused) * elements * streams / score_executions
