"""FP64 work of a step: native units, two-float arithmetic or emulation on 16-bit engines."""

import jax.numpy as jnp

from hwdse.models.energy import voltage_and_leakage
from hwdse.models.memory.scratchpad_limits import sustained_hbm_bytes_per_s
from hwdse.models.precision import precision_mix
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.training.gemm_operator_costs import peak_flop_per_s, vector_rate_flop_per_s

SMALLEST_REST_FRACTION = 1e-6
"""Lower bound of the non-FP64 share of FLOP, so that a pure FP64 job stays finite."""


@struct.dataclass
class Fp64Work:
    """Time, energy and HBM traffic of the FP64 work of one chip in one step."""

    time_s: Leaf
    energy_j: Leaf
    """Energy of the arithmetic units alone, at nominal voltage."""
    traffic_bytes: Leaf
    """HBM traffic."""


def fp64_rates(chip: Chip) -> tuple[Scalar, Scalar]:
    """FP64 rate of the native units, and of native units plus vector engines, in FLOP/s."""
    peak = peak_flop_per_s(chip)
    native = precision_mix.native_fp64_flop_per_s(peak, chip.fp64_per_fp16_ratio)
    return native, precision_mix.fp64_flop_per_s(
        peak,
        chip.fp64_per_fp16_ratio,
        vector_rate_flop_per_s(chip),
        chip.software_fp64_flop_ratio,
    )


def _energy_j_per_flop(chip: Chip) -> Scalar:
    """Mean energy per FP64 FLOP; native units and vector engines share the work by their rates."""
    native, both = fp64_rates(chip)
    native_j = chip.process.mac_energy_j / 2.0 * chip.process.fp64_energy_ratio
    vector_j = chip.process.mac_energy_j * voltage_and_leakage.VECTOR_ENERGY_RATIO
    software_j = chip.software_fp64_flop_ratio * vector_j
    return software_j + (native_j - software_j) * native / both


def fp64_work(other_flop: Scalar, design: Design) -> Fp64Work:
    r"""Time, energy and traffic of the FP64 work beside `other_flop` of other model FLOP.

    FP64 is a fraction f of all model FLOP, hence $F = f / (1 - f)$ times `other_flop`. A fraction g
    of F is GEMM. GEMM runs on the FP64 units (rate $P_{64}$) or emulated on the 16-bit engines
    ($P_{16}$, n FLOP per FP64 FLOP), whichever is faster: $g F \min(1 / P_{64}, n / P_{16})$, with
    the energy and gradient of the faster one. The remainder is bound by the FP64 units or by HBM
    (b bytes per FLOP, bandwidth B): $(1 - g) F \max(1 / P_{64}, b / B)$.
    Assumes that GEMM operands are on chip.
    """
    chip, mix = design.chip, design.mix
    share = mix.fp64_flop_fraction
    flop = other_flop * share / jnp.maximum(1.0 - share, SMALLEST_REST_FRACTION)
    gemm_flop = flop * mix.fp64_gemm_fraction
    remaining_flop = flop * (1.0 - mix.fp64_gemm_fraction)
    rate = fp64_rates(chip)[1]
    emulated_rate = peak_flop_per_s(chip) / chip.emulated_fp64_flop_ratio
    hbm_bytes_per_s = sustained_hbm_bytes_per_s(chip)
    # A factor, not a maximum of two times: both are zero without FP64, and a tie halves slopes.
    wait_ratio = jnp.maximum(1.0, rate * mix.fp64_traffic_bytes_per_flop / hbm_bytes_per_s)
    native_j = _energy_j_per_flop(chip)
    emulated_j = chip.emulated_fp64_flop_ratio * chip.process.mac_energy_j / 2.0
    gemm_j = jnp.where(emulated_rate > rate, emulated_j, native_j)
    return Fp64Work(
        time_s=remaining_flop / rate * wait_ratio + gemm_flop / jnp.maximum(rate, emulated_rate),
        energy_j=native_j * remaining_flop + gemm_j * gemm_flop,
        traffic_bytes=remaining_flop * mix.fp64_traffic_bytes_per_flop,
    )
