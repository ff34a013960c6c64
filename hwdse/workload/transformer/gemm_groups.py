"""Parts of a layer as rows of products, put together to a layer, and how ranks cut a layer."""

from dataclasses import dataclass
from typing import NamedTuple

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.transformer.dense_transformer import SOFTMAX_FLOP
from hwdse.workload.transformer.model_config import TransformerTraining

OperatorFields = tuple[Leaf, ...]
"""The fields of `Gemms` for one row, in their order."""


@flax.struct.dataclass
class LayerSharding:
    """How many ranks cut one layer, and what of it is computed again; 1 and 0: one rank, once."""

    micro_batch: Leaf = 1.0
    tensor: Leaf = 1.0
    """Ranks that cut heads, dense and shared MLPs."""
    context: Leaf = 1.0
    """Ranks that cut the sequence; each attends to the keys of all."""
    expert: Leaf = 1.0
    """Groups of ranks that hold different routed experts."""
    expert_tensor: Leaf = 1.0
    """Ranks of such a group, which cut each of its experts: as a rule `tensor`, or 1 where the
    tensor ranks hold different experts."""
    sequence_parallel_fraction: Leaf = 1.0
    """1 where tensor ranks cut norms, residuals and dispatched tokens, 0 where each has all."""
    recompute_fraction: Leaf = 0.0
    """Share of the layers whose forward pass executions again."""
    attention_recompute_fraction: Leaf = 0.0
    """Share of the layers of which only scores and values run again."""
    fused_attention_fraction: Leaf = 1.0
    """Share of the attention whose scores stay on chip."""

    @property
    def sequence_shards(self) -> Scalar:
        """Ranks of a tensor group that share norms, residuals and dispatched tokens."""
        return 1.0 + self.sequence_parallel_fraction * (self.tensor - 1.0)


def tokens_of(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Tokens of a micro-batch on one rank of its context group."""
    return job.seq_len * sharding.micro_batch / sharding.context


class GemmGroup(NamedTuple):
    """Rows of a part of a layer, each with forward, backward, repeated and useful executions and
    whether it is a product with weights."""

    rows: list[OperatorFields]
    executions: list[OperatorFields]


def linear_gemms(
    tokens: Scalar,
    k: Scalar,
    n: Scalar,
    vector: tuple[Leaf, Leaf],
    extra: tuple[Leaf, Leaf],
    count: Scalar = 1.0,
) -> list[OperatorFields]:
    """Forward, input-gradient and weight-gradient rows of `count` weight matrices k x n.

    `vector` are the elementwise FLOP beside the first two, `extra` the bytes of these; both of
    one matrix.
    """
    return [
        (tokens, k, n, count, 1.0, 1.0, 1.0, vector[0], extra[0]),
        (tokens, n, k, count, 1.0, 1.0, 1.0, vector[1], extra[1]),
        (k, tokens, n, count, 1.0, 1.0, 1.0, 0.0, 0.0),
    ]


def linear_group(rows: list[OperatorFields], recompute: Scalar, useful: Leaf = 1.0) -> GemmGroup:
    """Rows of `linear_gemms`, for one matrix, with the executions of each."""
    executions = [(1.0, 0.0, recompute, useful, 1.0)] + 2 * [(0.0, 1.0, 0.0, useful, 1.0)]
    return GemmGroup(rows, executions)


def stacked_fields(rows: list[OperatorFields]) -> tuple[PerOp, ...]:
    """Rows to columns: one array for each field."""
    return tuple(
        jnp.stack([jnp.asarray(x, dtype=float) for x in col]) for col in zip(*rows, strict=True)
    )


def stack_gemms(parts: list[GemmGroup]) -> tuple[Gemms, ExecutionCounts]:
    """The rows of all parts of a layer, in their order, and how often each executions."""
    gemms = Gemms(*stacked_fields([row for part in parts for row in part.rows]))
    forward, backward, recompute, useful, is_linear = stacked_fields(
        [row for part in parts for row in part.executions]
    )
    zero = jnp.zeros_like(forward)
    executions = ExecutionCounts(
        forward, backward, recompute, useful, is_lm_head=zero, is_linear=is_linear
    )
    return gemms, executions


@dataclass(frozen=True)
class Elementwise:
    """Elementwise FLOP forward and backward, and their bytes, of a number of elements."""

    vector: tuple[Leaf, Leaf]
    extra: tuple[Leaf, Leaf]

    def __add__(self, other: "Elementwise") -> "Elementwise":
        return Elementwise(
            (self.vector[0] + other.vector[0], self.vector[1] + other.vector[1]),
            (self.extra[0] + other.extra[0], self.extra[1] + other.extra[1]),
        )


def elementwise(
    elements: Scalar, flop: tuple[Leaf, Leaf], num_bytes: tuple[float, float]
) -> Elementwise:
    """FLOP and bytes an element, forward and backward, times elements."""
    return Elementwise(
        (flop[0] * elements, flop[1] * elements),
        (num_bytes[0] * elements, num_bytes[1] * elements),
    )


SCORE_STREAMS = (9.0, 11.0)
"""Bytes that softmax and dropout of a 16-bit score move forward and backward, where scores live in
memory: read, write; read, write and a mask of one byte; backward one more read in the softmax."""


def core_work(
    job: TransformerTraining, sharding: LayerSharding, score_executions: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """Keys that a query meets, and vector FLOP and bytes beside one product of scores.

    A fused kernel keeps scores on chip, skips causal blocks and computes the softmax once more in
    its backward pass; without it all scores are computed, written and read in memory. The softmax
    of all executions is spread over the `score_executions`.
    """
    fused = sharding.fused_attention_fraction
    recompute = sharding.recompute_fraction + sharding.attention_recompute_fraction
    keys = job.seq_len * (fused * job.attention_fraction + 1.0 - fused)
    elements = job.seq_len / sharding.context * keys
    softmax = SOFTMAX_FLOP[0] * (1.0 + recompute + fused) + SOFTMAX_FLOP[1]
    streams = SCORE_STREAMS[0] * (1.0 + recompute) + SCORE_STREAMS[1]
    vector = elements * softmax / score_executions
    return keys, vector, (1.0 - fused) * elements * streams / score_executions
