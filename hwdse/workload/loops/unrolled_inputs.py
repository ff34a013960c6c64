"""Inputs of convolutions that run as GEMMs of their unrolled windows (im2col)."""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.tile_footprint import window


def input_words(gemms: Gemms, rows: PerOp, num_blocks: PerOp = 1.0) -> PerOp:
    r"""Distinct input words of `rows` rows of A that are read in `num_blocks` blocks.

    A GEMM has m k words. The rows of A of a convolution are windows that overlap: a window spans
    $H = (R - 1) \delta + 1$ input rows, a line of Q outputs $W = (Q - 1) \min(d, S') + S'$ columns,
    with strides d and $S' = (S - 1) \delta + 1$. A block of t outputs in their order reads, times
    channels,

    - $((t / Q - 1) \min(d, H) + H)\,W$ if it has at least one line of outputs,
    - $H\,((t - 1) \min(d, S') + S')$ if it is a part of a line,

    and no more than t k words. Inputs that blocks share, the halos, are read by each. Every image
    begins a block. Rows and columns between windows are not read; those that dilation skips are.
    Assumes outputs in the order image, row, column, and windows that are unrolled on the chip.
    """
    w = gemms.windows
    if w is None:
        return rows * gemms.k
    channels = gemms.k / (w.r * w.s)
    height = window(1.0, w.r, 1.0, w.dilation_r)
    width = window(1.0, w.s, 1.0, w.dilation_s)
    step_p, step_q = jnp.minimum(w.stride_p, height), jnp.minimum(w.stride_q, width)
    blocks = jnp.maximum(num_blocks, rows / (w.p * w.q))
    outputs = rows / blocks
    lines = (jnp.maximum(outputs / w.q, 1.0) - 1.0) * step_p + height
    columns = (jnp.minimum(outputs, w.q) - 1.0) * step_q + width
    return jnp.minimum(channels * blocks * lines * columns, rows * gemms.k)


def windows_per_input(gemms: Gemms) -> PerOp:
    r"""Largest number of windows that contain an input: $\lceil R / d_p \rceil \lceil S / d_q
    \rceil$, all taps with dilation, 1 for a GEMM."""
    w = gemms.windows
    if w is None:
        return 1.0
    return taps_of_an_input(w.r, w.stride_p, w.dilation_r) * taps_of_an_input(
        w.s, w.stride_q, w.dilation_s
    )


def taps_of_an_input(taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Largest number of windows of one dimension that contain an input; all taps with dilation."""
    dense = jnp.ceil((taps - 0.5) / stride)
    return jnp.where(dilation > 1.5, taps, jnp.minimum(dense, taps))


def distinct_inputs(outputs: PerOp, taps: PerOp, stride: PerOp, dilation: PerOp) -> PerOp:
    """Distinct inputs of one dimension; with dilation the least of any sum set."""
    dense = jnp.minimum(window(outputs, taps, stride, dilation), outputs * taps)
    return jnp.where(dilation > 1.5, outputs + taps - 1.0, dense)
