"""Numbers as texts of tables and sentences: decimals, percentages, factors, prefixes."""

import math
from collections.abc import Sequence

from hwdse.units.format_units import format_number

MIN_DIGITS = 3
"""Significant digits of the smallest number of a row or column."""
MAX_DECIMALS = 12
LARGEST_PERCENT = 1000.0
"""Larger relative changes are written as factors."""
LARGEST_PERCENT_RATIO = 10.0
"""Ratio above which a distance is written as a factor."""
PREFIXES = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "",
            1e-3: "m", 1e-6: "µ", 1e-9: "n"}  # fmt: skip
"""SI prefix by factor, largest first."""


def number_cells(values: Sequence[float], decimals: int, min_digits: int = MIN_DIGITS) -> list[str]:
    """Numbers of one row or column with the same decimals.

    There are at least `decimals`, and as many as give the smallest number `min_digits` significant
    digits; integers need none. Thousands are separated from 10,000 on. A number that is rounded to
    zero has no sign.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if min_digits and not all(size.is_integer() for size in sizes):
        needed = min_digits - 1 - math.floor(math.log10(min(sizes)) + 1e-12)
        decimals = min(max(decimals, needed), MAX_DECIMALS)
    return [
        f"{value:z{',' if abs(value) >= 1e4 else ''}.{decimals}f}" if math.isfinite(value) else "-"
        for value in values
    ]


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits or all of its integer part, for columns that span
    many decades."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 10.0**digits:
        return f"{value:,.0f}"
    text = format_number(value, digits)
    return text if "e" in text else f"{float(text):,.{len(text.partition('.')[2])}f}"


def relative_change(before: float, after: float) -> str:
    """`-44.2 %`, or `13.2x` above 1000 %; `-` without a value before."""
    if not before or not math.isfinite(after / before):
        return "-"
    change = 100.0 * (after / before - 1.0)
    return f"{change:+.1f} %" if change <= LARGEST_PERCENT else f"{after / before:.3g}x"


def share_cell(value: float, whole: float) -> str:
    """Share in percent with one decimal, without the percent sign."""
    return number_cells([100.0 * value / whole], 1, 0)[0] if whole else "-"


def percent(fraction: float, digits: int = 1) -> str:
    """Percentage with a space: `12.3 %` for 0.123; `-` if not finite."""
    return f"{100.0 * fraction:.{digits}f} %" if math.isfinite(fraction) else "-"


def signed(value: float, decimals: int = 3) -> str:
    """Number with its sign; without one if it is zero with these decimals."""
    text = f"{value:+.{decimals}f}"
    return f"{0.0:.{decimals}f}" if float(text) == 0.0 else text


def distance(ratio: float) -> str:
    """Distance of a value from a bound, from their ratio: `12.3 % above`, `50.0 % below`, or
    `24.6 times` from a tenfold excess on."""
    if ratio > LARGEST_PERCENT_RATIO:
        return f"{ratio:.3g} times"
    return f"{percent(abs(ratio - 1.0))} {'above' if ratio > 1.0 else 'below'}"


def human_count(value: int | float) -> str:
    """Rounded count with a letter: `12.3M` for 12,300,000."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def prefix_of(value: float) -> tuple[float, str]:
    """Largest SI prefix not above a value, as factor and letter."""
    return next(((size, p) for size, p in PREFIXES.items() if value >= size), (1e-9, "n"))


def spaced(name: str) -> str:
    """A name with spaces for underscores."""
    return name.replace("_", " ")
