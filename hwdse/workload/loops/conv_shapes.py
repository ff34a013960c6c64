"""Convolutions by their image and filter sizes, as operators and as GEMMs.

A convolution is the GEMM of its unrolled windows (m = output pixels of all images, k = window times
channels) and the filters (n). Image sizes include padding.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from hwdse.workload.gemms import Gemms, InputWindows, LayerList
from hwdse.workload.loops.operators import DIMS, Operators

OUTPUT_SIZES: Mapping[str, Callable[[int, int, int], int]] = MappingProxyType(
    {
        "floor": lambda extent, window, stride: (extent - window) // stride + 1,
        "ceil": lambda extent, window, stride: -((window - extent) // stride) + 1,
    }
)
"""Windows along an axis, by rounding rule.

`floor`: windows inside the extent, as in frameworks. `ceil`: the rule of SCALE-Sim, which adds a
window beyond the edge if the stride does not divide `extent - window`.
"""


@dataclasses.dataclass(frozen=True)
class ConvShape:
    """Shape of one convolution without groups, or of one group. A GEMM is a convolution with 1 x k
    windows, stride 1."""

    ifmap_height: int
    ifmap_width: int
    filter_height: int
    filter_width: int
    channels: int
    num_filters: int
    stride_height: int
    stride_width: int
    batch: int = 1
    dilation_height: int = 1
    dilation_width: int = 1

    @property
    def window_height(self) -> int:
        """Image rows from the first to the last filter row."""
        return (self.filter_height - 1) * self.dilation_height + 1

    @property
    def window_width(self) -> int:
        """Image columns from the first to the last filter column."""
        return (self.filter_width - 1) * self.dilation_width + 1

    def output_size(self, rounding: str = "floor") -> tuple[int, int]:
        """Output rows and columns, by a rule of `OUTPUT_SIZES`."""
        windows = OUTPUT_SIZES[rounding]
        return (
            windows(self.ifmap_height, self.window_height, self.stride_height),
            windows(self.ifmap_width, self.window_width, self.stride_width),
        )

    def gemm_size(self, rounding: str = "floor") -> tuple[int, int, int]:
        """Extents (m, k, n) of the GEMM of the unrolled convolution."""
        m = self.batch * math.prod(self.output_size(rounding))
        return m, self.filter_height * self.filter_width * self.channels, self.num_filters


def gemm_as_conv(m: int, k: int, n: int) -> ConvShape:
    """GEMM as a convolution in SCALE-Sim: an m x k image with 1 x k windows."""
    return ConvShape(m, k, 1, k, 1, n, 1, 1)


class ConvLayer(NamedTuple):
    """Layer of a network: equal independent convolutions."""

    name: str
    shape: ConvShape
    count: int
    """Convolutions: groups, or GEMMs of a batch."""


def conv_operators(layers: Sequence[ConvLayer]) -> Operators:
    """Layers as operators; a window over a whole line is a GEMM with k = window times channels."""
    rows = np.array([_extents(layer) for layer in layers], np.float64)
    columns = dict(zip(_COLUMNS, rows.T, strict=True))
    return Operators(**columns, names=tuple(layer.name for layer in layers))


_COLUMNS = (
    *DIMS.lower(),
    "stride_p",
    "stride_q",
    "dilation_r",
    "dilation_s",
    "count",
)


def _extents(layer: ConvLayer) -> tuple[int, ...]:
    """Numbers of one layer in the order of `_COLUMNS`."""
    shape = layer.shape
    height, width = shape.output_size()
    is_gemm = shape.filter_height == 1 and shape.filter_width == shape.ifmap_width
    folded = shape.filter_width if is_gemm else 1
    sizes = {
        "R": shape.filter_height,
        "S": shape.filter_width // folded,
        "P": height,
        "Q": width,
        "C": shape.channels * folded,
        "K": shape.num_filters,
        "N": shape.batch,
    }
    return (
        *(sizes[dim] for dim in DIMS),
        shape.stride_height,
        1 if is_gemm else shape.stride_width,
        shape.dilation_height,
        1 if is_gemm else shape.dilation_width,
        layer.count,
    )


def layer_list(operators: Operators) -> LayerList:
    """Operators as the GEMMs of their unrolled windows, with all operands in HBM."""
    op = operators
    ones, zeros = np.ones_like(op.count), np.zeros_like(op.count)
    gemms = Gemms(
        m=op.n * op.p * op.q,
        k=op.r * op.s * op.c,
        n=op.k,
        count=op.count,
        a_in_hbm=ones,
        b_in_hbm=ones,
        c_in_hbm=ones,
        vector_flop=zeros,
        extra_bytes=zeros,
        windows=_windows(op) if np.any(op.r * op.s > 1.0) else None,
    )
    return LayerList(gemms=gemms, names=op.names)


def _windows(op: Operators) -> InputWindows:
    names = [field.name for field in dataclasses.fields(InputWindows)]
    return InputWindows(**{name: getattr(op, name) for name in names})
