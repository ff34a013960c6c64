"""Rows of CSV files: remarks, quotes, cell lengths and trailing commas, with one-line errors."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwdse.config.files.errors import ConfigError
from hwdse.config.files.toml_files import read_bytes

MAX_LIST_BYTES = 32_000_000
"""Largest CSV file with one row per design or measurement."""


@dataclass(frozen=True)
class CsvRow:
    """One line of a CSV file."""

    line: int
    """Line number in the file, from 1."""
    cells: tuple[str, ...]
    """Cells without the white space around them; a trailing comma adds an empty one."""

    @property
    def filled(self) -> tuple[str, ...]:
        """Cells up to the last one that is not empty."""
        number = len(self.cells)
        while number and not self.cells[number - 1]:
            number -= 1
        return self.cells[:number]


def read_text(path: Path, label: str, max_bytes: int = MAX_LIST_BYTES) -> str:
    """Read a UTF-8 file of limited size. Raises `ConfigError` with one line that names `label`."""
    return decoded(read_bytes(path, label, max_bytes), label)


def decoded(data: bytes, label: str) -> str:
    """Text of UTF-8 bytes. Raises `ConfigError` with one line that names `label`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{label}: expected UTF-8 text") from None


def csv_rows(text: str, label: str) -> list[CsvRow]:
    """Rows of a CSV text without blank lines and remarks, which begin with #.

    One line is one row: a quote ends on its line. Cells are separated by commas, or by tabs if the
    first row has tabs and no comma. Raises `ConfigError` with the line of the first mistake.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    kept = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    has_tabs = bool(kept) and "\t" in kept[0][1] and "," not in kept[0][1]
    delimiter = "\t" if has_tabs else ","
    return [CsvRow(number, _cells(line, delimiter, f"{label} line {number}"))
            for number, line in kept]  # fmt: skip


def _cells(line: str, delimiter: str, place: str) -> tuple[str, ...]:
    reader = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return tuple(cell.strip() for cell in next(reader))
    except csv.Error as error:
        if "field larger" in str(error):
            limit = f"cells of at most {csv.field_size_limit():,} characters"
            raise ConfigError(f"{place}: expected {limit}") from None
        raise ConfigError(
            f"{place}: expected cells separated by commas, with quotes closed on the line"
        ) from None


def remarks(text: str) -> list[str]:
    """Remarks of a CSV text, without the # at their beginning."""
    stripped = (line.strip() for line in text.splitlines())
    return [line.lstrip("# ") for line in stripped if line.startswith("#")]


def cells_below(header: Sequence[str], row: CsvRow, label: str) -> tuple[str, ...]:
    """Cells of a row, one per column of the header; empty cells after the last column are left
    out. Raises `ConfigError` for any other number of cells."""
    if len(row.filled) > len(header) or len(row.cells) < len(header):
        raise ConfigError(
            f"{label} line {row.line}: {len(row.cells)} cells, "
            f"expected {len(header)} as in the header"
        )
    return row.cells[: len(header)]
