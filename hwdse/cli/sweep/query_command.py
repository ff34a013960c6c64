"""`hwdse query`: SQL over the designs that a run keeps."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import MAX_TURNED, note, print_json, print_rows

if TYPE_CHECKING:
    from hwdse.runs.run_folder import Run

NAME = "query"
EXAMPLE = "select * where is_front limit 5"
PIECES = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|[\w.]+|\s+|.""", re.DOTALL)
"""Pieces of a query: texts, quoted names, comments, words with their dots, the rest."""
AFTER_FROM = ("where", "group", "having", "window", "qualify", "order", "limit", "offset", "using")
"""Words, one of which follows the tables of a query."""


def run(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="Without FROM it asks `points`; without SQL it shows some of the front.",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Ask the designs of a run in SQL (DuckDB), straight from its Parquet files.

    Tables: `points`, all designs that were kept; `front`, and `top` where there is one. Columns
    are figures in base units (step_time_s, die_area_mm2), flags (is_feasible), and parameters by
    path (chip.array.rows) or, where it is the only one of that name, last word (rows):
    "describe points" lists them.

    \b
    Examples:
      hwdse query runs/sweep "select rows, cols, step_time_s where die_area_mm2 < 600 order by step_time_s limit 10"
      hwdse query runs/sweep "select parallelism, count(*) from front group by parallelism" --json
    """  # noqa: E501
    from hwdse.runs.run_folder import open_run

    names, rows = ask(open_run(folder), query)
    if json:
        print_json({"columns": names, "rows": [list(row) for row in rows]})
    elif csv:
        import csv as csv_module

        writer = csv_module.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *rows])
    else:
        print_rows(names, [[_cell(value) for value in row] for row in rows])
        note(f"{len(rows):,} rows" + ("" if query else '; all columns: "describe points"'))


def ask(record: "Run", query: str | None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns and rows of the answer to a query over a run; of none, some designs of
    the front with their objectives and parameters.

    Raises `CommandError`, one line, without DuckDB, for a run without points and for a mistake
    in the query.
    """
    try:
        import duckdb
    except ImportError:
        raise CommandError("query needs DuckDB: pip install 'hwdse[query]'") from None
    parts = [str(record.part_path(index)) for index in sorted(record.finished_parts())]
    if not parts:
        raise CommandError(f"{record.folder}: no designs in it yet")
    connection = duckdb.connect()
    try:
        columns = _make_view(connection, "points", parts)
        for name in ("front", "top"):
            path = record.folder / f"{name}.parquet"
            if path.exists():
                _make_view(connection, name, [str(path)])
        if query is None:
            has_front = (record.folder / "front.parquet").exists()
            query = default_query(columns, "front" if has_front else "points where is_front")
        answer = connection.execute(with_tables(query, columns))
        if answer is None or answer.description is None:
            raise CommandError(f'"{query}": expected a query such as "{EXAMPLE}"')
        return [column[0] for column in answer.description], answer.fetchall()
    except duckdb.Error as error:
        lines = str(error).splitlines()
        raise CommandError(f'"{query}": {lines[0] if lines else error}') from error
    finally:
        connection.close()


def _make_view(connection: Any, name: str, files: list[str]) -> dict[str, str]:
    """A view over Parquet files; its columns by the names that the files have."""
    listed = ", ".join(_quoted(file, "'") for file in files)
    source = f"read_parquet([{listed}])"
    found = [row[0] for row in connection.execute(f"describe from {source}").fetchall()]
    columns = column_names(found)
    chosen = ", ".join(f"{_quoted(old)} as {_quoted(new)}" for old, new in columns.items())
    connection.execute(f"create view {name} as select {chosen} from {source}")
    return columns


def column_names(paths: list[str]) -> dict[str, str]:
    """What the columns of the files are called: the last word of a path that no other ends in."""
    last = {path: path.rpartition(".")[2] for path in paths}
    words = list(last.values())
    logs = ("log.", "violation.")
    return {
        path: path if path.startswith(logs) or words.count(word) > 1 else word
        for path, word in last.items()
    }


def default_query(columns: dict[str, str], table: str) -> str:
    """Designs evenly over the front, by their first objective."""
    from hwdse.runs.partial_front import NOT_SHOWN
    from hwdse.runs.sweep_job import OBJECTIVE_COLUMNS, ROBUST

    objectives = [path.removeprefix("log.") for path in columns if path.startswith("log.")]
    shown = [OBJECTIVE_COLUMNS[name] for name in objectives]
    shown = [ROBUST + name if ROBUST + name in columns else name for name in shown]
    other = ("log.", "violation.")
    shown += [path for path in columns if path not in NOT_SHOWN and not path.startswith(other)]
    names = ", ".join(_quoted(columns[path]) for path in shown)
    order = _quoted(columns[shown[0]])
    return (
        f"select {names} from (select *, ntile({MAX_TURNED}) over (order by {order}) as part "
        f"from {table}) qualify row_number() over (partition by part order by "
        f"{order}) = 1 order by {order}"
    )


def with_tables(query: str, columns: dict[str, str]) -> str:
    """The query with `from points` where it names no table, and paths as names of columns."""
    pieces = [p for p in PIECES.findall(query.strip().rstrip(";")) if not p.startswith("--")]
    depth, has_from, place = 0, False, None
    for number, piece in enumerate(pieces):
        depth += (piece == "(") - (piece == ")")
        if depth == 0 and piece.lower() == "from":
            has_from = True
        if depth == 0 and place is None and piece.lower() in AFTER_FROM:
            place = number
    if not has_from and pieces and pieces[0].lower() == "select":
        pieces.insert(len(pieces) if place is None else place, " from points ")
    return "".join(_quoted(columns[p]) if "." in p and p in columns else p for p in pieces)


def _quoted(name: str, mark: str = '"') -> str:
    return mark + name.replace(mark, 2 * mark) + mark


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
