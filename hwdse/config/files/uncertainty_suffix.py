"""Uncertainty suffixes of quantities, such as "0.9 pJ/bit +- 30 %"."""

import re
from collections.abc import Mapping
from typing import Any

_SUFFIX = re.compile(r"\s*([+-]?[\d.].*?)\s*(?:\+/?-|±)\s*(\d[\d_]*\.?\d*\s*%)\s*")
_NO_QUANTITY = ("title", "name", "published")
_PERCENT = re.compile(r"\+?(\d[\d_]*\.?\d*(?:[eE][+-]?\d{1,3})?)\s*%", re.ASCII)


def relative_fraction(value: object) -> float:
    """Relative uncertainty of a text in percent: 0.3 of `"30 %"`.

    Numbers without a percent sign are refused, since 30 may be meant as 30 % or as 3000 %.
    """
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a relative uncertainty in percent such as "30 %"')
    return float(match[1].replace("_", "")) / 100.0


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
