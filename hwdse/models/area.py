"""Silicon area of a chip by what takes it, and the yield of its dies."""

import jax.numpy as jnp

from hwdse.shapes import Scalar
from hwdse.specs.evaluation import AreaParts
from hwdse.specs.hardware import Chip


def area_parts_mm2(chip: Chip) -> AreaParts:
    r"""Areas of all compute dies of a chip.

    Matrix: MACs times the area of one. fp64: $\kappa$ times the matrix area for each fp64 flop/s
    over fp16 flop/s. SRAM by macro density with its overhead, PHYs by bandwidth (they do not
    shrink), vector engines by rate. A sum; floor-plan white space is in the unit areas.
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
        link_phy=chip.link.bandwidth_bytes_per_s * process.link_phy_area_mm2_per_bytes_per_s,
        fixed=chip.fixed_area_mm2 + 0.0 * matrix,
    )


def die_yield_fraction(die_area_mm2: Scalar, defects_per_mm2: Scalar, clustering: Scalar) -> Scalar:
    r"""Negative-binomial yield $(1 + A D / \alpha)^{-\alpha}$ (Poisson as alpha grows).

    814 mm2 at 0.11 defects a cm2 and clustering 10 gives 0.424. Source: Stapper; as used by
    Chiplet Actuary (Feng and Ma, DAC 2022).
    """
    return jnp.exp(-clustering * jnp.log1p(die_area_mm2 * defects_per_mm2 / clustering))
