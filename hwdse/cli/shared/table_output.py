"""Tables, JSON and progress bars on stdout and stderr.

Cells are printed literally, never interpreted as markup.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdse.report.number_texts import human_count

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_FILES = 132
"""Columns of output that is not a terminal, unless the environment variable COLUMNS is set."""
MAX_TRANSPOSED = 6
"""Largest number of rows that are printed as columns if they are too wide."""
NARROW_CELL = 16
"""Characters of the longest cell that is never wrapped."""
MIN_TEXT = 12
"""Smallest width of a wrapped column of text."""


def safe_text(value: object) -> str:
    """One printable line: control characters and line ends are escaped."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1
) -> None:
    """Print a table on stdout; the first `left` columns are aligned left, the others right.

    On a narrow terminal, headers wrap first. If that is not enough, long cells wrap, except those
    of the first column. Without column names there is no header line.
    """
    from rich.table import Table
    from rich.text import Text

    out = _console(sys.stdout)
    cells = [[safe_text(cell) for cell in row] for row in rows]
    widths: list[int | None] = [None] * len(columns)
    if all(len(cell) <= NARROW_CELL for row in cells for cell in row[left:]):
        widths = _column_widths(columns, cells, left, out.width)
    table = Table(box=None, show_header=any(columns))
    table.pad_edge = False
    for index, (name, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(
            Text(name),
            justify="left" if index < left else "right",
            header_style="dim",
            width=width,
            no_wrap=index < left and width is None,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*map(Text, row))
    if title:
        out.print(Text(title, style="bold"))
    out.print(table)
    out.print()


def _column_widths(
    columns: Sequence[str], cells: Sequence[Sequence[str]], left: int, available: int
) -> list[int | None]:
    """Widths of columns such that headers wrap before the cells of text columns do."""
    longest = [max((len(row[i]) for row in cells), default=0) for i in range(len(columns))]
    natural = [max(length, len(name)) for length, name in zip(longest, columns, strict=True)]
    words = [max(map(len, name.split()), default=0) for name in columns]
    widths = [max(pair) for pair in zip(longest, words, strict=True)]
    spare = available - sum(widths) - 2 * len(columns)  # padding of one on both sides
    for index in sorted(range(len(columns)), key=lambda i: (i >= left, natural[i] - widths[i])):
        added = natural[index] - widths[index]
        if 0 < added <= spare:
            widths[index] += added
            spare -= added
    for index in range(1, left):
        widths[index] = max(widths[index] + min(spare, 0), min(widths[index], MIN_TEXT))
    return list(widths)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of values; a few rows that are too wide are printed as columns."""
    widths = [max(map(len, map(str, cells))) for cells in zip(columns, *rows, strict=True)]
    if len(rows) > MAX_TRANSPOSED or sum(widths) + 2 * len(widths) <= _console(sys.stdout).width:
        print_table("", columns, rows, left=0)
    else:
        transposed = list(zip(columns, *rows, strict=True))
        print_table("", ["", *(f"{index + 1}" for index in range(len(rows)))], transposed)


def say(text: str) -> None:
    """Print a line on stdout."""
    sys.stdout.write(safe_text(text) + "\n")


def note(text: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(safe_text(text) + "\n")


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")


def tell_files(paths: Sequence[Path]) -> None:
    """Print the paths of written files on stderr."""
    for path in paths:
        note(f"wrote {path}")


@contextmanager
def progress_bar(
    title: str, total: int | float, unit: str
) -> Iterator[Callable[[int | float, str], None]]:
    """Progress bar on stderr with rate and remaining time.

    The block receives a function of the completed amount and a text beside the bar. Without a
    terminal only the final state is printed.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[extra]}"),
    )
    with Progress(*columns, console=_console(sys.stderr), refresh_per_second=4) as progress:
        task = progress.add_task(title, total=total, extra="", rate="")

        def update(done: int | float, extra: str) -> None:
            state = progress.tasks[0]
            # Chunks may end together: at the end, the mean over the time of the bar.
            speed = done / state.elapsed if done >= total and state.elapsed else state.speed
            rate = f"{human_count(speed)} {unit}/s" if speed else ""
            progress.update(task, completed=done, extra=extra, rate=rate)

        yield update


def _console(stream: Any) -> "Console":
    from rich.console import Console

    is_terminal = stream.isatty()
    console = Console(
        file=stream, markup=False, highlight=False, emoji=False,
        width=None if is_terminal or "COLUMNS" in os.environ else WIDTH_OF_FILES,
    )  # fmt: skip
    console.on_broken_pipe = _raise_broken_pipe  # rich would exit with code 1
    return console


def _raise_broken_pipe() -> None:
    raise BrokenPipeError


def jsonable(value: Any) -> Any:
    """Value with JSON types only; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
