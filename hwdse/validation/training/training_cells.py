"""Cells of files of training runs, whose later columns are optional."""

import math
from collections.abc import Mapping


def cell_number(cell: str, default: float = math.nan) -> float:
    """Number in a cell, or the default if empty."""
    return float(cell) if cell else default


def cell_text(row: Mapping[str, str], column: str) -> str:
    """Cell of an optional column; empty in files without it."""
    return row.get(column, "")
