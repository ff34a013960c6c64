"""`hwdse new`: a commented file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import note, say

NAME = "new"
KINDS = "chip, system, model, task, core, software, job, search"


def run(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {KINDS}.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new file, without .toml.")
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PRESET", help="Preset whose values are the base of the file."
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write a commented TOML file of all keys, with units and typical values.

    An existing file is not overwritten. The first line of the file names the next command.

    \b
    Examples:
      hwdse new chip my_chip --from trainium2
      hwdse new search my_search
    """
    from hwdse.config import new_files

    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    text = new_files.new_file(kind, path.stem, preset)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"{path}: exists; expected a new name") from None
    note(f"wrote {path}")
    say(f"next: {new_files.KINDS[kind].next_step.format(file=path)}")
