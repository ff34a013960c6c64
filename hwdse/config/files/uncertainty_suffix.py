"""Quantities with a spread, such as "0.9 pJ/bit +- 30 %": the spread taken off at the edge."""

import re
from collections.abc import Mapping
from typing import Any

_SPREAD = re.compile(r"\s*([+-]?[\d.].*?)\s*(?:\+/?-|±)\s*(\d[\d_]*\.?\d*\s*%)\s*")
_NO_QUANTITY = ("title", "name", "published")


def split_uncertainty(value: object) -> tuple[Any, str | None]:
    """The nominal value and the relative spread of a text: `"5 W +- 30 %"` gives `"5 W"` and
    `"30 %"`; anything else as it is, without a spread."""
    match = _SPREAD.fullmatch(value) if isinstance(value, str) and len(value) < 200 else None
    return (match[1], match[2]) if match else (value, None)


def split_uncertainties(tables: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict]:
    """Tables with nominal values only, and the relative spreads by dotted path."""
    plain: dict[str, Any] = {}
    found: dict[str, str] = {}
    for key, value in tables.items():
        if key in _NO_QUANTITY and not prefix:
            plain[key] = value
        elif isinstance(value, Mapping):
            plain[key], below = split_uncertainties(value, f"{prefix}{key}.")
            found.update(below)
        else:
            plain[key], spread = split_uncertainty(value)
            if spread is not None:
                found[f"{prefix}{key}"] = spread
    return plain, found
