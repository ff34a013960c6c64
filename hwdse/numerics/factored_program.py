"""Evaluation of a function over table columns, each part once per distinct combination of inputs.

A table of parallelism strategies has millions of rows and few distinct values per column, and most
operations depend on few columns: GEMM operators on tensor degree and micro-batch, weight gathers on
the degrees. The function is traced once. The operands of each operation determine the columns that
it depends on. Operations on few columns are computed once for all combinations of their values and
looked up. The dependences come from the trace, so this module contains no model formulas.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.column_stages import plan_stages
from hwdse.numerics.jit_compile import quick_jit

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
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], columns: Columns):
        levels = columns.levels
        varied = sorted(name for name in levels if len(levels[name]) > 1) or [min(levels)]
        fixed = {name: float(levels[name][0]) for name in levels if name not in varied}
        trace = jax.make_jaxpr(lambda inputs: function({**fixed, **inputs}), return_shape=True)
        traced, shape = trace({name: jnp.zeros(()) for name in varied})
        self._structure = jax.tree.structure(shape)
        self._columns, self._names = columns, varied
        sizes = {name: len(levels[name]) for name in varied}
        self._stages = plan_stages(traced, sizes, len(columns))
        last = len(self._stages) - 1
        self._early = [quick_jit(partial(self._combinations, index)) for index in range(last)]
        jit = quick_jit if len(columns) <= QUICK_ROWS else jax.jit
        self._last = jit(self._rows)

    def run(self) -> Any:
        """Pytree with one array per scalar and one element per row."""
        columns, devices, num_rows = self._columns, jax.devices(), len(self._columns)
        levels = {name: jnp.asarray(columns.levels[name], float) for name in self._names}
        tables: list[Any] = []
        for stage in self._early:
            tables.append(stage(levels, tables))
        shared = [jax.device_put((levels, tables), device) for device in devices]
        size = min(CALL, BLOCK * math.ceil(num_rows / BLOCK))
        results = []
        for call, start in enumerate(range(0, num_rows, size)):
            part = {name: columns.indices[name][start : start + size] for name in self._names}
            padded = {name: np.pad(p, (0, size - len(p)), "edge") for name, p in part.items()}
            device = call % len(devices)
            results.append(self._last(*shared[device], jax.device_put(padded, devices[device])))
        outputs = [_joined(parts, num_rows) for parts in zip(*results, strict=True)]
        return jax.tree.unflatten(self._structure, outputs)

    def _combinations(self, index: int, levels: ColumnArrays, tables: Any) -> list[jax.Array]:
        """Values of an early stage for all combinations of its columns, last column fastest."""
        names = self._stages[index].names
        grids = jnp.meshgrid(*(jnp.arange(len(levels[name])) for name in names), indexing="ij")
        indices = {name: grid.reshape(-1) for name, grid in zip(names, grids, strict=True)}
        return self._values(index, levels, tables, indices)

    def _rows(self, levels: ColumnArrays, tables: Any, indices: ColumnArrays) -> list[jax.Array]:
        """Values of the last stage, in blocks of rows."""
        last = partial(self._values, len(self._stages) - 1, levels, tables)
        blocks = {name: column.reshape(-1, BLOCK) for name, column in indices.items()}
        return [out.reshape(-1) for out in jax.lax.map(last, blocks)]

    def _values(
        self, index: int, levels: ColumnArrays, tables: Any, indices: ColumnArrays
    ) -> list[jax.Array]:
        """Values of stage `index` for rows with given indices into the levels of its columns."""
        stage, rows = self._stages[index], {}
        values = [levels[name][indices[name]] for name in stage.names]
        for source in dict.fromkeys(source for source, _ in stage.needs):
            row = 0
            for name in self._stages[source].names:
                row = row * len(levels[name]) + indices[name].astype(jnp.int32)
            rows[source] = row
        axes: list[int | None] = [0] * len(values)
        for source, position in stage.needs:
            is_constant = not self._stages[source].names
            table = tables[source][position]
            values.append(table if is_constant else table[rows[source]])
            axes.append(None if is_constant else 0)
        if not stage.names:
            return stage.piece(*values)
        return jax.vmap(stage.piece, tuple(axes))(*values)


def _joined(parts: Sequence[jax.Array], num_rows: int) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts])[:num_rows]
