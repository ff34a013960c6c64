"""Power of a chip with all engines, memories and links at peak, and energy per FLOP."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip

PEAK_OVERHEAD_RATIO = 1.21
"""Energy of a matrix engine at peak relative to its multipliers and adders: instructions, operand
delivery and clock. One value for all chips, least squares of the relative error on A100, H100, TPU
v4 and B200 (`calibration/matrix_overhead_fit.py`); 1.10 to 1.37 with one of them left out. It is
small because leakage with idle clocks, HBM and links are separate terms."""


def idle_and_transfer_power_w(chip: Chip, die_area_mm2: Scalar) -> Scalar:
    """Power beside the matrix engines (W): HBM and scale-up links at line rate, leakage.

    Leakage includes the clock tree. Excludes the scale-out network, which is on separate cards.
    """
    moved = (
        chip.hbm.bandwidth_bytes_per_s * chip.hbm.energy_j_per_byte
        + chip.link.bandwidth_bytes_per_s * chip.link.energy_j_per_byte
    )
    return moved + chip.process.leakage_w_per_mm2 * die_area_mm2


def peak_energy_j_per_flop(
    mac_j: Scalar,
    rest_w: Scalar,
    peak_flop_per_s: Scalar,
    overhead_ratio: Scalar = PEAK_OVERHEAD_RATIO,
) -> Scalar:
    """Energy per FLOP of a chip at peak, all blocks on: $f e_{MAC} / 2 + P_{rest} / R$ (J/FLOP).

    `mac_j` is the datapath energy (`arithmetic_unit_costs`). Compare with the board power limit
    over the peak rate, which is an upper bound: boards lower their clock at full rate.
    """
    return 0.5 * overhead_ratio * mac_j + rest_w / jnp.maximum(peak_flop_per_s, 1.0)
