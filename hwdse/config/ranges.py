"""Variables and variants of a search: ranges of leaves, lists of names."""

from collections.abc import Iterable
from typing import Any

from hwdse.config.errors import Where, did_you_mean
from hwdse.config.leaf_paths import (
    Roots,
    check_value,
    field_name,
    get_value,
    is_static,
    leaf_paths,
    resolve,
)
from hwdse.config.rules import rule_of
from hwdse.search.space import Choice, Dimension, Variant

_SCALES = ("log", "linear")


def make_dimension(table: Any, roots: Roots, where: Where) -> Dimension:
    """A searched leaf from its checked table: `path`, `low`, `high`, `scale`, `step`."""
    path = _resolved(table.path, roots, where, wants_static=False)
    rule = rule_of(field_name(path))
    values: dict[str, float] = {}
    for key in ("low", "high"):
        try:
            values[key] = rule.check(getattr(table, key))
        except ValueError as error:
            raise where.error(key, getattr(table, key), str(error)) from None
    low, high = values["low"], values["high"]
    if low >= high:
        raise where.error("low", table.low, f"a value below high = {table.high}")
    if table.scale not in _SCALES:
        hint = did_you_mean(table.scale, _SCALES)
        raise where.error("scale", table.scale, f"one of log, linear{hint}")
    if table.scale == "log" and low <= 0.0:
        raise where.error("low", table.low, 'a value above 0, or scale = "linear"')
    step = _step(table, rule.unit, rule.is_whole, where)
    try:
        return Dimension(path, low, high, table.scale, step)
    except (ValueError, OverflowError):
        expected = f"a step of which a multiple lies from {table.low} to {table.high}"
        raise where.error("step", table.step, expected) from None


def _step(table: Any, unit: str, is_whole: bool, where: Where) -> float | None:
    """Step in base units; whole numbers are searched in steps of at least one."""
    if table.step is None:
        return 1.0 if is_whole else None
    rule = rule_of("step")
    kind = type(rule)(unit, 0.0, False, rule.high, is_whole)
    try:
        return kind.check(table.step)
    except ValueError as error:
        raise where.error("step", table.step, str(error)) from None


def make_variant(table: Any, roots: Roots, where: Where) -> Variant:
    """A searched name from its checked table: `path` and `values`."""
    path = _resolved(table.path, roots, where, wants_static=True)
    for value in table.values:
        try:
            check_value(roots, path, value)
        except ValueError as error:
            raise where.error("values", value, str(error)) from None
    if len(set(table.values)) != len(table.values) or not table.values:
        raise where.error("values", table.values, "a list of different names")
    return Variant(path, tuple(table.values))


def _resolved(text: str, roots: Roots, where: Where, *, wants_static: bool) -> str:
    try:
        path = resolve(roots, text)
        if path.startswith("workload"):
            raise ValueError("a path of the design; the workload is not searched")
        if leaf_paths(get_value(roots, path)):
            raise ValueError("a path that ends in a number or name; this one is a table")
        if is_static(roots, path) != wants_static:
            kind = "a name such as chip.array.dataflow" if wants_static else "a number"
            other = "[[variables]]" if wants_static else "[[variants]]"
            raise ValueError(f"a path that ends in {kind}; this one belongs into {other}")
    except ValueError as error:
        raise where.error("path", text, str(error)) from None
    return path


def check_distinct(
    dimensions: Iterable[Dimension],
    choices: Iterable[Choice],
    variants: Iterable[Variant],
    where: Where,
) -> None:
    """No leaf may be searched twice."""
    entries = [(f"variables {i}", (dim.path,)) for i, dim in enumerate(dimensions, 1)]
    entries += [(f"choices {i}", choice.paths) for i, choice in enumerate(choices, 1)]
    entries += [(f"variants {i}", (variant.path,)) for i, variant in enumerate(variants, 1)]
    seen: dict[str, str] = {}
    for place, paths in entries:
        for path in paths:
            if path in seen:
                expected = f"each path only once, it is also in [{seen[path]}]"
                raise where.inside(place).error("path", path, expected)
            seen[path] = place
