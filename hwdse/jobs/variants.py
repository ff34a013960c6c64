"""Variants of a job along an axis: `system=a,b`, `chip.hbm.bandwidth=2..8TB/s:7`."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.config.files.errors import ConfigError
from hwdse.jobs.composed_job import Job

PARTS = (
    "system",
    "count",
    "model",
    "task",
    "strategy",
    "software",
    "batch",
    "seq",
    "chip",
    "layers",
)
"""Arguments of `hwdse.job` that an axis may name; every other name is a path."""
MAX_POINTS = 200
"""Largest number of values of one axis."""
_NUMBER = r"[+-]?\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*(.*)")
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})\s*([^:]*):(\d+)")


@dataclass(frozen=True)
class Axis:
    """Values of one part or parameter of a job."""

    path: str
    values: tuple[str, ...]

    def numbers(self) -> tuple[np.ndarray, str] | None:
        """Values as numbers and their common unit; None for names and different units."""
        matches = [_QUANTITY.fullmatch(value) for value in self.values]
        found = [(float(match[1]), match[2]) for match in matches if match is not None]
        units = {unit for _, unit in found}
        if len(found) < len(self.values) or len(units) > 1:
            return None
        return np.array([number for number, _ in found]), units.pop()


def parse_axis(text: str) -> Axis:
    """Axis of a text `PATH=A,B,C` or `PATH=LOW..HIGH UNIT:N` with N equal steps.

    Values that contain commas, such as strategies, are separated by semicolons. Raises
    `ConfigError` with one line.
    """
    path, mark, rest = (part.strip() for part in text.partition("="))
    if not (path and mark and rest):
        raise ConfigError(f"--vary {text}: expected PATH=A,B,C or PATH=LOW..HIGH UNIT:N")
    match = _RANGE.fullmatch(rest)
    if match is None:
        values = tuple(part.strip() for part in rest.split(";" if ";" in rest else ","))
        if "" in values or len(set(values)) < len(values):
            raise ConfigError(f"--vary {text}: expected distinct values, such as {path}=A,B,C")
        return Axis(path, values)
    low, high, unit, count = float(match[1]), float(match[2]), match[3].strip(), int(match[4])
    if not 2 <= count <= MAX_POINTS or not low < high:
        raise ConfigError(f"--vary {text}: expected LOW below HIGH and 2 to {MAX_POINTS} values")
    numbers = [low + (high - low) * i / (count - 1) for i in range(count)]
    return Axis(path, tuple(f"{number:.10g} {unit}".strip() for number in numbers))


def with_value(one: Job, path: str, value: str) -> Job:
    """The job with one value of an axis."""
    if path not in PARTS:
        return Job(one.source, (*one.sets, f"{path}={value}"))
    number: Any = int(value) if path in ("count", "batch", "seq") and value.isdecimal() else value
    return one.with_(**{path: number})


def short_axis(path: str) -> str:
    """Last two words of a path, as label: `hbm.bandwidth`."""
    return ".".join(path.split(".")[-2:])
