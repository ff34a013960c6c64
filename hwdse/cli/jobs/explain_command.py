"""`hwdse explain`: value, origin, band and effect of one constant."""

from typing import TYPE_CHECKING, Annotated

import typer

from hwdse.cli.shared.common_options import JobOrDefault, Json, Sets
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say
from hwdse.report.number_texts import signed

if TYPE_CHECKING:
    from hwdse.jobs.explanation import Explanation

NAME = "explain"
DEFAULT_JOB = "trn2_llama3_70b"
DEFAULT_CORE_JOB = "gemmini_bert"
MIN_ELASTICITY = 5e-4
"""Smallest printed elasticity; smaller ones are zero with three decimals."""


def run(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Path such as chip.process.sram_area.")
    ],
    job: JobOrDefault = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Explain one constant: value, source, band, and what depends on it.

    Prints value, unit, kind (published, measured, derived, fitted, class, default, assumed), the
    line of its file, its band, and the elasticities of time, energy and cost in the job.

    \b
    Examples:
      hwdse explain chip.process.sram_area
      hwdse explain chip.hbm.bandwidth trn2_llama3_70b
      hwdse explain chip.hbm.bandwidth --system dgx_h100:4 --model llama3_8b
    """
    from hwdse.config import load_search
    from hwdse.jobs.explanation import explain

    default = DEFAULT_CORE_JOB if path.startswith("accelerator") else DEFAULT_JOB
    loaded = load_search(job or default, sets or ())
    try:
        found = explain(loaded, path)
    except ValueError as error:
        raise CommandError(f"{path}: expected {error}") from None
    if json:
        print_json(found.as_json())
    else:
        _print(found)


def _print(found: "Explanation") -> None:
    from hwdse.config.schema.range_ends import side_text

    say(f"{found.path} = {found.text}   in {found.title}")
    if found.meaning:
        say(found.meaning)
    rows = [["kind", found.kind], ["source", found.note or "-"], ["place", found.place]]
    if found.band_ratio:
        ends = f"{found.low_text} to {found.high_text}"
        width = "of the class" if found.kind == "class" else f"± {100 * found.band_ratio:.3g} %"
        rows.append(["band", f"{width}: {ends}"])
    if found.one_sided:
        rows.append(["derivatives", side_text(found.one_sided)])
    print_table("", ["", ""], rows, left=2)
    if found.elasticities is None:
        say("no elasticities: they are of numbers of the design")
        return
    cells = [
        [name.replace("_", " "), signed(slope)]
        for name, slope in found.elasticities.items()
        if not abs(slope) < MIN_ELASTICITY  # a slope that is not a number is shown
    ]
    if cells:
        print_table("elasticities (% per +1 %)", ["metric", "elasticity"], cells)
    else:
        say("no metric of this job depends on it")
