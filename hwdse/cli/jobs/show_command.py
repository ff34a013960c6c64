"""`hwdse show`: a chip, system, model, task, core or stack by itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwdse.cli.shared.common_options import DEFAULT_FORMATS, Formats, Json, Plots, parse_formats
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files

if TYPE_CHECKING:
    from hwdse.jobs.sheets import Sheet

NAME = "show"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Preset, TOML file or config.json of a model.")
    ],
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Show a chip, system, model, task, core or training stack.

    A chip: peaks, balance points, area, power; --plots draws its rooflines. A model: parameters,
    FLOP and KV cache per token, memory by strategy. The kind follows from the name or the keys of
    the file.

    \b
    Examples:
      hwdse show h100 --plots plots
      hwdse show llama3_70b
    """
    show(name, plots, formats, json=json)


def _left(heads: tuple[str, ...]) -> int:
    """Number of columns of text: all of a table of assumptions, else the first."""
    return len(heads) if heads[-1] == "assumption" else 1


def show(name: str, plots: Path | None, formats: str, *, json: bool) -> None:
    """Print the sheet of a preset or file, and draw the rooflines of a chip."""
    from hwdse.config.files.named_items import find_item
    from hwdse.jobs.sheets import sheet

    item, kinds = find_item(name), parse_formats(formats)
    found = sheet(item)
    files = _draw(found, item.kind, plots, kinds) if plots is not None else []
    if json:
        told = {"kind": item.kind, "name": name, "title": found.title}
        print_json(
            {**told, "values": found.values, "not_modeled": found.not_modeled, "files": files}
        )
        tell_files(files)
        return
    say(found.title)
    say("")
    for table in found.tables:
        print_table(table.title, table.heads, table.cells, left=_left(table.heads))
    for note in found.not_modeled:
        say(f"not modeled: {note}")
    tell_files(files)


def _draw(found: "Sheet", kind: str, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Plots of a chip, or of the chips of a system; their paths."""
    from hwdse.report.evaluation_plots import save_chip_roofline
    from hwdse.report.plot_targets import sheet_files

    if kind not in ("chip", "system"):
        raise CommandError(f"--plots: a {kind} has no plots; expected a chip or a system")
    values = found.values["chip"] if kind == "system" else found.values
    return save_chip_roofline(values, sheet_files(found.title, values, folder, formats))
