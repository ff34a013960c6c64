"""Cost and break-even of FP64 matrix multiplication on 16-bit or INT8 engines (Ozaki schemes).

Symbols: n reference (16-bit) FLOP per FP64 FLOP of a GEMM, f the FP64 fraction of all FLOP, g the
fraction of GEMMs in it, kappa and p as in the area split. Emulation needs no die area, and applies
to GEMMs only.
"""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST, SMALLEST_DIVISOR

MEASURED_FLOP_RATIO_GH200 = (12.3, 17.5)
"""16-bit FLOP of the specified peak (989 TFLOPS) per emulated FP64 FLOP on GH200: 80.2 and 56.6
TFLOPS of DGEMM by INT8 products. Source: Uchino, Ozaki, Imamura, arXiv 2508.03984."""
_SMALLEST_STEP = 1e-3


def ozaki_slice_products(num_slices: Scalar) -> Scalar:
    """Low-precision products of the first scheme: $k (k + 1) / 2$ significant pairs of k slices.

    7, 8, 9 slices: 28, 36, 45. Source: Ozaki, Ogita, Oishi, Rump, Numer. Algorithms 59, 2012.
    """
    return num_slices * (num_slices + 1.0) / 2.0


def ozaki_modular_products(num_moduli: Scalar) -> Scalar:
    """Low-precision products of the second scheme: one per modulus (Chinese remainder theorem).

    14 to 16 for FP64 accuracy. Source: arXiv 2504.08009; RIKEN-RCCS/GEMMul8.
    """
    return num_moduli


def emulated_flop_ratio(
    num_products: Scalar, speed_ratio: Scalar, efficiency_fraction: Scalar
) -> Scalar:
    """16-bit FLOP at peak that take as long as one emulated FP64 FLOP.

    $n = N / (s e)$ for N products at s times the 16-bit rate and efficiency e, splitting and
    summation included.
    """
    return num_products / (speed_ratio * efficiency_fraction)


def emulated_time_ratio(
    fp64_flop_fraction: Scalar, gemm_fraction: Scalar, flop_ratio: Scalar
) -> Scalar:
    """16-bit work of a job with emulated FP64 GEMMs: $1 - f + n f g$.

    The time of the job for g = 1 and no area of FP64 units.
    """
    return 1.0 - fp64_flop_fraction + flop_ratio * fp64_flop_fraction * gemm_fraction


def native_fp64_work(fp64_flop_fraction: Scalar, gemm_fraction: Scalar) -> Scalar:
    """FP64 work left on FP64 units with emulated GEMMs: $f (1 - g)$."""
    return fp64_flop_fraction * (1.0 - gemm_fraction)


def break_even_flop_ratio(
    fp64_flop_fraction: Scalar, area_ratio: Scalar, overlap_power: Scalar
) -> Scalar:
    r"""Largest n at which emulation is faster than the best native split, FP64 work in GEMMs only.

    $n = (T - (1 - f)) / f$ with $T = ((1 - f)^q + (\kappa f)^q)^{1/q}$, $q = p/(p+1)$; for p = 1
    $\kappa + 2 \sqrt{\kappa (1 - f) / f}$.
    """
    share = jnp.clip(fp64_flop_fraction, 1e-12, 1.0)
    exponent = overlap_power / (overlap_power + 1.0)
    # In units of the 16-bit work, with expm1 and log1p so that a small share does not cancel.
    odds = jnp.maximum(1.0 - share, 1e-12) / share
    log_fp64 = exponent * (jnp.log(area_ratio) - jnp.log(odds))
    growth = jnp.expm1(jax.nn.softplus(log_fp64) / exponent)
    return odds * growth


def break_even_fp64_fraction(flop_ratio: Scalar, area_ratio: Scalar) -> Scalar:
    r"""FP64 fraction below which emulation is faster than the best native split.

    $f / (1 - f) = 4 \kappa / (n - \kappa)^2$; 1, for every job, if $n \le \kappa$. Assumes
    serialized phases (p = 1).
    """
    loss = jnp.maximum(flop_ratio - area_ratio, 0.0)
    return 4.0 * area_ratio / (4.0 * area_ratio + loss**2)


def best_split_with_gemms(
    fp64_flop_fraction: Scalar,
    gemm_fraction: Scalar,
    flop_ratio: Scalar,
    area_ratio: Scalar,
    overlap_power: Scalar,
) -> tuple[Scalar, Scalar]:
    """Time on the best split, and its ratio of peak FP64 to peak 16-bit, with emulated GEMMs.

    The closed forms of the split with $w_{16} = 1 - f + n f g$ and $w_{64} = f (1 - g)$ in place of
    $1 - f$ and f. Emulation of a part of the GEMMs is never optimal if the area adapts: the time is
    a root of order q < 1 of a sum of powers q of linear terms. It is therefore concave in that
    part, with its minimum at an end.
    """
    exponent = overlap_power / (overlap_power + 1.0)
    work = emulated_time_ratio(fp64_flop_fraction, gemm_fraction, flop_ratio)
    native = native_fp64_work(fp64_flop_fraction, gemm_fraction)
    log_work = jnp.log(jnp.maximum(work, SMALLEST))
    log_native = jnp.log(area_ratio) + jnp.log(jnp.maximum(native, SMALLEST))
    time = jnp.exp(jnp.logaddexp(exponent * log_work, exponent * log_native) / exponent)
    return time, jnp.exp(exponent * (log_native - log_work)) / area_ratio


def best_emulated_fraction(
    fp64_area_fraction: Scalar,
    fp64_flop_fraction: Scalar,
    gemm_fraction: Scalar,
    flop_ratio: Scalar,
    area_ratio: Scalar,
    overlap_power: Scalar,
) -> Scalar:
    r"""Fraction of GEMMs to emulate on a chip with a given area split.

    With y the emulated part of the FP64 work, $t_{16} = (1 - f + n y) / (1 - a)$ and
    $t_{64} = \kappa (f - y) / a$. $t_{16}^p + t_{64}^p$ is least at
    $t_{16} / t_{64} = (\kappa (1 - a) / (n a))^{1/(p-1)}$, clipped to $0 \le y \le g f$. For p = 1
    all or nothing, on the faster unit; for $p \to \infty$ both units finish together. Powers below
    1.001 count as 1.001.
    """
    area = jnp.clip(fp64_area_fraction, 1e-12, 1.0)
    slow_16 = flop_ratio / jnp.maximum(1.0 - area, 1e-12)
    slow_64 = area_ratio / area
    log_gain = jnp.log(slow_64) - jnp.log(slow_16)
    step = jnp.maximum(overlap_power - 1.0, _SMALLEST_STEP)
    weight = jax.nn.sigmoid(log_gain / step + log_gain)
    rest = (1.0 - fp64_flop_fraction) / flop_ratio
    emulated = fp64_flop_fraction * weight - rest * (1.0 - weight)
    products = jnp.maximum(gemm_fraction * fp64_flop_fraction, SMALLEST_DIVISOR)
    return jnp.clip(emulated / products, 0.0, 1.0)
