"""A function of many columns, of which each part is computed once for each distinct input it has.

A list of layouts has millions of rows and few distinct values in a column, and most of the work
depends on few columns: rows of products on the tensor degree and the micro-batch, gathers of
weights on the degrees. The program is traced once, every operation of it knows by its operands
which columns it depends on, and what depends on few of them is computed once for all of their
combinations and looked up. What a formula depends on is read off the formula: nothing here knows
any of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.training.column_stages import plan_stages

QUICK_ROWS = 1 << 17
"""Rows up to which quick compilation costs less than slower loops."""
BLOCK = 1 << 13
"""Rows that run at once: more of them fall out of the cache."""
CALL = 1 << 16
"""Rows of one call; the calls go round the devices."""

Places = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Columns:
    """Columns of equal length, each as its distinct values and the place of every row in them."""

    levels: Mapping[str, np.ndarray]
    indices: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.indices.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        """Values of a column."""
        return self.levels[name][self.indices[name]]

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> "Columns":
        """Columns from their values."""
        found = {name: np.unique(column, return_inverse=True) for name, column in values.items()}
        levels = {name: level.astype(float) for name, (level, _) in found.items()}
        return cls(levels, {name: place.astype(np.int32) for name, (_, place) in found.items()})

    def take(self, rows: np.ndarray) -> "Columns":
        """Some rows, in their order."""
        return Columns(self.levels, {name: place[rows] for name, place in self.indices.items()})


class FactoredProgram:
    """A function of scalars by name, to a pytree of scalars, for all rows of columns at once.

    Columns with one level are constants. Made and run under one setting of `jax.enable_x64`.
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
        self._early = [quick_jit(partial(self._combinations, number)) for number in range(last)]
        jit = quick_jit if len(columns) <= QUICK_ROWS else jax.jit
        self._last = jit(self._rows)

    def run(self) -> Any:
        """The pytree with an array for each scalar, one element a row."""
        columns, devices, num_rows = self._columns, jax.devices(), len(self._columns)
        levels = {name: jnp.asarray(columns.levels[name], float) for name in self._names}
        tables: list[Any] = []
        for stage in self._early:
            tables.append(stage(levels, tables))
        shared = [jax.device_put((levels, tables), device) for device in devices]
        size = min(CALL, BLOCK * math.ceil(num_rows / BLOCK))
        found = []
        for number, start in enumerate(range(0, num_rows, size)):
            part = {name: columns.indices[name][start : start + size] for name in self._names}
            padded = {name: np.pad(p, (0, size - len(p)), "edge") for name, p in part.items()}
            device = number % len(devices)
            found.append(self._last(*shared[device], jax.device_put(padded, devices[device])))
        outputs = [_joined(parts, num_rows) for parts in zip(*found, strict=True)]
        return jax.tree.unflatten(self._structure, outputs)

    def _combinations(self, number: int, levels: Places, tables: Any) -> list[jax.Array]:
        """Values of an early stage for all combinations of its columns, the last one fastest."""
        names = self._stages[number].names
        grids = jnp.meshgrid(*(jnp.arange(len(levels[name])) for name in names), indexing="ij")
        indices = {name: grid.reshape(-1) for name, grid in zip(names, grids, strict=True)}
        return self._values(number, levels, tables, indices)

    def _rows(self, levels: Places, tables: Any, indices: Places) -> list[jax.Array]:
        """Values of the last stage for rows, block by block."""
        last = partial(self._values, len(self._stages) - 1, levels, tables)
        blocks = {name: place.reshape(-1, BLOCK) for name, place in indices.items()}
        return [out.reshape(-1) for out in jax.lax.map(last, blocks)]

    def _values(self, number: int, levels: Places, tables: Any, indices: Places) -> list[jax.Array]:
        """Values of a stage for rows that stand at these places of its columns."""
        stage, rows = self._stages[number], {}
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
