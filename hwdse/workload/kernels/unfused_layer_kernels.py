"""Kernels of an unfused transformer layer: FLOP and HBM bytes, forward and backward.

One kernel per operation, as in Megatron-LM without fused attention: scores, softmax and dropout
each write their result to HBM. A kernel has three passes (forward, input gradient, weight
gradient). GEMMs count as matrix FLOP, all other work as vector FLOP. The counts are those of
Calculon v0.1.0, calculon/llm/layers.py and llm.py (Isaev et al., SC 2023,
doi 10.1145/3581784.3607102); `DATAFLOW` is a second set of traffic counts.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_FLOP,
    NORM_FLOP,
    RESIDUAL_FLOP,
    SOFTMAX_FLOP,
    layer_slice,
)
from hwdse.workload.transformer.model_config import Transformer

NORM_WEIGHT_FLOP = 7.0
"""Backward FLOP of a norm per element for the gradient of its weights."""
MASK_BYTES = 1.0
"""Bytes of a dropout mask per element."""


@dataclass(frozen=True)
class Streams:
    """Elements read or written per element of an operation, by pass."""

    norm: tuple[float, float, float]
    """Normalization: forward, input gradient, weight gradient."""
    softmax: tuple[float, float]
    """Softmax: forward, backward."""
    activation: tuple[float, float]
    """Activation function without gate; a gate adds one forward (second operand), two backward."""
    residual: tuple[float, float]
    """Residual sum: forward, backward."""
    batched_matmul_backward: float
    """Backward over forward traffic of the score and value GEMMs."""


CALCULON = Streams((2.0, 2.0, 2.0), (2.0, 2.0), (2.0, 2.0), (3.0, 3.0), 1.0)
"""Counts of Calculon: the backward pass reads and writes the gradient, not the saved operand."""
DATAFLOW = Streams((2.0, 3.0, 0.0), (2.0, 3.0), (2.0, 3.0), (3.0, 0.0), 2.0)
"""Counts from the operands of each operation.

The backward pass reads the gradient and the saved operands and writes a gradient. One kernel
computes both gradients of a norm. The gradient of a residual is passed on without traffic. Scores
and values have two backward GEMMs with separate operands.
"""


@struct.dataclass
class KernelWork:
    """Work of kernels in one pass; one value per kernel in each field."""

    matrix_flop: Leaf
    """FLOP of the matrix engines."""
    vector_flop: Leaf
    """FLOP of the vector engines."""
    memory_bytes: Leaf
    """HBM traffic."""


@struct.dataclass
class Kernels:
    """Kernels in the order of the forward pass; zeros in a pass without the kernel."""

    forward: KernelWork
    """Forward pass."""
    input_gradient: KernelWork
    """Gradient of the inputs."""
    weight_gradient: KernelWork
    """Gradient of the weights."""
    parameters: Leaf
    """Parameters of each kernel."""
    names: tuple[str, ...] = struct.field(pytree_node=False)
    """Name of each kernel."""


NOTHING = KernelWork(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class KernelMaker:
    """Factory of single kernels."""

    bytes_per_element: Scalar
    """Bytes per element of all tensors."""
    streams: Streams
    """Traffic counts."""

    def _vector(self, elements: Scalar, flop: Scalar, streams: Scalar) -> KernelWork:
        return KernelWork(0.0, flop * elements, streams * self.bytes_per_element * elements)

    def linear(self, name: str, tokens: Scalar, k: Scalar, n: Scalar) -> Kernels:
        """GEMM with a weight matrix k x n: 2 t k n FLOP per pass, each operand transferred once."""
        traffic = self.bytes_per_element * (tokens * k + k * n + tokens * n)
        work = KernelWork(2.0 * tokens * k * n, 0.0, traffic)
        return Kernels(work, work, work, k * n, (name,))

    def batched_matmul(self, name: str, count: Scalar, m: Scalar, k: Scalar, n: Scalar) -> Kernels:
        """`count` GEMMs of activations: 2 m k n FLOP each forward, two such GEMMs backward."""
        flop = 2.0 * count * m * k * n
        traffic = self.bytes_per_element * count * (m * k + k * n + m * n)
        back = KernelWork(2.0 * flop, 0.0, self.streams.batched_matmul_backward * traffic)
        return Kernels(KernelWork(flop, 0.0, traffic), back, NOTHING, 0.0, (name,))

    def norm(self, name: str, elements: Scalar, hidden: Scalar, num_vectors: Scalar) -> Kernels:
        """Normalization of rows of `hidden` elements with `num_vectors` learned vectors."""
        weights = KernelWork(0.0, 0.0, num_vectors * hidden * self.bytes_per_element)
        flop = (NORM_FLOP[0], NORM_FLOP[1] - NORM_WEIGHT_FLOP, NORM_WEIGHT_FLOP)
        passes = zip(flop, self.streams.norm, strict=True)
        works = [self._vector(elements, f, s) for f, s in passes]
        forward, inputs, gradients = (
            jax.tree.map(jnp.add, work, weights) if stream else work
            for work, stream in zip(works, self.streams.norm, strict=True)
        )
        return Kernels(forward, inputs, gradients, num_vectors * hidden, (name,))

    def softmax(self, name: str, elements: Scalar) -> Kernels:
        """Softmax of `elements` scores."""
        flop, streams = SOFTMAX_FLOP, self.streams.softmax
        forward, backward = (self._vector(elements, flop[i], streams[i]) for i in range(2))
        return Kernels(forward, backward, NOTHING, 0.0, (name,))

    def dropout(self, name: str, elements: Scalar) -> Kernels:
        """Dropout with a mask of one byte per element."""
        work = self._vector(elements, 1.0, 2.0 + MASK_BYTES / self.bytes_per_element)
        return Kernels(work, work, NOTHING, 0.0, (name,))

    def activation(self, name: str, elements: Scalar, num_gates: Scalar = 0.0) -> Kernels:
        """Activation function; with a gate, also the product of its two operands."""
        flop, streams = ACTIVATION_FLOP, self.streams.activation
        forward = self._vector(elements, flop[0] + num_gates, streams[0] + num_gates)
        backward = self._vector(elements, flop[1] + num_gates, streams[1] + 2.0 * num_gates)
        return Kernels(forward, backward, NOTHING, 0.0, (name,))

    def residual(self, name: str, elements: Scalar) -> Kernels:
        """Sum of two tensors."""
        flop, streams = RESIDUAL_FLOP, self.streams.residual
        forward, backward = (self._vector(elements, flop[i], streams[i]) for i in range(2))
        return Kernels(forward, backward, NOTHING, 0.0, (name,))

    def fork(self, name: str, elements: Scalar, num_users: float) -> Kernels:
        """Tensor with several consumers: no work forward, sum of their gradients backward."""
        backward = self._vector(elements, num_users, num_users + 1.0)
        return Kernels(NOTHING, backward, NOTHING, 0.0, (name,))

    def collective(
        self, name: str, elements: Scalar, tensor: Scalar, sequence: Scalar, *, is_sum: bool
    ) -> Kernels:
        """Local HBM traffic and additions of a tensor-parallel collective; 0 on one rank.

        It sums X (t - 1) / t elements forward with `is_sum`, otherwise backward. The other pass is
        an all-gather with sequence parallelism (`sequence` 1), otherwise no work.
        """
        moved = jnp.where(tensor > 1.0, 2.0 * self.bytes_per_element * elements, 0.0)
        summed = KernelWork(0.0, elements * (tensor - 1.0) / tensor, moved)
        passed = KernelWork(0.0, 0.0, sequence * moved)
        forward, backward = (summed, passed) if is_sum else (passed, summed)
        return Kernels(forward, backward, NOTHING, 0.0, (name,))


def stacked(kernels: list[Kernels]) -> Kernels:
    """Sequence of kernels as one `Kernels`, with one entry per kernel on the last axis."""
    names = tuple(name for kernel in kernels for name in kernel.names)
    bare = [replace(kernel, names=()) for kernel in kernels]
    joined = jax.tree.map(
        lambda *parts: jnp.stack([jnp.asarray(x, float) for x in parts], axis=-1), *bare
    )
    return replace(joined, names=names)


def layer_kernels(
    model: Transformer,
    tensor: Scalar,
    micro_batch: Scalar,
    sequence_parallel: Scalar,
    bytes_per_element: Scalar,
    *,
    seq_len: Scalar,
    streams: Streams = CALCULON,
) -> Kernels:
    """All kernels of a dense layer per micro-batch and rank, with separate Q, K and V projections.

    `sequence_parallel` is 1 if norms, dropout and residuals are sharded over the tensor ranks, 0 if
    they are replicated. Scores are computed for all pairs, masked ones included. Each head reads
    its keys and values, shared ones included. Assumes attention without latent projections, no
    experts, and two norms. For models without dropout, omit its kernels.
    """
    make = KernelMaker(bytes_per_element, streams)
    attention = attention_kernels(
        make, model, tensor, seq_len * micro_batch, sequence=sequence_parallel, seq_len=seq_len
    )
    return stacked(
        attention
        + mlp_kernels(make, model, tensor, seq_len * micro_batch, sequence=sequence_parallel)
    )


def own_elements(model: Transformer, tensor: Scalar, tokens: Scalar, sequence: Scalar) -> Scalar:
    """Elements of the residual stream on one rank: sharded with sequence parallelism."""
    return tokens * model.hidden * (1.0 - sequence + sequence / tensor)


def projection_kernels(
    make: KernelMaker, model: Transformer, tensor: Scalar, tokens: Scalar, *, sequence: Scalar
) -> list[Kernels]:
    """Kernels before the attention core: collective, its three consumers, Q, K and V
    projections."""
    part, elements = layer_slice(model, tensor), tokens * model.hidden
    kv_width = 0.5 * part.kv_width
    return [
        make.collective("attention_gather", elements, tensor, sequence, is_sum=False),
        make.fork("attention_fork", elements, 3.0),
        make.linear("query", tokens, model.hidden, part.query_width),
        make.linear("key", tokens, model.hidden, kv_width),
        make.linear("value", tokens, model.hidden, kv_width),
    ]


def core_kernels(
    make: KernelMaker, model: Transformer, tensor: Scalar, tokens: Scalar, *, seq_len: Scalar
) -> list[Kernels]:
    """Kernels replaced by fused attention: scores, softmax, dropout, values."""
    count = model.num_heads / tensor * tokens / seq_len
    scores = count * seq_len * seq_len
    return [
        make.batched_matmul("scores", count, seq_len, model.head_dim, seq_len),
        make.softmax("softmax", scores),
        make.dropout("attention_dropout", scores),
        make.batched_matmul("values", count, seq_len, seq_len, model.head_dim),
    ]


def attention_kernels(
    make: KernelMaker,
    model: Transformer,
    tensor: Scalar,
    tokens: Scalar,
    *,
    sequence: Scalar,
    seq_len: Scalar,
) -> list[Kernels]:
    """Kernels of the attention half of a layer."""
    own = own_elements(model, tensor, tokens, sequence)
    width, elements = layer_slice(model, tensor).query_width, tokens * model.hidden
    return [
        make.fork("attention_residual_fork", own, 2.0),
        make.norm("attention_norm", own, model.hidden, model.num_norm_vectors),
        *projection_kernels(make, model, tensor, tokens, sequence=sequence),
        *core_kernels(make, model, tensor, tokens, seq_len=seq_len),
        make.linear("attention_output", tokens, width, model.hidden),
        make.collective("attention_reduce", elements, tensor, sequence, is_sum=True),
        make.dropout("attention_output_dropout", own),
        make.residual("attention_residual", own),
    ]


def mlp_kernels(
    make: KernelMaker, model: Transformer, tensor: Scalar, tokens: Scalar, *, sequence: Scalar
) -> list[Kernels]:
    """Kernels of the MLP half of a layer; gate and up matrices form one GEMM."""
    own = own_elements(model, tensor, tokens, sequence)
    width, elements = layer_slice(model, tensor).feedforward, tokens * model.hidden
    num_up = model.num_mlp_matrices - 1.0
    return [
        make.fork("mlp_residual_fork", own, 2.0),
        make.norm("mlp_norm", own, model.hidden, model.num_norm_vectors),
        make.collective("mlp_gather", elements, tensor, sequence, is_sum=False),
        make.linear("mlp_up", tokens, model.hidden, num_up * width),
        make.activation("activation", tokens * width, num_up - 1.0),
        make.linear("mlp_down", tokens, width, model.hidden),
        make.collective("mlp_reduce", elements, tensor, sequence, is_sum=True),
        make.dropout("mlp_dropout", own),
        make.residual("mlp_residual", own),
    ]
