"""Evaluation of a function over table columns, each part once per distinct combination of inputs.

A table of parallelism strategies has millions of rows and few distinct values per column, and most
operations depend on few columns: GEMM operators on tensor degree and micro-batch, weight gathers on
the degrees. The function is traced once. The operands of each operation determine the columns that
it depends on. Operations on few columns are computed once for all combinations of their values and
looked up. The dependences come from the trace, so this module contains no model formulas.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.column_stages import ColumnStage, plan_stages
from hwdse.numerics.jit_compile import quick_jit, thorough_jit

QUICK_ROWS = 1 << 17
"""Largest number of rows for which quick compilation outweighs slower loops."""
BLOCK = 1 << 13
"""Rows computed at once; more do not fit the CPU cache."""
CALL = 1 << 16
"""Rows per call; calls are distributed over the devices in turn."""

ColumnArrays = Mapping[str, jax.Array]
"""One array per column."""


@dataclass(frozen=True)
class Columns:
    """Columns of equal length, each stored as distinct values (`levels`) and their indices."""

    levels: Mapping[str, np.ndarray]
    indices: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.indices.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        """Values of a column."""
        return self.levels[name][self.indices[name]]

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> "Columns":
        """Columns with the given values."""
        found = {name: np.unique(column, return_inverse=True) for name, column in values.items()}
        levels = {name: level.astype(float) for name, (level, _) in found.items()}
        return cls(levels, {name: index.astype(np.int32) for name, (_, index) in found.items()})

    def take(self, rows: np.ndarray) -> "Columns":
        """Selected rows, in the given order."""
        return Columns(self.levels, {name: index[rows] for name, index in self.indices.items()})


class FactoredProgram:
    """Compiled function from named scalars to a pytree of scalars, for all rows of columns.

    Columns with one level are constants. Construction and `run` need the same `jax.enable_x64`.
    The function is traced when a program is compiled; stored programs need no trace.
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], columns: Columns):
        levels = columns.levels
        self._columns, self._function = columns, function
        self._names = sorted(n for n in levels if len(levels[n]) > 1) or [min(levels)]
        self._fixed = {n: float(levels[n][0]) for n in levels if n not in self._names}
        self._sizes = {name: len(levels[name]) for name in self._names}
        self._tables = quick_jit(self._all_combinations)
        jit = quick_jit if len(columns) <= QUICK_ROWS else thorough_jit
        self._last = jit(self._rows)

    @property
    def program_key(self) -> tuple[Any, ...]:
        """All that the traced programs depend on."""
        return self._function, self._fixed, self._sizes, len(self._columns)

    @functools.cached_property
    def _plan(self) -> tuple[list[ColumnStage], Any]:
        """Stages, and structure of the results."""

        def called(inputs: dict[str, jax.Array]) -> Any:
            return self._function({**self._fixed, **inputs})

        scalars = {name: jnp.zeros(()) for name in self._names}
        traced, shape = jax.make_jaxpr(called, return_shape=True)(scalars)
        stages = plan_stages(traced, self._sizes, len(self._columns))
        return stages, jax.tree.structure(shape)

    def run(self) -> Any:
        """Pytree with one array per scalar and one element per row."""
        columns, devices, num_rows = self._columns, jax.devices(), len(self._columns)
        levels = {name: jnp.asarray(columns.levels[name], float) for name in self._names}
        tables = self._tables(levels)
        shared = [jax.device_put((levels, tables), device) for device in devices]
        size = min(CALL, BLOCK * math.ceil(num_rows / BLOCK))
        results = []
        for call, start in enumerate(range(0, num_rows, size)):
            part = {name: columns.indices[name][start : start + size] for name in self._names}
            padded = {name: np.pad(p, (0, size - len(p)), "edge") for name, p in part.items()}
            device = call % len(devices)
            results.append(self._last(*shared[device], jax.device_put(padded, devices[device])))
        return jax.tree.map(lambda *parts: _joined(parts, num_rows), *results)

    def _all_combinations(self, levels: ColumnArrays) -> list[list[jax.Array]]:
        """Values of all early stages, which later stages look up."""
        tables: list[list[jax.Array]] = []
        for index in range(len(self._plan[0]) - 1):
            # Not fused: operations of a stage run once per combination of its own columns.
            tables.append(jax.lax.optimization_barrier(self._combinations(index, levels, tables)))
        return tables

    def _combinations(self, index: int, levels: ColumnArrays, tables: Any) -> list[jax.Array]:
        """Values of an early stage for all combinations of its columns, last column fastest."""
        names = self._plan[0][index].names
        grids = jnp.meshgrid(*(jnp.arange(len(levels[name])) for name in names), indexing="ij")
        indices = {name: grid.reshape(-1) for name, grid in zip(names, grids, strict=True)}
        return self._values(index, levels, tables, indices)

    def _rows(self, levels: ColumnArrays, tables: Any, indices: ColumnArrays) -> Any:
        """Results, from the last stage in blocks of rows."""
        stages, structure = self._plan
        last = partial(self._values, len(stages) - 1, levels, tables)
        blocks = {name: column.reshape(-1, BLOCK) for name, column in indices.items()}
        outputs = [out.reshape(-1) for out in jax.lax.map(last, blocks)]
        return jax.tree.unflatten(structure, outputs)

    def _values(
        self, index: int, levels: ColumnArrays, tables: Any, indices: ColumnArrays
    ) -> list[jax.Array]:
        """Values of stage `index` for rows with given indices into the levels of its columns."""
        stages = self._plan[0]
        stage, rows = stages[index], {}
        values = [levels[name][indices[name]] for name in stage.names]
        for source in dict.fromkeys(source for source, _ in stage.needs):
            row = 0
            for name in stages[source].names:
                row = row * len(levels[name]) + indices[name].astype(jnp.int32)
            rows[source] = row
        axes: list[int | None] = [0] * len(values)
        for source, position in stage.needs:
            is_constant = not stages[source].names
            table = tables[source][position]
            values.append(table if is_constant else table[rows[source]])
            axes.append(None if is_constant else 0)
        if not stage.names:
            return stage.piece(*values)
        return jax.vmap(stage.piece, tuple(axes))(*values)


def _joined(parts: Sequence[jax.Array], num_rows: int) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts])[:num_rows]
