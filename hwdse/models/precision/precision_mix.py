"""Bytes and speed of a mix of number formats, and the area split between FP64 and FP16 units.

Symbols of the split: FP64 fraction f of all FLOP, area ratio kappa (area of one FP64 FLOP/s over
one FP16 FLOP/s), area fraction a of the FP64 units, overlap power p (1: FP64 and FP16 phases are
serialized; large: they overlap perfectly). Closed forms by Lagrange's condition for t16^p + t64^p
with t16 = (1 - f) / (1 - a), t64 = kappa f / a.
"""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import FORMATS, PrecisionMix

SMALLEST_FRACTION = 1e-12
"""Smallest distance of fractions from 0 and 1, so that logarithms and gradients stay finite."""

TWO_FLOAT_ADD_FLOP = 20.0
TWO_FLOAT_MULTIPLY_FLOP = 9.0
TWO_FLOAT_MULTIPLY_FLOP_WITHOUT_FMA = 24.0
"""FLOP per two-float operation. Source: Hida, Li, Bailey, Library for Double-Double and Quad-Double
Arithmetic, 2007, section 2: accurate sum 20; product by Dekker's split 24 (17 for the exact
product, 4 cross terms, 3 to renormalize), with a fused multiply-add 9 (2 for the exact product; 20
and 9 also in the table of operation costs of tuwien-cms/libxprec)."""


def _log_parts(fraction: Scalar) -> tuple[Scalar, Scalar]:
    """Logarithms of a fraction and its complement, both guarded (also in float32)."""
    share = jnp.maximum(fraction, SMALLEST_FRACTION)
    rest = jnp.maximum(1.0 - fraction, SMALLEST_FRACTION)
    return jnp.log(share), jnp.log(rest)


def split_time_ratio(
    fp64_area_fraction: Scalar,
    fp64_flop_fraction: Scalar,
    area_ratio: Scalar,
    overlap_power: Scalar,
) -> Scalar:
    r"""Time of a job relative to as many FLOP all in FP16 on the full area.

    $T = (t_{16}^p + t_{64}^p)^{1/p}$, $t_{16} = (1 - f)/(1 - a)$, $t_{64} = \kappa f / a$. Assumes
    units at full rate, no memory bound, and p >= 1.
    """
    log_f, log_rest = _log_parts(fp64_flop_fraction)
    log_a, log_area_rest = _log_parts(fp64_area_fraction)
    log_fp16 = log_rest - log_area_rest
    log_fp64 = jnp.log(area_ratio) + log_f - log_a
    power = overlap_power
    return jnp.exp(jnp.logaddexp(power * log_fp16, power * log_fp64) / power)


def best_fp64_per_fp16_ratio(
    fp64_flop_fraction: Scalar, area_ratio: Scalar, overlap_power: Scalar
) -> Scalar:
    r"""Ratio of peak FP64 to peak FP16 of the fastest split.

    $P_{64}/P_{16} = \kappa^{-1/(p+1)} (f / (1 - f))^{p/(p+1)}$; for p = 1
    $\sqrt{f / (\kappa (1 - f))}$, for $p \to \infty$ $f / (1 - f)$.
    """
    log_f, log_rest = _log_parts(fp64_flop_fraction)
    log_ratio = overlap_power * (log_f - log_rest) - jnp.log(area_ratio)
    return jnp.exp(log_ratio / (overlap_power + 1.0))


def best_fp64_area_fraction(
    fp64_flop_fraction: Scalar, area_ratio: Scalar, overlap_power: Scalar
) -> Scalar:
    r"""Area fraction of the FP64 units of the fastest split.

    $a / (1 - a) = (\kappa f / (1 - f))^{p/(p+1)}$.
    """
    log_f, log_rest = _log_parts(fp64_flop_fraction)
    exponent = overlap_power / (overlap_power + 1.0)
    return jax.nn.sigmoid(exponent * (jnp.log(area_ratio) + log_f - log_rest))


def best_split_time_ratio(
    fp64_flop_fraction: Scalar, area_ratio: Scalar, overlap_power: Scalar
) -> Scalar:
    r"""Value of `split_time_ratio` at the fastest split.

    $T = ((1 - f)^q + (\kappa f)^q)^{1/q}$ with $q = p / (p + 1)$; for p = 1
    $(\sqrt{1 - f} + \sqrt{\kappa f})^2$.
    """
    log_f, log_rest = _log_parts(fp64_flop_fraction)
    exponent = overlap_power / (overlap_power + 1.0)
    log_fp64 = jnp.log(area_ratio) + log_f
    return jnp.exp(jnp.logaddexp(exponent * log_rest, exponent * log_fp64) / exponent)


def fp64_fraction_for_ratio(
    fp64_per_fp16_ratio: Scalar, area_ratio: Scalar, overlap_power: Scalar
) -> Scalar:
    r"""Fraction of FP64 FLOP at which a given ratio of peak FP64 to FP16 is the fastest split.

    $f / (1 - f) = (\kappa^{1/(p+1)} r)^{(p+1)/p}$; for p = 1 and r = 1/N
    $f = \kappa / (\kappa + N^2)$. Inverse of `best_fp64_per_fp16_ratio`.
    """
    log_ratio = jnp.log(jnp.maximum(fp64_per_fp16_ratio, SMALLEST_FRACTION))
    log_odds = ((overlap_power + 1.0) * log_ratio + jnp.log(area_ratio)) / overlap_power
    return jax.nn.sigmoid(log_odds)


def fp64_per_fp16_ratio_of_area(fp64_area_fraction: Scalar, area_ratio: Scalar) -> Scalar:
    r"""Ratio of peak FP64 to peak FP16 of a given area split: $a / (\kappa (1 - a))$."""
    log_a, log_rest = _log_parts(fp64_area_fraction)
    return jnp.exp(log_a - log_rest) / area_ratio


def native_fp64_flop_per_s(peak_flop_per_s: Scalar, fp64_per_fp16_ratio: Scalar) -> Scalar:
    """FP64 rate of native units: the given fraction of the 16-bit peak (FLOP/s)."""
    return peak_flop_per_s * fp64_per_fp16_ratio


def fp64_flop_per_s(
    peak_flop_per_s: Scalar,
    fp64_per_fp16_ratio: Scalar,
    vector_flop_per_s: Scalar,
    software_fp64_flop_ratio: Scalar,
) -> Scalar:
    """FP64 rate of a chip: native units plus two-float arithmetic (FLOP/s).

    $P_{64} = r P_{16} + V_{32} / n$: the FP32 vector engines contribute at n FLOP per FP64 FLOP, so
    a chip without native units still finishes. Pairs of FP32 numbers have 48 bits of significand,
    not 53, and the exponent range of FP32. For a sum of products n is (20 + 9)/2 = 14.5 with a
    fused multiply-add and (20 + 24)/2 = 22 without (`TWO_FLOAT_ADD_FLOP` and the constants below
    it, with their source). A fused operation counts as two FLOP of a peak rate; in FLOP of a peak
    rate n is therefore 15 or more.
    """
    native = native_fp64_flop_per_s(peak_flop_per_s, fp64_per_fp16_ratio)
    return native + vector_flop_per_s / software_fp64_flop_ratio


FP4_BYTES = FORMATS["nvfp4_e2m1"].stored_bits / 8.0
"""Bytes per FP4 element with its share of the block scale: 9/16."""


def mix_bytes_per_element(mix: PrecisionMix) -> Scalar:
    """Mean bytes per operand element of the GEMMs: 2, 1 in FP8, 9/16 in FP4."""
    return 2.0 - mix.fp8_flop_fraction - (2.0 - FP4_BYTES) * mix.fp4_flop_fraction


FP8_ENERGY_RATIO = 0.65
"""Energy of a product in FP8 over that in 16 bits. H200 and B200 at their limits, random operands,
block scales: 0.71 and 0.63 above clocks and idle."""
FP4_ENERGY_RATIO = 0.42
"""The same in FP4. B200 at its limit, random operands, NVFP4."""


def mix_mac_energy_ratio(mix: PrecisionMix) -> Scalar:
    """Mean energy of a MAC relative to 16 bits and random operands."""
    eight = (1.0 - FP8_ENERGY_RATIO) * mix.fp8_flop_fraction
    four = (1.0 - FP4_ENERGY_RATIO) * mix.fp4_flop_fraction
    return mix.operand_activity_ratio * (1.0 - eight - four)


def mix_cast_bytes_per_element(mix: PrecisionMix) -> Scalar:
    """HBM bytes to bring one 16-bit activation into the formats of its GEMMs, mean of the mix.

    One read, and two writes: rows for the product and columns for the weight gradient, which sums
    over the other extent (Transformer Engine keeps both). Of FP4 one more read, for the largest
    magnitude of the tensor, which its block scales are relative to (arXiv 2509.25149, section 2).
    """
    fp4 = mix.fp4_flop_fraction * (4.0 + 2.0 * FP4_BYTES)
    return mix.fp8_flop_fraction * (2.0 + 2.0 * 1.0) + fp4


def mix_matrix_speedup_ratio(mix: PrecisionMix, chip: Chip) -> Scalar:
    r"""Speed of the GEMMs of a chip relative to all of them in 16 bits.

    $1 / ((1 - x_8 - x_4) + x_8 / s_8 + x_4 / s_4)$ for fractions x in FP8 and FP4 that run s times
    as fast. Assumes serialized phases. Source: Amdahl, AFIPS 1967.
    """
    eight, four = mix.fp8_flop_fraction, mix.fp4_flop_fraction
    low = eight / chip.fp8_speedup_ratio + four / chip.fp4_speedup_ratio
    return 1.0 / ((1.0 - eight - four) + low)
