"""Loops of one concrete mapping in execution order, with their tiles."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.workload.loops.operators import DIMS, Operators

EDGE = 1e-6
"""Tolerance above an integer within which a loop bound equals it; bounds are float quotients."""
GEMM_DIMS = {"P": "m", "C": "k", "K": "n"}
"""Usual names of the dimensions of a GEMM C[m, n] = A[m, k] B[k, n]."""


@dataclass(frozen=True)
class Loop:
    """One loop: `steps` iterations over tiles of size `tile`, the last one of size `last`."""

    dim: str
    steps: int
    tile: float
    last: float


@dataclass(frozen=True)
class TierLoops:
    """One tier of a nest: memory, stored operands, tile extents, and loops around the next tier."""

    memory: str
    keeps: tuple[str, ...]
    extents: dict[str, float]
    """Tile size by dimension; dimensions of size 1 are omitted."""
    temporal: tuple[Loop, ...]
    """Outermost first."""
    rows: tuple[Loop, ...]
    """Loops unrolled over the array rows."""
    cols: tuple[Loop, ...]
    """Loops unrolled over the array columns."""


def tier_loops(nest: LoopNest, accelerator: Accelerator) -> tuple[TierLoops, ...]:
    """Tiers of the nest of one operator, outermost first; loop bounds are concrete numbers."""
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
    """Loops unrolled over rows and over columns, and the tile extents around them.

    A dimension that both may unroll belongs to the rows, as in the traffic model.
    """
    rows, cols = [], []
    for dim, letter in enumerate(DIMS):
        loops = rows if letter in accelerator.rows_dims else cols
        loops += _loop(dim, float(bounds[dim]), float(inner[dim]))
    return tuple(rows), tuple(cols), inner * bounds


def _loop(dim: int, bound: float, tile: float) -> list[Loop]:
    """Loop with a bound around tiles of a size; empty for a bound of 1."""
    steps = int(np.ceil(bound - EDGE))
    if steps <= 1:
        return []
    return [Loop(DIMS[dim], steps, tile, tile * (bound - steps + 1))]


def is_gemm(operator: Operators) -> bool:
    """True if an operator is a plain GEMM: no filter, one output column, no batch."""
    fields = (operator.r, operator.s, operator.q, operator.n, operator.stride_p)
    return all(float(field) == 1.0 for field in fields)


def at_index(tree: Any, index: int) -> Any:
    """Element `index` of a pytree over operators as Python floats; scalars are common to all."""

    def pick(values: Any) -> float:
        array = np.asarray(values, dtype=float)
        return float(array if array.ndim == 0 else array[index])

    return jax.tree.map(pick, tree)


def operator_at(operators: Operators, index: int) -> Operators:
    """Operator `index` with its name, as Python floats."""
    return at_index(operators, index).replace(names=operators.names[index : index + 1])
