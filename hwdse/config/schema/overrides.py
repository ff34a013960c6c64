"""Overrides of single values: `--set chip.hbm.bandwidth="4 TB/s"` and tables [overrides]."""

import tomllib
from collections.abc import Mapping
from typing import Any

from hwdse.config.files.errors import ConfigError, ConfigLocation, Mistakes
from hwdse.config.schema.field_rules import in_unit_of_key
from hwdse.config.schema.user_paths import (
    Roots,
    check_value,
    field_name,
    replace_value,
    resolve,
)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested tables by dotted path: `{"chip.num_dies": 2}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parse_override(text: str) -> tuple[str, Any]:
    """Path and value of a `--set`; the value is TOML or a text without quotes."""
    path, mark, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not mark or not path or not value:
        raise ConfigError(f'--set {text}: expected PATH=VALUE such as chip.hbm.bandwidth="4 TB/s"')
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return path, value


def apply_overrides(roots: Roots, changes: Mapping[str, Any], where: ConfigLocation) -> Roots:
    """A copy of the specs with changed values, each checked by the rule of its field.

    Raises `ConfigError` with a line for each wrong path and value.
    """
    done: dict[str, str] = {}
    mistakes = Mistakes()
    for text, value in changes.items():
        try:
            path = resolve(roots, text)
            if path in done:
                raise ValueError(f"each value once; it is also given as {done[path]}")
            given = in_unit_of_key(field_name(text), value)
            roots = replace_value(roots, path, check_value(roots, path, given))
        except ValueError as error:
            mistakes.errors.append(where.error(text, value, str(error)))
        else:
            done[path] = text
    mistakes.finish()
    return roots
