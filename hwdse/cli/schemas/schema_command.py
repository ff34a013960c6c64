"""`hwdse schema`: JSON Schema of the output of a command with --json."""

from typing import Annotated

import typer

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, say

NAME = "schema"


def run(
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Name of a command.  [default: list of all]"),
    ] = None,
) -> None:
    """Print the JSON Schema of the output of a command with --json.

    Draft 2020-12. Without a command: the commands with --json, one per line. Numbers are in SI base
    units, and null if they are not finite.

    \b
    Examples:
      hwdse schema
      hwdse schema evaluate
    """
    from hwdse.cli.schemas.json_schemas import SCHEMAS, schema_of
    from hwdse.config.files.errors import did_you_mean, listed

    if command is None:
        for name in SCHEMAS:
            say(name)
        return
    if command not in SCHEMAS:
        hint = did_you_mean(command, SCHEMAS)
        raise CommandError(f"{command}: expected one of {listed(SCHEMAS)}{hint}")
    print_json(schema_of(command))
