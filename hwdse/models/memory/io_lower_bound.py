r"""Least traffic between a fast and a slow memory, and the balance of bytes and flops.

Red-blue pebble game (Hong and Kung, STOC 1981): a fast memory holds S words, every move between
it and the slow one counts. For C[m, n] = A[m, k] B[k, n] two bounds hold whatever the schedule:

| bound | words | binds |
| --- | --- | --- |
| compulsory | $m k + k n + m n$ | where an operand fits, S large |
| pebble | $2 m n k / \sqrt{S} - 2 S$ | where no operand fits, S small |

The pebble bound is the one with the best constant that is proven for all extents: Smith, Lowery,
Langou and van de Geijn, arXiv 1702.02017, 2019, who count $C = A B + C$. For sums that start from
nothing the same holds, since reading each C before its first product adds as many reads as there
are writes. `streamed_sums_words` is the $2 m n k / \sqrt{S} + m n$ of Kwasniewski et al., SC 2019
(COSMA), which schedules that keep sums on chip reach. It is no bound where $k < 2 \sqrt{S}$: rows
of A that stay need $k^2 m n / S + m n + m k$, which is less. Its gap to the pebble bound is at
most $m n + 2 S$.

Fused attention has no term of its own: operands that never leave the chip count nothing, so Q, K,
V and the outputs are compulsory, and the order $N^2 d^2 / S$ of Saha and Ye (arXiv 2402.07443) has
no proven constant.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import SMALLEST_DIVISOR, positive_part
from hwdse.specs.results.balance_results import TrafficBound
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import window

SUM_BYTES = 4.0
"""Partial sums are fp32, as in `models.memory`."""


def _safe_sqrt(x: PerOp) -> PerOp:
    """Square root with a finite gradient at zero."""
    is_positive = x > 0.0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, x, 1.0)), 0.0)


def safe_ratio(numerator: PerOp, divisor: PerOp) -> PerOp:
    """Bytes for a flop, flops for a byte, traffic over its bound; zero where the divisor is."""
    is_positive = divisor > SMALLEST_DIVISOR
    return jnp.where(is_positive, numerator / jnp.where(is_positive, divisor, 1.0), 0.0)


def streamed_sums_words(m: PerOp, n: PerOp, k: PerOp, fast_words: PerOp) -> PerOp:
    r"""Words of the best schedule that keeps a square of sums on chip, $2 m n k / \sqrt{S} + m n$.

    To leading order what is least for $k \gg \sqrt{S}$; not a bound for $k < 2 \sqrt{S}$ (see the
    head of this file). Source: Kwasniewski et al., SC 2019, theorem 1.
    """
    return 2.0 * m * n * k / jnp.sqrt(fast_words) + m * n


def pebble_bytes(
    gemms: Gemms,
    fast_bytes: PerOp,
    num_parts: PerOp,
    element_bytes: PerOp,
    sum_bytes: PerOp,
) -> PerOp:
    r"""Pebble bound of products, all counts, in bytes; of use where it is positive.

    In a phase that moves $2 S$ bytes at most $3 S$ bytes of operands meet, so that Loomis and
    Whitney's inequality leaves $V \le S^{3/2} / \sqrt{e^2 s}$ products for elements of e bytes and
    sums of s:

    $Q \ge 2 V \sqrt{e^2 s f_A f_B f_C / (f S)} - 2 f S - (s - e) f_C m n$,

    f the largest of the shares of the operands that live in the slow memory (an operand that
    products share, or that never leaves the chip, counts by its share), S the part that is private
    to each of `num_parts`, and $2 f S$ over all of them. The last term: outputs leave as elements.
    Assumes that sums which leave unfinished do so unrounded. Source: Smith et al. 2019, with
    weights.
    """
    shares = (gemms.a_in_hbm, gemms.b_in_hbm, gemms.c_in_hbm)
    largest = jnp.maximum(jnp.maximum(shares[0], shares[1]), shares[2])
    weight = safe_ratio(shares[0] * shares[1] * shares[2], largest)
    # Less than one sum or element is no memory at all: the bound stops growing.
    part_bytes = jnp.maximum(fast_bytes / num_parts, sum_bytes)
    reuse = element_bytes * _safe_sqrt(sum_bytes * weight / part_bytes)
    unrounded = (sum_bytes - element_bytes) * gemms.c_in_hbm * gemms.count * gemms.m * gemms.n
    return 2.0 * gemms.num_macs * reuse - 2.0 * largest * part_bytes * num_parts - unrounded


def compulsory_bytes(gemms: Gemms, element_bytes: PerOp) -> PerOp:
    """Every operand once, by its share in the slow memory, all counts."""
    words = (
        gemms.a_in_hbm * gemms.m * gemms.k
        + gemms.b_in_hbm * gemms.k * gemms.n
        + gemms.c_in_hbm * gemms.m * gemms.n
    )
    return element_bytes * gemms.count * words


def copies_bytes(gemms: Gemms, num_parts: PerOp, element_bytes: PerOp) -> PerOp:
    r"""Least bytes of products that `num_parts` engines share evenly, each by itself, all counts.

    V products on s engines: each does $V / s$ of them, for which it takes
    $N_A N_B N_C \ge (V / s)^2$ elements (Loomis and Whitney), so that all of them take
    $3 s\,e\,(f_A f_B f_C)^{1/3} (V / s)^{2/3}$, however large their memories are. 0 where there
    are as many products as engines, which can be dealt out whole. Source: Ballard, Demmel, Holtz,
    Lipshitz and Schwartz, SPAA 2012 (memory-independent bounds).
    """
    weight = gemms.a_in_hbm * gemms.b_in_hbm * gemms.c_in_hbm
    is_shared = (gemms.count < num_parts - 0.5) & (weight > 0.0)
    volume = jnp.where(is_shared, gemms.num_macs / num_parts, 1.0)
    cube_root = jnp.cbrt(jnp.where(is_shared, weight, 1.0))
    words = 3.0 * num_parts * cube_root * jnp.cbrt(volume) ** 2
    return jnp.where(is_shared, element_bytes * words, 0.0)


def gemm_traffic_bound(
    gemms: Gemms, fast_bytes: PerOp, element_bytes: PerOp, num_parts: PerOp = 1.0
) -> TrafficBound:
    """Least bytes of the products of each row, all counts, for a fast memory of `fast_bytes`.

    The pebble bound is the higher of those for sums as wide as the elements and of fp32: both
    hold where sums are fp32. Elements wider than a sum count as they are, sums as fp32. Where
    `num_parts` memories are private to their engines, each has its part of the bytes.
    """
    narrow = jnp.minimum(element_bytes, SUM_BYTES)
    pebble = jnp.maximum(
        pebble_bytes(gemms, fast_bytes, num_parts, element_bytes, narrow),
        pebble_bytes(gemms, fast_bytes, num_parts, element_bytes, SUM_BYTES),
    )
    return TrafficBound(
        compulsory_bytes=compulsory_bytes(gemms, element_bytes),
        copies_bytes=copies_bytes(gemms, num_parts, element_bytes),
        pebble_bytes=positive_part(pebble),
    )


def _taps_of_an_input(taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Most windows of one dimension that an input is in; all taps where they are spread."""
    dense = jnp.ceil((taps - 0.5) / stride)
    return jnp.where(dilation > 1.5, taps, jnp.minimum(dense, taps))


def _distinct_inputs(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Inputs of one dimension that are read; with dilation the least that any sum set has."""
    dense = jnp.minimum(window(outputs, taps, stride, dilation), outputs * taps)
    return jnp.where(dilation > 1.5, outputs + taps - 1.0, dense)


def convolution_traffic_bound(operators: Operators, fast_words: PerOp) -> TrafficBound:
    r"""Least words of convolutions, all counts, for one fast memory of `fast_words`; not bytes.

    The implicit matrix product, of which an input is up to $\rho = \lceil R / d_p \rceil \lceil S /
    d_q \rceil$ elements of A at strides d: $Q \ge 2 V / \sqrt{\rho S} - 2 S$. Inputs that no window
    covers are not counted. Source: Chen, Han and Wang, Communication Lower Bound in Convolution
    Accelerators, HPCA 2020; constants as for products. The bounds of Demmel and Dinh
    (arXiv 1802.06905), higher for small filters, are left out.
    """
    op = operators
    reuse = _taps_of_an_input(op.r, op.stride_p, op.dilation_r) * _taps_of_an_input(
        op.s, op.stride_q, op.dilation_s
    )
    height = _distinct_inputs(op.p, op.r, op.stride_p, op.dilation_r)
    width = _distinct_inputs(op.q, op.s, op.stride_q, op.dilation_s)
    distinct = op.n * op.c * height * width + op.r * op.s * op.c * op.k + op.n * op.p * op.q * op.k
    words = jnp.maximum(fast_words, 1.0)
    pebble = 2.0 * op.count * op.num_macs / jnp.sqrt(reuse * words) - 2.0 * words
    return TrafficBound(
        compulsory_bytes=op.count * distinct,
        copies_bytes=jnp.zeros_like(op.count * distinct),
        pebble_bytes=positive_part(pebble),
    )


def demand_ratio(
    step_bytes: Scalar, bandwidth_bytes_per_s: Scalar, flop: Scalar, flop_per_s: Scalar
) -> Scalar:
    r"""Bytes per flop needed over those provided, $(b / W) / (\beta / P)$; 0 where none are needed.

    Equally the time of the memory over that of the engines. Source: Callahan, Cocke and Kennedy,
    JPDC 5(4), 1988 (loop balance over machine balance); Kung, ISCA 1986.
    """
    return safe_ratio(step_bytes * flop_per_s, bandwidth_bytes_per_s * flop)
