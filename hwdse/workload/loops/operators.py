"""Operators as loops over seven dimensions: GEMMs and convolutions."""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import PerOp

DIMS = "RSPQCKN"
"""Loop dimensions: filter rows R and columns S, output rows P and columns Q, input channels C,
output channels K, batch N. A GEMM C[m, n] = A[m, k] B[k, n] has P = m, C = k, K = n and 1 in the
other dimensions; A is the inputs, B the weights."""

RELEVANT = {"weights": "RSCK", "inputs": "RSPQCN", "outputs": "PQKN"}
"""Dimensions that index each operand. R with P, and S with Q, index the inputs jointly (halo)."""


@struct.dataclass
class Operators:
    """Distinct operators; each field of shape `PerOp`.

    Output row p and filter row r read input row `p * stride_p + r * dilation_r`; columns
    correspondingly. Padding counts as data.
    """

    r: PerOp
    """Filter rows."""
    s: PerOp
    """Filter columns."""
    p: PerOp
    """Output rows."""
    q: PerOp
    """Output columns."""
    c: PerOp
    """Input channels."""
    k: PerOp
    """Output channels."""
    n: PerOp
    """Batch."""
    stride_p: PerOp
    """Input rows between neighboring output rows."""
    stride_q: PerOp
    """Input columns between neighboring output columns."""
    dilation_r: PerOp
    """Input rows between neighboring filter rows."""
    dilation_s: PerOp
    """Input columns between neighboring filter columns."""
    count: PerOp
    """Executions per pass of the network."""
    names: tuple[str, ...] = struct.field(pytree_node=False)
    """Name of each operator."""

    @property
    def num_macs(self) -> PerOp:
        """Multiply-accumulates of one execution of each operator (without `count`)."""
        return self.r * self.s * self.p * self.q * self.c * self.k * self.n


def extents(operators: Operators) -> PerOp:
    """Extents of the seven dimensions on the last axis, in the order of `DIMS`."""
    sizes = [jnp.asarray(getattr(operators, letter.lower())) for letter in DIMS]
    return jnp.stack(jnp.broadcast_arrays(*sizes), axis=-1)


def gemm_operators(
    m: PerOp, k: PerOp, n: PerOp, count: PerOp, names: tuple[str, ...] = ()
) -> Operators:
    """GEMMs C[m, n] = A[m, k] B[k, n] as operators."""
    one = 0.0 * m + 1.0
    return Operators(one, one, m, one, k, n, one, one, one, one, one, count, names)
