"""Rows of matrix products with counts."""

import flax.struct

from hwdse.shapes import PerOp


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
