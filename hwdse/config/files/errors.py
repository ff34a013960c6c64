"""One-line errors of user input: file, table, key, value and the expected value."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class ConfigError(ValueError):
    """Error in a TOML file, a preset name, a path or a `--set`, with a text of one line."""


MAX_MISTAKES = 20
"""Largest number of mistakes in one error."""


class MistakesError(ConfigError):
    """Several errors of one file; the text has a line for each of the first `MAX_MISTAKES`."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        lines = [str(error) for error in self.errors[:MAX_MISTAKES]]
        if len(self.errors) > MAX_MISTAKES:
            lines.append(f"and {len(self.errors) - MAX_MISTAKES} more mistakes")
        super().__init__("\n".join(lines))


class Mistakes:
    """Collector of the errors of independent checks, which are raised together."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def run(self, check: Callable[..., Any], *arguments: Any) -> Any:
        """Result of a check, or None after a `ConfigError`, which is kept."""
        try:
            return check(*arguments)
        except ConfigError as error:
            self.errors += error.errors if isinstance(error, MistakesError) else (error,)
            return None

    def finish(self) -> None:
        """Raise the errors that were kept."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise MistakesError(self.errors)


class MissingFileError(ConfigError):
    """Error of a preset or file that does not exist; `expected` lists the known ones."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(one_line(f"{show(name)}: expected {expected}"))
        self.expected = expected


def one_line(text: str) -> str:
    """`text` with every run of white space as one space."""
    return " ".join(text.split())


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the option most like `word`, or an empty string.

    An option of several words that begins or ends with `word` comes before similar spellings:
    `collective_launch` for `launch`, not `latency`.
    """
    folded: dict[str, str] = {}
    for option in options:
        folded.setdefault(option.lower(), option)
    text = str(word).lower()
    match = [name for name in folded if _extends(name, text)]
    if text in folded or len(match) != 1:
        match = difflib.get_close_matches(text, folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[match[0]]}'?" if match else ""


def _extends(name: str, text: str) -> bool:
    """True if `name` is `text` with more words before or after the last word of its path."""
    head, dot, last = text.rpartition(".")
    rest = name.removeprefix(head + dot)
    is_sibling = name.startswith(head + dot) and "." not in rest
    return is_sibling and (rest.endswith(f"_{last}") or rest.startswith(f"{last}_"))


def listed(options: Iterable[str]) -> str:
    """Names as a list for messages, in their order: `a, b, c`."""
    return ", ".join(options)


def _plain(value: object) -> object:
    """The value with whole floats as integers, as a user writes them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return int(value) if is_whole and isinstance(value, float) else value


def show(value: object) -> str:
    """A value in TOML notation, on one line of at most 60 characters."""
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
    """Place of an error: a file as named by the user, and a table in it."""

    file: str
    table_name: str = ""

    def table(self, name: str) -> "ConfigLocation":
        """A table within this place."""
        return ConfigLocation(self.file, f"{self.table_name}.{name}" if self.table_name else name)

    def error(self, key: str, value: object, expected: str) -> ConfigError:
        """Error `FILE [table] key = value: expected ...`."""
        return ConfigError(one_line(f"{self._place()}{key} = {show(value)}: expected {expected}"))

    def missing(self, key: str, expected: str) -> ConfigError:
        """Error `FILE [table] key is missing: expected ...`."""
        return ConfigError(one_line(f"{self._place()}{key} is missing: expected {expected}"))

    def _place(self) -> str:
        return f"{self.file} [{self.table_name}] " if self.table_name else f"{self.file} "
