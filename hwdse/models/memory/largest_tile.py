"""Largest tile that fits into the memories of a weight-stationary core, in closed form.

Costs fall with the size of a tile: weights are read again for each tile over the rows of outputs,
inputs for each tile over the output channels. For given other extents, the best extent in one
dimension is the largest that fits, and its derivative is that of the fitting size.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, floor_ste, num_tiles
from hwdse.specs.hardware.accelerator import Accelerator, Level
from hwdse.specs.mappings.tiles import Divisors, Tile, roles
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import (
    either,
    inputs_per_row,
    resident_inputs,
    resident_weights,
    sums_per_row,
    weights_per_channel,
    window,
)


@struct.dataclass
class Grain:
    """Allowed tile sizes: integers, or divisors only.

    A smooth relaxation also allows fractions, in proportion to its temperature.
    """

    relaxation: Relaxation = EXACT
    divisors: Divisors | None = None

    def largest(self, limit: PerOp, extent: PerOp, dim: str) -> PerOp:
        """Largest allowed tile size of `extent` up to `limit`, at least one."""
        if self.divisors is not None:
            return _largest_divisor(limit, extent, getattr(self.divisors, dim))
        # Tolerates the rounding error of a limit that should be an integer.
        limit = limit * (1.0 + 4.0 * jnp.finfo(jnp.result_type(limit, 0.0)).eps)
        floor = floor_ste(limit)
        if not self.relaxation.is_exact:
            floor = floor + self.relaxation.temperature * (limit - floor)
        return jnp.clip(floor, 1.0, extent)

    def part(self, extent: PerOp, count: PerOp, dim: str) -> PerOp:
        """Smallest size that covers `extent` in `count` tiles, or the divisor below it."""
        if self.divisors is not None:
            return self.largest(extent / count, extent, dim)
        return num_tiles(extent, count, self.relaxation)

    def even(self, extent: PerOp, limit: PerOp, dim: str) -> PerOp:
        """Smallest size that covers `extent` in as few tiles as the size `limit`."""
        if self.divisors is not None:
            return self.largest(limit, extent, dim)
        return num_tiles(extent, num_tiles(extent, limit, self.relaxation), self.relaxation)


def divisors_of(operators: Operators) -> Divisors:
    """Divisors of the sizes of concrete operators; raises `ValueError` for traced or fractional
    sizes."""
    lists = {}
    for dim in Divisors.__dataclass_fields__:
        try:
            sizes = np.asarray(getattr(operators, dim), dtype=float)
        except jax.errors.TracerArrayConversionError as error:
            raise ValueError("perfect tiles need operators of concrete sizes") from error
        if np.any(sizes % 1.0) or np.any(sizes < 1.0):
            raise ValueError(f"perfect tiles need integer sizes, got {dim} = {sizes.tolist()}")
        found = [_divisors(int(size)) for size in sizes.ravel()]
        longest = max(len(x) for x in found)
        table = [x + [1.0] * (longest - len(x)) for x in found]
        lists[dim] = np.array(table).T.reshape(longest, *sizes.shape)
    return Divisors(**lists)


def _divisors(size: int) -> list[float]:
    low = [x for x in range(1, math.isqrt(size) + 1) if size % x == 0]
    return [float(x) for x in sorted({*low, *(size // x for x in low)})]


def _largest_divisor(limit: PerOp, extent: PerOp, divisors: Leaf) -> PerOp:
    """Largest of `divisors` (first axis) that divides `extent` and is at most `limit`, or 1."""
    limit, extent = jnp.broadcast_arrays(limit, extent)
    ones = (1,) * (limit.ndim - divisors.ndim + 1)
    listed = jnp.asarray(divisors, limit.dtype).reshape(-1, *ones, *divisors.shape[1:])
    is_allowed = (jnp.mod(extent, listed) == 0.0) & (listed <= limit * (1.0 + 1e-6))
    return jnp.max(jnp.where(is_allowed, listed, 1.0), axis=0)


def rows_that_fit(
    operators: Operators, tile: Tile, accelerator: Accelerator, tiles: PerOp = 1.0
) -> PerOp:
    r"""Rows of outputs per tile that fit, with `tiles` tiles per block; not rounded.

    $\min((S - W - h) / (t\,b_I), A / b_O)$: capacities S of the scratchpad and A of the
    accumulator, weights W, halo h, t tiles per block, bytes b per row of inputs and of sums.
    $(S - W - h) / (t\,b_I + b_O)$ in one memory. Below one if a row does not fit.
    """
    scratchpad, sums = _memories(accelerator)
    words = scratchpad.word_bytes
    line = words.inputs * inputs_per_row(operators, tile)
    halo = line * window(0.0, operators.r, operators.stride_p, operators.dilation_r)
    room = scratchpad.capacity_bytes - words.weights * resident_weights(operators, tile) - halo
    row = tiles * line * operators.stride_p
    row_of_sums = sums.word_bytes.outputs * tile.k * sums_per_row(tile)
    if roles(accelerator).is_unified:
        return room / (row + row_of_sums)
    return jnp.minimum(room / row, sums.capacity_bytes / row_of_sums)


def rows_beside_block(operators: Operators, tile: Tile, accelerator: Accelerator) -> PerOp:
    """Rows of sums that fit beside the blocks of a tile; not rounded."""
    scratchpad, sums = _memories(accelerator)
    row_of_sums = sums.word_bytes.outputs * tile.k * sums_per_row(tile)
    words = scratchpad.word_bytes
    room = scratchpad.capacity_bytes - words.weights * resident_weights(operators, tile)
    room = room - words.inputs * resident_inputs(operators, tile)
    if roles(accelerator).is_unified:
        return room / row_of_sums
    return jnp.where(room >= 0.0, sums.capacity_bytes / row_of_sums, 0.0)


def channels_that_fit(operators: Operators, tile: Tile, accelerator: Accelerator) -> PerOp:
    """Output channels of a block that fit beside a tile's inputs; not rounded.

    Sums span the block unless all inputs of a tile are resident; then they span `k` channels.
    """
    scratchpad, sums = _memories(accelerator)
    held, words = tile.residency, scratchpad.word_bytes
    a_channel = words.weights * weights_per_channel(operators)
    a_pass = words.weights * tile.rows * tile.cols
    column = sums.word_bytes.outputs * tile.p * sums_per_row(tile)
    room = scratchpad.capacity_bytes - words.inputs * resident_inputs(operators, tile)
    if roles(accelerator).is_unified:
        room = room - either(held.whole_weights, 0.0, a_pass)
        room = room - either(held.whole_inputs, column * tile.k, 0.0)
        spanned = either(held.whole_inputs, 0.0, column)
        # Unused for resident inputs with streamed weights, but must stay finite.
        return room / jnp.maximum(either(held.whole_weights, a_channel, 0.0) + spanned, 1e-3)
    beside_pass = jnp.where(room >= a_pass, operators.k, 0.0)
    weights = either(held.whole_weights, room / a_channel, beside_pass)
    few = jnp.where(sums.capacity_bytes >= column * tile.k, operators.k, 0.0)
    return jnp.minimum(weights, either(held.whole_inputs, few, sums.capacity_bytes / column))


def _memories(accelerator: Accelerator) -> tuple[Level, Level]:
    """Scratchpad and accumulator, which may be one memory."""
    part = roles(accelerator)
    return accelerator.levels[part.scratchpad], accelerator.levels[part.accumulator]
