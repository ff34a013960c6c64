"""Cost of mounting good dies and HBM on an interposer: chip-last flow, with a yield per step."""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST


@struct.dataclass
class PackageKind:
    """Carrier of the dies; constants of Chiplet Actuary, parameter.ini (Feng, Ma, DAC 2022)."""

    wafer_cost_usd: Leaf
    """Wafer of interposers or redistribution layers; zero for dies on the substrate."""
    area_ratio: Leaf
    """Interposer area over die area."""
    defects_per_mm2: Leaf
    defect_clustering: Leaf
    bond_yield_fraction: Leaf
    """Bond yield of one die."""
    substrate_ratio: Leaf
    """Cost of the substrate relative to that of a single-chip package."""


PACKAGES: Mapping[str, PackageKind] = MappingProxyType(
    {
        "organic": PackageKind(0.0, 0.0, 0.0, 1.0, 0.99, 1.5),
        "fan_out": PackageKind(1200.0, 1.2, 0.0005, 3.0, 0.98, 2.0),
        "silicon_interposer": PackageKind(1937.0, 1.1, 0.0006, 6.0, 0.95, 2.0),
    }
)
"""Multi-chip packages. The substrate factors are 1.5 to 2 in the source; the lower one is assumed
for dies directly on the substrate."""
ASSEMBLY_YIELD_FRACTION = 0.99
"""Yield of interposer on substrate: y3 of Chiplet Actuary."""
SUBSTRATE_USD_PER_MM2 = 0.005
SUBSTRATE_AREA_RATIO = 4.0
"""Organic substrate: 0.005 USD/mm², four times the die area (Chiplet Actuary)."""
C4_BUMP_USD_PER_MM2 = 0.005
MICRO_BUMP_USD_PER_MM2 = 0.01
"""Bumps (Chiplet Actuary); micro-bumps on both sides of interposer and die are counted once."""


def chip_last_cost_usd(
    interposer_usd: Scalar,
    interposer_yield_fraction: Scalar,
    substrate_usd: Scalar,
    good_dies_usd: Scalar,
    bond_yield_fraction: Scalar,
    num_bonded: Scalar,
    assembly_yield_fraction: Scalar = ASSEMBLY_YIELD_FRACTION,
) -> Scalar:
    r"""Cost of a good package whose dies are bonded last, known-good dies included (USD).

    $I / (y_1 y_2 y_3) + s / y_3 + \sum KGD / (y_2 y_3)$: interposer I of yield $y_1$, bonds of
    yield $y_2 = b^n$, assembly $y_3$, substrate s. A bad bond loses the interposer and all its
    dies. Excludes test cost. Source: Chiplet Actuary (Feng and Ma, DAC 2022), chip-last flow.
    """
    bonds = bond_yield_fraction**num_bonded
    lost = 1.0 / _divisor(bonds * assembly_yield_fraction)
    interposer = interposer_usd / _divisor(interposer_yield_fraction)
    return (interposer + good_dies_usd) * lost + substrate_usd / _divisor(assembly_yield_fraction)


def substrate_cost_usd(die_area_mm2: Scalar, kind: PackageKind) -> Scalar:
    """Cost of organic substrate and bumps for a die area (USD; constants above)."""
    substrate = SUBSTRATE_USD_PER_MM2 * SUBSTRATE_AREA_RATIO * kind.substrate_ratio
    return die_area_mm2 * (substrate + C4_BUMP_USD_PER_MM2)


def _divisor(fraction: Scalar) -> Scalar:
    """Yield plus a guard above zero."""
    return fraction + SMALLEST
