r"""Least traffic between a fast and a slow memory, and the ratio of required to available B/FLOP.

Red-blue pebble game (Hong and Kung, STOC 1981): a fast memory holds S words, and every move between
it and the slow memory counts. For C[m, n] = A[m, k] B[k, n] two bounds hold for every schedule:

| bound | words | binds |
| --- | --- | --- |
| compulsory | $m k + k n + m n$ | if an operand fits, S large |
| pebble | $2 m n k / \sqrt{S} - 2 S$ | if no operand fits, S small |

The pebble bound has the best constant that is proven for all extents: Smith, Lowery, Langou and van
de Geijn, arXiv 1702.02017, 2019, for $C = A B + C$. It also holds for sums that start from zero,
since reading each C before its first product adds as many reads as there are writes.

`streamed_sums_words` is the $2 m n k / \sqrt{S} + m n$ of Kwasniewski et al., SC 2019 (COSMA),
which schedules with sums on chip reach. It is not a bound for $k < 2 \sqrt{S}$: resident rows of A
need $k^2 m n / S + m n + m k$, which is less. It exceeds the pebble bound by at most $m n + 2 S$.

Fused attention has no separate term: operands that never leave the chip do not count, so Q, K, V
and the outputs are compulsory. The order $N^2 d^2 / S$ of Saha and Ye (arXiv 2402.07443) has no
proven constant.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import SMALLEST_DIVISOR, positive_part
from hwdse.specs.results.balance_results import TrafficBound
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.unrolled_inputs import (
    distinct_inputs,
    taps_of_an_input,
    windows_per_input,
)

SUM_BYTES = 4.0
"""Bytes per partial sum: FP32, as in `hbm_traffic`."""


def _safe_sqrt(x: PerOp) -> PerOp:
    """Square root with a finite gradient at zero."""
    is_positive = x > 0.0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, x, 1.0)), 0.0)


def safe_ratio(numerator: PerOp, divisor: PerOp) -> PerOp:
    """Quotient of two quantities, such as bytes per FLOP; zero for a zero divisor."""
    is_positive = divisor > SMALLEST_DIVISOR
    return jnp.where(is_positive, numerator / jnp.where(is_positive, divisor, 1.0), 0.0)


def streamed_sums_words(m: PerOp, n: PerOp, k: PerOp, fast_words: PerOp) -> PerOp:
    r"""Words of the best schedule with a square of sums on chip, $2 m n k / \sqrt{S} + m n$.

    To leading order the minimum for $k \gg \sqrt{S}$; not a bound for $k < 2 \sqrt{S}$ (see the
    module docstring). Source: Kwasniewski et al., SC 2019, theorem 1.
    """
    return 2.0 * m * n * k / jnp.sqrt(fast_words) + m * n


def pebble_bytes(
    gemms: Gemms,
    fast_bytes: PerOp,
    num_parts: PerOp,
    element_bytes: PerOp,
    sum_bytes: PerOp,
) -> PerOp:
    r"""Pebble bound of GEMMs, all counts (bytes); useful if positive.

    In a phase that moves $2 S$ bytes, at most $3 S$ bytes of operands are available. Loomis and
    Whitney's inequality then allows $V \le S^{3/2} / \sqrt{e^2 s}$ products for elements of e bytes
    and sums of s bytes:

    $Q \ge 2 V \sqrt{e^2 s f_A f_B f_C / (f S)} - 2 f S - (s - e) f_C m n$,

    f is the largest of the fractions of the operands in the slow memory (an operand that is shared
    by GEMMs or stays on chip counts by its fraction). S is the private part of each of `num_parts`,
    and $2 f S$ is summed over all of them. The last term corrects for outputs that leave as
    elements. Of convolutions $f_A$ is divided by the number of windows with the same input, as in
    `convolution_traffic_bound`. Assumes that unfinished sums leave unrounded. Source: Smith et al.
    2019, with weights.
    """
    fractions = (gemms.a_in_hbm, gemms.b_in_hbm, gemms.c_in_hbm)
    largest = jnp.maximum(jnp.maximum(fractions[0], fractions[1]), fractions[2])
    product = fractions[0] * fractions[1] * fractions[2] / windows_per_input(gemms)
    weight = safe_ratio(product, largest)
    # A memory smaller than one sum is not useful: the bound stops growing.
    part_bytes = jnp.maximum(fast_bytes / num_parts, sum_bytes)
    reuse = element_bytes * _safe_sqrt(sum_bytes * weight / part_bytes)
    unrounded = (sum_bytes - element_bytes) * gemms.c_in_hbm * gemms.count * gemms.m * gemms.n
    return 2.0 * gemms.num_macs * reuse - 2.0 * largest * part_bytes * num_parts - unrounded


def compulsory_bytes(gemms: Gemms, element_bytes: PerOp) -> PerOp:
    """Every operand once, by its fraction in the slow memory, all counts (bytes)."""
    words = (
        gemms.a_in_hbm * _distinct_words(gemms)
        + gemms.b_in_hbm * gemms.k * gemms.n
        + gemms.c_in_hbm * gemms.m * gemms.n
    )
    return element_bytes * gemms.count * words


def _distinct_words(gemms: Gemms) -> PerOp:
    """Elements of A, or the inputs of a convolution that its windows cover."""
    w = gemms.windows
    if w is None:
        return gemms.m * gemms.k
    height = distinct_inputs(w.p, w.r, w.stride_p, w.dilation_r)
    width = distinct_inputs(w.q, w.s, w.stride_q, w.dilation_s)
    return gemms.m / (w.p * w.q) * gemms.k / (w.r * w.s) * height * width


def copies_bytes(gemms: Gemms, num_parts: PerOp, element_bytes: PerOp) -> PerOp:
    r"""Least bytes of GEMMs divided evenly over `num_parts` engines with private memories.

    All counts. V products on s engines: each computes $V / s$ of them and needs
    $N_A N_B N_C \ge (V / s)^2$ elements (Loomis and Whitney). All engines together need
    $3 s\,e\,(f_A f_B f_C)^{1/3} (V / s)^{2/3}$, independent of memory size. Zero for at least as
    many GEMMs as engines, which can be distributed whole. Source: Ballard, Demmel, Holtz, Lipshitz
    and Schwartz, SPAA 2012 (memory-independent bounds).
    """
    fractions = gemms.a_in_hbm * gemms.b_in_hbm * gemms.c_in_hbm
    weight = fractions / windows_per_input(gemms)
    is_shared = (gemms.count < num_parts - 0.5) & (weight > 0.0)
    volume = jnp.where(is_shared, gemms.num_macs / num_parts, 1.0)
    cube_root = jnp.cbrt(jnp.where(is_shared, weight, 1.0))
    words = 3.0 * num_parts * cube_root * jnp.cbrt(volume) ** 2
    return jnp.where(is_shared, element_bytes * words, 0.0)


def gemm_traffic_bound(
    gemms: Gemms, fast_bytes: PerOp, element_bytes: PerOp, num_parts: PerOp = 1.0
) -> TrafficBound:
    """Least bytes of GEMM operators, all counts, for a fast memory of `fast_bytes`.

    The pebble bound is the higher of two: sums as wide as the elements, and FP32 sums; both hold
    for FP32 sums. Elements wider than a sum count with their width, sums as FP32. `num_parts`
    memories that are private to their engines each have their part of the bytes.
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


def convolution_traffic_bound(operators: Operators, fast_words: PerOp) -> TrafficBound:
    r"""Least words (not bytes) of convolutions, all counts, for one fast memory of `fast_words`.

    The implicit GEMM, in which an input is up to
    $\rho = \lceil R / d_p \rceil \lceil S / d_q \rceil$ elements of A at strides d:
    $Q \ge 2 V / \sqrt{\rho S} - 2 S$. Inputs outside all windows are not counted. Source: Chen, Han
    and Wang, Communication Lower Bound in Convolution Accelerators, HPCA 2020; constants as for
    GEMMs. The bounds of Demmel and Dinh (arXiv 1802.06905), higher for small filters, are left out.
    """
    op = operators
    reuse = taps_of_an_input(op.r, op.stride_p, op.dilation_r) * taps_of_an_input(
        op.s, op.stride_q, op.dilation_s
    )
    height = distinct_inputs(op.p, op.r, op.stride_p, op.dilation_r)
    width = distinct_inputs(op.q, op.s, op.stride_q, op.dilation_s)
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
    r"""Required over available bytes per FLOP, $(b / W) / (\beta / P)$; 0 if no bytes are required.

    b bytes and W FLOP per step, $\beta$ B/s, P FLOP/s. Equal to the time of the memory over the
    time of the engines. Source: Callahan, Cocke and Kennedy, JPDC 5(4), 1988 (loop balance over
    machine balance); Kung, ISCA 1986.
    """
    return safe_ratio(step_bytes * flop_per_s, bandwidth_bytes_per_s * flop)
