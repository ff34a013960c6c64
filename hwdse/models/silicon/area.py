"""Silicon area of a chip by what takes it, and the yield of its dies."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.evaluation_result import AreaParts

RETICLE_MM2 = 858.0
"""Exposure field of 26 x 33 mm (ASML; CATCH, wafer_process_definitions.xml)."""


def area_parts_mm2(chip: Chip) -> AreaParts:
    r"""Areas of all compute dies of a chip.

    Matrix: MACs times the area of one. fp64: $\kappa$ times the matrix area for each fp64 flop/s
    over fp16 flop/s. SRAM by macro density with its overhead, PHYs by bandwidth (they do not
    shrink; those between dies, where there are several, are among the links), vector engines by
    rate. A sum; floor-plan white space is in the unit areas.
    Sources stand beside the constants in configs/processes/.
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
    """PHYs between the dies of a package, on all of them; none of a single die."""
    linked_dies = jnp.where(jnp.asarray(chip.num_dies) > 1.0, chip.num_dies, 0.0)
    area_ratio = chip.process.die_link_area_mm2_per_bytes_per_s
    return linked_dies * chip.die_link_bandwidth_bytes_per_s * area_ratio


def reticle_used_ratio(die_area_mm2: Scalar, num_dies: Scalar) -> Scalar:
    """One of `num_dies` equal dies over the field of a lithography scanner; above one it cannot
    be made."""
    return die_area_mm2 / num_dies / RETICLE_MM2
