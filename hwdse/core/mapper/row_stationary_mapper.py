"""The row-stationary mappings that fit a core, and the best of them.

Source: Chen, Emer and Sze, ISCA 2016, section VI, which also searches them all.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.mapper.row_stationary import (
    ACCOUNTING,
    row_stationary_costs,
    row_stationary_memories,
)
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import Accounting, MappingCosts
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.workload.loops.operators import Operators

COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256)
"""What is tried: sets of the array, filters and channels of an element."""
BLOCK = 4096
"""Mappings that are scored at once."""


def row_stationary_mapspace(operator: Operators, accelerator: Accelerator) -> RowStationaryMapping:
    """All mappings of one convolution that fit the array and its memories, on a leading axis.

    Strips are the least that need their number of passes, counts are those of `COUNTS`; beside the
    sets for different channels stand as many for different filters as there is room for, and the
    buffer holds as many filters as it can, in equal parts. Raises `ValueError` where none fits.
    """
    found = list(_fitting(_Shape.of(operator), _Room.of(accelerator)))
    if not found:
        raise ValueError(
            f"no row-stationary mapping of {operator.names or 'the operator'} fits the memories of "
            "an element and the global buffer"
        )
    return RowStationaryMapping(*np.array(found, dtype=float).T)


class _Shape(NamedTuple):
    """Sizes of one convolution as whole numbers."""

    r: int
    s: int
    p: int
    q: int
    c: int
    k: int
    n: int
    stride_p: int
    stride_q: int
    dilation_r: int
    dilation_s: int

    @classmethod
    def of(cls, operator: Operators) -> "_Shape":
        return cls(*(round(float(getattr(operator, name))) for name in cls._fields))


class _Room(NamedTuple):
    """Sides of the array, and words that an element's memories and the buffer hold."""

    rows: int
    cols: int
    filters: float
    inputs: float
    sums: float
    buffer: float

    @classmethod
    def of(cls, accelerator: Accelerator) -> "_Room":
        names = row_stationary_memories(accelerator)
        levels = {level.name: level for level in accelerator.levels}
        rows, cols = float(accelerator.rows), float(accelerator.cols)

        def words(name: str, operand: str, banks: float) -> float:
            level = levels[name]
            return float(level.capacity_bytes / getattr(level.word_bytes, operand)) / banks + 1e-6

        return cls(
            int(rows),
            int(cols),
            words(names.filters, "weights", rows * cols),
            words(names.inputs, "inputs", rows * cols),
            words(names.sums, "outputs", rows * cols),
            words(names.buffer, "outputs", 1.0),
        )


def _fitting(shape: _Shape, room: _Room) -> Iterator[tuple[int, ...]]:
    """Fields of `RowStationaryMapping` of every mapping that fits."""
    filter_rows = min(shape.r, room.rows)
    most = min(shape.p, room.cols * (room.rows // filter_rows))
    for strip in sorted({-(-shape.p // passes) for passes in range(1, shape.p + 1)}):
        if strip > most:
            return
        num_sets = _sets_in_array(filter_rows, strip, room)
        for channel_sets in _up_to(float(min(num_sets, shape.c))):
            filter_sets = max(_up_to(float(min(num_sets // channel_sets, shape.k))))
            for filters, channels in _in_element(shape, room):
                if filters * filter_sets <= shape.k and channels * channel_sets <= shape.c:
                    used = (filter_rows, strip, channel_sets, filter_sets, filters, channels)
                    for held in _held(shape, room, used):
                        yield (*used, *held)


def _up_to(most: float) -> Iterable[int]:
    """Counts that are tried, not above `most`."""
    return itertools.takewhile(lambda count: count <= most, COUNTS)


def _sets_in_array(filter_rows: int, strip: int, room: _Room) -> int:
    """Sets that the array has room for: folded over several rows, or side by side."""
    stacked = room.rows // filter_rows
    if strip > room.cols:
        return stacked // -(-strip // room.cols)
    return stacked * (room.cols // strip)


def _in_element(shape: _Shape, room: _Room) -> Iterator[tuple[int, int]]:
    """Filters and channels that one element can interleave."""
    for filters in _up_to(min(room.sums, float(shape.k))):
        taps = shape.s * filters
        for channels in _up_to(min(room.inputs / shape.s, room.filters / taps, float(shape.c))):
            yield filters, channels


def _held(shape: _Shape, room: _Room, used: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Filters and images whose sums the buffer can hold beside the inputs of a pass."""
    _, strip, channel_sets, filter_sets, filters, channels = used
    block = filters * filter_sets
    high = (strip - 1) * shape.stride_p + (shape.r - 1) * shape.dilation_r + 1
    wide = (shape.q - 1) * shape.stride_q + (shape.s - 1) * shape.dilation_s + 1
    inputs = channels * channel_sets * high * wide
    for images in sorted({1, 2, 4, shape.n}):
        most = (room.buffer / images - inputs) / (strip * shape.q)
        if images > shape.n or most < block:
            continue
        parts = math.ceil(shape.k / (most // block * block))
        yield min(math.ceil(shape.k / parts / block) * block, shape.k), images


def best_row_stationary_mapping(
    operator: Operators, accelerator: Accelerator, accounting: Accounting = ACCOUNTING
) -> tuple[RowStationaryMapping, MappingCosts]:
    """The mapping of one convolution with the least time x energy, and its costs.

    Wires of the array are left out of the energy, as in `row_stationary_costs`.
    """
    sets = row_stationary_mapspace(operator, accelerator)
    number = len(sets.strip)
    # One program serves all operators: their names and numbers of mappings do not matter to it.
    nameless = jax.tree.map(jnp.asarray, dataclasses.replace(operator, names=()))
    scores = []
    for start in range(0, number, BLOCK):
        block = jax.tree.map(lambda x: np.resize(x[start : start + BLOCK], BLOCK), sets)  # noqa: B023
        scores.append(_SCORES(nameless, accelerator, block, accounting=accounting))
    index = int(np.argmin(np.concatenate(scores)[:number]))
    best = jax.tree.map(lambda x: jnp.asarray(x[index], float), sets)
    return best, _COSTS(nameless, accelerator, best, accounting=accounting)


def _time_energy(
    operator: Operators,
    accelerator: Accelerator,
    sets: RowStationaryMapping,
    accounting: Accounting,
) -> PerOp:
    costs = row_stationary_costs(operator, accelerator, sets, accounting)
    return costs.time_s * costs.energy_j


_SCORES = quick_jit(_time_energy, static_argnames="accounting")
_COSTS = quick_jit(row_stationary_costs, static_argnames="accounting")
