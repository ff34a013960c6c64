"""Energy of a chip by part, from its work, its time and its operating point.

$E = P_{idle} T + e_{clk} A f v^2 T_{on} + v^2 (e_{MAC} n + e_S b_S) + e_H b_H + e_L b_L$ with
$v = V / V_n$: idle power by area and voltage; clock trees, schedulers and caches while kernels
are resident; switching of engines and scratchpads; memory and links, whose supplies do not follow
the voltage of the engines.
"""

from hwdse.models.energy import voltage_and_leakage
from hwdse.models.energy.voltage_and_leakage import OperatingPoint
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.evaluation_result import EnergyParts


@struct.dataclass
class ChipWork:
    """Operations and bytes of one chip in some time."""

    num_macs: Leaf
    vector_flop: Leaf
    sram_bytes: Leaf
    accumulator_bytes: Leaf
    hbm_bytes: Leaf
    link_bytes: Leaf
    network_bytes: Leaf
    fp64_j: Leaf
    """Energy of the FP64 units at the nominal voltage."""
    elapsed_s: Leaf
    resident_s: Leaf
    """Time that kernels are resident: their own, and that of exposed collectives."""


def clock_power_w(chip: Chip, die_area_mm2: Scalar, point: OperatingPoint) -> Scalar:
    r"""Power of clock trees, schedulers and caches while kernels are resident (W).

    $e_{clk} A f (V / V_n)^2$ with the switched energy per area and cycle. Assumes the same for all
    kernels: serving H100 draw 275 W with rates extrapolated to zero, and 70 W idle.
    """
    clock_hz = chip.array.clock_hz * point.clock_ratio
    dynamic = (point.voltage_v / chip.process.nominal_voltage_v) ** 2
    return chip.process.clock_energy_j_per_mm2 * die_area_mm2 * clock_hz * dynamic


def energy_parts(
    work: ChipWork, chip: Chip, mac_ratio: Scalar, die_area_mm2: Scalar, point: OperatingPoint
) -> EnergyParts:
    """Energy of the work of one chip at an operating point (J).

    `mac_ratio`: energy of a MAC of the formats of the job over that of a 16-bit one.
    """
    process = chip.process
    voltage_ratio = point.voltage_v / process.nominal_voltage_v
    dynamic = voltage_ratio**2
    mac_j = dynamic * process.mac_energy_j
    macro = chip.sram.capacity_bytes / chip.num_scratchpads
    sram_j = voltage_and_leakage.sram_energy_j_per_byte(macro, chip.sram.energy_j_per_byte)
    accumulator_j = voltage_and_leakage.sram_energy_j_per_byte(
        voltage_and_leakage.ACCUMULATOR_MACRO_BYTES, chip.sram.energy_j_per_byte
    )
    idle_w = voltage_and_leakage.leakage_power_w(die_area_mm2, voltage_ratio, process)
    return EnergyParts(
        matrix=process.mac_overhead_ratio * mac_ratio * mac_j * work.num_macs,
        fp64=dynamic * work.fp64_j,
        vector=mac_j * voltage_and_leakage.VECTOR_ENERGY_RATIO * work.vector_flop,
        sram=dynamic * (sram_j * work.sram_bytes + accumulator_j * work.accumulator_bytes),
        hbm=chip.hbm.energy_j_per_byte * work.hbm_bytes,
        link=chip.link.energy_j_per_byte * work.link_bytes,
        network=chip.network.energy_j_per_byte * work.network_bytes,
        clock=clock_power_w(chip, die_area_mm2, point) * work.resident_s,
        static=idle_w * work.elapsed_s,
    )
