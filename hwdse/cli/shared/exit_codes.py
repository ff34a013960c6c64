"""Exit codes, and the error that carries one."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch


class Exit(IntEnum):
    """How a command ends, for scripts."""

    OK = 0
    INTERNAL_ERROR = 1
    USER_ERROR = 2
    """Of the user: an option, a config, a file."""
    INFEASIBLE = 3
    """No design meets the constraints."""
    INTERRUPTED = 5
    """By Ctrl-C, with everything so far on disk: `--resume` goes on."""
    ABORTED = 130
    """By Ctrl-C, with nothing to go on from."""


class CommandError(Exception):
    """Ends a command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.USER_ERROR) -> None:
        super().__init__(message)
        self.code = code


def refuse_robust(loaded: "LoadedSearch", config: object, command: str) -> None:
    """Raises `CommandError` where the search file asks for a robust objective, which is one over a
    sample of constants, of a command that judges by the nominal ones."""
    if loaded.robust is not None:
        raise CommandError(
            f"{config}: [objective] robust = {loaded.robust.text!r}: expected none for {command}, "
            "which judges by the nominal constants"
        )
