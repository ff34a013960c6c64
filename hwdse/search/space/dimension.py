"""One searched range, and all ranges of a search as arrays."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf, PointsByDims

STEP_TOLERANCE = 1e-9
"""A bound within this fraction of a step counts as a multiple of the step."""


@dataclass(frozen=True)
class Dimension:
    """Search range of one float leaf of the design, from `low` to `high`."""

    path: str
    low: float
    high: float
    scale: str
    """"log" or "linear": mapping of the unit interval to the range."""
    step: float | None
    """Step size: allowed values are its multiples inside the range. None: all values."""

    def __post_init__(self) -> None:
        if self.scale not in ("log", "linear"):
            raise ValueError(f"{self.path}: scale = {self.scale!r}: expected log or linear")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(
                f"{self.path}: low = {self.low:g}, high = {self.high:g}: expected finite "
                "low <= high"
            )
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError(f"{self.path}: low = {self.low:g}: expected above 0 on a log scale")
        if self.step is not None and not self.step > 0.0:
            raise ValueError(f"{self.path}: step = {self.step:g}: expected above 0")
        if self.step is not None and self.first_count > self.last_count:
            raise ValueError(
                f"{self.path}: {self.low:g} to {self.high:g} contains no multiple of the "
                f"step {self.step:g}"
            )

    @property
    def first_count(self) -> float:
        """Smallest allowed value in steps."""
        return float(math.ceil(self.low / self.step - STEP_TOLERANCE)) if self.step else 0.0

    @property
    def last_count(self) -> float:
        """Largest allowed value in steps."""
        return float(math.floor(self.high / self.step + STEP_TOLERANCE)) if self.step else 0.0

    @property
    def extent(self) -> float:
        """Length of the range, or of its logarithm on a log scale."""
        if self.scale == "linear":
            return self.high - self.low
        return math.log(self.high / self.low)

    def value(self, unit: Leaf) -> Leaf:
        r"""Value at a unit coordinate: $l (h / l)^u$ on a log scale, $l + u (h - l)$ on a linear
        scale, with $l$ low and $h$ high."""
        if self.scale == "linear":
            return self.low + unit * self.extent
        return self.low * array_library(unit).exp(unit * self.extent)

    def unit(self, value: Leaf) -> Leaf:
        """Unit coordinate of a value, clipped to [0, 1]; 0 for a range of one point."""
        xp = array_library(value)
        if self.low == self.high:
            return 0.0 * value
        if self.scale == "linear":
            unit = (value - self.low) / self.extent
        else:
            unit = xp.log(xp.maximum(value, self.low) / self.low) / self.extent
        return xp.clip(unit, 0.0, 1.0)

    def count(self, unit: Leaf) -> Leaf:
        """Nearest allowed value in steps. Requires a step."""
        steps = array_library(unit).round(self.value(unit) / self.step)
        return array_library(unit).clip(steps, self.first_count, self.last_count)

    def rounded(self, unit: Leaf) -> Leaf:
        """Nearest allowed value: an exact multiple of the step, or the clipped value without a
        step."""
        if self.step is None:
            return self.value(array_library(unit).clip(unit, 0.0, 1.0))
        return self.count(unit) * self.step

    def snap(self, unit: Leaf) -> Leaf:
        """Unit coordinate of the nearest allowed value."""
        if self.step is None:
            return array_library(unit).clip(unit, 0.0, 1.0)
        return self.unit(self.rounded(unit))


class Ranges:
    """Arrays of all dimensions, for batches of points on the host; bit-identical to
    `Dimension`."""

    def __init__(self, dimensions: tuple[Dimension, ...]):
        self.is_stepped = np.asarray([dim.step is not None for dim in dimensions], bool)
        self.step = np.asarray([dim.step or 1.0 for dim in dimensions])
        self.first_count = np.asarray([dim.first_count for dim in dimensions])
        self.last_count = np.asarray([dim.last_count for dim in dimensions])
        self._is_log = np.asarray([dim.scale == "log" for dim in dimensions], bool)
        self._is_point = np.asarray([dim.low == dim.high for dim in dimensions], bool)
        self._low = np.asarray([dim.low for dim in dimensions])
        self._extent = np.asarray([dim.extent for dim in dimensions])

    def value(self, units: PointsByDims) -> np.ndarray:
        """Values at unit coordinates."""
        scaled = units * self._extent
        powers = self._low * np.exp(np.where(self._is_log, scaled, 0.0))
        return np.where(self._is_log, powers, self._low + scaled)

    def unit(self, values: PointsByDims) -> np.ndarray:
        """Unit coordinates of values, clipped to [0, 1]; 0 for a range of one point."""
        ratios = np.maximum(values, self._low) / np.where(self._is_log, self._low, 1.0)
        logs = np.log(np.where(self._is_log, ratios, 1.0))
        above = np.where(self._is_log, logs, values - self._low)
        extent = np.where(self._is_point, 1.0, self._extent)
        return np.where(self._is_point, 0.0, np.clip(above / extent, 0.0, 1.0))

    def count(self, units: PointsByDims) -> np.ndarray:
        """Nearest allowed values in steps; undefined for dimensions without a step."""
        return np.clip(np.round(self.value(units) / self.step), self.first_count, self.last_count)

    def unit_of_count(self, counts: PointsByDims) -> np.ndarray:
        """Unit coordinates of values given in steps."""
        return self.unit(counts * self.step)

    def snap(self, units: PointsByDims) -> np.ndarray:
        """Unit coordinates of the nearest allowed values."""
        stepped = self.unit_of_count(self.count(units))
        return np.where(self.is_stepped, stepped, np.clip(units, 0.0, 1.0))


def array_library(value: Any) -> Any:
    """Array library of a value: jax for its arrays and tracers, else numpy."""
    return jnp if isinstance(value, jax.Array) else np
