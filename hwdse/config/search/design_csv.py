"""Lists of designs from CSV files; the columns are parameters of a search file."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.config.files.csv_rows import cells_below, csv_rows, read_text
from hwdse.config.files.errors import ConfigError, ConfigLocation, did_you_mean, listed
from hwdse.config.schema.field_rules import in_unit_of_key, rule_of
from hwdse.config.schema.user_paths import field_name, format_value, short_path
from hwdse.config.search.metric_names import objective_columns
from hwdse.config.search.valid_combinations import checker_of
from hwdse.search.space.pytree_path import get_path
from hwdse.search.space.search_space import Choice, Dimension, Variant

if TYPE_CHECKING:
    from hwdse.config.search.search_file import LoadedSearch

SAME = 1e-9
"""Relative tolerance of equal values."""

Cells = Mapping[str, str]
"""Cells of a row by the column's path."""


def load_design_list(path: Path, loaded: "LoadedSearch") -> tuple[np.ndarray, np.ndarray]:
    """Load points of the unit cube and their variant indices from a CSV file.

    Columns are paths of the search file, with or without the unit of their last word, and names
    of choices. Cells have units unless the column names its unit. Parameters without a column have
    the base value. Columns of a front.csv that are no parameters are ignored. Raises `ConfigError`
    with one line, also for values outside a range or between its steps.
    """
    table = _read_table(Path(path), loaded)
    readers = [_dimension_reader(dimension, loaded, table) for dimension in loaded.space.dimensions]
    readers += [_choice_reader(choice, loaded, table) for choice in loaded.space.choices]
    pick_variant = _variant_reader(loaded)
    units = np.empty((len(table.rows), len(readers)))
    variants = np.empty(len(table.rows), int)
    for index, (where, cells) in enumerate(table.rows):
        units[index] = [reader(cells, where) for reader in readers]
        variants[index] = pick_variant(cells, where)
    return units, variants


def with_listed_values(path: Path, loaded: "LoadedSearch") -> "LoadedSearch":
    """The search with the values of a list as they are, also between the steps of its ranges.

    A range with such values becomes a choice of the values of the list. Raises `ConfigError` with
    one line for values outside a range and for designs that `hwdse evaluate` refuses.
    """
    table = _read_table(Path(path), loaded)
    kept, choices = [], []
    for dimension in loaded.space.dimensions:
        read = _value_reader(dimension, loaded, table)
        values = [read(cells, where) for where, cells in table.rows]
        if all(_is_on_grid(dimension, value) for value in values):
            kept.append(dimension)
            continue
        distinct = sorted(set(values))
        labels = tuple(repr(value) for value in distinct)
        rows = tuple((value,) for value in distinct)
        choices.append(Choice(dimension.path, (dimension.path,), rows, labels))
    space = dataclasses.replace(
        loaded.space, dimensions=tuple(kept), choices=(*loaded.space.choices, *choices)
    )
    found = dataclasses.replace(loaded, space=space)
    if choices:
        _check_designs(found, table, load_design_list(path, found)[0])
    return found


def _check_designs(loaded: "LoadedSearch", table: "_Table", units: np.ndarray) -> None:
    """Raise `ConfigError` for the first row that is no possible design."""
    checker = checker_of(loaded)
    for (where, _), unit in zip(table.rows, units, strict=True):
        values = loaded.space.describe(unit, loaded.base)
        numbers = {path: value for path, value in values.items() if not isinstance(value, str)}
        if (problem := checker.problem(numbers)) is not None:
            raise ConfigError(f"{where.file}: expected a possible design; {problem}")


@dataclasses.dataclass(frozen=True)
class _Table:
    """Rows of a list of designs."""

    written: Mapping[str, str]
    """Column names of the file by path."""
    rows: list[tuple[ConfigLocation, Cells]]


def _read_table(path: Path, loaded: "LoadedSearch") -> _Table:
    rows = csv_rows(read_text(path, str(path)), str(path))
    if len(rows) < 2:
        raise ConfigError(f"{path}: expected a line of column names and one line per design")
    header = rows[0].filled
    names = _column_paths(header, loaded, str(path))
    found = []
    for row in rows[1:]:
        named = zip(names, cells_below(header, row, str(path)), strict=True)
        cells = {name: cell for name, cell in named if name}
        found.append((ConfigLocation(f"{path} line {row.line}"), cells))
    written = {name: key for name, key in zip(names, header, strict=True) if name}
    return _Table(written, found)


def _column_paths(header: Sequence[str], loaded: "LoadedSearch", file: str) -> list[str | None]:
    """Path or choice name of each column; None for metrics of a front."""
    space = loaded.space
    paths = [part.path for part in (*space.dimensions, *space.variants)]
    paths += [path for choice in space.choices for path in choice.paths]
    known = {short_path(path): path for path in paths} | {path: path for path in paths}
    known |= {choice.name: choice.name for choice in space.choices}
    metrics = {f"{name}_limit_ratio" for name in loaded.limits} | {"run"}
    for is_robust in (False, True):
        metrics |= set(objective_columns(loaded.front_objectives, is_robust=is_robust))
    found: list[str | None] = []
    for name in header:
        if name not in known and name not in metrics:
            hint = did_you_mean(name, known) or f": {listed(short_path(p) for p in paths)}"
            raise ConfigLocation(file).error(
                "column", name, f"a path that the search file searches{hint}"
            )
        found.append(known.get(name))
    given = [name for name in found if name]
    for name in given:
        if given.count(name) > 1:
            raise ConfigLocation(file).error("column", name, "each path once")
    return found


Reader = Callable[[Cells, ConfigLocation], Any]


def _number(path: str, cell: str, table: _Table, where: ConfigLocation) -> float:
    try:
        value: Any = float(cell)
    except ValueError:
        value = cell
    written = table.written[path]
    try:
        return rule_of(field_name(path)).check(in_unit_of_key(field_name(written), value))
    except ValueError as error:
        raise where.error(written, value, str(error)) from None


def _value_reader(dimension: Dimension, loaded: "LoadedSearch", table: _Table) -> Reader:
    """Reader of the value of a range, inside the range."""
    base = float(get_path(loaded.base, dimension.path))

    def read(cells: Cells, where: ConfigLocation) -> float:
        cell = cells.get(dimension.path)
        value = base if cell is None else _number(dimension.path, cell, table, where)
        slack = SAME * max(abs(dimension.low), abs(dimension.high))
        if not dimension.low - slack <= value <= dimension.high + slack:
            ends = (format_value(dimension.path, end, 6) for end in (dimension.low, dimension.high))
            allowed = f"a value from {' to '.join(ends)}, as in the search file"
            raise _refused(dimension, value, cells, where, allowed)
        return value

    return read


def _dimension_reader(dimension: Dimension, loaded: "LoadedSearch", table: _Table) -> Reader:
    """Reader of the unit coordinate of a value that the search can take."""
    value_of = _value_reader(dimension, loaded, table)

    def read(cells: Cells, where: ConfigLocation) -> float:
        value = value_of(cells, where)
        unit = float(dimension.unit(np.float64(value)))
        if not _is_on_grid(dimension, value):
            step, nearest = (
                format_value(dimension.path, number, 12)
                for number in (dimension.step or 0.0, float(dimension.rounded(np.float64(unit))))
            )
            allowed = f"a multiple of the step {step}, nearest {nearest}; --as-is keeps the value"
            raise _refused(dimension, value, cells, where, allowed)
        return unit

    return read


def _is_on_grid(dimension: Dimension, value: float) -> bool:
    nearest = float(dimension.rounded(dimension.unit(np.float64(value))))
    return abs(nearest - value) <= SAME * max(abs(value), dimension.step or 0.0)


def _refused(
    dimension: Dimension, value: float, cells: Cells, where: ConfigLocation, allowed: str
) -> ConfigError:
    """Error of a value of a row, or of the base value of a parameter without a column."""
    cell = cells.get(dimension.path)
    if cell is None:
        allowed += "; found the base value, since no column has this path"
    shown = format_value(dimension.path, value, 12) if cell is None else cell
    return where.error(short_path(dimension.path), shown, allowed)


def _choice_reader(choice: Choice, loaded: "LoadedSearch", table: _Table) -> Reader:
    """Reader of a choice by its label or its values; paths without a column have base values."""
    alternatives = np.asarray(choice.table, float)
    base = [float(get_path(loaded.base, path)) for path in choice.paths]

    def read(cells: Cells, where: ConfigLocation) -> float:
        matches = np.ones(len(alternatives), bool)
        label = None if choice.name in choice.paths else cells.get(choice.name)
        if label is not None:
            matches &= np.array([text == label for text in choice.labels])
        given = [path for path in choice.paths if path in cells]
        if label is None and not given:
            given = list(choice.paths)
        for path in given:
            column = choice.paths.index(path)
            value = _number(path, cells[path], table, where) if path in cells else base[column]
            matches &= np.abs(alternatives[:, column] - value) <= SAME * np.abs(value)
        if not matches.any():
            values = zip(choice.paths, base, strict=True)
            found = label or ", ".join(cells.get(path, f"{value:g}") for path, value in values)
            expected = f"one of the {len(alternatives)} alternatives of the search file"
            raise where.error(choice.name, found, f"{expected}, such as {choice.labels[0]}")
        return (int(np.argmax(matches)) + 0.5) / len(alternatives)

    return read


def _variant_reader(loaded: "LoadedSearch") -> Reader:
    bases = loaded.space.variant_bases(loaded.base)

    def read(cells: Cells, where: ConfigLocation) -> int:
        wanted = {part.path: _name(part, cells, where) for part in loaded.space.variants}
        return next(index for index, (labels, _) in enumerate(bases) if labels == wanted)

    def _name(part: Variant, cells: Cells, where: ConfigLocation) -> str:
        name = cells.get(part.path, str(get_path(loaded.base, part.path)))
        if name not in part.values:
            expected = f"one of {listed(part.values)}{did_you_mean(name, part.values)}"
            raise where.error(part.path, name, expected)
        return name

    return read
