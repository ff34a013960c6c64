"""Die area of a chip by component."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.evaluation_result import AreaParts

RETICLE_MM2 = 858.0
"""Exposure field of 26 mm x 33 mm (ASML; CATCH, wafer_process_definitions.xml)."""


def area_parts_mm2(chip: Chip) -> AreaParts:
    r"""Areas of all compute dies of a chip by component (mm²).

    Matrix: number of MACs times the area of one. FP64: $\kappa$ times the matrix area times the
    ratio of FP64 to FP16 FLOP/s. SRAM by macro density with its overhead. PHYs by bandwidth; they
    do not shrink, and PHYs between several dies count as links. Vector engines by rate. White space
    is part of the unit areas. Sources are beside the constants in configs/processes/.
    """
    process = chip.process
    matrix = chip.array.rows * chip.array.cols * chip.array.num_arrays * process.mac_area_mm2
    return AreaParts(
        matrix=matrix,
        fp64=matrix * process.fp64_area_ratio * chip.fp64_per_fp16_ratio,
        vector=chip.vector_flop_per_s * process.vector_area_mm2_per_flop_per_s,
        sram=chip.sram.capacity_bytes * process.sram_area_mm2_per_byte,
        hbm_phy=chip.hbm.bandwidth_bytes_per_s * process.hbm_phy_area_mm2_per_bytes_per_s,
        link_phy=chip.link.bandwidth_bytes_per_s * process.link_phy_area_mm2_per_bytes_per_s
        + die_link_area_mm2(chip),
        other=chip.fixed_area_mm2 + 0.0 * matrix,
    )


def die_link_area_mm2(chip: Chip) -> Scalar:
    """PHYs between the dies of a package, summed over dies (mm²); none for a single die."""
    linked_dies = jnp.where(jnp.asarray(chip.num_dies) > 1.0, chip.num_dies, 0.0)
    area_ratio = chip.process.die_link_area_mm2_per_bytes_per_s
    return linked_dies * chip.die_link_bandwidth_bytes_per_s * area_ratio


def reticle_used_ratio(die_area_mm2: Scalar, num_dies: Scalar) -> Scalar:
    """Area of one of `num_dies` equal dies over the exposure field; above 1 it cannot be
    manufactured."""
    return die_area_mm2 / num_dies / RETICLE_MM2
