"""Operators of a network from CSV files: convolutions and GEMMs with their counts.

The columns are `name`, the dimensions of `workload.loops.operators.DIMS` and `count`. The
columns `stride_p`, `stride_q`, `dilation_r` and `dilation_s` are optional and default to 1.
SCALE-Sim topologies are read as well. Lines that start with # are remarks; the first is the
title.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdse.config.files.errors import ConfigError, did_you_mean, listed, one_line, show
from hwdse.config.files.toml_files import TomlFile, read_bytes
from hwdse.config.hardware.load_specs import NamedIn, Preset, locate
from hwdse.workload.loops.operators import DIMS, Operators
from hwdse.workload.loops.scalesim_topology import ConvShape, parse_layers

STEPS = ("stride_p", "stride_q", "dilation_r", "dilation_s")
REQUIRED = ("name", *DIMS, "count")
LARGEST = 2.0**40
"""Upper bound of extents and counts, so that their products are exact in float64."""


@dataclass(frozen=True)
class OperatorsFile(Preset):
    """Operators of a network with the metadata of their file."""

    operators: Operators


def load_operators_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> OperatorsFile:
    """Load operators from a preset (`bert_base`), a CSV of operators or a SCALE-Sim topology."""
    path = locate("operators", name_or_path, named_in)
    label = str(name_or_path) if Path(name_or_path).suffix else str(path)
    data = read_bytes(path, label)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{label}: expected UTF-8 text") from None
    operators = parse_operators(text, label)
    remarks = [line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#")]
    published = {
        "num_operators": float(len(operators.names)),
        "num_macs": float(np.sum(operators.num_macs * operators.count)),
    }
    file = TomlFile(path, label, {}, hashlib.sha256(data).hexdigest())
    title = remarks[0] if remarks else path.stem
    return OperatorsFile(title, published, tuple(remarks[1:]), (file,), operators)


def load_operators(name_or_path: str | Path) -> Operators:
    """Load the operators of a preset or a CSV file."""
    return load_operators_file(name_or_path).operators


def parse_operators(text: str, label: str) -> Operators:
    """Operators of a CSV text, named `label` in one-line errors."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(i, line) for i, line in lines if not line.lstrip().startswith("#")]
    rows = [(i, [cell.strip() for cell in row]) for (i, _), row in zip(
        lines, csv.reader(line for _, line in lines), strict=True)]  # fmt: skip
    if not rows:
        raise ConfigError(f"{label}: no header, expected the columns {', '.join(REQUIRED)}")
    number, header = rows[0]
    while header and not header[-1]:  # a trailing comma
        header = header[:-1]
    if len(set(header) & set(DIMS)) < 3:  # M, N and K of a GEMM topology contain two
        return _from_topology(text, label)
    _check_header(header, f"{label} line {number}")
    parsed = [_parse_row(cells, header, f"{label} line {i}") for i, cells in rows[1:]]
    if not parsed:
        raise ConfigError(f"{label}: no operators, expected at least one row below the header")
    return _operators(parsed)


def _check_header(header: list[str], place: str) -> None:
    known = (*REQUIRED, *STEPS)
    for name in header:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"{place}: column {show(name)}, expected one of {listed(known)}{hint}"
            )
        if header.count(name) > 1:
            raise ConfigError(f"{place}: column {show(name)}, expected it once")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise ConfigError(f"{place}: column {missing[0]} is missing, expected {listed(REQUIRED)}")


def _parse_row(cells: list[str], header: list[str], place: str) -> dict[str, str | float]:
    while len(cells) > len(header) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(header):
        raise ConfigError(f"{place}: {len(cells)} cells, expected {len(header)} as in the header")
    row: dict[str, str | float] = dict.fromkeys(STEPS, 1.0)
    for name, cell in zip(header, cells, strict=True):
        row[name] = cell if name == "name" else _whole_number(cell, f"{place} {name}")
    if not row["name"]:
        raise ConfigError(f'{place}: name = "": expected a name')
    return row


def _whole_number(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = 0.0
    if not (1.0 <= value <= LARGEST and value.is_integer()):
        raise ConfigError(
            one_line(f"{place} = {show(cell)}: expected a whole number of at least 1")
        )
    return value


def _operators(rows: list[dict[str, str | float]]) -> Operators:
    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], np.float64)

    sizes = {letter.lower(): column(letter) for letter in DIMS}
    steps = {name: column(name) for name in STEPS}
    names = tuple(str(row["name"]) for row in rows)
    return Operators(**sizes, **steps, count=column("count"), names=names)


def _from_topology(text: str, label: str) -> Operators:
    try:
        layers = parse_layers(text, label)
    except ValueError as error:
        raise ConfigError(one_line(str(error))) from None
    return _operators([_topology_row(*layer) for layer in layers])


def _topology_row(name: str, shape: ConvShape, count: int) -> dict[str, str | float]:
    """Row of a topology layer; a window over a whole line is a GEMM."""
    height, width = shape.output_size()
    is_gemm = shape.filter_height == 1 and shape.filter_width == shape.ifmap_width
    folded = shape.filter_width if is_gemm else 1
    return {
        "name": name,
        "R": float(shape.filter_height),
        "S": float(shape.filter_width // folded),
        "P": float(height),
        "Q": float(width),
        "C": float(shape.channels * folded),
        "K": float(shape.num_filters),
        "N": 1.0,
        "stride_p": float(shape.stride_height),
        "stride_q": 1.0 if is_gemm else float(shape.stride_width),
        "dilation_r": 1.0,
        "dilation_s": 1.0,
        "count": float(count),
    }
