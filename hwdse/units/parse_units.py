"""Strict parser of quantities with units; `format_units` is the inverse.

Bits (`b`, `bit`) and bytes (`B`), SI (`k`, `M`) and binary (`Ki`, `Mi`) prefixes are distinct.
Values are scaled as exact fractions and rounded once, so `"2.9 TB/s"` is the float 2.9e12.
"""

import itertools
import math
import re
from fractions import Fraction
from types import MappingProxyType

Dimension = tuple[int, ...]
"""Exponents of byte, second, joule, volt, dollar, square millimeter, FLOP and gram."""

_BASES = ("B", "s", "J", "V", "USD", "mm^2", "FLOP", "g")
_NONE: Dimension = (0,) * len(_BASES)

_SI = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SMALL = {"m": -3, "u": -6, "\u00b5": -6, "\u03bc": -6, "n": -9, "p": -12, "f": -15}
"""Prefixes below one; the micro sign and the Greek letter mu look the same."""
NOT_IN_RATES = frozenset({"ps", "fs"})
"""Times that no rate is given per: "GB/ps" is a misspelled "GBps"."""
BINARY_PREFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_SECONDS = {
    "min": 60,
    "h": 3600,
    "d": 86400,
    "day": 86400,
    "days": 86400,
    "month": 2629800,
    "year": 31557600,  # Julian year of 365.25 days
    "years": 31557600,
}


def _dim(**powers: int) -> Dimension:
    names = ("byte", "s", "joule", "volt", "usd", "mm2", "flop", "gram")
    return tuple(powers.get(name, 0) for name in names)


def _atoms() -> dict[str, tuple[Fraction, Dimension]]:
    """Every unit word with its size in base units and its dimension."""
    atoms: dict[str, tuple[Fraction, Dimension]] = {"1": (Fraction(1), _NONE)}

    def add(words: tuple[str, ...], prefixes: dict[str, int], size: Fraction, dim: Dimension):
        for word, (prefix, power) in itertools.product(words, prefixes.items()):
            atoms[prefix + word] = (size * Fraction(10) ** power, dim)

    byte, second, joule = _dim(byte=1), _dim(s=1), _dim(joule=1)
    data = (("B", Fraction(1)), ("b", Fraction(1, 8)), ("bit", Fraction(1, 8)))
    for word, size in data:
        add((word,), _SI, size, byte)
        for prefix, power in BINARY_PREFIXES.items():
            atoms[prefix + word] = (size * 2**power, byte)
    add(("bps",), {p: _SI[p] for p in ("k", "M", "G", "T")}, Fraction(1, 8), _dim(byte=1, s=-1))
    add(("FLOP",), _SI, Fraction(1), _dim(flop=1))
    add(("FLOPS",), _SI, Fraction(1), _dim(flop=1, s=-1))
    add(("Hz",), {p: _SI[p] for p in ("", "k", "M", "G")}, Fraction(1), _dim(s=-1))
    add(("s",), {"": 0, **_SMALL}, Fraction(1), second)
    for word, seconds in _SECONDS.items():
        atoms[word] = (Fraction(seconds), second)
    add(("J",), {**_SMALL, **{p: _SI[p] for p in ("", "k", "M", "G")}}, Fraction(1), joule)
    product = _dim(joule=1, s=1)
    add(("J s", "J*s", "J·s"), {**_SMALL, "": 0}, Fraction(1), product)
    add(("Wh",), {p: _SI[p] for p in ("", "k", "M", "G")}, Fraction(3600), joule)
    watts = {"u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
    add(("W",), watts, Fraction(1), _dim(joule=1, s=-1))
    add(("V",), {"": 0, "m": -3}, Fraction(1), _dim(volt=1))
    add(("USD",), {"": 0}, Fraction(1), _dim(usd=1))
    add(("token", "tokens"), _SI, Fraction(1), _NONE)  # as in USD/Mtoken, ktokens/s
    add(("g",), {"u": -6, "m": -3, "": 0, "k": 3, "M": 6}, Fraction(1), _dim(gram=1))
    micro = Fraction(1, 10**6)
    areas = {"mm": 1, "cm": 100, "um": micro, "\u00b5m": micro, "\u03bcm": micro}
    for name, square_mm in areas.items():
        for mark in ("^2", "2", "²"):
            atoms[name + mark] = (Fraction(square_mm), _dim(mm2=1))
    atoms["%"] = (Fraction(1, 100), _NONE)
    return atoms


ATOMS = MappingProxyType(_atoms())
"""Unit words, prefixes included: size in base units and dimension."""

_FIELD_UNITS = (
    ("_usd_per_byte_per_s", "USD/B/s", "0.02 USD/GB/month"),
    ("_mm2_per_bytes_per_s", "mm^2/(B/s)", "0.03 mm^2/(GB/s)"),
    ("_mm2_per_flop_per_s", "mm^2/(FLOP/s)", "6 mm^2/TFLOPS"),
    ("_bytes_per_parameter", "B", "96 GiB"),
    ("_bytes_per_flop", "B/FLOP", "8 B/FLOP"),
    ("_mm2_per_byte", "mm^2/B", "0.9 mm^2/MiB"),
    ("_usd_per_byte", "USD/B", "10 USD/GB"),
    ("_g_per_byte", "g/B", "65 g/GB"),
    ("_g_per_mm2", "g/mm^2", "500 g/cm^2"),
    ("_g_per_j", "g/J", "300 g/kWh"),
    ("_j_per_mm2", "J/mm^2", "2.75 kWh/cm^2"),
    ("_usd_per_chip", "USD", "430 USD"),
    ("_bytes_per_s", "B/s", "2.9 TB/s"),
    ("_flop_per_s", "FLOP/s", "667 TFLOPS"),
    ("_j_per_byte", "J/B", "3.7 pJ/bit"),
    ("_w_per_mm2", "W/mm^2", "0.1 W/mm^2"),
    ("_usd_per_s", "USD/s", "55 USD/h"),
    ("_usd_per_j", "USD/J", "0.08 USD/kWh"),
    ("_per_mm2", "1/mm^2", "0.11 1/cm^2"),
    ("_per_s", "1/s", "10 1/s"),
    ("_bytes", "B", "96 GiB"),
    ("_flop", "FLOP", "1 TFLOP"),
    ("_mm2", "mm^2", "814 mm^2"),
    ("_j_s", "J s", "0.2 uJ s"),
    ("_usd", "USD", "430 USD"),
    ("_hz", "Hz", "2.4 GHz"),
    ("_s", "s", "3 min"),
    ("_j", "J", "0.6 pJ"),
    ("_g", "g", "20 kg"),
    ("_w", "W", "500 W"),
    ("_v", "V", "0.75 V"),
)
"""Suffixes of field names, longest first, with base unit and an example."""
SUFFIXES = MappingProxyType({suffix: unit for suffix, unit, _ in _FIELD_UNITS})
"""Base unit by suffix of a field name."""
_EXAMPLES = MappingProxyType({unit: text for _, unit, text in _FIELD_UNITS})

_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)\s*(.*)", re.ASCII)
_SEPARATED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(?!\d)", re.ASCII)


def split_field(name: str) -> tuple[str, str]:
    """Field name without its unit, and the base unit: `clock_hz` gives `clock` and `Hz`.

    Names without a unit (counts, fractions, ratios) are returned unchanged with the unit `1`.
    """
    for suffix, unit in SUFFIXES.items():
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix), unit
    return name, "1"


def example(unit: str) -> str:
    """Example of a quantity in `unit`."""
    return _EXAMPLES.get(unit, f"1 {unit}")


def _split_slashes(text: str) -> list[str]:
    """Parts of a text between slashes outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "/" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def unit_size(text: str) -> tuple[Fraction, Dimension]:
    """Size in base units and dimension of a unit such as `pJ/bit` or `mm^2/(GB/s)`.

    Raises `KeyError` with the unknown word.
    """
    if len(text) > 40:
        raise KeyError(text[:40])
    size, dim = Fraction(1), _NONE
    for index, part in enumerate(_split_slashes(text.strip())):
        word = part.strip()
        if word.startswith("(") and word.endswith(")"):
            part_size, part_dim = unit_size(word[1:-1])
        elif word in ATOMS and not (index and word in NOT_IN_RATES):
            part_size, part_dim = ATOMS[word]
        else:
            raise KeyError(word)
        sign = 1 if index == 0 else -1
        size *= part_size**sign
        dim = tuple(a + sign * b for a, b in zip(dim, part_dim, strict=True))
    return size, dim


_REWRITES = tuple(
    (re.compile(pattern, flags), new)
    for pattern, new, flags in (
        (r"\s*\bper\b\s*", "/", re.I),
        (r"\s*/\s*", "/", 0),
        (r"\$", "USD", 0),
        (r"^([kMGTPE]?i?)Bps$", r"\1B/s", 0),
        (r"/[pf]s$", "/s", 0),
        (r"^([kmgt])bps$", r"\1bps", re.I),
        (r"bytes?\b", "B", re.I),
        (r"bits\b", "bit", re.I),
        (r"\b([munpf]?)sec(?:onds?|s)?\b", r"\1s", re.I),
        (r"\bmin(?:ute)?s?\b", "min", re.I),
        (r"\bh(?:ou)?rs?\b", "h", re.I),
        (r"\bmonths\b", "month", re.I),
        (r"\b(?:yr|yrs|y)\b", "year", re.I),
        (r"watts?\b", "W", re.I),
        (r"joules?\b", "J", re.I),
        (r"volts?\b", "V", re.I),
        (r"hertz\b", "Hz", re.I),
        (r"^([kMGTPE]?)f(?:l|lop|lops)?(?:/s|ps)?$", r"\1FLOPS", re.I),
        (r"^([kMGTPE]?)FLOPS(/.*)$", r"\1FLOP\2", re.I),
    )
)
"""Customary spellings that are no units here, and the words to suggest instead."""
_ENDINGS = ("/s", "^2", "B", "B/s", "Hz", "FLOPS", "W")
"""Endings that are often left out: "900 G", "2.9 TB" of a rate, "814 mm"."""


def near_unit(text: str, unit: str) -> str:
    """`; did you mean "GB/s"?` with a unit of the dimension of `unit` that `text` was meant to be,
    or an empty string.

    The unit never differs from the text by more than its spelling: bits do not become bytes, nor
    GB PB. Lower-case bits and bytes (`gb`) are taken as bytes.
    """
    if len(text) > 40:
        return ""
    dimension = unit_size(unit)[1]
    rewritten = text
    for pattern, new in _REWRITES:
        rewritten = pattern.sub(new, rewritten)
    spelled = "/".join(_spelled(part) for part in rewritten.split("/"))
    shorter = (spelled.removesuffix("S"), spelled.removesuffix("s") + "/s")
    longer = (word + end for word in (rewritten, spelled) for end in _ENDINGS)
    for candidate in (spelled, *shorter, *longer):
        try:
            if unit_size(candidate)[1] == dimension:
                return f'; did you mean "{candidate}"?'
        except KeyError:
            continue
    return ""


def _spelled(word: str) -> str:
    """Unit word that differs from `word` in upper and lower case only, or `word`."""
    if word in ATOMS:
        return word
    same = [atom for atom in ATOMS if atom.lower() == word.lower()]
    return max(same, key=lambda atom: (atom[-1:] in "B", _agreement(atom, word)), default=word)


def _agreement(atom: str, word: str) -> int:
    return sum(a == b for a, b in zip(atom, word, strict=True))


def _number(text: str) -> Fraction:
    """Exact value of a decimal numeral; raises `OverflowError` above the largest float."""
    mantissa, _, exponent = text.lower().replace("_", "").partition("e")
    if len(mantissa) > 400 or (exponent and abs(int(exponent)) > 400):
        raise OverflowError
    return Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0)


def wanted(unit: str) -> str:
    """Description of valid values in `unit`, for error messages."""
    if unit == "1":
        return "a finite number"
    return f'a finite number with a unit such as "{example(unit)}"'


def to_base(value: object, unit: str) -> float:
    """`value` in the base unit `unit`: Python numbers are already in it, texts are converted.

    Raises `ValueError` with the expected form and a hint for misspelled units.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(wanted(unit))
    try:
        result = _text_to_base(value, unit) if isinstance(value, str) else float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(wanted(unit))
    return result


def _text_to_base(text: str, unit: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(wanted(unit))
    if _SEPARATED.match(text.strip()):
        raise ValueError(f"{wanted(unit)}, without commas")
    number, given = match.groups()
    given = given.strip() or ("1" if unit == "1" else "")
    if not given:
        raise ValueError(f'a text with a unit, such as "{example(unit)}"')
    try:
        size, dim = unit_size(given)
    except KeyError as error:
        hint = near_unit(given, unit)
        raise ValueError(f"{wanted(unit)} ({error.args[0]!r} is no unit{hint})") from None
    if dim != unit_size(unit)[1]:
        hint = near_unit(given, unit)
        raise ValueError(f'{wanted(unit)} ("{given}" is another dimension{hint})')
    return float(_number(number) * size)
