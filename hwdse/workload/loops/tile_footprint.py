"""How many words of each operand belong to a tile of an operator."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.specs.mappings.tiles import Tile
from hwdse.workload.loops.operators import Operators


def either(flag: Leaf, if_true: Leaf, if_false: Leaf) -> Leaf:
    """`jnp.where`, without the other branch for a truth value of Python."""
    if isinstance(flag, bool):
        return if_true if flag else if_false
    return jnp.where(flag, if_true, if_false)


def window(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Inputs in a row below `outputs` outputs in a row, from the first tap to the last."""
    return (outputs - 1.0) * stride + (taps - 1.0) * dilation + 1.0


def windows(outputs: PerOp, tiles: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Sum of the windows of the tiles that a row of outputs is cut into, even ones or not."""
    return outputs * stride + tiles * window(0.0, taps, stride, dilation)


def resident_weights(operators: Operators, tile: Tile) -> PerOp:
    """Weights that the scratchpad holds: a block, or those of one pass of the array."""
    block = operators.r * operators.s * operators.c * tile.block_k
    return either(tile.residency.whole_weights, block, tile.rows * tile.cols)


def inputs_per_row(operators: Operators, tile: Tile) -> PerOp:
    """Inputs that the scratchpad holds in each of their rows: all channels, or those of a pass."""
    channels = either(tile.residency.whole_inputs, operators.c, tile.rows)
    width = window(tile.q, operators.s, operators.stride_q, operators.dilation_s)
    return channels * tile.n * width


def resident_inputs(operators: Operators, tile: Tile) -> PerOp:
    """Inputs that the scratchpad holds."""
    height = window(tile.block_p, operators.r, operators.stride_p, operators.dilation_r)
    return height * inputs_per_row(operators, tile)


def sums_per_row(tile: Tile) -> PerOp:
    """Sums of a tile in each row of outputs and channel."""
    return tile.q * tile.n


def weights_per_channel(operators: Operators) -> PerOp:
    """Weights of an output channel."""
    return operators.r * operators.s * operators.c


def operator_words(operators: Operators) -> tuple[PerOp, PerOp, PerOp]:
    """Weights, inputs (with what strides skip) and outputs of whole operators."""
    height = window(operators.p, operators.r, operators.stride_p, operators.dilation_r)
    width = window(operators.q, operators.s, operators.stride_q, operators.dilation_s)
    return (
        weights_per_channel(operators) * operators.k,
        operators.n * operators.c * height * width,
        operators.p * operators.q * operators.n * operators.k,
    )
