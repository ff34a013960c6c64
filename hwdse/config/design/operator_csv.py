"""Operators of a network from CSV files: convolutions and GEMMs with their counts.

The columns are `name`, the dimensions of `workload.loops.operators.DIMS` and `count`. The
columns `stride_p`, `stride_q`, `dilation_r` and `dilation_s` are optional and default to 1.
SCALE-Sim topologies are read as well (`topology_csv`). Lines that start with # are remarks; the
first is the title.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdse.config.design.topology_csv import (
    CONV_SIZES,
    GEMM_SIZES,
    MAX_SIZE,
    NAME,
    STRIDES,
    is_topology,
    topology_layers,
)
from hwdse.config.files.csv_rows import CsvRow, cells_below, csv_rows, decoded, remarks
from hwdse.config.files.errors import ConfigError, Mistakes, did_you_mean, listed, one_line, show
from hwdse.config.files.toml_files import TomlFile, read_bytes
from hwdse.config.hardware.load_specs import NamedIn, Preset, locate
from hwdse.workload.loops.conv_shapes import conv_operators
from hwdse.workload.loops.operators import DIMS, Operators

STEPS = ("stride_p", "stride_q", "dilation_r", "dilation_s")
REQUIRED = ("name", *DIMS, "count")


@dataclass(frozen=True)
class OperatorsFile(Preset):
    """Operators of a network with the metadata of their file."""

    operators: Operators


def load_operators_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> OperatorsFile:
    """Load operators from a preset (`bert_base`), a CSV of operators or a SCALE-Sim topology."""
    path = locate("operators", name_or_path, named_in)
    label = str(name_or_path) if Path(name_or_path).suffix else str(path)
    data = read_bytes(path, label)
    text = decoded(data, label)
    operators = parse_operators(text, label)
    lines = remarks(text)
    published = {
        "num_operators": float(len(operators.names)),
        "num_macs": float(np.sum(operators.num_macs * operators.count)),
    }
    file = TomlFile(path, label, {}, hashlib.sha256(data).hexdigest())
    title = lines[0] if lines else path.stem
    return OperatorsFile(title, published, tuple(lines[1:]), (file,), operators)


def load_operators(name_or_path: str | Path) -> Operators:
    """Load the operators of a preset or a CSV file."""
    return load_operators_file(name_or_path).operators


def parse_operators(text: str, label: str) -> Operators:
    """Operators of a CSV text, a topology or one with the loop dimensions, named `label` in
    one-line errors."""
    rows = csv_rows(text, label)
    if not rows or not rows[0].filled:
        raise ConfigError(f"{label}: no header, expected the columns {', '.join(REQUIRED)}")
    header = rows[0].filled
    if len(set(header) & set(DIMS)) < 3 and is_topology(header):
        layers = topology_layers(rows, label)
        _check_any(layers, label)
        return conv_operators(layers)
    _check_header(header, f"{label} line {rows[0].line}")
    mistakes = Mistakes()
    parsed = [mistakes.run(_parse_row, header, row, label) for row in rows[1:] if row.filled]
    mistakes.finish()
    _check_any(parsed, label)
    return _operators(parsed)


def _check_any(layers: Sequence[object], label: str) -> None:
    if not layers:
        raise ConfigError(f"{label}: no operators, expected at least one row below the header")


def _check_header(header: Sequence[str], place: str) -> None:
    known = (*REQUIRED, *STEPS)
    if not set(header) & set(known):
        found = show(", ".join(header))
        raise ConfigError(f"{place}: header {found}, expected {listed(REQUIRED)}, or the columns "
                          f"of a SCALE-Sim topology: {NAME}, then {listed(GEMM_SIZES)} or "
                          f"{listed((*CONV_SIZES, STRIDES))}")  # fmt: skip
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


def _parse_row(header: Sequence[str], cells: CsvRow, label: str) -> dict[str, str | float]:
    place = f"{label} line {cells.line}"
    row: dict[str, str | float] = dict.fromkeys(STEPS, 1.0)
    for name, cell in zip(header, cells_below(header, cells, label), strict=True):
        row[name] = cell if name == "name" else _whole_number(cell, f"{place} {name}")
    if not row["name"]:
        raise ConfigError(f'{place}: name = "": expected a name')
    return row


def _whole_number(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = 0.0
    if not (1.0 <= value <= MAX_SIZE and value.is_integer()):
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
