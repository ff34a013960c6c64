"""Price of putting good dies and HBM on an interposer: chip last, with the yield of each step."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST


@flax.struct.dataclass
class PackageKind:
    """What carries the dies; constants of Chiplet Actuary, parameter.ini (Feng, Ma, DAC 2022)."""

    wafer_cost_usd: Leaf
    """Of interposer or redistribution wafers; zero where dies sit on the substrate."""
    area_ratio: Leaf
    """Interposer over the silicon on it."""
    defects_per_mm2: Leaf
    defect_clustering: Leaf
    bond_yield_fraction: Leaf
    """Of one die."""
    substrate_ratio: Leaf
    """Price of the substrate over that of a single chip's."""


PACKAGES: Mapping[str, PackageKind] = MappingProxyType(
    {
        "organic": PackageKind(0.0, 0.0, 0.0, 1.0, 0.99, 1.5),
        "fan_out": PackageKind(1200.0, 1.2, 0.0005, 3.0, 0.98, 2.0),
        "silicon_interposer": PackageKind(1937.0, 1.1, 0.0006, 6.0, 0.95, 2.0),
    }
)
"""Multi-chip packages. The factors of the substrate, 1.5 to 2 in the source, are read as the lower
one for dies on the substrate itself."""
ASSEMBLY_YIELD_FRACTION = 0.99
"""Interposer to substrate: y3 of Chiplet Actuary."""
SUBSTRATE_USD_PER_MM2 = 0.005
SUBSTRATE_AREA_RATIO = 4.0
"""Organic substrate: 0.005 USD/mm2, four times the area of the dies (Chiplet Actuary)."""
C4_BUMP_USD_PER_MM2 = 0.005
MICRO_BUMP_USD_PER_MM2 = 0.01
"""Same source; micro-bumps on both sides of interposer and die are counted once."""


def chip_last_cost_usd(
    interposer_usd: Scalar,
    interposer_yield_fraction: Scalar,
    substrate_usd: Scalar,
    good_dies_usd: Scalar,
    bond_yield_fraction: Scalar,
    num_bonded: Scalar,
    assembly_yield_fraction: Scalar = ASSEMBLY_YIELD_FRACTION,
) -> Scalar:
    r"""Price of a good package whose dies are bonded last, known-good dies included.

    $I / (y_1 y_2 y_3) + s / y_3 + \sum KGD / (y_2 y_3)$: interposer I of yield $y_1$, bonds of
    yield $y_2 = b^n$, assembly $y_3$, substrate s. A bad bond loses the interposer and all dies
    on it. Source: Chiplet Actuary (Feng and Ma, DAC 2022), chip-last flow. No test cost.
    """
    bonds = bond_yield_fraction**num_bonded
    lost = 1.0 / _divisor(bonds * assembly_yield_fraction)
    interposer = interposer_usd / _divisor(interposer_yield_fraction)
    return (interposer + good_dies_usd) * lost + substrate_usd / _divisor(assembly_yield_fraction)


def substrate_cost_usd(silicon_mm2: Scalar, kind: PackageKind) -> Scalar:
    """Organic substrate and its bumps under `silicon_mm2` of dies (constants above)."""
    substrate = SUBSTRATE_USD_PER_MM2 * SUBSTRATE_AREA_RATIO * kind.substrate_ratio
    return silicon_mm2 * (substrate + C4_BUMP_USD_PER_MM2)


def _divisor(fraction: Scalar) -> Scalar:
    """A yield kept above zero."""
    return fraction + SMALLEST
