"""Free parameters of `hwdse solve` whose allowed values depend on one another.

Only some whole numbers are possible (degrees that divide, chips in whole domains); continuous
ranges end where the design becomes impossible.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.shared.exit_codes import CommandError

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.config.search.valid_combinations import DesignChecker
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.answers.solve_targets import Coupled

SMALL_COUNT = 4096
"""Whole numbers up to this one are all tried."""
LARGEST_RATIO = 128
"""Larger whole numbers are tried at ratios of integers up to this one to the base value."""
MAX_COMBINATIONS = 100_000
NUM_BISECTIONS = 60
SMALLEST_RANGE = 1.0 + 1e-6
"""Ratio of the ends of a range that counts as one value."""


def restricted_parameters(
    loaded: "LoadedSearch", parts: Sequence["FreeParameter"]
) -> "tuple[tuple[FreeParameter, ...], Coupled | None]":
    """Free parameters with possible ranges, and the possible combinations of whole numbers.

    Raises `CommandError` for a parameter that cannot vary with the others at the base design.
    """
    from hwdse.config.search.valid_combinations import checker_of, is_coupled

    checker = checker_of(loaded)
    whole = [part for part in parts if part.step is not None and is_coupled(part.path)]
    smooth = [part for part in parts if part.step is None and is_coupled(part.path)]
    ranges = {part.path: _possible_range(checker, part) for part in smooth}
    found = tuple(ranges.get(part.path, part) for part in parts)
    _check_together(checker, list(ranges.values()))
    return found, _combinations(loaded, checker, whole)


def _possible_range(checker: "DesignChecker", part: "FreeParameter") -> "FreeParameter":
    """The parameter with the possible part of its range around the base value."""
    from hwdse.config.schema.user_paths import short_path

    def end(limit: float) -> float:
        """Value farthest from the base, at most `limit`, that is possible."""
        if checker.problem({part.path: limit}) is None:
            return limit
        near, far = 0.0, math.log(limit / part.base)
        for _ in range(NUM_BISECTIONS):
            middle = 0.5 * (near + far)
            is_possible = checker.problem({part.path: part.base * math.exp(middle)}) is None
            near, far = (middle, far) if is_possible else (near, middle)
        return part.base * math.exp(near)

    low, high = end(part.low), end(part.high)
    if high < low * SMALLEST_RANGE:
        reason = checker.problem({part.path: part.high}) or checker.problem({part.path: part.low})
        raise CommandError(f"--free {short_path(part.path)}: cannot vary alone; {reason}")
    return dataclasses.replace(part, low=low, high=high)


def _check_together(checker: "DesignChecker", parts: "Sequence[FreeParameter]") -> None:
    """Check the combined ends of continuous ranges."""
    from hwdse.config.schema.user_paths import short_path

    for ends in itertools.product(*((part.low, part.high) for part in parts)):
        values = dict(zip((part.path for part in parts), ends, strict=True))
        reason = checker.problem(values)
        if reason is not None:
            names = ", ".join(map(short_path, values))
            raise CommandError(f"--free {names}: cannot vary together; {reason}; free one of them")


def _combinations(
    loaded: "LoadedSearch", checker: "DesignChecker", parts: "Sequence[FreeParameter]"
) -> "Coupled | None":
    """Possible combinations of whole numbers; None if all are."""
    from hwdse.search.answers.solve_targets import Coupled

    if not parts:
        return None
    paths = tuple(part.path for part in parts)
    axes = _rows_of_choices(loaded, paths)
    is_any_allowed = not axes
    others = [part for part in parts if not any(part.path in axis[0] for axis in axes)]
    most = int(MAX_COMBINATIONS ** (1.0 / max(len(others), 1)))
    axes += [[{part.path: value} for value in _candidates(part, most)] for part in others]
    tried = [_joined(rows) for rows in itertools.product(*axes)]
    possible = [values for values in tried if checker.is_possible(values)]
    if len(possible) == len(tried) and is_any_allowed:
        return None
    return Coupled(paths, tuple(tuple(values[path] for path in paths) for values in possible))


def _joined(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {path: value for row in rows for path, value in row.items()}


def _rows_of_choices(loaded: "LoadedSearch", paths: Sequence[str]) -> list[list[dict[str, float]]]:
    """For each choice with some of the paths, their values in the rows that otherwise have the
    base values."""
    from hwdse.search.space.pytree_path import get_path

    found = []
    for choice in loaded.space.choices:
        columns = {path: i for i, path in enumerate(choice.paths) if path in paths}
        if not columns:
            continue
        rest = [(i, path) for i, path in enumerate(choice.paths) if path not in columns]
        rows = [
            {path: row[i] for path, i in columns.items()}
            for row in choice.table
            if all(row[i] == float(get_path(loaded.base, path)) for i, path in rest)
        ]
        base = {path: float(get_path(loaded.base, path)) for path in columns}
        found.append(rows if base in rows else [base, *rows])
    return found


def _candidates(part: "FreeParameter", most: int) -> list[float]:
    """Whole multiples of the step to try: all small ones, and simple ratios to the base value."""
    step = part.step or 1.0
    numbers = np.arange(1.0, LARGEST_RATIO + 1.0)
    ratios = np.unique(np.divide.outer(numbers, numbers))
    counts = part.base / step * ratios
    counts = np.concatenate((np.arange(1.0, SMALL_COUNT + 1.0), counts[counts % 1.0 == 0.0]))
    values = np.unique(counts) * step
    values = values[(part.low <= values) & (values <= part.high)]
    nearest = np.argsort(np.abs(np.log(values / part.base)), kind="stable")[:most]
    return [float(value) for value in np.sort(values[nearest])]
