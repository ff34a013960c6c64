"""Manufacturing cost and carbon of an accelerator package."""

from typing import NamedTuple

from hwdse.models.silicon import carbon, cost, die_yield
from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip


class Manufacturing(NamedTuple):
    """Cost and carbon of one package."""

    cost_usd: Scalar
    carbon_g: Scalar


def manufacturing(chip: Chip, die_area_mm2: Scalar) -> Manufacturing:
    """Cost and carbon of a package whose compute dies have an area together (mm²)."""
    process = chip.process
    one_die_mm2 = die_area_mm2 / chip.num_dies
    yield_fraction = die_yield.die_yield_fraction(
        one_die_mm2, process.defects_per_mm2, process.defect_clustering
    )
    die_usd = cost.good_die_cost_usd(one_die_mm2, yield_fraction, process)
    return Manufacturing(
        cost.chip_cost_usd(die_usd, chip), carbon.chip_carbon_g(die_area_mm2, yield_fraction, chip)
    )
