"""Power of a chip at measured rates: products by format, bytes from HBM, time in kernels."""

from dataclasses import dataclass
from functools import cache

import jax.numpy as jnp

from hwdse.config.files.toml_files import preset_names
from hwdse.config.hardware.load_specs import load_chip_file
from hwdse.models.energy import voltage_and_leakage
from hwdse.models.energy.chip_energy import ChipWork, energy_parts
from hwdse.models.precision.precision_mix import mix_bytes_per_element, mix_mac_energy_ratio
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import total
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import PrecisionMix


@dataclass(frozen=True)
class WorkRates:
    """Work of one chip per second; arrays for many."""

    flop_per_s: Leaf
    """All matrix FLOP."""
    hbm_bytes_per_s: Leaf
    fp8_fraction: Leaf = 0.0
    """Part of the FLOP in FP8."""
    fp4_fraction: Leaf = 0.0
    """Part of the FLOP in FP4."""
    resident_fraction: Leaf = 1.0
    """Share of the time that kernels are resident, and of the SMs that they keep busy."""
    operand_activity_ratio: Leaf = 1.0
    link_bytes_per_s: Leaf = 0.0

    @property
    def mix(self) -> PrecisionMix:
        """Formats and operand data of the FLOP."""
        return PrecisionMix(
            0.0,
            self.fp8_fraction,
            fp4_flop_fraction=self.fp4_fraction,
            operand_activity_ratio=self.operand_activity_ratio,
        )


@cache
def chip_and_area(preset: str) -> tuple[Chip, float]:
    """Chip preset with its die area (mm²): the published one, or that of the area model.

    The published area keeps errors of the area model out of the error of the power law.
    """
    loaded = load_chip_file(preset)
    area = loaded.published.get("die_area_mm2") or total(area_parts_mm2(loaded.chip))
    return loaded.chip, float(area)


def chip_work(rates: WorkRates, chip: Chip) -> ChipWork:
    """Work of one second.

    Operands pass the scratchpads as in large products: bytes from HBM are written and read once,
    and each pass of an array reads a row of operands for its columns and a column for its rows.
    """
    num_macs = 0.5 * rates.flop_per_s
    operand_bytes = mix_bytes_per_element(rates.mix)
    reads = 1.0 / chip.array.rows + 1.0 / chip.array.cols
    return ChipWork(
        num_macs=num_macs,
        vector_flop=0.0,
        sram_bytes=2.0 * rates.hbm_bytes_per_s + operand_bytes * num_macs * reads,
        accumulator_bytes=0.0,
        hbm_bytes=rates.hbm_bytes_per_s,
        link_bytes=rates.link_bytes_per_s,
        network_bytes=0.0,
        fp64_j=0.0,
        elapsed_s=1.0,
        resident_s=rates.resident_fraction,
    )


def power_at_rates_w(rates: WorkRates, chip: Chip, die_area_mm2: float, limit_w: Leaf) -> Leaf:
    """Power of a chip that does this work per second (W), at the set clock and at most the limit.

    A chip at its limit does the measured work at a lower clock, at the power of the limit.
    """
    point = voltage_and_leakage.operating_points(chip)(0.0)
    parts = energy_parts(
        chip_work(rates, chip), chip, mix_mac_energy_ratio(rates.mix), die_area_mm2, point
    )
    return jnp.minimum(total(parts), limit_w)


def preset_of(accelerator: str) -> str | None:
    """Chip preset with the longest file name that the name of an accelerator begins with."""
    flat = "".join(letter for letter in accelerator.lower() if letter.isalnum())
    names = sorted(preset_names("chips"), key=len, reverse=True)
    return next((name for name in names if flat.startswith(name.replace("_", ""))), None)
