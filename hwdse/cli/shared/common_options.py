"""Arguments and options that several commands share."""

import math
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A search file (TOML), or a preset's name.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help='Change one value, such as chip.hbm.bandwidth="4 TB/s"; can be repeated.',
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Plots = Annotated[
    Path | None, typer.Option("--plots", metavar="FOLDER", help="Write pictures (PNG, SVG) here.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Run folder; by default one under runs/."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed; by default the one of the config.")
]


def parse_count(text: str | int) -> int:
    """A whole number above zero, also written as 1e6 or 250_000."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value <= 1e15 and value.is_integer()):
        raise typer.BadParameter(f"{text!r} is not a whole number from 1 to 1e15, such as 1e6.")
    return int(value)
