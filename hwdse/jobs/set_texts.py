"""Texts of `--set` for values from Python."""

import json
from numbers import Integral, Real

from hwdse.config.schema.user_paths import Roots, field_name, resolve
from hwdse.units.parse_units import split_field


def set_text(roots: Roots, path: str, value: object) -> str:
    """`--set` text of a path and a value from Python; numbers are in SI base units."""
    if isinstance(value, str):
        return f"{path}={json.dumps(value)}"
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"{path}={value}"
    number = int(value) if isinstance(value, Integral) else float(value)
    try:
        unit = split_field(field_name(resolve(roots, path)))[1]
    except ValueError:  # a key of [design], or a wrong path that loading reports
        unit = "1"
    return f"{path}={number!r}" if unit == "1" else f'{path}="{number!r} {unit}"'
