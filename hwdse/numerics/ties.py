r"""Minimum and maximum of values that are often equal, with slopes that add up to 1 at a tie.

Automatic differentiation of a minimum finds the smaller value by comparing its operands with the
result. A compiler may compute an operand again in the backward pass, with another rounding. Beside
a tie the comparison then fails or holds twice, and the slopes add up to 0, 3/2 or 2: seen in XLA on
CPU where two protocols of a collective take the same time. Here values that differ by less than
`TIE_ULPS` roundings share one slope equally, whatever is computed again.
"""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp

TIE_ULPS = 64.0
"""Values that differ by fewer units of rounding are equal."""


@jax.custom_jvp
def smaller(a: PerOp, b: PerOp) -> PerOp:
    """Smaller of two values; its slopes are 1 and 0, or one half each where they are equal."""
    return jnp.minimum(a, b)


@smaller.defjvp
def _smaller_jvp(primals: tuple[PerOp, PerOp], tangents: tuple[PerOp, PerOp]) -> tuple[Leaf, Leaf]:
    a, b = primals
    value = jnp.minimum(a, b)
    slack = TIE_ULPS * jnp.finfo(value.dtype).eps * jnp.abs(value)
    is_first = jnp.where(a <= b + slack, 1.0, 0.0).astype(value.dtype)
    # XLA computes a quotient once, not again in each of its uses: programs compile twice as fast.
    share = is_first / jnp.where(jnp.abs(a - b) <= slack, 2.0, 1.0).astype(value.dtype)
    return value, share * tangents[0] + (1.0 - share) * tangents[1]


def larger(a: PerOp, b: PerOp) -> PerOp:
    """Larger of two values; its slopes are 1 and 0, or one half each where they are equal."""
    return -smaller(-a, -b)
