"""Kernels of an unfused transformer layer: FLOP and bytes of each, forward and backward.

One kernel an operation, as Megatron-LM runs a layer without fused attention: scores, softmax and
dropout each write their result to memory. The work of a kernel has three passes (forward, input
gradient, weight gradient); matrix products count as matrix FLOP, everything else as vector FLOP.
The counts are those of Calculon v0.1.0, calculon/llm/layers.py and llm.py (Isaev et al., SC 2023,
doi 10.1145/3581784.3607102), also `Streams`, which has a second set.
"""

from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp

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
"""Of the backward FLOP of a norm, per element: those of its weights' gradient."""
MASK_BYTES = 1.0
"""A dropout mask, per element."""


@dataclass(frozen=True)
class Streams:
    """Elements read or written for each element of an operation, by pass."""

    norm: tuple[float, float, float]
    softmax: tuple[float, float]
    activation: tuple[float, float]
    """Of a plain MLP; each gate adds one forward (the second operand) and two backward."""
    residual: tuple[float, float]
    product_backward: float
    """Backward traffic of scores and values over forward."""


CALCULON = Streams((2.0, 2.0, 2.0), (2.0, 2.0), (2.0, 2.0), (3.0, 3.0), 1.0)
"""As Calculon counts: backward the gradient is read and written, the saved operand not read."""
DATAFLOW = Streams((2.0, 3.0, 0.0), (2.0, 3.0), (2.0, 3.0), (3.0, 0.0), 2.0)
"""As the operands demand: backward the gradient and what was saved are read and a gradient is
written; one kernel gives both gradients of a norm; a residual's gradient is only passed on; scores
and values have two products backward, each with operands of its own."""


@flax.struct.dataclass
class KernelWork:
    """What kernels do in one pass; each field of one number a kernel."""

    matrix_flop: Leaf
    vector_flop: Leaf
    memory_bytes: Leaf


@flax.struct.dataclass
class Kernels:
    """Kernels in the order of the forward pass; all zeros in a pass that does not run one."""

    forward: KernelWork
    input_gradient: KernelWork
    weight_gradient: KernelWork
    parameters: Leaf
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)


NOTHING = KernelWork(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class KernelMaker:
    """Single kernels, of elements of `bytes_per_element` and the traffic of `streams`."""

    bytes_per_element: Scalar
    streams: Streams

    def _vector(self, elements: Scalar, flop: Scalar, streams: Scalar) -> KernelWork:
        return KernelWork(0.0, flop * elements, streams * self.bytes_per_element * elements)

    def linear(self, name: str, tokens: Scalar, k: Scalar, n: Scalar) -> Kernels:
        """Product with a weight matrix k x n: 2 t k n FLOP a pass, every operand moved once."""
        traffic = self.bytes_per_element * (tokens * k + k * n + tokens * n)
        work = KernelWork(2.0 * tokens * k * n, 0.0, traffic)
        return Kernels(work, work, work, k * n, (name,))

    def batched_matmul(self, name: str, count: Scalar, m: Scalar, k: Scalar, n: Scalar) -> Kernels:
        """`count` products of activations: 2 m k n FLOP each forward, two such backward."""
        flop = 2.0 * count * m * k * n
        traffic = self.bytes_per_element * count * (m * k + k * n + m * n)
        back = KernelWork(2.0 * flop, 0.0, self.streams.product_backward * traffic)
        return Kernels(KernelWork(flop, 0.0, traffic), back, NOTHING, 0.0, (name,))

    def norm(self, name: str, elements: Scalar, hidden: Scalar, num_vectors: Scalar) -> Kernels:
        """Normalisation of rows of `hidden` with that many learned vectors."""
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
        """Softmax of that many scores."""
        flop, streams = SOFTMAX_FLOP, self.streams.softmax
        forward, backward = (self._vector(elements, flop[i], streams[i]) for i in range(2))
        return Kernels(forward, backward, NOTHING, 0.0, (name,))

    def dropout(self, name: str, elements: Scalar) -> Kernels:
        """Dropout, with a mask of one byte an element."""
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
        """A tensor with several users: nothing forward, their gradients summed backward."""
        backward = self._vector(elements, num_users, num_users + 1.0)
        return Kernels(NOTHING, backward, NOTHING, 0.0, (name,))

    def collective(
        self, name: str, elements: Scalar, tensor: Scalar, sequence: Scalar, *, is_sum: bool
    ) -> Kernels:
        """A tensor-parallel collective's own reading, writing and adding; none on one rank.

        It sums X (t - 1) / t elements forward (`is_sum`) or else backward. The other pass is
        an all-gather under sequence parallelism (`sequence` 1), and nothing without.
        """
        moved = jnp.where(tensor > 1.0, 2.0 * self.bytes_per_element * elements, 0.0)
        summed = KernelWork(0.0, elements * (tensor - 1.0) / tensor, moved)
        passed = KernelWork(0.0, 0.0, sequence * moved)
        forward, backward = (summed, passed) if is_sum else (passed, summed)
        return Kernels(forward, backward, NOTHING, 0.0, (name,))


def stacked(kernels: list[Kernels]) -> Kernels:
    """Kernels one after another: each number becomes an axis, the last, of one entry a kernel."""
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
    """All kernels of a dense layer and micro-batch on one rank, queries, keys and values apart.

    `sequence_parallel` is 1 where norms, dropout and residuals are cut over the tensor ranks, 0
    where every rank runs them whole. Scores are computed for all pairs, also masked ones, and a
    head reads its keys and values also where it shares them. Assumes attention without latent
    projections or experts, and two norms. Models without dropout leave its kernels out.
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
    """Elements of the residual stream on one rank: cut with sequence parallelism, else whole."""
    return tokens * model.hidden * (1.0 - sequence + sequence / tensor)


def projection_kernels(
    make: KernelMaker, model: Transformer, tensor: Scalar, tokens: Scalar, *, sequence: Scalar
) -> list[Kernels]:
    """Collective before the attention, its three users, queries, keys and values."""
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
    """Scores, softmax, its dropout, values: what a fused attention kernel replaces."""
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
    """Kernels of the MLP half of a layer; a gate's matrix and the up matrix are one product."""
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
