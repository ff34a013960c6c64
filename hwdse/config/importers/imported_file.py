"""A file of hwdse made from a file of another tool, and checked reading of such files.

`SourceTable` returns checked values of a table and keeps account of the keys that were read, so
that every other key can be named as not expressed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdse.config.files.errors import (
    ConfigError,
    ConfigLocation,
    did_you_mean,
    listed,
    one_line,
    show,
)
from hwdse.config.files.toml_files import read_bytes

SOURCE = ""
"""Path of the note at the head of a file in `ImportedFile.notes`."""
MAX_COUNT = 10**15
"""Largest count that a source may contain."""


@dataclass(frozen=True)
class ImportedFile:
    """Tables of a file of hwdse with the origin of their values."""

    kind: str
    """"model", "task", "chip", "system", "accelerator" (a core), "software", "strategy" or
    "job"."""
    name: str
    """Name of the file without its extension."""
    tables: Mapping[str, Any]
    """Tables as in TOML."""
    not_expressed: tuple[str, ...] = ()
    """`KEY = VALUE (reason)` for each part of the source that the tables do not contain."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Origin of values by dotted path, and of a file as a whole by the path `SOURCE`."""
    made_from: tuple[Path, ...] = ()
    """Source files."""
    usage: str = ""
    """Command that uses the file, which is `{path}` in it."""

    def renamed(self, name: str) -> "ImportedFile":
        """The file with another name."""
        return replace(self, name=name)


def file_stem(title: str) -> str:
    """Title as the name of a file: lower case, other characters than letters and digits as `_`."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "imported"


def not_expressed(key: str, value: object, reason: str) -> str:
    """Line about a part of a source without a counterpart: `KEY = VALUE (reason)`."""
    return one_line(f"{key} = {show(value)} ({reason})")


class SourceTable:
    """Table of a source file: checked values, and the keys that were not read."""

    def __init__(
        self,
        table: Mapping[str, Any],
        where: ConfigLocation,
        written: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.table = MappingProxyType(dict(table))
        self.where = where
        self._written = written  # keys as in the source, by keys of the table
        self._read: set[str] = set()

    def error(self, key: str, value: object, expected: str) -> ConfigError:
        """Error of a value, with the key as the source has it."""
        return self.where.error(self._written.get(key, key), value, expected)

    def given(self, *keys: str) -> str | None:
        """First of `keys` with a value other than null; all of them count as read."""
        self._read.update(keys)
        return next((key for key in keys if self.table.get(key) is not None), None)

    def raw(self, key: str) -> Any:
        """Value of a key as it is, or None."""
        self._read.add(key)
        return self.table.get(key)

    def count(self, key: str, *, at_least: int = 0) -> int:
        """Whole number of a key. Raises `ConfigError` if it is missing or not a whole number."""
        value = self._required(key, f"a whole number of at least {at_least}")
        is_whole = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_whole or value != value // 1 or not at_least <= value <= MAX_COUNT:
            raise self.error(key, value, f"a whole number of at least {at_least}")
        return int(value)

    def number(self, key: str, *, above: float = 0.0, at_most: float = 1e30) -> float:
        """Number of a key, larger than `above`, or at least 0 if `above` is negative."""
        expected = f"a number above {above:g}" if above >= 0.0 else "a number of at least 0"
        value = self._required(key, expected)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not above < value <= at_most or value < 0.0:
            limit = f", at most {at_most:g}" if at_most < 1e30 else ""
            raise self.error(key, value, expected + limit)
        return float(value)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Truth value of a key; `default` if it is missing or null."""
        if default is not None and self.given(key) is None:
            return default
        value = self._required(key, "true or false")
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def choice(self, key: str, options: Iterable[str]) -> str:
        """Text of a key, one of `options`."""
        options = tuple(options)
        value = self._required(key, f"one of {listed(options)}")
        if value not in options:
            hint = did_you_mean(value, options) if isinstance(value, str) else ""
            raise self.error(key, value, f"one of {listed(options)}{hint}")
        return str(value)

    def inner(self, key: str) -> "SourceTable":
        """Table of a key."""
        value = self._required(key, "a table")
        if not isinstance(value, Mapping):
            raise self.error(key, value, "a table")
        return SourceTable(value, self.where.table(key))

    def items(self, key: str) -> list[Any]:
        """List of a key, not empty."""
        value = self._required(key, "a list")
        if not isinstance(value, list) or not value:
            raise self.error(key, value, "a list that is not empty")
        return value

    def unread(self) -> list[str]:
        """Keys that no other function has read, in the order of the file."""
        return [key for key in self.table if key not in self._read]

    def unread_lines(
        self, reasons: Mapping[str, str], ignored: Iterable[str] = (), default: str = "unknown key"
    ) -> tuple[str, ...]:
        """Lines about the keys that were not read, without those in `ignored`, nulls and falses.

        `reasons` has the reason by key; others have the reason `default`.
        """
        prefix = f"{self.where.table_name}." if self.where.table_name else ""
        ignored = frozenset(ignored)
        return tuple(
            not_expressed(
                f"{prefix}{self._written.get(key, key)}",
                _summary(self.table[key]),
                reasons.get(key, default),
            )
            for key in self.unread()
            if key not in ignored and self.table[key] not in (None, False, [], {})
        )

    def _required(self, key: str, expected: str) -> Any:
        self._read.add(key)
        if self.table.get(key) is None:
            hint = did_you_mean(key, self.unread())
            raise self.where.missing(self._written.get(key, key), expected + hint)
        return self.table[key]


def _summary(value: Any) -> Any:
    """A value for one line: tables by their method (of quantization) or the names of their keys."""
    if not isinstance(value, Mapping):
        return value
    return value.get("quant_method") or f"table of {listed(map(str, value))}"


def read_json(path: Path, label: str) -> tuple[dict[str, Any], str]:
    """Object of a JSON file, and the SHA-256 of the file.

    Raises `ConfigError` with one line for a file that cannot be read or is no JSON object.
    """
    data = read_bytes(path, label)
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{label}: expected UTF-8 text in JSON") from None
    except RecursionError:
        raise ConfigError(f"{label}: expected valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise ConfigError(one_line(f"{label}: expected valid JSON ({error})")) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{label}: expected a JSON object, found {_json_kind(value)}")
    return value, hashlib.sha256(data).hexdigest()


def _json_kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")


def quantity(value: float, unit: str) -> str:
    """Text of a quantity in TOML, with 12 significant digits: `"312 TFLOPS"`."""
    return f"{value:.12g} {unit}"
