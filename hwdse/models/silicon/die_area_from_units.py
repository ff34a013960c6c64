"""Die area from published counts of units."""

from collections.abc import Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.hardware.die_unit_counts import DieUnitCounts
from hwdse.specs.hardware.process_nodes import UTILIZATION, logic_density_mtr_per_mm2

FP64_UNIT_MTR = 0.6853
INT32_UNIT_MTR = 0.17769
"""Million transistors of a multiply-add (LLMCompass, cost_model.py: Ariane, OpenPiton)."""
LANE_CONTROL_MTR = 0.9962
CORE_CROSSBAR_MTR = 44.3
"""Control of a lane; a core's port to the crossbar: means of A100 and MI210 (LLMCompass)."""
PHY_MM2: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "hbm2e": (10.45, 552.743),
        "nvlink3": (1.888, 74.632),
        "nvlink4": (0.965, 86.628),
        "infinity_fabric": (5.69, 348.148),
        "pcie4": (0.48, 3.9625),
        "pcie5": (0.64, 5.3721),
    }
)
"""PHY (mm²), independent of the node, and controller (million transistors), per stack, link or lane
(LLMCompass)."""
BITS_PER_BYTE = 8.0
CACHE_EFFICIENCY_FRACTION = 0.561
"""Cell area over total area of a 1 MiB cache (CACTI, in LLMCompass)."""
MACRO_EFFICIENCY_FRACTION = 0.70
"""Cell area over total area of an SRAM macro (WikiChip on IEDM 2022: 31.8 Mib/mm² at N3E)."""
BITCELL_UM2: Mapping[float, float] = MappingProxyType(
    {16.0: 0.074, 7.0: 0.027, 5.0: 0.021, 3.0: 0.021, 2.0: 0.0175}
)
"""High-density cells by node (µm²; TSMC at IEDM 2014, 2016, 2019, 2022 and ISSCC 2025): no shrink
to N3E."""
CACHE_CELL_UM2: Mapping[float, float] = MappingProxyType({7.0: 0.17, 6.0: 0.14, 5.0: 0.125})
"""Effective cells of GPU caches by node (µm²; LLMCompass)."""


@struct.dataclass
class DieAreaParts:
    """Die area by component (mm²)."""

    cores: Leaf
    crossbar: Leaf
    shared_memory: Leaf
    interfaces: Leaf
    other: Leaf

    @property
    def total(self) -> Leaf:
        """Area of the die."""
        return self.cores + self.crossbar + self.shared_memory + self.interfaces + self.other


def float_unit_mtr(mantissa_bits: Scalar) -> Scalar:
    """Million transistors of a floating-point multiply-add, $0.6853 (m / 52)^2$.

    m bits of mantissa without the hidden bit. Source: LLMCompass, cost_model.py.
    """
    return FP64_UNIT_MTR * (mantissa_bits / 52.0) ** 2


def logic_area_mm2(transistors_m: Scalar, node_nm: Scalar) -> Scalar:
    r"""Area of standard cells, $N / (\rho u)$ with the realized fraction u of the peak density
    (mm²)."""
    return transistors_m / (logic_density_mtr_per_mm2(node_nm) * UTILIZATION)


def cache_area_mm2_per_byte(node_nm: Scalar) -> Scalar:
    """GPU cache with tags and banks: 2.54 mm²/MiB at 7 nm, 1.87 mm²/MiB at 5 nm.

    Interpolated in the logarithm of the node between the two. Below 5 nm the 5 nm cell is used,
    since SRAM no longer shrinks.
    """
    nodes = jnp.log(jnp.asarray(sorted(CACHE_CELL_UM2)))
    cells = jnp.asarray([CACHE_CELL_UM2[node] for node in sorted(CACHE_CELL_UM2)])
    cell_um2 = jnp.interp(jnp.log(node_nm), nodes, cells)
    cell_um2 = cell_um2 * jnp.maximum(node_nm / max(CACHE_CELL_UM2), 1.0) ** 2
    return BITS_PER_BYTE * cell_um2 * 1e-6 / CACHE_EFFICIENCY_FRACTION


def macro_area_mm2_per_byte(bitcell_um2: Scalar) -> Scalar:
    """Area of SRAM macros per byte: 0.324 mm²/MiB at N7."""
    return BITS_PER_BYTE * bitcell_um2 * 1e-6 / MACRO_EFFICIENCY_FRACTION


def _core_mm2(plan: DieUnitCounts) -> Scalar:
    transistors = (
        plan.lanes_per_core * LANE_CONTROL_MTR
        + plan.fp32_per_core * float_unit_mtr(23.0)
        + plan.int32_per_core * INT32_UNIT_MTR
        + plan.fp64_per_core * float_unit_mtr(52.0)
    )
    by_count = logic_area_mm2(plan.macs_per_core * float_unit_mtr(10.0), plan.node_nm)
    published = plan.macs_per_core * plan.mac_area_mm2
    macs = jnp.where(jnp.asarray(plan.mac_area_mm2) > 0.0, published, by_count)
    memory = plan.local_bytes_per_core * cache_area_mm2_per_byte(plan.node_nm)
    return logic_area_mm2(transistors, plan.node_nm) + macs + memory


def die_area_parts_mm2(plan: DieUnitCounts) -> DieAreaParts:
    r"""Areas of a die: $\sum N_i / (\rho u)$ of logic, SRAM by cell, PHYs that do not shrink (mm²).

    No constant is fitted on a die here. In the source, u = 0.645 was fitted on A100 and TPU v4, and
    the lane control on A100 and MI210, so H100 is held out. Excludes video units, schedulers, seal
    rings and test structures.
    """
    cache = cache_area_mm2_per_byte(plan.node_nm)
    shared_density = jnp.asarray(plan.shared_area_mm2_per_byte)
    shared = plan.shared_bytes * jnp.where(shared_density > 0.0, shared_density, cache)
    interfaces = sum(
        getattr(plan, name) * (phy_mm2 + logic_area_mm2(controller, plan.node_nm))
        for name, (phy_mm2, controller) in PHY_MM2.items()
    )
    cores = plan.num_cores * _core_mm2(plan)
    crossbar = plan.num_cores * logic_area_mm2(CORE_CROSSBAR_MTR, plan.node_nm)
    counted = cores + crossbar + shared + interfaces
    other = counted * plan.other_fraction / (1.0 - plan.other_fraction)
    return DieAreaParts(cores, crossbar, shared, interfaces, other)
