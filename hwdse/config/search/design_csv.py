"""Lists of designs from CSV files; the columns are parameters of a search file."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.config.files.errors import ConfigError, ConfigLocation, did_you_mean, listed
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import field_name, short_path
from hwdse.config.search.metric_names import objective_columns
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
    of choices. Cells are numbers in base units or with units. Parameters without a column have
    the base value. Values within a range are rounded to the parameter step; a value outside is an
    error. Columns of a front.csv that are no parameters are ignored. Raises `ConfigError` with one
    line.
    """
    header, rows = _table(Path(path))
    names = _column_paths(header, loaded, str(path))
    readers = [_dimension_reader(dimension, loaded) for dimension in loaded.space.dimensions]
    readers += [_choice_reader(choice, loaded) for choice in loaded.space.choices]
    pick_variant = _variant_reader(loaded)
    units = np.empty((len(rows), len(readers)))
    variants = np.empty(len(rows), int)
    for index, (line, row) in enumerate(rows):
        where = ConfigLocation(f"{path} line {line}")
        if len(row) != len(header):
            raise ConfigError(f"{path} line {line}: {len(row)} cells, expected {len(header)}")
        cells = {name: cell.strip() for name, cell in zip(names, row, strict=True) if name}
        units[index] = [reader(cells, where) for reader in readers]
        variants[index] = pick_variant(cells, where)
    return units, variants


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows with their line numbers; lines that begin with # are comments."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    kept = [(n, text) for n, text in enumerate(lines, 1) if text.strip() and text[0] != "#"]
    cells = list(csv.reader(text for _, text in kept))
    if len(cells) < 2 or len(cells) != len(kept):
        raise ConfigError(f"{path}: expected a line of column names and one line per design")
    numbers = [number for number, _ in kept]
    return [name.strip() for name in cells[0]], list(zip(numbers[1:], cells[1:], strict=True))


def _column_paths(header: list[str], loaded: "LoadedSearch", file: str) -> list[str | None]:
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


def _number(path: str, cell: str, where: ConfigLocation) -> float:
    try:
        value: Any = float(cell)
    except ValueError:
        value = cell
    try:
        return rule_of(field_name(path)).check(value)
    except ValueError as error:
        raise where.error(path, value, str(error)) from None


def _dimension_reader(dimension: Dimension, loaded: "LoadedSearch") -> Reader:
    base = float(get_path(loaded.base, dimension.path))

    def read(cells: Cells, where: ConfigLocation) -> float:
        cell = cells.get(dimension.path)
        value = base if cell is None else _number(dimension.path, cell, where)
        slack = SAME * max(abs(dimension.low), abs(dimension.high))
        if not dimension.low - slack <= value <= dimension.high + slack:
            allowed = f"a value from {dimension.low:g} to {dimension.high:g}, as in the search file"
            source = (
                "" if cell is not None else "; found the base value, since no column has this path"
            )
            raise where.error(dimension.path, cell or value, allowed + source)
        return float(dimension.unit(np.float64(value)))

    return read


def _choice_reader(choice: Choice, loaded: "LoadedSearch") -> Reader:
    """Reader of a choice by its label or its values; paths without a column have base values."""
    table = np.asarray(choice.table, float)
    base = [float(get_path(loaded.base, path)) for path in choice.paths]

    def read(cells: Cells, where: ConfigLocation) -> float:
        matches = np.ones(len(table), bool)
        label = cells.get(choice.name)
        if label is not None:
            matches &= np.array([text == label for text in choice.labels])
        given = [path for path in choice.paths if path in cells]
        if label is None and not given:
            given = list(choice.paths)
        for path in given:
            column = choice.paths.index(path)
            value = _number(path, cells[path], where) if path in cells else base[column]
            matches &= np.abs(table[:, column] - value) <= SAME * np.abs(table[:, column])
        if not matches.any():
            values = zip(choice.paths, base, strict=True)
            found = label or ", ".join(cells.get(path, f"{value:g}") for path, value in values)
            expected = f"one of the {len(table)} alternatives of the search file"
            raise where.error(choice.name, found, f"{expected}, such as {choice.labels[0]}")
        return (int(np.argmax(matches)) + 0.5) / len(table)

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
