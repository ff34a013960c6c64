"""`hwdse query`: SQL on the designs of a run folder."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import note, print_json, print_rows

if TYPE_CHECKING:
    from hwdse.runs.run_folder import Run

NAME = "query"
SHOWN_DESIGNS = 4
"""Designs of the front that the default query returns."""
EXAMPLE = "select * where is_front limit 5"
PIECES = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|[\w.]+|\s+|.""", re.DOTALL)
"""Tokens of a query: strings, quoted names, comments, words with dots, spaces, other characters."""
AFTER_FROM = ("where", "group", "having", "window", "qualify", "order", "limit", "offset", "using")
"""Keywords that follow the tables of a query."""


def run(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="Query; without FROM it reads `points`.  [default: some designs of the front]",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Query the designs of a run in SQL (DuckDB).

    Tables: `points` (all designs kept), `front`, and `top` after --keep top. Columns: metrics in
    base units (step_time_s, die_area_mm2), flags (is_feasible), and parameters by path
    with unit (chip.hbm.bandwidth_bytes_per_s) or by last word if it is unique (rows).
    "describe points" lists them.

    \b
    Examples:
      hwdse query runs/sweep "select rows, cols, step_time_s where is_feasible and die_area_mm2 < 600 order by step_time_s limit 10"
      hwdse query runs/sweep "select parallelism, count(*) from front group by parallelism" --json
    """  # noqa: E501
    from hwdse.runs.run_folder import open_run

    record = open_run(folder)
    names, rows = ask(record, query)
    _tell_incomplete(record)
    if json:
        print_json({"columns": names, "rows": [list(row) for row in rows]})
    elif csv:
        import csv as csv_module

        writer = csv_module.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *rows])
    else:
        print_rows(names, [[_cell(value) for value in row] for row in rows])
        noun = "row" if len(rows) == 1 else "rows"
        note(f"{len(rows):,} {noun}" + ("" if query else '; all columns: "describe points"'))


def _tell_incomplete(record: "Run") -> None:
    """Tell that a run has not ended, or has lost designs."""
    from hwdse.runs.partial_front import missing_designs, progress_text

    if text := progress_text(record):
        note(f"{record.folder}: partial run ({text})")
    elif lost := missing_designs(record):
        note(f"{record.folder}: {lost:,} designs are missing, their parts are damaged or gone; "
             "sweep --resume repeats them")  # fmt: skip


def ask(record: "Run", query: str | None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of the result; without a query, some designs of the front.

    Raises `CommandError`, one line, without DuckDB, for a run without designs and for an error in
    the query.
    """
    try:
        import duckdb
    except ImportError:
        raise CommandError("query needs DuckDB: pip install 'hwdse[query]'") from None
    parts = [str(record.part_path(index)) for index in sorted(record.finished_parts())]
    if not parts:
        raise CommandError(f"{record.folder}: contains no designs yet")
    connection = duckdb.connect()
    try:
        columns = _make_view(connection, "points", parts)
        for name in ("front", "top"):
            path = record.folder / f"{name}.parquet"
            if path.exists():
                _make_view(connection, name, [str(path)])
        if query is None:
            if record.config.get("options", {}).get("command") == "compare-search":
                raise CommandError(
                    f"{record.folder}: run of compare-search; expected a query, or a run of sweep "
                    "or optimize --front"
                )
            has_front = (record.folder / "front.parquet").exists()
            query = default_query(columns, "front" if has_front else "points where is_front")
        result = connection.execute(with_tables(query, columns))
        if result is None or result.description is None:
            raise CommandError(f'"{query}": expected a query such as "{EXAMPLE}"')
        return [column[0] for column in result.description], result.fetchall()
    except duckdb.Error as error:
        lines = str(error).splitlines()
        raise CommandError(f'"{query}": {lines[0] if lines else error}') from error
    finally:
        connection.close()


def _make_view(connection: Any, name: str, files: list[str]) -> dict[str, str]:
    """Create a view of Parquet files; returns its column names by the names in the files."""
    listed = ", ".join(_quoted(_literal(file), "'") for file in files)
    source = f"read_parquet([{listed}])"
    found = [row[0] for row in connection.execute(f"describe from {source}").fetchall()]
    columns = column_names(found)
    chosen = ", ".join(f"{_quoted(old)} as {_quoted(new)}" for old, new in columns.items())
    connection.execute(f"create view {name} as select {chosen} from {source}")
    return columns


def _literal(file: str) -> str:
    """Pattern of DuckDB that matches this file only."""
    return re.sub(r"([*?\[])", r"[\1]", file)


def column_names(paths: list[str]) -> dict[str, str]:
    """Names in SQL of the columns of the files: the last word of a path if it is unique."""
    from hwdse.runs.run_folder import CONSTRAINT, LOG

    last = {path: path.rpartition(".")[2] for path in paths}
    words = list(last.values())
    return {
        path: path if path.startswith((LOG, CONSTRAINT)) or words.count(word) > 1 else word
        for path, word in last.items()
    }


def default_query(columns: dict[str, str], table: str) -> str:
    """Query for designs at equal intervals of the front, sorted by the first objective."""
    from hwdse.config.search.metric_names import objective_columns
    from hwdse.runs.partial_front import NOT_PARAMETERS
    from hwdse.runs.run_folder import CONSTRAINT, LOG

    objectives = [path.removeprefix(LOG) for path in columns if path.startswith(LOG)]
    robust = objective_columns(objectives, is_robust=True)
    is_robust = all(name in columns for name in robust)
    shown = list(robust if is_robust else objective_columns(objectives, is_robust=False))
    other = (LOG, CONSTRAINT)
    shown += [path for path in columns if path not in NOT_PARAMETERS and not path.startswith(other)]
    names = ", ".join(_quoted(columns[path]) for path in shown)
    order = _quoted(columns[shown[0]])
    return (
        f"select {names} from (select *, ntile({SHOWN_DESIGNS}) over (order by {order}) as part "
        f"from {table}) qualify row_number() over (partition by part order by "
        f"{order}) = 1 order by {order}"
    )


def with_tables(query: str, columns: dict[str, str]) -> str:
    """Query with `from points` added if it names no table, and with paths as column names."""
    pieces = [p for p in PIECES.findall(query.strip().rstrip(";")) if not p.startswith("--")]
    depth, has_from, end = 0, False, None
    for index, piece in enumerate(pieces):
        depth += (piece == "(") - (piece == ")")
        if depth == 0 and piece.lower() == "from":
            has_from = True
        if depth == 0 and end is None and piece.lower() in AFTER_FROM:
            end = index
    if not has_from and pieces and pieces[0].lower() == "select":
        pieces.insert(len(pieces) if end is None else end, " from points ")
    return "".join(_quoted(columns[p]) if "." in p and p in columns else p for p in pieces)


def _quoted(name: str, mark: str = '"') -> str:
    return mark + name.replace(mark, 2 * mark) + mark


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
