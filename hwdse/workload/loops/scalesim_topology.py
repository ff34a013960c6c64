"""Reader of SCALE-Sim topology CSVs: convolutions and GEMMs as a `LayerList`.

A convolution of one image is the GEMM of its unrolled windows (m = output pixels, k = window times
channels) and the filters (n). Sizes include padding. Formats: README of SCALE-Sim and
`topology_utils.py` of its version 3.0.0.
"""

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hwdse.workload.gemms import Gemms, LayerList

CONV_COLUMNS = (
    "IFMAP Height",
    "IFMAP Width",
    "Filter Height",
    "Filter Width",
    "Channels",
    "Num Filter",
    "Strides",
)
GEMM_COLUMNS = ("M", "N", "K")

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


@dataclass(frozen=True)
class ConvShape:
    """Shape of one convolution with batch 1. A GEMM is a convolution with 1 x k windows, stride
    1."""

    ifmap_height: int
    ifmap_width: int
    filter_height: int
    filter_width: int
    channels: int
    num_filters: int
    stride_height: int
    stride_width: int

    def output_size(self, rounding: str = "floor") -> tuple[int, int]:
        """Output rows and columns, by a rule of `OUTPUT_SIZES`."""
        windows = OUTPUT_SIZES[rounding]
        return (
            windows(self.ifmap_height, self.filter_height, self.stride_height),
            windows(self.ifmap_width, self.filter_width, self.stride_width),
        )

    def gemm_size(self, rounding: str = "floor") -> tuple[int, int, int]:
        """Extents (m, k, n) of the GEMM of the unrolled convolution."""
        m = math.prod(self.output_size(rounding))
        return m, self.filter_height * self.filter_width * self.channels, self.num_filters


def gemm_as_conv(m: int, k: int, n: int) -> ConvShape:
    """GEMM as a convolution in SCALE-Sim: an m x k image with 1 x k windows."""
    return ConvShape(m, k, 1, k, 1, n, 1, 1)


def _whole_number(cell: str, place: str, column: str) -> int:
    try:
        value = int(cell)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError(
            f"{place}, column '{column}': got '{cell}', expected a whole number of at least 1"
        )
    return value


def _check_sparsity(cells: Sequence[str], place: str) -> None:
    for cell in cells:
        ratio = re.fullmatch(r"(\d+)\s*:\s*(\d+)", cell)
        if ratio and ratio[1] != ratio[2]:
            raise ValueError(
                f"{place}, column 'Sparsity': got '{cell}', expected 1:1 or nothing "
                "(dense GEMMs only)"
            )


def _parse_row(cells: Sequence[str], columns: Sequence[str], place: str) -> list[int]:
    """Named columns of a row. Later cells are a width stride, 1:1, or a remark."""
    if len(cells) < 1 + len(columns):
        raise ValueError(
            f"{place}: {len(cells)} cells, expected a layer name, then {', '.join(columns)}"
        )
    named = zip(cells[1:], columns, strict=False)
    numbers = [_whole_number(cell, place, column) for cell, column in named]
    _check_sparsity(cells[1 + len(columns) :], place)
    return numbers


def _parse_gemm(cells: Sequence[str], place: str) -> tuple[ConvShape, int]:
    m, n, k = _parse_row(cells, GEMM_COLUMNS, place)
    return gemm_as_conv(m, k, n), 1


def _parse_conv(cells: Sequence[str], place: str) -> tuple[ConvShape, int]:
    height, width, window_h, window_w, channels, num_filters, stride = _parse_row(
        cells, CONV_COLUMNS, place
    )
    after = cells[8] if len(cells) > 8 else ""
    stride_width = _whole_number(after, place, "Stride width") if after.isdigit() else stride
    for column, window, extent in (
        ("Filter Height", window_h, height),
        ("Filter Width", window_w, width),
    ):
        if window > extent:
            raise ValueError(
                f"{place}, column '{column}': got '{window}', expected at most the IFMAP's {extent}"
            )
    count = channels if "DP" in cells[0] else 1  # SCALE-Sim's mark of a depthwise layer
    if count > 1:
        channels = 1
    shape = ConvShape(
        height, width, window_h, window_w, channels, num_filters, stride, stride_width
    )
    return shape, count


_PARSERS: Mapping[str, Callable[[Sequence[str], str], tuple[ConvShape, int]]] = MappingProxyType(
    {"conv": _parse_conv, "gemm": _parse_gemm}
)


def _kind_of_header(header: Sequence[str], source: str) -> str:
    names = [name.lower() for name in header]
    if names[1:4] == ["m", "n", "k"]:
        return "gemm"
    if len([name for name in names if name]) > len(CONV_COLUMNS):
        return "conv"
    raise ValueError(
        f"{source}, line 1: got the header '{', '.join(header)}', expected a layer name, then "
        f"{', '.join(GEMM_COLUMNS)} or {', '.join(CONV_COLUMNS)}"
    )


def parse_layers(text: str, source: str) -> list[tuple[str, ConvShape, int]]:
    """Name, shape and count of each row of a topology CSV. `source` is its name in errors.

    The header distinguishes convolutions from GEMMs. Trailing commas, blank rows and remarks after
    the last column are ignored. An integer after the stride is the stride along the width. A
    convolution with `DP` in its name counts once per channel, with one channel each.
    """
    rows = csv.reader(text.splitlines())
    header = [cell.strip() for cell in next(rows, [])]
    parse = _PARSERS[_kind_of_header(header, source)]
    layers = []
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        shape, count = parse(cells, f"{source}, line {rows.line_num}")
        layers.append((cells[0], shape, count))
    if not layers:
        raise ValueError(f"{source}: no layers, expected at least one row below the header")
    return layers


def parse_topology(text: str, source: str, rounding: str = "floor") -> LayerList:
    """Layers of a topology CSV as GEMM operators, with all operands in HBM.

    `rounding` is a rule of `OUTPUT_SIZES`: `floor`, or `ceil` for comparisons with SCALE-Sim.
    """
    if rounding not in OUTPUT_SIZES:
        raise ValueError(
            f"{source}: rounding '{rounding}', expected one of {', '.join(sorted(OUTPUT_SIZES))}"
        )
    layers = parse_layers(text, source)
    sizes = np.array([shape.gemm_size(rounding) for _, shape, _ in layers], dtype=np.float64)
    counts = np.array([count for _, _, count in layers], dtype=np.float64)
    ones, zeros = np.ones_like(counts), np.zeros_like(counts)
    gemms = Gemms(
        m=sizes[:, 0],
        k=sizes[:, 1],
        n=sizes[:, 2],
        count=counts,
        a_in_hbm=ones,
        b_in_hbm=ones,
        c_in_hbm=ones,
        vector_flop=zeros,
        extra_bytes=zeros,
    )
    return LayerList(gemms=gemms, names=tuple(name for name, _, _ in layers))


def load_topology(path: Path, rounding: str = "floor") -> LayerList:
    """`parse_topology` of a file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise ValueError(f"{path}: cannot be read ({reason}), expected a topology CSV") from error
    return parse_topology(text, str(path), rounding)
