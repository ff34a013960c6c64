"""Uncertainty suffixes of quantities, such as "0.9 pJ/bit +- 30 %"."""

import re
from collections.abc import Mapping
from typing import Any

_SUFFIX = re.compile(r"\s*([+-]?[\d.].*?)\s*(?:\+/?-|±)\s*(\d[\d_]*\.?\d*\s*%)\s*")
_NO_QUANTITY = ("title", "name", "published")


def split_uncertainty(value: object) -> tuple[Any, str | None]:
    """Nominal value and relative uncertainty of a text: `"5 W"` and `"30 %"` of `"5 W +- 30 %"`.

    Other values are returned unchanged, with None.
    """
    match = _SUFFIX.fullmatch(value) if isinstance(value, str) and len(value) < 200 else None
    return (match[1], match[2]) if match else (value, None)


def split_uncertainties(tables: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict]:
    """Tables with nominal values only, and the relative uncertainties by dotted path."""
    plain: dict[str, Any] = {}
    found: dict[str, str] = {}
    for key, value in tables.items():
        if key in _NO_QUANTITY and not prefix:
            plain[key] = value
        elif isinstance(value, Mapping):
            plain[key], below = split_uncertainties(value, f"{prefix}{key}.")
            found.update(below)
        else:
            plain[key], relative = split_uncertainty(value)
            if relative is not None:
                found[f"{prefix}{key}"] = relative
    return plain, found
