"""Choices of a search: rows of values that change together, as parallelism strategies do."""

from typing import Any

from hwdse.config.design.zero_stage import with_shard_fractions
from hwdse.config.files.errors import ConfigLocation
from hwdse.config.schema.field_rules import in_unit_of_key
from hwdse.config.schema.user_paths import (
    Roots,
    check_value,
    field_name,
    get_value,
    leaf_paths,
    resolve,
)
from hwdse.config.search.parallelism_choices import STRATEGY_KEYS, all_strategies, best_strategies
from hwdse.search.space.search_space import Choice
from hwdse.units.format_units import format_field
from hwdse.units.parse_units import split_field

STRATEGY_WORDS = {"all": all_strategies, "best": best_strategies}
"""Words in place of a list of strategies."""


def make_choice(table: Any, roots: Roots, where: ConfigLocation) -> Choice:
    """Choice of a checked table: `path`, and `values` as rows, numbers, "all" or "best"."""
    try:
        path = resolve(roots, table.path)
    except ValueError as error:
        raise where.error("path", table.path, str(error)) from None
    if isinstance(table.values, str) and table.values in STRATEGY_WORDS:
        if path != "parallelism":
            raise where.error(
                "values", table.values, f'a list; "{table.values}" is for path = "parallelism" only'
            )
        return STRATEGY_WORDS[table.values](table, roots, where)
    for key in ("micro_batch", "recompute_fraction", *STRATEGY_KEYS):
        if getattr(table, key) is not None:
            raise where.error(
                key, getattr(table, key), 'values = "all" or "best" in the same table'
            )
    if not isinstance(table.values, list) or not table.values:
        raise where.error("values", table.values, 'a list of tables or numbers, "all" or "best"')
    return _listed(path, table, roots, where)


def _listed(path: str, table: Any, roots: Roots, where: ConfigLocation) -> Choice:
    """Choice of the rows of a file; keys that a row leaves out have the base value."""
    rows = [_row(path, table.path, value, roots, where) for value in table.values]
    paths = tuple(dict.fromkeys(name for row in rows for name in row))
    base = {name: float(get_value(roots, name)) for name in paths}
    full = [{**base, **row} for row in rows]
    labels = tuple(table.labels or [_label(row) for row in full])
    if len(labels) != len(full) or len(set(labels)) != len(labels):
        raise where.error("labels", list(labels), f"{len(full)} distinct texts, one per row")
    if len({tuple(row.items()) for row in full}) != len(full):
        raise where.error("values", table.values, "distinct rows")
    return Choice(path, paths, tuple(tuple(row.values()) for row in full), labels)


def _row(
    path: str, written: str, value: Any, roots: Roots, where: ConfigLocation
) -> dict[str, float]:
    """Values of a row by path; `written` is the path as the file has it."""
    leaves = leaf_paths(get_value(roots, path))
    if leaves and not (isinstance(value, dict) and value):
        raise where.error("values", value, f"tables with keys such as {next(iter(leaves))}")
    entries = value if leaves else {"": value}
    if path == "parallelism":
        entries = with_shard_fractions(entries, where)
    row: dict[str, float] = {}
    for key, item in entries.items():
        full = f"{written}.{key}" if key else written
        try:
            name = resolve(roots, full)
            checked = check_value(roots, name, in_unit_of_key(field_name(full), item))
        except ValueError as error:
            raise where.error(full, item, str(error)) from None
        if isinstance(checked, str):
            raise where.error(full, item, "a number; names belong to [[variants]]")
        row[name] = checked
    return row


def _label(row: dict[str, float]) -> str:
    parts = []
    for path, value in row.items():
        name = field_name(path)
        parts.append(f"{split_field(name)[0]} {format_field(name, value, 6)}")
    return ", ".join(parts)
