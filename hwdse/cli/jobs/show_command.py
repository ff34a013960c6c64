"""`hwdse show`: a chip, system, model, task, core or stack by itself."""

from typing import Annotated

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.table_output import print_json, print_table, say

NAME = "show"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Preset, TOML file or config.json of a model.")
    ],
    json: Json = False,
) -> None:
    """Show a chip, system, model, task, core or training stack.

    A chip: peaks, balance points, area, power. A model: parameters, FLOP and KV cache per token,
    memory by strategy. The kind follows from the name or the keys of the file.

    \b
    Examples:
      hwdse show h100
      hwdse show llama3_70b
    """
    show(name, json=json)


def _left(heads: tuple[str, ...]) -> int:
    """Number of columns of text: all of a table of assumptions, else the first."""
    return len(heads) if heads[-1] == "assumption" else 1


def show(name: str, *, json: bool) -> None:
    """Print the sheet of a preset or file."""
    from hwdse.config.files.named_items import find_item
    from hwdse.jobs.sheets import sheet

    item = find_item(name)
    found = sheet(item)
    if json:
        told = {"kind": item.kind, "name": name, "title": found.title}
        print_json({**told, "values": found.values, "not_modeled": found.not_modeled})
        return
    say(found.title)
    say("")
    for table in found.tables:
        print_table(table.title, table.heads, table.cells, left=_left(table.heads))
    for note in found.not_modeled:
        say(f"not modeled: {note}")
