"""Reference files and error tables of all kinds of `hwdse validate`.

A reference file is a CSV that may begin with `#` lines (source, license, settings). A validation
computes one `Comparison` per quantity and passes them to `build_report`. Errors in the file raise
a `ValueError` of one line with file, line, column, value and expectation.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from hwdse.config.files.csv_rows import cells_below, csv_rows, read_text

Metrics = dict[str, float | int | None]
"""Metrics of `score` by name; `None` if undefined."""


@dataclass(frozen=True)
class ReferenceTable:
    """Rows of a CSV as text, with their line numbers for messages."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def error(self, row: int, column: str, expected: str) -> ValueError:
        """Error of a bad cell in one line: file, line, column, value, expectation."""
        value = self.rows[row][column]
        place = f"{self.path}, line {self.lines[row]}, column '{column}'"
        return ValueError(f"{place}: got '{value}', expected {expected}")

    def text(self, column: str, allowed: Collection[str] | None = None) -> list[str]:
        """Cells of a column. With `allowed`, any other cell raises an error."""
        self._require(column)
        cells = [row[column] for row in self.rows]
        if allowed is not None:
            for index, cell in enumerate(cells):
                if cell not in allowed:
                    raise self.error(index, column, "one of " + ", ".join(sorted(allowed)))
        return cells

    def numbers(
        self,
        column: str,
        *,
        at_least: float = -math.inf,
        may_be_empty: bool = False,
        whole: bool = False,
    ) -> np.ndarray:
        """Finite (or `whole`) numbers of a column. Empty cells are NaN if `may_be_empty`."""
        bound = "" if at_least == -math.inf else f" of at least {at_least:g}"
        expected = f"a {'whole ' if whole else ''}number{bound}"
        values = np.empty(len(self))
        for index, cell in enumerate(self.text(column)):
            if may_be_empty and not cell:
                values[index] = math.nan
                continue
            try:
                values[index] = float(cell)
            except ValueError:
                values[index] = math.nan
            is_allowed = math.isfinite(values[index]) and values[index] >= at_least
            if not is_allowed or (whole and values[index] % 1.0):
                raise self.error(index, column, expected)
        return values

    def _require(self, column: str) -> None:
        if column not in self.columns:
            raise ValueError(
                f"{self.path}: no column '{column}'; the header has {', '.join(self.columns)}"
            )


def read_table(path: Path, required: Sequence[str] = ()) -> ReferenceTable:
    """Read a CSV with a header row; `required` columns must exist, `#` lines are remarks."""
    found = csv_rows(read_text(path, str(path)), str(path))
    if not found:
        raise ValueError(f"{path}: no header row; expected column names")
    header, *data = found
    columns = header.filled
    rows = tuple(
        dict(zip(columns, cells_below(columns, row, str(path)), strict=True)) for row in data
    )
    if not rows:
        raise ValueError(f"{path}: no data rows; expected at least one below the header")
    table = ReferenceTable(path, columns, rows, tuple(row.line for row in data))
    for column in required:
        table._require(column)
    return table


def at_rows(num_rows: int, index: Sequence[int] | np.ndarray, values: ArrayLike) -> np.ndarray:
    """Column of a table with values at some of its rows, NaN at the others."""
    column = np.full(num_rows, np.nan)
    column[np.asarray(index, int)] = values
    return column


def printed_resolution(cells: Sequence[str]) -> np.ndarray:
    """Unit of the last printed digit of each cell, e.g. 0.01 for `3.10`; NaN if not a number."""
    units = np.full(len(cells), math.nan)
    for index, cell in enumerate(cells):
        try:
            exponent = Decimal(cell).as_tuple().exponent
        except InvalidOperation:
            continue
        if isinstance(exponent, int):
            units[index] = 10.0**exponent
    return units


@dataclass(frozen=True)
class Comparison:
    """One quantity over all rows of a file. A row with NaN in either array is not scored.

    `resolution` is the unit of the last printed digit of the reference (see
    `printed_resolution`), a number or one per row. Values agree if they differ by at most half of
    it; with zero, only equal float64 values agree.
    """

    reference: np.ndarray
    model: np.ndarray
    resolution: np.ndarray | float = 0.0

    @property
    def is_scored(self) -> np.ndarray:
        """True if both arrays have a value."""
        return ~(np.isnan(self.reference) | np.isnan(self.model))

    @property
    def differs(self) -> np.ndarray:
        """True if a scored row differs in the printed digits."""
        rounding = 1e-14 * np.abs(self.reference) * (np.asarray(self.resolution) > 0.0)
        margin = 0.5 * np.nan_to_num(self.resolution) + rounding
        return self.is_scored & ~(np.abs(self.model - self.reference) <= margin)


def score(
    reference: np.ndarray, model: np.ndarray, resolution: np.ndarray | float = 0.0
) -> Metrics:
    r"""Error metrics of one quantity, as fractions; rows with a NaN are left out.

    With $e = \text{model} / \text{reference} - 1$, `mape` is the mean of $|e|$, and
    `median_ape`, `p90_ape` and `max_ape` are its quantiles. `bias` is the mean of $e$. `spearman`
    is the rank correlation (undefined if one side is constant). `mismatches` counts the rows that
    differ in the printed digits. A row with reference zero has no $e$, but counts as a mismatch,
    unless the model is zero too ($e = 0$).
    """
    comparison = Comparison(np.asarray(reference), np.asarray(model), resolution)
    scored = comparison.is_scored
    ref, mod = comparison.reference[scored], comparison.model[scored]
    both_zero = (ref == 0.0) & (mod == 0.0)
    defined = (ref != 0.0) | both_zero
    denominator = np.where(ref == 0.0, 1.0, ref)
    error = np.where(both_zero, 0.0, mod / denominator - 1.0)[defined]
    ape = np.abs(error)
    has_error = ape.size > 0
    return {
        "num_rows": int(scored.sum()),
        "mape": float(ape.mean()) if has_error else None,
        "median_ape": float(np.median(ape)) if has_error else None,
        "p90_ape": float(np.quantile(ape, 0.9)) if has_error else None,
        "max_ape": float(ape.max()) if has_error else None,
        "bias": float(error.mean()) if has_error else None,
        "spearman": _spearman(ref, mod),
        "mismatches": int(comparison.differs.sum()),
    }


def _spearman(reference: np.ndarray, model: np.ndarray) -> float | None:
    """Spearman rank correlation with ties; `None` if a side has fewer than two distinct values."""
    if len(np.unique(reference)) < 2 or len(np.unique(model)) < 2:
        return None
    return float(np.corrcoef(rankdata(reference), rankdata(model))[0, 1])


@dataclass(frozen=True)
class ValidationReport:
    """Error table of a model against a reference file.

    `rows_skipped` counts rows outside the scope of the model, by reason. `rows_partly_scored`
    counts scored rows without a model for some quantities. `metrics` is by quantity, `groups` by
    group label such as `dataflow=ws` and then by quantity. See `score` for the metrics.
    """

    kind: str
    file: str
    rows_scored: int
    rows_skipped: dict[str, int]
    metrics: dict[str, Metrics]
    groups: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    rows_partly_scored: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Content of `--json`, with JSON types only; `None` for undefined metrics."""
        return {
            "kind": self.kind,
            "file": self.file,
            "rows_scored": self.rows_scored,
            "rows_skipped": dict(self.rows_skipped),
            "rows_partly_scored": dict(self.rows_partly_scored),
            "metrics": self.metrics,
            "groups": self.groups,
        }


def build_report(
    kind: str,
    path: Path,
    comparisons: Mapping[str, Comparison],
    *,
    rows_skipped: Mapping[str, int] | None = None,
    rows_partly_scored: Mapping[str, int] | None = None,
    group_by: Mapping[str, Sequence[str]] | None = None,
) -> ValidationReport:
    """Error table of every quantity over all rows and over each group of rows.

    `comparisons` maps a quantity to its full-length arrays. `group_by` maps the name of a grouping
    (`dataflow`) to one label per row. A group contains only quantities with a scored row in it.
    A row counts as scored if at least one of its quantities is scored.
    """
    if not comparisons:
        raise ValueError(f"{path}: nothing to compare; expected at least one quantity")
    is_scored = np.any([c.is_scored for c in comparisons.values()], axis=0)
    everything = np.ones(len(is_scored), dtype=bool)
    groups: dict[str, dict[str, Metrics]] = {}
    for grouping, labels in (group_by or {}).items():
        for label in sorted(set(labels)):
            chosen = np.asarray([other == label for other in labels])
            table = _score_rows(comparisons, chosen)
            if table:
                groups[f"{grouping}={label}"] = table
    return ValidationReport(
        kind=kind,
        file=str(path),
        rows_scored=int(is_scored.sum()),
        rows_skipped=_counted(rows_skipped),
        metrics=_score_rows(comparisons, everything),
        groups=groups,
        rows_partly_scored=_counted(rows_partly_scored),
    )


def _counted(reasons: Mapping[str, int] | None) -> dict[str, int]:
    return {reason: int(count) for reason, count in (reasons or {}).items() if count}


def _score_rows(comparisons: Mapping[str, Comparison], chosen: np.ndarray) -> dict[str, Metrics]:
    """Metrics by quantity over the chosen rows."""
    table = {}
    for quantity, comparison in comparisons.items():
        if not np.any(comparison.is_scored & chosen):
            continue
        resolution = np.broadcast_to(comparison.resolution, comparison.reference.shape)
        table[quantity] = score(
            comparison.reference[chosen], comparison.model[chosen], resolution[chosen]
        )
    return table
