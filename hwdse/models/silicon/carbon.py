"""CO2 equivalents: of making a chip, and of running it."""

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster


def die_carbon_g_per_mm2(process: Process) -> Scalar:
    r"""CO2 equivalent of a processed square millimeter, $CI_{fab} EPA + GPA + MPA$.

    Electricity of the fab times the intensity of its grid, gases, materials.
    Source: ACT (Gupta et al., ISCA 2022, equation 5), values of its repository in `Process`.
    """
    return (
        process.fab_grid_g_per_j * process.fab_energy_j_per_mm2
        + process.fab_gas_g_per_mm2
        + process.fab_materials_g_per_mm2
    )


def chip_carbon_g(die_area_mm2: Scalar, yield_fraction: Scalar, chip: Chip) -> Scalar:
    r"""Embodied carbon of one accelerator package: dies over their yield, HBM, package.

    `die_area_mm2` is that of all dies. Bad dies are paid by the good ones, as in ACT, equation 5;
    cut-off at the edge of the wafer is not counted, nor is the loss of bonding.
    """
    silicon = die_carbon_g_per_mm2(chip.process) * die_area_mm2 / (yield_fraction + SMALLEST)
    return silicon + chip.hbm_carbon_g_per_byte * chip.hbm.capacity_bytes + chip.package_carbon_g


def step_carbon_g(
    chip_g: Scalar, step_time_s: Scalar, step_energy_j: Scalar, cluster: Cluster
) -> Scalar:
    r"""Carbon of one step of the cluster: what was made, written off over its life, and run.

    $N (C_{chip} + C_{server}) T / L + CI_{grid} \cdot PUE \cdot E$; ACT, equation 1. Hosts and
    network draw power through `power_overhead_ratio`.
    """
    made_g = cluster.num_chips * (chip_g + cluster.server_carbon_g)
    run_g = step_energy_j * cluster.power_overhead_ratio * cluster.grid_carbon_g_per_j
    return made_g * step_time_s / cluster.lifetime_s + run_g
