"""Mapspace of row-stationary mappings on a core, and the best mapping by exhaustive search.

Source: Chen, Emer and Sze, ISCA 2016, section VI (also an exhaustive search).
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
"""Enumerated numbers of sets per array and of filters and channels per PE."""
BLOCK = 4096
"""Mappings evaluated at once."""


def row_stationary_mapspace(operator: Operators, accelerator: Accelerator) -> RowStationaryMapping:
    """All mappings of one convolution that fit the array and its memories, on a leading axis.

    A strip is the smallest one for its number of passes; counts are those of `COUNTS`. The array
    has as many sets for different filters as fit beside the sets for different channels, and the
    buffer holds as many filters as possible, in equal parts. Raises `ValueError` if none fits.
    """
    found = list(_fitting(_Shape.of(operator), _Capacity.of(accelerator)))
    if not found:
        raise ValueError(
            f"no row-stationary mapping of {operator.names or 'the operator'} fits the memories of "
            "a PE and the global buffer"
        )
    return RowStationaryMapping(*np.array(found, dtype=float).T)


class _Shape(NamedTuple):
    """Sizes of one convolution as integers."""

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


class _Capacity(NamedTuple):
    """Array dimensions, and capacities of PE memories and buffer in words."""

    rows: int
    cols: int
    filters: float
    inputs: float
    sums: float
    buffer: float

    @classmethod
    def of(cls, accelerator: Accelerator) -> "_Capacity":
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


def _fitting(shape: _Shape, capacity: _Capacity) -> Iterator[tuple[int, ...]]:
    """Fields of `RowStationaryMapping` of every mapping that fits."""
    filter_rows = min(shape.r, capacity.rows)
    max_strip = min(shape.p, capacity.cols * (capacity.rows // filter_rows))
    for strip in sorted({-(-shape.p // passes) for passes in range(1, shape.p + 1)}):
        if strip > max_strip:
            return
        num_sets = _sets_in_array(filter_rows, strip, capacity)
        for channel_sets in _up_to(float(min(num_sets, shape.c))):
            filter_sets = max(_up_to(float(min(num_sets // channel_sets, shape.k))))
            for filters, channels in _per_pe(shape, capacity):
                if filters * filter_sets <= shape.k and channels * channel_sets <= shape.c:
                    used = (filter_rows, strip, channel_sets, filter_sets, filters, channels)
                    for buffered in _in_buffer(shape, capacity, used):
                        yield (*used, *buffered)


def _up_to(limit: float) -> Iterable[int]:
    """Counts up to `limit`."""
    return itertools.takewhile(lambda count: count <= limit, COUNTS)


def _sets_in_array(filter_rows: int, strip: int, capacity: _Capacity) -> int:
    """Number of sets that fit the array: folded over several rows, or side by side."""
    stacked = capacity.rows // filter_rows
    if strip > capacity.cols:
        return stacked // -(-strip // capacity.cols)
    return stacked * (capacity.cols // strip)


def _per_pe(shape: _Shape, capacity: _Capacity) -> Iterator[tuple[int, int]]:
    """Filters and channels that one PE can interleave."""
    for filters in _up_to(min(capacity.sums, float(shape.k))):
        taps = shape.s * filters
        for channels in _up_to(
            min(capacity.inputs / shape.s, capacity.filters / taps, float(shape.c))
        ):
            yield filters, channels


def _in_buffer(
    shape: _Shape, capacity: _Capacity, used: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Filters and images whose sums fit the buffer beside the inputs of a pass."""
    _, strip, channel_sets, filter_sets, filters, channels = used
    block = filters * filter_sets
    high = (strip - 1) * shape.stride_p + (shape.r - 1) * shape.dilation_r + 1
    wide = (shape.q - 1) * shape.stride_q + (shape.s - 1) * shape.dilation_s + 1
    inputs = channels * channel_sets * high * wide
    for images in sorted({1, 2, 4, shape.n}):
        max_filters = (capacity.buffer / images - inputs) / (strip * shape.q)
        if images > shape.n or max_filters < block:
            continue
        parts = math.ceil(shape.k / (max_filters // block * block))
        yield min(math.ceil(shape.k / parts / block) * block, shape.k), images


def best_row_stationary_mapping(
    operator: Operators, accelerator: Accelerator, accounting: Accounting = ACCOUNTING
) -> tuple[RowStationaryMapping, MappingCosts]:
    """Mapping of one convolution with the lowest energy-delay product, and its costs.

    The energy excludes the array wires, as in `row_stationary_costs`.
    """
    mapspace = row_stationary_mapspace(operator, accelerator)
    num_mappings = len(mapspace.strip)
    # One program serves all operators: names and mapspace sizes do not change it.
    nameless = jax.tree.map(jnp.asarray, dataclasses.replace(operator, names=()))
    scores = []
    for start in range(0, num_mappings, BLOCK):
        block = jax.tree.map(lambda x: np.resize(x[start : start + BLOCK], BLOCK), mapspace)  # noqa: B023
        scores.append(_SCORES(nameless, accelerator, block, accounting=accounting))
    index = int(np.argmin(np.concatenate(scores)[:num_mappings]))
    best = jax.tree.map(lambda x: jnp.asarray(x[index], float), mapspace)
    return best, _COSTS(nameless, accelerator, best, accounting=accounting)


def _energy_delay(
    operator: Operators,
    accelerator: Accelerator,
    mapping: RowStationaryMapping,
    accounting: Accounting,
) -> PerOp:
    costs = row_stationary_costs(operator, accelerator, mapping, accounting)
    return costs.time_s * costs.energy_j


_SCORES = quick_jit(_energy_delay, static_argnames="accounting")
_COSTS = quick_jit(row_stationary_costs, static_argnames="accounting")
