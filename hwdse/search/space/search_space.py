"""Search space of named ranges, choices and variants, mapped to a unit cube.

A search moves a point of the unit cube, with one coordinate per `Dimension`, then one per
`Choice`. `decode` is differentiable and accepts any point. `decode_rounded` returns the nearest
design on the parameter steps, with exact multiples of each step. All stored and displayed values
come from `decode_rounded`.
"""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf, PerDim, PointsByDims
from hwdse.search.space.dimension import Dimension, Ranges, array_library
from hwdse.search.space.pytree_path import get_path, set_path

__all__ = ["Choice", "Dimension", "SearchSpace", "Variant", "get_path", "set_path"]


@dataclass(frozen=True)
class Choice:
    """Alternatives that each set several leaves together, for example parallelism strategies."""

    name: str
    paths: tuple[str, ...]
    table: tuple[tuple[float, ...], ...]
    """One row per alternative, one column per path."""
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.table or len(self.labels) != len(self.table):
            raise ValueError(
                f"{self.name}: needs at least one alternative, and one label per alternative"
            )
        if any(len(row) != len(self.paths) for row in self.table):
            raise ValueError(f"{self.name}: each row needs {len(self.paths)} values")

    def index(self, unit: Leaf) -> Leaf:
        """Alternative at a unit coordinate, as an integral float; its gradient is zero."""
        position = array_library(unit).floor(unit * len(self.table))
        return array_library(unit).clip(position, 0.0, len(self.table) - 1.0)

    def snap(self, unit: Leaf) -> Leaf:
        """Center of the interval of the alternative."""
        return (self.index(unit) + 0.5) / len(self.table)

    def column(self, unit: Leaf, position: int) -> Leaf:
        """Value for the path at `position`."""
        values = [row[position] for row in self.table]
        index = self.index(unit)
        if isinstance(unit, jax.Array):
            return jnp.take(jnp.asarray(values, unit.dtype), index.astype(jnp.int32), mode="clip")
        return values[int(index)]


@dataclass(frozen=True)
class Variant:
    """Values of one static field, for example the dataflow."""

    path: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class SearchSpace:
    """Searched parameters; all others keep the values of the base design."""

    dimensions: tuple[Dimension, ...]
    choices: tuple[Choice, ...] = ()
    variants: tuple[Variant, ...] = ()

    @functools.cached_property
    def ranges(self) -> Ranges:
        """All dimensions as arrays."""
        return Ranges(self.dimensions)

    @property
    def num_dims(self) -> int:
        """Number of coordinates of the unit cube: dimensions first, then choices."""
        return len(self.dimensions) + len(self.choices)

    @property
    def num_variants(self) -> int:
        """Number of combinations of variant values; 1 without variants."""
        return math.prod(len(variant.values) for variant in self.variants)

    def decode(self, unit: PerDim, base: Any) -> Any:
        """Design at a point of the unit cube, continuous in the dimensions, for gradients."""
        units = _coordinates(unit)
        values = [dim.value(units[i]) for i, dim in enumerate(self.dimensions)]
        return self._filled(values, units, base)

    def decode_rounded(self, unit: PerDim, base: Any) -> Any:
        """Nearest rounded design: `decode(snap(unit))` with exact multiples of the steps."""
        units = _coordinates(unit)
        values = [dim.rounded(units[i]) for i, dim in enumerate(self.dimensions)]
        return self._filled(values, units, base)

    def _filled(self, values: list[Any], units: list[Any], base: Any) -> Any:
        is_traced = any(isinstance(unit, jax.Array) for unit in units)
        for dimension, value in zip(self.dimensions, values, strict=True):
            base = set_path(base, dimension.path, value if is_traced else float(value))
        for offset, choice in enumerate(self.choices, len(self.dimensions)):
            for position, path in enumerate(choice.paths):
                base = set_path(base, path, choice.column(units[offset], position))
        return base

    def encode(self, design: Any) -> np.ndarray:
        """Unit cube point of a design.

        Values outside a range are clipped to its bound. Each choice takes the alternative with the
        closest values (relative distance).
        """
        units = [float(dim.unit(np.float64(get_path(design, dim.path)))) for dim in self.dimensions]
        for choice in self.choices:
            table = np.asarray(choice.table, np.float64)
            values = np.asarray([get_path(design, path) for path in choice.paths], np.float64)
            scale = np.maximum(np.abs(table), np.abs(values)) + np.finfo(np.float64).tiny
            nearest = int(np.argmin(np.sum(np.abs(table - values) / scale, axis=1)))
            units.append((nearest + 0.5) / len(choice.table))
        return np.asarray(units, np.float64)

    def snap(self, unit: PerDim) -> PerDim:
        """Point of the nearest rounded design: monotone, inside the cube, idempotent."""
        xp = array_library(unit)
        parts = [part.snap(unit[i]) for i, part in enumerate((*self.dimensions, *self.choices))]
        return xp.stack(parts) if parts else xp.zeros(0)

    def snap_points(self, units: PointsByDims) -> np.ndarray:
        """`snap` of each row, on the host in float64."""
        rows = np.asarray(units, np.float64)
        num_ranges = len(self.dimensions)
        snapped = [self.ranges.snap(rows[:, :num_ranges])]
        for i, choice in enumerate(self.choices, num_ranges):
            snapped.append(choice.snap(rows[:, i])[:, None])
        return np.concatenate(snapped, axis=1)

    def variant_bases(self, base: Any) -> tuple[tuple[dict[str, str], Any], ...]:
        """All combinations of the variants: labels by path, and the base design with these
        values."""
        bases = []
        for values in itertools.product(*(variant.values for variant in self.variants)):
            labels = dict(zip((v.path for v in self.variants), values, strict=True))
            design = base
            for path, value in labels.items():
                design = set_path(design, path, value)
            bases.append((labels, design))
        return tuple(bases)

    def program_bases(self, base: Any) -> tuple[Any, ...]:
        """Designs of `variant_bases` for compiled programs, of equal structure where possible.

        A field whose spec has a leaf of the same name with `_index` takes all values of its
        variant, joined by `|`, and the index of the value in use. One program then serves all of
        them. Values of other fields each have their own program.
        """
        bases = []
        for labels, design in self.variant_bases(base):
            for variant in self.variants:
                parent, _, field = variant.path.rpartition(".")
                if hasattr(get_path(base, parent) if parent else base, f"{field}_index"):
                    index = float(variant.values.index(labels[variant.path]))
                    design = set_path(design, variant.path, "|".join(variant.values))
                    design = set_path(design, f"{variant.path}_index", index)
            bases.append(design)
        return tuple(bases)

    def variants_from(self, base: Any) -> list[int]:
        """Indices of the variants: that of the base design first, then the others in order."""
        labels = [labels for labels, _ in self.variant_bases(base)]
        is_other = [any(get_path(base, p) != v for p, v in each.items()) for each in labels]
        return sorted(range(len(labels)), key=lambda index: is_other[index])

    def describe(self, unit: PerDim, base: Any) -> dict[str, float | str]:
        """Rounded values by path, alternatives by choice name, variants by path."""
        point = np.asarray(unit, np.float64)
        texts: dict[str, float | str] = {}
        for i, dimension in enumerate(self.dimensions):
            texts[dimension.path] = float(dimension.rounded(point[i]))
        for i, choice in enumerate(self.choices, len(self.dimensions)):
            texts[choice.name] = choice.labels[int(choice.index(point[i]))]
            for position, path in enumerate(choice.paths):
                texts[path] = float(choice.column(point[i], position))
        for variant in self.variants:
            texts[variant.path] = str(get_path(base, variant.path))
        return texts


def _coordinates(unit: PerDim) -> list[Any]:
    """Coordinates of a point as separate values.

    The derivative of a split is a concatenation; that of indexing is a sum of padded arrays.
    """
    if not isinstance(unit, jax.Array) or len(unit) == 0:
        return list(unit)
    return [jnp.reshape(part, ()) for part in jax.lax.split(unit, (1,) * len(unit))]
