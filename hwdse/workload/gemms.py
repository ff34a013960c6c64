"""Rows of matrix products with counts."""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp


@flax.struct.dataclass
class Gemms:
    """Distinct products C[m, n] = A[m, k] B[k, n]; each field of shape `PerOp`.

    `count` products of a row are alike and independent (heads, experts, repeated layers).
    The `*_in_hbm` fractions say how much of an operand's traffic goes to HBM: 1 where each product
    has its own, 0 for one of a fused kernel that never leaves the chip, between where products
    share it. Vector work is what runs beside or after the product on the
    vector engines, and `extra_bytes` the HBM traffic of it that is no operand; both per product.
    """

    m: PerOp
    k: PerOp
    n: PerOp
    count: PerOp
    a_in_hbm: PerOp
    b_in_hbm: PerOp
    c_in_hbm: PerOp
    vector_flop: PerOp
    extra_bytes: PerOp

    @property
    def num_macs(self) -> PerOp:
        """Multiply-accumulates of each row, all counts."""
        return self.m * self.k * self.n * self.count


@flax.struct.dataclass
class ExecutionCounts:
    """How often the rows of one layer, or of the head, run for one micro-batch; each `PerOp`."""

    forward: PerOp
    backward: PerOp
    """Without what is computed again."""
    recompute: PerOp
    """Forward work repeated in the backward pass: recomputation."""
    model: PerOp
    """Runs without repetitions and without copies of key-value heads; may be a fraction."""
    is_lm_head: PerOp
    """1 for rows that run once on the last stage, 0 for rows of every layer."""
    is_linear: PerOp
    """1 for products with weights, which low-precision formats speed up; 0 for attention."""

    @property
    def total(self) -> PerOp:
        """Every run of a micro-batch."""
        return self.forward + self.backward + self.recompute


def single_executions(num_rows: int) -> ExecutionCounts:
    """Rows that run once, forward, in every layer."""
    one, zero = jnp.ones(num_rows), jnp.zeros(num_rows)
    return ExecutionCounts(one, zero, zero, one, zero, one)
