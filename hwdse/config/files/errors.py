"""A user's mistake as one line: file, table, key, value, and what was allowed."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class ConfigError(ValueError):
    """A mistake in a TOML file, a preset name, a path or a `--set`; its text is one line."""


class MissingFileError(ConfigError):
    """No such preset or file; `expected` says what there is."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(one_line(f"{show(name)}: expected {expected}"))
        self.expected = expected


def one_line(text: str) -> str:
    """`text` with every run of blanks and line ends as one blank."""
    return " ".join(text.split())


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the option spelled most like `word`, or nothing."""
    folded: dict[str, str] = {}
    for option in options:
        folded.setdefault(option.lower(), option)
    match = difflib.get_close_matches(str(word).lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[match[0]]}'?" if match else ""


def listed(options: Iterable[str]) -> str:
    """Names for a message, in their order: `a, b, c`."""
    return ", ".join(options)


def _plain(value: object) -> object:
    """Whole floats as integers, as a user writes them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return int(value) if is_whole and isinstance(value, float) else value


def show(value: object) -> str:
    """A value as it stands in TOML, shortened to one line of at most 60 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = f'"{value}"' if isinstance(value, str) else one_line(repr(_plain(value)))
    except (ValueError, RecursionError):  # integers of thousands of digits, deep nesting
        text = f"({type(value).__name__})"
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 60 else f"{text[:56]}..."


@dataclass(frozen=True)
class ConfigLocation:
    """The place of a mistake: a file as the user named it, and a table in it."""

    file: str
    table_name: str = ""

    def table(self, name: str) -> "ConfigLocation":
        """The same file, one table deeper."""
        return ConfigLocation(self.file, f"{self.table_name}.{name}" if self.table_name else name)

    def error(self, key: str, value: object, expected: str) -> ConfigError:
        """`FILE [table] key = value: expected ...`."""
        return ConfigError(one_line(f"{self._place()}{key} = {show(value)}: expected {expected}"))

    def missing(self, key: str, expected: str) -> ConfigError:
        """`FILE [table] key is missing: expected ...`."""
        return ConfigError(one_line(f"{self._place()}{key} is missing: expected {expected}"))

    def _place(self) -> str:
        return f"{self.file} [{self.table_name}] " if self.table_name else f"{self.file} "
