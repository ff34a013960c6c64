"""The loops of one concrete mapping in the order in which they run, with their tiles."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.workload.loops.operators import DIMS, Operators

EDGE = 1e-6
"""A bound this little above a whole number is that number: bounds are quotients of floats."""
PRODUCT_NAMES = {"P": "m", "C": "k", "K": "n"}
"""Dimensions of C[m, n] = A[m, k] B[k, n] under their usual names."""


@dataclass(frozen=True)
class Loop:
    """One loop: `steps` passes over tiles of `tile`, the last one of `last`."""

    dim: str
    steps: int
    tile: float
    last: float


@dataclass(frozen=True)
class TierLoops:
    """A place in the nest: what is kept from here on inwards, and the loops around the next one."""

    memory: str
    keeps: tuple[str, ...]
    extents: dict[str, float]
    """Size of the tile by dimension, those of one left out."""
    temporal: tuple[Loop, ...]
    """Outermost first."""
    rows: tuple[Loop, ...]
    cols: tuple[Loop, ...]


def tier_loops(nest: LoopNest, accelerator: Accelerator) -> tuple[TierLoops, ...]:
    """Tiers of the nest of one operator, outermost first; bounds are concrete numbers."""
    temporal, spatial, position = (
        np.asarray(x, dtype=float) for x in (nest.temporal, nest.spatial, nest.position)
    )
    inner = np.ones(len(DIMS))
    tree: list[TierLoops] = []
    for index in range(len(nest.tiers) - 1, -1, -1):
        rows, cols, inner = _spatial_loops(spatial[index], inner, accelerator)
        loops = []
        for dim in np.argsort(-position[index], kind="stable").tolist():
            loops += _loop(dim, float(temporal[index, dim]), float(inner[dim]))
            inner = np.where(np.arange(len(DIMS)) == dim, inner * temporal[index, dim], inner)
        tier = nest.tiers[index]
        extents = {d: float(x) for d, x in zip(DIMS, inner, strict=True) if x > 1.0 + EDGE}
        tree.append(TierLoops(tier.memory, tier.keeps, extents, tuple(reversed(loops)), rows, cols))
    return tuple(reversed(tree))


def _spatial_loops(
    bounds: np.ndarray, inner: np.ndarray, accelerator: Accelerator
) -> tuple[tuple[Loop, ...], tuple[Loop, ...], np.ndarray]:
    """Loops over the rows and over the columns, and the extents around them.

    A dimension that both may unroll counts as one of the rows, as in the counts of traffic.
    """
    rows, cols = [], []
    for dim, letter in enumerate(DIMS):
        place = rows if letter in accelerator.rows_dims else cols
        place += _loop(dim, float(bounds[dim]), float(inner[dim]))
    return tuple(rows), tuple(cols), inner * bounds


def _loop(dim: int, bound: float, tile: float) -> list[Loop]:
    """The loop with this bound around tiles of this size; none for a bound of one."""
    steps = int(np.ceil(bound - EDGE))
    if steps <= 1:
        return []
    return [Loop(DIMS[dim], steps, tile, tile * (bound - steps + 1))]


def is_product(operator: Operators) -> bool:
    """Whether one operator is a plain matrix product: no filter, one column, no batch."""
    fields = (operator.r, operator.s, operator.q, operator.n, operator.stride_p)
    return all(float(field) == 1.0 for field in fields)


def at_index(rows: Any, index: int) -> Any:
    """Row `index` of a pytree over operators, as Python floats; what all share is its own row."""

    def pick(values: Any) -> float:
        array = np.asarray(values, dtype=float)
        return float(array if array.ndim == 0 else array[index])

    return jax.tree.map(pick, rows)


def operator_at(operators: Operators, index: int) -> Operators:
    """Operator number `index`, with its name, as Python floats."""
    return at_index(operators, index).replace(names=operators.names[index : index + 1])
