"""Power of a chip with every engine, memory and link at its peak, and energy of a flop there."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip

PEAK_OVERHEAD_RATIO = 1.21
"""Instructions, operand delivery and clock of a matrix engine at its peak, over the energy of its
multipliers and adders. One number for all chips, least squares of the relative error on A100,
H100, TPU v4 and B200 (`hwdse.calibration.matrix_overhead_fit`); with any one of them left out 1.10 to
1.37. Small, since leakage with idle clocks, HBM and links are counted by themselves."""


def idle_and_transfer_power_w(chip: Chip, die_area_mm2: Scalar) -> Scalar:
    """What is drawn beside the matrix engines: HBM and scale-up links at line rate, leakage with
    the clock tree. The scale-out network sits on cards of its own."""
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
    r"""Energy of one flop of a chip at its peak, everything on: $f e_{MAC} / 2 + P_{rest} / R$.

    To be held against the power limit of the board over the peak, which is a bound from above: at
    full rate boards lower their clock. `mac_j` is the datapath's (`models.unit_energy`).
    """
    return 0.5 * overhead_ratio * mac_j + rest_w / jnp.maximum(peak_flop_per_s, 1.0)
