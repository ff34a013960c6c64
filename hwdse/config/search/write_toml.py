"""Search file of a design, which reads back to exactly that design."""

import json
from collections.abc import Mapping
from typing import Any

import jax

from hwdse.config.files.errors import ConfigError
from hwdse.config.schema.field_rules import in_unit_of_key
from hwdse.config.schema.user_paths import (
    Roots,
    check_value,
    field_name,
    get_value,
    leaf_paths,
)
from hwdse.config.search.search_file import LoadedSearch
from hwdse.config.search.valid_combinations import checker_of
from hwdse.specs.all_designs import AnyDesign


def to_toml(loaded: LoadedSearch, design: AnyDesign) -> str:
    """Text of a search file with the base design `design`, equal to the last bit.

    The tables are unchanged. Values that differ from them are in [overrides], by path, in SI base
    units and with all digits. Raises `ConfigError` for a design that `hwdse evaluate` refuses and
    `ValueError` for values that a file must not contain.
    """
    problem = checker_of(loaded).problem_of(jax.tree.map(float, design))
    if problem is not None:
        raise ConfigError(f"the design is not possible: {problem}")
    roots: Roots = {name: getattr(design, name) for name in loaded.plain if name != "workload"}
    roots["workload"] = loaded.workload
    changes: dict[str, Any] = {}
    for path, leaf in leaf_paths(roots).items():
        if leaf is None:  # absent values, such as a power limit
            continue
        if not isinstance(leaf, str | tuple) and getattr(leaf, "shape", ()) == ():
            leaf = float(leaf)
        if not _is_same(leaf, get_value(loaded.plain, path)):
            changes[path] = check_value(roots, path, in_unit_of_key(field_name(path), leaf))
    return dump_tables({**loaded.tables, "overrides": changes})


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(value, float | str):
        return value == other
    return value is other  # GEMMs of a layer list never change


def dump_tables(tables: Mapping[str, Any]) -> str:
    """TOML text of nested tables; numbers by `repr`, so that they read back exactly."""
    return "\n".join(_lines(tables, "")).strip() + "\n"


def _lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    plain, below = [], []
    for key, value in table.items():
        name = _key(key)
        if isinstance(value, Mapping):
            head = f"{prefix}.{name}" if prefix else name
            below += ["", f"[{head}]", *_lines(value, head)]
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            head = f"{prefix}.{name}" if prefix else name
            for item in value:
                below += ["", f"[[{head}]]"]
                below += [f"{_key(k)} = {toml_value(v)}" for k, v in item.items()]
        else:
            plain.append(f"{name} = {toml_value(value)}")
    return plain + below


def _key(key: str) -> str:
    """A bare or dotted key if TOML allows it, else a quoted key."""
    is_bare = all(
        part and part.isascii() and part.replace("_", "").replace("-", "").isalnum()
        for part in key.split(".")
    )
    return key if is_bare else _text(key)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: Any) -> str:
    """Value in TOML notation; numbers by `repr`."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return str(value)  # dates and times print as TOML
