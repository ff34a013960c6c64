"""Atomic writing of files, Parquet and CSV; CSV cells are safe from spreadsheet formulas."""

import contextlib
import csv
import io
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_TEMPORARY_PATTERN = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.tmp")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` if the block succeeds, else is removed."""
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:  # a full disk, say: the message names the file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(
    path: Path, columns: Mapping[str, np.ndarray], metadata: Mapping[bytes, bytes]
) -> None:
    """Write columns of equal length as a Parquet file, atomically."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(columns)).replace_schema_metadata(dict(metadata))
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def parquet_columns(table: Any) -> dict[str, np.ndarray]:
    """Columns of a pyarrow table."""
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def is_temporary(path: Path) -> bool:
    """True if `path` has the name of a temporary file of `replacing`."""
    return _TEMPORARY_PATTERN.fullmatch(path.name) is not None


def clear_temporaries(folder: Path) -> None:
    """Remove temporary files of processes of this machine that have ended."""
    for path in folder.rglob(".*.tmp"):
        match = _TEMPORARY_PATTERN.fullmatch(path.name)
        if match and match["host"] == _host() and not is_process_alive(int(match["process"])):
            path.unlink(missing_ok=True)


def csv_text(columns: Mapping[str, np.ndarray]) -> str:
    """Columns as CSV text; floats keep all digits, so that reading returns the same values.

    A text cell that starts like a formula (= + - @) gets a leading ', which spreadsheets hide.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_text_cell(name) for name in columns])
    cells = [_column_cells(np.asarray(values)) for values in columns.values()]
    writer.writerows(zip(*cells, strict=True))
    return buffer.getvalue()


def read_csv_columns(text: str) -> dict[str, np.ndarray]:
    """Columns of a text written by `csv_text`; a column of numbers becomes a float array.

    Raises `ValueError` with the line number if a line has more or fewer cells than the header.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        return {}
    names = [_unquoted(name) for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise ValueError(f"line {number}: expected {len(names)} cells, found {len(row)}")
    return {
        name: _parsed_column([row[index] for row in rows[1:]]) for index, name in enumerate(names)
    }


def _column_cells(values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return [repr(float(value)) for value in values]
    if values.dtype.kind in "iub":
        return [str(int(value)) for value in values]
    return [_text_cell(str(value)) for value in values]


def _text_cell(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _unquoted(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA_STARTS) else text


def _parsed_column(cells: list[str]) -> np.ndarray:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return np.array([_unquoted(cell) for cell in cells], dtype=object)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, on POSIX systems only."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def is_process_alive(process: int) -> bool:
    """True if a process of this machine may still run; always True on systems without POSIX
    signals."""
    if os.name != "posix" or process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
