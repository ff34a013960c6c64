"""Operators as loops over seven dimensions: matrix products and convolutions."""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp

DIMS = "RSPQCKN"
"""Filter rows R and columns S, output rows P and columns Q, input channels C, output channels K,
batch N. A product C[m, n] = A[m, k] B[k, n] is P = m, C = k, K = n, with the others one: A are the
inputs, B the weights."""

RELEVANT = {"weights": "RSCK", "inputs": "RSPQCN", "outputs": "PQKN"}
"""Dimensions that index each operand; R, S with P, Q index the inputs together (halo)."""


@flax.struct.dataclass
class Operators:
    """Rows of distinct operators; each field of shape `PerOp`.

    Output row p and filter row r read input row `p * stride_p + r * dilation_r`; columns alike.
    Padding counts as data. `count` is how often the operator runs in one pass.
    """

    r: PerOp
    s: PerOp
    p: PerOp
    q: PerOp
    c: PerOp
    k: PerOp
    n: PerOp
    stride_p: PerOp
    stride_q: PerOp
    dilation_r: PerOp
    dilation_s: PerOp
    count: PerOp
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    @property
    def num_macs(self) -> PerOp:
        """Multiply-accumulates of one run of each operator (not times `count`)."""
        return self.r * self.s * self.p * self.q * self.c * self.k * self.n


def extents(operators: Operators) -> PerOp:
    """Sizes of the seven dimensions on a last axis, in the order of `DIMS`."""
    sizes = [jnp.asarray(getattr(operators, letter.lower())) for letter in DIMS]
    return jnp.stack(jnp.broadcast_arrays(*sizes), axis=-1)


def gemm_operators(
    m: PerOp, k: PerOp, n: PerOp, count: PerOp, names: tuple[str, ...] = ()
) -> Operators:
    """Matrix products C[m, n] = A[m, k] B[k, n] as operators."""
    one = 0.0 * m + 1.0
    return Operators(one, one, m, one, k, n, one, one, one, one, one, count, names)
