"""Variables and variants of a search: ranges of numbers and lists of names."""

import math
from collections.abc import Iterable
from typing import Any

from hwdse.config.files.errors import ConfigLocation, did_you_mean
from hwdse.config.schema.field_rules import in_unit_of_key, rule_of
from hwdse.config.schema.user_paths import (
    Roots,
    check_value,
    field_name,
    get_value,
    is_static,
    leaf_paths,
    resolve,
    resolve_all,
)
from hwdse.search.space.pytree_path import item_names
from hwdse.search.space.search_space import Choice, Dimension, Variant

_SCALES = ("log", "linear")


def make_dimensions(table: Any, roots: Roots, where: ConfigLocation) -> tuple[Dimension, ...]:
    """Dimensions of a checked table: `path`, `low`, `high`, `scale`, `step`.

    A word `*` of the path matches every name; leaves without room in the range are then left out.
    Tile extents end at the extents of their operator.
    """
    if "*" not in table.path.split("."):
        return (
            _dimension(
                _resolved(table.path, roots, where, wants_static=False), table, roots, where
            ),
        )
    paths = [path for path in _resolved_all(table.path, roots, where) if not is_static(roots, path)]
    extents = {path: _extent(path, roots) for path in paths}
    low = _bounds(paths[0], table, where)[0] if paths else 0.0
    found = [_dimension(path, table, roots, where) for path in paths if extents[path] > low]
    if not found:
        raise where.error("path", table.path, "a path with at least one number that can vary")
    return tuple(found)


def _bounds(path: str, table: Any, where: ConfigLocation) -> tuple[float, float]:
    rule = rule_of(field_name(path))
    values = []
    for key in ("low", "high"):
        try:
            values.append(rule.check(in_unit_of_key(field_name(table.path), getattr(table, key))))
        except ValueError as error:
            raise where.error(key, getattr(table, key), str(error)) from None
    return values[0], values[1]


def _extent(path: str, roots: Roots) -> float:
    """Operator size along a tile extent; infinity for other leaves."""
    root, _, rest = path.partition(".")
    if root != "tiles":
        return math.inf
    name, _, field = rest.partition(".")
    index = item_names(roots["tiles"]).index(name)
    dim = {"rows": "c", "cols": "k"}.get(field, field.removeprefix("block_"))
    return float(getattr(roots["workload"], dim)[index])


def _dimension(path: str, table: Any, roots: Roots, where: ConfigLocation) -> Dimension:
    rule = rule_of(field_name(path))
    low, high = _bounds(path, table, where)
    if low >= high:
        raise where.error("low", table.low, f"a value below high = {table.high}")
    extent = _extent(path, roots)
    if low >= extent:
        raise where.error("low", table.low, f"a value below {extent:g}, the extent of the operator")
    if table.scale not in _SCALES:
        hint = did_you_mean(table.scale, _SCALES)
        raise where.error("scale", table.scale, f"one of log, linear{hint}")
    if table.scale == "log" and low <= 0.0:
        raise where.error("low", table.low, 'a value above 0, or scale = "linear"')
    step = _step(table, rule.unit, rule.is_whole, where)
    try:
        return Dimension(path, low, min(high, extent), table.scale, step)
    except (ValueError, OverflowError):
        expected = f"a step with a multiple between {table.low} and {table.high}"
        raise where.error("step", table.step, expected) from None


def _step(table: Any, unit: str, is_whole: bool, where: ConfigLocation) -> float | None:
    """Step in base units; steps of whole numbers are at least 1."""
    if table.step is None:
        return 1.0 if is_whole else None
    rule = rule_of("step")
    kind = type(rule)(unit, 0.0, False, rule.high, is_whole)
    try:
        return kind.check(in_unit_of_key(field_name(table.path), table.step))
    except ValueError as error:
        raise where.error("step", table.step, str(error)) from None


def make_variant(table: Any, roots: Roots, where: ConfigLocation) -> Variant:
    """Variant of a checked table: `path` and `values`."""
    path = _resolved(table.path, roots, where, wants_static=True)
    for value in table.values:
        try:
            check_value(roots, path, value)
        except ValueError as error:
            raise where.error("values", value, str(error)) from None
    if len(set(table.values)) != len(table.values) or not table.values:
        raise where.error("values", table.values, "a list of distinct names")
    return Variant(path, tuple(table.values))


def _resolved(text: str, roots: Roots, where: ConfigLocation, *, wants_static: bool) -> str:
    try:
        path = resolve(roots, text)
        _check_searchable(path, roots)
        if is_static(roots, path) != wants_static:
            kind = "a name such as chip.array.dataflow" if wants_static else "a number"
            other = "[[variables]]" if wants_static else "[[variants]]"
            raise ValueError(f"a path that ends in {kind}; this one belongs to {other}")
    except ValueError as error:
        raise where.error("path", text, str(error)) from None
    return path


def _resolved_all(text: str, roots: Roots, where: ConfigLocation) -> list[str]:
    try:
        paths = resolve_all(roots, text)
        for path in paths:
            _check_searchable(path, roots)
    except ValueError as error:
        raise where.error("path", text, str(error)) from None
    return paths


def _check_searchable(path: str, roots: Roots) -> None:
    if path.startswith("workload"):
        raise ValueError("a path of the design; a workload cannot be searched")
    if leaf_paths(get_value(roots, path)):
        raise ValueError("a path that ends in a number or name; found a table")


def check_distinct(
    dimensions: Iterable[tuple[Dimension, ...]],
    choices: Iterable[Choice],
    variants: Iterable[Variant],
    where: ConfigLocation,
) -> None:
    """Check that no leaf is searched twice; `dimensions` has one tuple per table."""
    entries = [
        (f"variables {i}", tuple(dim.path for dim in table))
        for i, table in enumerate(dimensions, 1)
    ]
    entries += [(f"choices {i}", choice.paths) for i, choice in enumerate(choices, 1)]
    entries += [(f"variants {i}", (variant.path,)) for i, variant in enumerate(variants, 1)]
    seen: dict[str, str] = {}
    for name, paths in entries:
        for path in paths:
            if path in seen:
                expected = f"each path once; it is also in [{seen[path]}]"
                raise where.table(name).error("path", path, expected)
            seen[path] = name
