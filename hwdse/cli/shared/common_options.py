"""Arguments and options of several commands."""

import math
from pathlib import Path
from typing import Annotated

import typer

PLOT_FORMATS = ("png", "svg", "pdf")
"""File formats of plots; equal to those of `plots.figure_files`, which needs matplotlib."""


def parse_count(text: str | int) -> int:
    """Integer from 1 to 1e15, also written as 1e6 or 250_000."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value <= 1e15 and value.is_integer()):
        raise typer.BadParameter(f"{text!r} is not an integer from 1 to 1e15, such as 1e6.")
    return int(value)


def parse_seed(text: str | int) -> int:
    """Integer of at least 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise typer.BadParameter(f"{text!r} is not an integer of at least 0.")
    return value


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats of plots from a comma-separated list, each once."""
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if not all(part in PLOT_FORMATS for part in found):
        allowed = ",".join(PLOT_FORMATS)
        raise typer.BadParameter(f"--format {text}: expected some of {allowed}.")
    return found


Config = Annotated[str, typer.Argument(metavar="CONFIG", help="Config file (TOML) or preset name.")]
JobOrDefault = Annotated[
    str | None, typer.Argument(metavar="JOB", help="Job in which the constant is used.")
]
"""Config file or preset that a command can do without."""
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help='Override one value, e.g. chip.hbm.bandwidth="4 TB/s". Repeatable.',
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object in SI units.")]
Plots = Annotated[
    Path | None,
    typer.Option("--plots", metavar="FOLDER", help="Write plots to this folder."),
]
Formats = Annotated[
    str,
    typer.Option("--format", metavar="LIST", help="Formats of plots: some of png,svg,pdf."),
]
DEFAULT_FORMATS = "png,svg"
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", help="Run folder.  [default: runs/CONFIG-COMMAND-HASH]"
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue a stopped run; CONFIG may be its run folder."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run in the folder of --out.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        parser=parse_seed,
        metavar="N",
        help="Random seed.  [default: seed of the config]",
    ),
]
