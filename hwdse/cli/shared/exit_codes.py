"""Exit codes of the commands and the error with an exit code."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch


class Exit(IntEnum):
    """Exit code of a command."""

    OK = 0
    INTERNAL_ERROR = 1
    USER_ERROR = 2
    """Invalid option, config or file."""
    INFEASIBLE = 3
    """No design meets the constraints."""
    INTERRUPTED = 5
    """Sweep stopped by a signal, with the finished chunks and their front on disk."""
    ABORTED = 130
    """Stopped by a signal; the last line says what is on disk and how to continue."""


class CommandError(Exception):
    """Error that ends a command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.USER_ERROR) -> None:
        super().__init__(message)
        self.code = code


def refuse_robust(loaded: "LoadedSearch", config: object, command: str) -> None:
    """Raise `CommandError` if a config has a robust objective.

    A robust objective is a statistic over sampled constants; some commands evaluate with nominal
    constants only.
    """
    if loaded.robust is not None:
        raise CommandError(
            f"{config}: [objective] robust = {loaded.robust.text!r}: expected none for {command}, "
            "which uses the nominal constants"
        )
