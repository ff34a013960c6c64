"""CO2 equivalents of manufacturing and operation of a chip."""

from hwdse.models.silicon.cost import facility_energy_j
from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster


def die_carbon_g_per_mm2(process: Process) -> Scalar:
    """CO2 equivalent per processed area, $CI_{fab} EPA + GPA + MPA$ (g/mm²).

    Fab electricity times the intensity of its grid, gases, materials. Source: ACT (Gupta et al.,
    ISCA 2022, equation 5), values of its repository in `Process`.
    """
    return (
        process.fab_grid_g_per_j * process.fab_energy_j_per_mm2
        + process.fab_gas_g_per_mm2
        + process.fab_materials_g_per_mm2
    )


def chip_carbon_g(die_area_mm2: Scalar, yield_fraction: Scalar, chip: Chip) -> Scalar:
    """Embodied carbon of one accelerator package: dies over their yield, HBM, package (g).

    `die_area_mm2` is the area of all dies. Good dies bear the carbon of bad ones, as in ACT,
    equation 5. Excludes cut-off at the edge of the wafer and bonding losses.
    """
    dies_g = die_carbon_g_per_mm2(chip.process) * die_area_mm2 / (yield_fraction + SMALLEST)
    return dies_g + chip.hbm_carbon_g_per_byte * chip.hbm.capacity_bytes + chip.package_carbon_g


def step_carbon_g(
    chip_g: Scalar, step_time_s: Scalar, step_energy_j: Scalar, cluster: Cluster
) -> Scalar:
    r"""Carbon of one training step of the cluster: amortized embodied carbon plus operation (g).

    $N (C_{chip} + C_{server}) T / L + CI_{grid} E_{facility}$; N chips, step time T, lifetime L,
    `cost.facility_energy_j`. Source: ACT, equation 1.
    """
    made_g = cluster.num_chips * (chip_g + cluster.server_carbon_g)
    facility_j = facility_energy_j(step_energy_j, step_time_s, cluster)
    run_g = facility_j * cluster.grid_carbon_g_per_j
    return made_g * step_time_s / cluster.lifetime_s + run_g
