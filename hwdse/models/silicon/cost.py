"""Manufacturing cost of a chip, and cost of a training step."""

from hwdse.models.silicon.die_yield import gross_dies_per_wafer
from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster

WAFER_DIAMETER_MM = 290.0
"""300 mm minus an edge of 5 mm: Chiplet Actuary, parameter.ini."""
SCRIBE_MM = 0.2
"""Scribe lane: Chiplet Actuary, parameter.ini."""


def dies_per_wafer(die_area_mm2: Scalar) -> Scalar:
    """Whole dies per wafer with edge and scribe lane of Chiplet Actuary: 57.6 for 814 mm².

    Source: Feng and Ma, DAC 2022.
    """
    return gross_dies_per_wafer(die_area_mm2, WAFER_DIAMETER_MM, SCRIBE_MM)


def good_die_cost_usd(die_area_mm2: Scalar, yield_fraction: Scalar, process: Process) -> Scalar:
    """Wafer price per good die (USD): 695 USD for 814 mm² in N5. No test or NRE cost."""
    return process.wafer_cost_usd / (dies_per_wafer(die_area_mm2) * yield_fraction)


def chip_cost_usd(good_die_usd: Scalar, chip: Chip) -> Scalar:
    """Manufacturing cost of one accelerator: dies, package and HBM, without margin (USD).

    $(n D + H) / (b^{n + m} y) + K / y$: known-good dies D and HBM H are lost with any of the n + m
    bonds of yield b, and with the package of cost K and yield y. Both yields are 1 unless given.
    Source: Chiplet Actuary (Feng and Ma, DAC 2022), chip-last flow. Chiplet Actuary also charges
    lost interposers to the bonds; here the interposer is part of K.
    """
    hbm_usd = chip.hbm_cost_usd_per_byte * chip.hbm.capacity_bytes
    bonds = chip.bond_yield_fraction ** (chip.num_dies + chip.num_hbm_stacks)
    bonded_usd = chip.num_dies * good_die_usd / bonds
    return (bonded_usd + chip.package_cost_usd + hbm_usd / bonds) / chip.package_yield_fraction


def facility_power_w(chip_power_w: Scalar, cluster: Cluster) -> Scalar:
    r"""Facility power of one chip, $(P_{chip} + P_{host}) / (1 - l) \cdot PUE$ (W).

    l is the loss of the power supplies of a node.
    """
    node_w = (chip_power_w + cluster.host_power_w) / (1.0 - cluster.supply_loss_fraction)
    return node_w * cluster.pue_ratio


def facility_energy_j(step_energy_j: Scalar, step_time_s: Scalar, cluster: Cluster) -> Scalar:
    """Facility energy of one step of all chips (J)."""
    num_chips = cluster.num_chips
    chip_w = step_energy_j / (num_chips * step_time_s)
    return num_chips * step_time_s * facility_power_w(chip_w, cluster)


def chip_operating_cost_usd_per_s(
    chip_usd: Scalar, chip_power_w: Scalar, cluster: Cluster
) -> Scalar:
    """Cost per chip and second: capital with its server, and electricity (USD/s)."""
    capital_usd = chip_usd + cluster.server_cost_usd_per_chip
    facility_w = facility_power_w(chip_power_w, cluster)
    return capital_usd / cluster.lifetime_s + facility_w * cluster.electricity_usd_per_j


def step_cost_usd(
    chip_usd: Scalar, step_time_s: Scalar, step_energy_j: Scalar, cluster: Cluster
) -> Scalar:
    """Cost of one step: amortized capital and facility electricity (USD)."""
    capital_usd = cluster.num_chips * (chip_usd + cluster.server_cost_usd_per_chip)
    facility_j = facility_energy_j(step_energy_j, step_time_s, cluster)
    return (
        capital_usd * step_time_s / cluster.lifetime_s + facility_j * cluster.electricity_usd_per_j
    )
