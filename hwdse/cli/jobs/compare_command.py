"""`hwdse compare`: systems, cores or jobs side by side, and variants of one of them."""

from pathlib import Path
from typing import Annotated

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Formats,
    Json,
    Plots,
    Sets,
    parse_formats,
)
from hwdse.cli.shared.job_flags import JobParts
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files

NAME = "compare"
RELIED = ("time_per_token",)
"""Metric of the line on the constants that the first job rests on."""
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the table, SI units.")
]


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="Systems (NAME or NAME:COUNT), cores or job files."
        ),
    ] = None,
    *,
    parts: JobParts,
    equal: Annotated[
        str | None,
        typer.Option(
            "--equal", metavar="TOTAL", help="Choose the numbers of systems: equal chips, power, "
            "cost or area."
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="PATH=VALUES", help="Variants: values A,B,C (A;B if they contain "
            "commas) or a range LOW..HIGH:N. Repeatable."
        ),
    ] = None,
    sets: Sets = None,
    csv: Csv = None,
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare systems, cores or jobs side by side.

    Each has its best parallelism strategy, unless --strategy or its file gives one. Ratios are to
    the first. --vary compares variants of the jobs: a name such as system or strategy, or a path.

    \b
    Examples:
      hwdse compare trn2_ultraserver:16 dgx_h100 --model llama3_70b --equal power
      hwdse compare dgx_h100:8 --model llama3_8b --vary chip.hbm.bandwidth=2..8TB/s:4
    """
    from hwdse.jobs.comparison import compare_named

    kinds = parse_formats(formats)
    found = compare_named(names or [], dict(parts), list(sets or ()), equal, list(vary or ()))
    files = []
    if csv is not None:
        from hwdse.runs.atomic_files import csv_text

        csv.write_text(csv_text(found.columns), encoding="utf-8")
        files.append(csv)
    if plots is not None:
        files += found.plot(plots, kinds)
    first = found.jobs[0]
    if json:
        rests_on = reliance_json(first.loaded, first.design, *RELIED)
        print_json({**found.as_json(), "rests_on": rests_on, "files": files})
    else:
        print_table(found.title, found.heads, found.cells)
        for note in found.notes:
            say(note)
        print_reliance(first.loaded, first.design, *RELIED)
    tell_files(files)
