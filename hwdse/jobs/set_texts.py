"""Texts of `--set` for values from Python."""

import json

from hwdse.config.schema.user_paths import Roots, field_name, resolve
from hwdse.units.parse_units import split_field


def set_text(roots: Roots, path: str, value: object) -> str:
    """`--set` text of a path and a value from Python; numbers are in SI base units."""
    if isinstance(value, str):
        return f"{path}={json.dumps(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{path}={value}"
    try:
        unit = split_field(field_name(resolve(roots, path)))[1]
    except ValueError:  # a key of [design], or a wrong path that loading reports
        unit = "1"
    return f"{path}={value!r}" if unit == "1" else f'{path}="{value!r} {unit}"'
