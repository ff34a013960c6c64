"""`hwdse explain`: value, origin, band and effect of one constant."""

from typing import Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json, Sets
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say

NAME = "explain"
DEFAULT_JOB = "trn2_llama3_70b"
DEFAULT_CORE_JOB = "gemmini_bert"
DEPENDENTS = (
    "time_per_token",
    "energy_per_token",
    "cost_per_token",
    "carbon_per_token",
    "die_area",
    "chip_power",
    "chip_cost",
    "hbm_used_ratio",
)
"""Metrics whose elasticities are computed."""


def run(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Path such as chip.process.sram_area.")
    ],
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="Job in which the constant is used."),
    ] = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Explain one constant: value, source, band, and what depends on it.

    Prints value, unit, kind (published, measured, derived, fitted, assumed, default), the line of
    its file, its band, and the elasticities of time, energy and cost in the job.

    \b
    Examples:
      hwdse explain chip.process.sram_area
      hwdse explain chip.hbm.bandwidth trn2_llama3_70b
    """
    from hwdse.config import load_search
    from hwdse.jobs.reliance import explanation

    default = DEFAULT_CORE_JOB if path.startswith("accelerator") else DEFAULT_JOB
    loaded = load_search(job or default, sets or ())
    try:
        found = explanation(loaded, path, DEPENDENTS)
    except ValueError as error:
        raise CommandError(f"{path}: expected {error}") from None
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    say(f"{found['path']} = {found['text']}   in {found['title']}")
    if found["meaning"]:
        say(found["meaning"])
    rows = [["kind", found["kind"]], ["source", found["note"] or "-"], ["place", found["place"]]]
    band = found["band_ratio"]
    if band:
        rows.append(["band", f"+- {100 * band:.3g} %: {found['low_text']} to {found['high_text']}"])
    print_table("", ["", ""], rows)
    slopes = {k: v for k, v in found["elasticities"].items() if v is None or abs(v) >= 5e-4}
    cells = [
        [name.replace("_", " "), f"{slope:+.3f}" if slope is not None else "NaN"]
        for name, slope in slopes.items()
    ]
    if cells:
        print_table("elasticities (% per +1 %)", ["metric", "elasticity"], cells)
    else:
        say("no metric of this job depends on it")
