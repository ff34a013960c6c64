"""Peaks of a chip as its kernels see them."""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.kernel_formats import KernelFormat


def kernel_rates(chip: Chip, costs: KernelCosts) -> KernelRates:
    """Peaks of a chip at its set clock; tiles run on `units_per_array` units per array."""
    array = chip.array
    peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
    eight = peak * chip.fp8_speedup_ratio
    return KernelRates(
        matrix_flop_per_s=peak,
        matrix8_flop_per_s=eight,
        matrix4_flop_per_s=jnp.maximum(eight, peak * chip.fp4_speedup_ratio),
        vector_flop_per_s=chip.vector_flop_per_s * array.clock_hz / chip.nominal_clock_hz,
        hbm_bytes_per_s=chip.hbm.bandwidth_bytes_per_s,
        cache_bytes=chip.sram.capacity_bytes * chip.cache_fraction,
        num_units=costs.units_per_array * array.num_arrays,
        clock_hz=array.clock_hz,
    )


def matrix_rate_flop_per_s(fmt: KernelFormat, rates: KernelRates, costs: KernelCosts) -> PerOp:
    """Sustained rate of large products in a format."""
    wide = rates.matrix_flop_per_s * costs.matrix_fraction
    eight = rates.matrix8_flop_per_s * costs.matrix8_fraction
    four = rates.matrix4_flop_per_s * costs.matrix4_fraction
    bits = fmt.math_bits
    return jnp.where(bits > 8.0, wide, jnp.where(bits > 4.0, eight, four))
