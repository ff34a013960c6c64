"""SCALE-Sim topologies: convolutions and GEMMs from CSV files, columns by their names.

Spellings of the header are those of the files of SCALE-Sim 3.0.0 (github.com/scalesim-project/
SCALE-Sim, folder `topologies`, and `topology_utils.py`). Its files have no padding, dilation or
groups, and it ignores its column of batch sizes; these columns follow the names of frameworks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hwdse.config.files.csv_rows import CsvRow
from hwdse.config.files.errors import (
    ConfigError,
    ConfigLocation,
    Mistakes,
    did_you_mean,
    listed,
    show,
)
from hwdse.workload.loops.conv_shapes import ConvLayer, ConvShape, gemm_as_conv

NAME = "Layer name"
CONV_SIZES = (
    "IFMAP Height",
    "IFMAP Width",
    "Filter Height",
    "Filter Width",
    "Channels",
    "Num Filter",
)
GEMM_SIZES = ("M", "N", "K")
STRIDES = "Strides"
STEPS: Mapping[str, int] = MappingProxyType({STRIDES: 1, "Dilation": 1, "Padding": 0})
"""Columns for both axes with their smallest value, which also holds if a column other than the
strides is left out. Each may be given as one column per axis."""
CONV_EXTRAS = ("Batch Size", "Groups", "Sparsity")
GEMM_EXTRAS = ("Batch Size", "Sparsity")
MAX_SIZE = 2**40
"""Upper bound of sizes and counts, so that their products are exact in float64."""
_SPELLINGS = {
    NAME: "layer|layers|name|l",
    "IFMAP Height": "ifmap h|input height|input h",
    "IFMAP Width": "ifmap w|input width|input w",
    "Filter Height": "filter h|kernel height|kernel h",
    "Filter Width": "filter w|kernel width|kernel w",
    "Channels": "channel|num channels|input channels|in channels",
    "Num Filter": "num filters|filters|number of filters|output channels|out channels",
    STRIDES: "stride",
    "Stride Height": "stride h|strides height",
    "Stride Width": "stride w|strides width",
    "Dilation": "dilations|dilation rate",
    "Dilation Height": "dilation h",
    "Dilation Width": "dilation w",
    "Padding": "pad|paddings|pads",
    "Padding Height": "padding h|pad height|pad h",
    "Padding Width": "padding w|pad width|pad w",
    "Batch Size": "batch|batches|batchsize|num batches",
    "Groups": "group|num groups",
    "Sparsity": "sparsity ratio|sparsity support",
    "M": "",
    "N": "",
    "K": "",
}
"""Further spellings of each column, apart from case, spaces, underscores and hyphens."""


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.lower())).strip()


_COLUMNS = {
    spelling: column
    for column, others in _SPELLINGS.items()
    for spelling in (_plain(column), *filter(None, others.split("|")))
}


@dataclass(frozen=True)
class _Row:
    """Cells of a row by column, with the place of the row."""

    cells: Mapping[str, str]
    where: ConfigLocation

    def number(self, column: str, default: int | None = None, lowest: int = 1) -> int:
        """Whole number of a column; `default` if the column is left out or the cell is empty."""
        cell = self.cells.get(column, "")
        if not cell and default is not None:
            return default
        value = int(cell) if re.fullmatch("[0-9]{1,15}", cell) else -1
        if not lowest <= value <= MAX_SIZE:
            raise self.where.error(
                column, cell, f"a whole number of at least {lowest}, at most {MAX_SIZE:,}"
            )
        return value

    def per_axis(self, both: str) -> tuple[int, int]:
        """Numbers of the height and the width, from one column or from one per axis."""
        lowest = STEPS[both]
        default = None if both == STRIDES else lowest
        if both in self.cells:
            number = self.number(both, default, lowest)
            return number, number
        height, width = _axes(both)
        return self.number(height, default, lowest), self.number(width, default, lowest)

    def check_density(self) -> None:
        """Raise `ConfigError` if the layer is sparse."""
        ratio = self.cells.get("Sparsity", "")
        parts = re.fullmatch(r"([0-9]+)\s*:\s*([0-9]+)", ratio)
        if ratio and not (parts and parts[1] == parts[2]):
            raise self.where.error("Sparsity", ratio, "1:1 or nothing (dense layers only)")


def _axes(both: str) -> tuple[str, str]:
    word = both.removesuffix("s")
    return f"{word} Height", f"{word} Width"


def is_topology(header: Sequence[str]) -> bool:
    """True if a header has a column of a topology beside a name."""
    columns = {_COLUMNS.get(_plain(name)) for name in header}
    return len(columns & {*CONV_SIZES, *GEMM_SIZES}) >= 2


def topology_layers(rows: Sequence[CsvRow], label: str) -> list[ConvLayer]:
    """Layers of a topology; `rows` begins with the header, `label` is the file in errors.

    Columns may have any order. Sizes of images include padding unless a column gives it; padding is
    on both sides. A convolution of g groups counts as g convolutions of 1/g of the channels and
    filters. Without a column of groups, `DP` in its name marks a depthwise layer, as in SCALE-Sim:
    one convolution per channel, each with all filters. A batch of GEMMs counts as independent
    GEMMs, a batch of images shares the filters.
    """
    where = ConfigLocation(f"{label} line {rows[0].line}")
    columns = _columns(rows[0].filled, where)
    layer_of = _gemm_layer if "M" in columns else _conv_layer
    mistakes = Mistakes()
    layers = [
        mistakes.run(lambda row: layer_of(_row(row, columns, label)), row)
        for row in rows[1:]
        if row.filled
    ]
    mistakes.finish()
    return layers


def _columns(header: Sequence[str], where: ConfigLocation) -> list[str]:
    """Column of each cell of the header, checked for what is unknown, repeated or missing."""
    columns = [_COLUMNS.get(_plain(name), "") for name in header]
    if columns.count("IFMAP Width") == 2 and "IFMAP Height" not in columns:
        columns[columns.index("IFMAP Width")] = "IFMAP Height"  # so in 14 files of SCALE-Sim
    is_gemm = not set(columns) & set(CONV_SIZES)
    sizes, extras = (GEMM_SIZES, GEMM_EXTRAS) if is_gemm else (CONV_SIZES, CONV_EXTRAS)
    steps = () if is_gemm else tuple(STEPS)
    axes = [axis for both in steps for axis in _axes(both)]
    known = (NAME, *sizes, *steps, *axes, *extras)
    for number, (name, column) in enumerate(zip(header, columns, strict=True), 1):
        if not name:
            raise ConfigError(f"{where.file}: column {number} has no name")
        if column not in known:
            hint = did_you_mean(name, known)
            raise where.error("column", name, f"one of {listed(known)}{hint}")
        if columns.count(column) > 1:
            raise where.error("column", name, f"{column} once")
    needed = [NAME, *sizes]
    for both in steps:
        given = [axis for axis in _axes(both) if axis in columns]
        if given and both in columns:
            raise where.error("column", given[0], f"either {both} or one column per axis")
        needed += _axes(both) if given else [both] if both == STRIDES else []
    missing = [column for column in needed if column not in columns]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{where.file}: column {listed(missing)} {verb} missing, "
                          f"expected {listed(needed)} in any order")  # fmt: skip
    return columns


def _row(row: CsvRow, columns: Sequence[str], label: str) -> _Row:
    """Cells of a row by column. A cell without a column may say that the layer is dense (1:1), as
    in SCALE-Sim, or be a remark."""
    where = ConfigLocation(f"{label} line {row.line}")
    cells = dict(zip(columns, row.cells, strict=False))
    for cell in row.cells[len(columns) :]:
        if cell.replace(" ", "") not in ("", "1:1") and not cell.startswith("#"):
            raise ConfigError(
                f"{where.file}: {len(row.filled)} cells, expected {len(columns)} as in the header; "
                f"{show(cell)} has no column name"
            )
    if not cells.get(NAME):
        raise where.error(NAME, "", "a name")
    found = _Row(cells, where)
    found.check_density()
    return found


def _gemm_layer(row: _Row) -> ConvLayer:
    m, n, k = (row.number(size) for size in GEMM_SIZES)
    return ConvLayer(row.cells[NAME], gemm_as_conv(m, k, n), row.number("Batch Size", 1))


def _conv_layer(row: _Row) -> ConvLayer:
    sizes: dict[str, int] = {size: row.number(size) for size in CONV_SIZES}
    height, width, filter_height, filter_width, channels, num_filters = sizes.values()
    strides, dilations, pads = (row.per_axis(both) for both in STEPS)
    groups = _groups(row, channels, num_filters)
    is_depthwise = "Groups" not in row.cells and groups > 1
    shape = ConvShape(
        ifmap_height=height + 2 * pads[0],
        ifmap_width=width + 2 * pads[1],
        filter_height=filter_height,
        filter_width=filter_width,
        channels=channels // groups,
        num_filters=num_filters if is_depthwise else num_filters // groups,
        stride_height=strides[0],
        stride_width=strides[1],
        batch=row.number("Batch Size", 1),
        dilation_height=dilations[0],
        dilation_width=dilations[1],
    )
    for column, window, extent in (
        ("Filter Height", shape.window_height, shape.ifmap_height),
        ("Filter Width", shape.window_width, shape.ifmap_width),
    ):
        if window > extent:
            spans = f" with dilation {window}" if window != sizes[column] else ""
            raise row.where.error(
                column, sizes[column], f"at most the IFMAP's {extent}, padding included{spans}"
            )
    return ConvLayer(row.cells[NAME], shape, groups)


def _groups(row: _Row, channels: int, num_filters: int) -> int:
    """Number of groups: of its column, or the channels of a layer with SCALE-Sim's mark `DP`."""
    if "Groups" not in row.cells:
        return channels if "DP" in row.cells[NAME] else 1
    groups = row.number("Groups", 1)
    if channels % groups or num_filters % groups:
        raise row.where.error(
            "Groups", groups, f"a divisor of {channels} channels and of {num_filters} filters"
        )
    return groups
