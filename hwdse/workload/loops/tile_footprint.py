"""Tile footprint: words of each operand that belong to a tile of an operator."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.specs.mappings.tiles import Tile
from hwdse.workload.loops.operators import Operators


def either(flag: Leaf, if_true: Leaf, if_false: Leaf) -> Leaf:
    """`jnp.where`, or the selected value alone if `flag` is a Python boolean."""
    if isinstance(flag, bool):
        return if_true if flag else if_false
    return jnp.where(flag, if_true, if_false)


def window(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Extent of the inputs of `outputs` neighboring outputs, from the first to the last tap."""
    return (outputs - 1.0) * stride + (taps - 1.0) * dilation + 1.0


def windows(outputs: PerOp, tiles: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Sum of the input windows of the tiles of a row of outputs, equal or ragged."""
    return outputs * stride + tiles * window(0.0, taps, stride, dilation)


def resident_weights(operators: Operators, tile: Tile) -> PerOp:
    """Weights resident in the scratchpad: a block, or those of one pass of the array."""
    block = operators.r * operators.s * operators.c * tile.block_k
    return either(tile.residency.whole_weights, block, tile.rows * tile.cols)


def inputs_per_row(operators: Operators, tile: Tile) -> PerOp:
    """Inputs per row resident in the scratchpad: all channels, or those of one pass."""
    channels = either(tile.residency.whole_inputs, operators.c, tile.rows)
    width = window(tile.q, operators.s, operators.stride_q, operators.dilation_s)
    return channels * tile.n * width


def resident_inputs(operators: Operators, tile: Tile) -> PerOp:
    """Inputs resident in the scratchpad."""
    height = window(tile.block_p, operators.r, operators.stride_p, operators.dilation_r)
    return height * inputs_per_row(operators, tile)


def sums_per_row(tile: Tile) -> PerOp:
    """Partial sums of a tile per row of outputs and channel."""
    return tile.q * tile.n


def weights_per_channel(operators: Operators) -> PerOp:
    """Weights per output channel."""
    return operators.r * operators.s * operators.c


def operator_words(operators: Operators) -> tuple[PerOp, PerOp, PerOp]:
    """Words of weights, inputs (those skipped by strides included) and outputs of each operator."""
    height = window(operators.p, operators.r, operators.stride_p, operators.dilation_r)
    width = window(operators.q, operators.s, operators.stride_q, operators.dilation_s)
    return (
        weights_per_channel(operators) * operators.k,
        operators.n * operators.c * height * width,
        operators.p * operators.q * operators.n * operators.k,
    )
