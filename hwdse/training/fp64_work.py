"""fp64 work of a step: on native units, in two-float arithmetic, or emulated by 16-bit engines."""

import flax.struct
import jax.numpy as jnp

from hwdse.models.energy import voltage_and_leakage
from hwdse.models.precision import precision_mix
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.training.gemm_operator_costs import peak_flop_per_s, vector_rate_flop_per_s

SMALLEST_REST_FRACTION = 1e-6
"""Least share of the flops that is not fp64, so that a job of fp64 alone stays finite."""


@flax.struct.dataclass
class Fp64Work:
    """What the fp64 work of one chip and step takes."""

    time_s: Leaf
    energy_j: Leaf
    """Of the units alone, at the process's nominal voltage."""
    traffic_bytes: Leaf
    """Over HBM."""


def fp64_rates(chip: Chip) -> tuple[Scalar, Scalar]:
    """fp64 rate of the native units, and of those and the vector engines together."""
    peak = peak_flop_per_s(chip)
    native = precision_mix.native_fp64_flop_per_s(peak, chip.fp64_per_fp16_ratio)
    return native, precision_mix.fp64_flop_per_s(
        peak,
        chip.fp64_per_fp16_ratio,
        vector_rate_flop_per_s(chip),
        chip.software_fp64_flop_ratio,
    )


def _energy_j_per_flop(chip: Chip) -> Scalar:
    """Mean over native units and vector engines, which share the work by their rates."""
    native, both = fp64_rates(chip)
    native_j = chip.process.mac_energy_j / 2.0 * chip.process.fp64_energy_ratio
    vector_j = chip.process.mac_energy_j * voltage_and_leakage.VECTOR_ENERGY_RATIO
    software_j = chip.software_fp64_flop_ratio * vector_j
    return software_j + (native_j - software_j) * native / both


def fp64_work(useful_flop: Scalar, design: Design) -> Fp64Work:
    r"""Time, energy and traffic of the fp64 work beside `useful_flop` of other work.

    Its share f is one of all useful flops, so it is $F = f / (1 - f)$ times the others. Matrix
    products, $g F$, run on the fp64 units or emulated on the 16-bit engines, n of their flops for
    one, whichever is faster: $g F \min(1 / P_{64}, n / P_{16})$, with the winner's energy and
    gradient. The rest is bound by the fp64 units or by HBM, b bytes a flop:
    $(1 - g) F \max(1 / P_{64}, b / B)$. Products are assumed to find their operands on chip.
    """
    chip, mix = design.chip, design.mix
    share = mix.fp64_flop_fraction
    flop = useful_flop * share / jnp.maximum(1.0 - share, SMALLEST_REST_FRACTION)
    products = flop * mix.fp64_gemm_fraction
    others = flop * (1.0 - mix.fp64_gemm_fraction)
    rate = fp64_rates(chip)[1]
    emulated_rate = peak_flop_per_s(chip) / chip.emulated_fp64_flop_ratio
    hbm_bytes_per_s = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    # A factor, and no maximum of two times: both are zero without fp64, and a tie halves slopes.
    wait_ratio = jnp.maximum(1.0, rate * mix.fp64_traffic_bytes_per_flop / hbm_bytes_per_s)
    native_j = _energy_j_per_flop(chip)
    emulated_j = chip.emulated_fp64_flop_ratio * chip.process.mac_energy_j / 2.0
    product_j = jnp.where(emulated_rate > rate, emulated_j, native_j)
    return Fp64Work(
        time_s=others / rate * wait_ratio + products / jnp.maximum(rate, emulated_rate),
        energy_j=native_j * others + product_j * products,
        traffic_bytes=others * mix.fp64_traffic_bytes_per_flop,
    )
