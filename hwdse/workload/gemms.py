"""GEMM operators with counts, their executions per micro-batch, and layer lists."""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import PerOp


@struct.dataclass
class InputWindows:
    """Windows of images that the rows of A unroll; each field of shape `PerOp`.

    Row (image, p, q) of A is the window of output (p, q): R x S taps times channels. A GEMM has
    windows of one tap, and P = m.
    """

    r: PerOp
    """Filter rows."""
    s: PerOp
    """Filter columns."""
    p: PerOp
    """Output rows."""
    q: PerOp
    """Output columns."""
    stride_p: PerOp
    """Input rows between neighboring output rows."""
    stride_q: PerOp
    """Input columns between neighboring output columns."""
    dilation_r: PerOp
    """Input rows between neighboring filter rows."""
    dilation_s: PerOp
    """Input columns between neighboring filter columns."""


@struct.dataclass
class Gemms:
    """Distinct GEMM operators C[m, n] = A[m, k] B[k, n]; each field of shape `PerOp`.

    The `*_in_hbm` fractions are the share of an operand's traffic that goes to HBM: 1 if each GEMM
    has its own operand, 0 if a fused kernel keeps it on chip, between these if GEMMs share it.
    """

    m: PerOp
    """Rows of A and C."""
    k: PerOp
    """Reduction extent: columns of A, rows of B."""
    n: PerOp
    """Columns of B and C."""
    count: PerOp
    """Equal independent GEMMs per operator (heads, experts, repeated layers)."""
    a_in_hbm: PerOp
    """Share of the traffic of A that goes to HBM."""
    b_in_hbm: PerOp
    """Share of the traffic of B that goes to HBM."""
    c_in_hbm: PerOp
    """Share of the traffic of C that goes to HBM."""
    vector_flop: PerOp
    """Vector engine FLOP per GEMM, during or after it."""
    extra_bytes: PerOp
    """HBM traffic of the vector work per GEMM, without the operands."""
    windows: InputWindows | None = None
    """Windows of the images that A unrolls, if the operators are convolutions."""

    @property
    def num_macs(self) -> PerOp:
        """Multiply-accumulates of each operator, all `count` GEMMs."""
        return self.m * self.k * self.n * self.count


@struct.dataclass
class ExecutionCounts:
    """Executions of the GEMM operators of one layer, or of the LM head, per micro-batch.

    Each field has the shape `PerOp`.
    """

    forward: PerOp
    """Executions in the forward pass."""
    backward: PerOp
    """Executions in the backward pass, without recomputation."""
    recompute: PerOp
    """Forward executions repeated in the backward pass."""
    model: PerOp
    """Executions that count as model FLOP: no recomputation, no copies of key-value heads. May be
    fractional."""
    is_lm_head: PerOp
    """1 for operators executed once on the last stage, 0 for operators of each layer."""
    is_linear: PerOp
    """1 for GEMMs with weights, which low-precision formats accelerate; 0 for attention."""
    casts_input: PerOp
    """1 for GEMMs whose operand A is brought into the format of the mix: activations, and their
    gradients. 0 for weight gradients, which have both from other GEMMs, and for attention."""

    @property
    def is_low_precision(self) -> PerOp:
        """1 for GEMMs that run in the formats of the mix; attention and LM head are 16-bit."""
        return self.is_linear * (1.0 - self.is_lm_head)

    @property
    def is_weight_gradient(self) -> PerOp:
        """1 for GEMMs of weight gradients, which nothing else of a backward pass waits for."""
        return self.is_linear * (1.0 - self.casts_input)

    @property
    def total(self) -> PerOp:
        """All executions per micro-batch."""
        return self.forward + self.backward + self.recompute


@struct.dataclass
class LayerList:
    """One inference pass over the layers of a network file."""

    gemms: Gemms
    """One GEMM operator per layer; convolutions with their `windows`."""
    names: tuple[str, ...] = struct.field(pytree_node=False)
    """Name of each layer."""


def single_executions(num_operators: int) -> ExecutionCounts:
    """Counts of operators executed once, forward, in each layer."""
    one, zero = jnp.ones(num_operators), jnp.zeros(num_operators)
    return ExecutionCounts(one, zero, zero, one, zero, one, zero)
