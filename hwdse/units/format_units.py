"""Text of quantities: customary unit, SI or binary prefix, a few significant digits."""

import math
from collections.abc import Sequence
from types import MappingProxyType

from hwdse.units.parse_units import BINARY_PREFIXES, split_field, unit_size

_USUAL = MappingProxyType(
    {
        "USD/J": "USD/kWh",
        "USD/B": "USD/GB",
        "USD/B/s": "USD/GB/month",
        "g/B": "g/GB",
        "g/J": "g/kWh",
        "g/mm^2": "g/cm^2",
        "J/mm^2": "kWh/cm^2",
        "USD/s": "USD/h",
        "1/mm^2": "1/cm^2",
        "mm^2/B": "mm^2/MiB",
        "mm^2/(B/s)": "mm^2/(GB/s)",
        "mm^2/(FLOP/s)": "mm^2/TFLOPS",
    }
)
"""Customary units in place of base units without a prefix."""
_USUAL_FROM = MappingProxyType({"J/mm^2": 1.0})
"""Smallest value in a base unit with its customary unit: fabs use joules, clocks picojoules."""
_LONG_TIMES = (("year", 2 * 31557600.0), ("d", 172800.0), ("h", 7200.0), ("min", 120.0))
"""Units of time and the smallest number of seconds printed in each."""

_PREFIXES = ("f", "p", "n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_PREFIXED = MappingProxyType(
    {
        "s": ("f", ""),
        "B": ("", "E"),
        "B/s": ("", "E"),
        "FLOP": ("", "E"),
        "FLOP/s": ("", "E"),
        "Hz": ("", "G"),
        "J": ("f", "G"),
        "J s": ("f", ""),
        "J/B": ("f", "G"),
        "J/mm^2": ("p", ""),
        "W": ("u", "G"),
        "V": ("m", ""),
        "g": ("u", "M"),
    }
)
"""Smallest and largest printed prefix of each unit."""


def _scaled_unit(value: float, unit: str) -> str:
    size = abs(value)
    if unit in _USUAL and size >= _USUAL_FROM.get(unit, 0.0):
        return _USUAL[unit]
    for name, smallest in _LONG_TIMES if unit == "s" else ():
        if size >= smallest:
            return name
    if unit == "B" and size >= 1024 and size % (2**20 if size >= 2**20 else 2**10) == 0:
        power = min(int(math.log2(size)) // 10, 6)
        return list(BINARY_PREFIXES)[power - 1] + "B"
    if unit not in _PREFIXED or size == 0:
        return unit
    low, high = (_PREFIXES.index(prefix) for prefix in _PREFIXED[unit])
    index = _PREFIXES.index("") + math.floor(math.log10(size) / 3 + 1e-12)
    return _PREFIXES[min(max(index, low), high)] + unit


def format_number(value: float, digits: int = 3) -> str:
    """Text of a number with `digits` significant digits, without trailing zeros."""
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-4 <= abs(value) < 1e15:
        text = f"{float(text):.0f}"
    return text


def format_quantity(value: float, unit: str, digits: int = 3) -> str:
    """Text of a value in a base unit: `(2.9e12, "B/s")` gives `2.9 TB/s`.

    Sizes in bytes that are multiples of 1 KiB have binary prefixes, all other quantities SI
    prefixes.
    """
    value = float(value)
    if not math.isfinite(value) or unit == "1":
        return format_number(value, digits) if unit == "1" else f"{value} {unit}"
    name = _scaled_unit(value, unit)
    scaled = value * float(unit_size(unit)[0] / unit_size(name)[0])
    return f"{format_number(scaled, digits)} {name}"


def common_unit(values: Sequence[float], unit: str) -> str:
    """Smallest of the units that `format_quantity` selects for several values."""
    names = {_scaled_unit(float(value), unit) for value in values if value and unit != "1"}
    return min(names, key=lambda name: unit_size(name)[0], default=unit)


def format_field(name: str, value: float, digits: int = 3) -> str:
    """Text of a field's value, in the unit at the end of the field's name."""
    return format_quantity(value, split_field(name)[1], digits)
