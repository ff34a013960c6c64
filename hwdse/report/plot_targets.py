"""Folder, formats, title and small print of the plots of a command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdse.plots.figure_files import DEFAULT_FORMATS, PlotFiles

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch

MODEL_INPUTS = ("design", "workload")
"""Resolved inputs whose hash identifies the base design and workload of a plot."""


def plot_files(
    loaded: "LoadedSearch",
    folder: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    footer: str = "",
) -> PlotFiles:
    """Target of the plots of a loaded search; `footer` is a line on what is assumed."""
    small_print = " ".join(part for part in (provenance(loaded.resolved), footer) if part)
    return PlotFiles(folder, tuple(formats), loaded.title, small_print)


def sheet_files(
    title: str, values: Mapping[str, Any], folder: Path, formats: Sequence[str] = DEFAULT_FORMATS
) -> PlotFiles:
    """Target of the plots of the sheet of one item."""
    return PlotFiles(folder, tuple(formats), title, _small_print(values))


def provenance(resolved: Mapping[str, Any]) -> str:
    """Program, version and a hash of the base inputs, without a date."""
    return _small_print({name: resolved.get(name) for name in MODEL_INPUTS})


def _small_print(inputs: Mapping[str, Any]) -> str:
    from importlib.metadata import version

    from hwdse.runs.run_folder import run_hash

    return f"hwdse {version('hwdse')}, analytical model, base inputs {run_hash(inputs, 0)[:8]}."
