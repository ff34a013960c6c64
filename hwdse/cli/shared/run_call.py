"""Command line of the running command, its record in a run folder, and its repetition."""

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hwdse.cli.shared.exit_codes import CommandError

_arguments: list[str] = []
_at_end: list[Callable[[], None]] = []


class RepeatedCall(Exception):  # noqa: N818  # no error: the command line that runs instead
    """Arguments and working folder of the command that runs in place of the present one."""

    def __init__(self, arguments: list[str], working_folder: Path) -> None:
        super().__init__(shlex.join(arguments))
        self.arguments = arguments
        self.working_folder = working_folder


@contextlib.contextmanager
def recorded_call(arguments: Sequence[str]) -> Iterator[None]:
    """Remember the arguments of a command while it runs; then call the functions of its end."""
    global _arguments
    before, _arguments = _arguments, list(arguments)
    try:
        yield
    finally:
        _arguments = before
        end_call()


def at_end_of_call(function: Callable[[], None]) -> None:
    """Call a function when the running command ends, with success or not."""
    _at_end.append(function)


def end_call() -> None:
    """Call the functions of the end of the running command, once."""
    while _at_end:
        _at_end.pop()()


def command_line() -> str:
    """Command line as text."""
    return shlex.join(["hwdse", *_arguments])


def call_record() -> dict[str, Any]:
    """Arguments of the command and its working folder, to repeat it from a run folder."""
    return {"arguments": _arguments, "working_folder": os.getcwd()}


def repeat_if_folder(source: str | os.PathLike[str], command: str, *, resume: bool) -> None:
    """Raise `RepeatedCall` if --resume is given with a run folder in place of a config.

    The command of the run is repeated in its working folder, with the options of the present one.
    Raises `CommandError` for the folder of another command or if its working folder is gone.
    """
    from hwdse.runs.run_folder import is_run_folder, open_run

    config = os.fspath(source)
    folder = Path(config)
    if not is_run_folder(folder):
        return
    if not resume:
        raise CommandError(f"{config}: a run folder, expected a config; --resume continues its run")
    run = open_run(folder)
    call = run.record.get("call") or {}
    recorded = [str(argument) for argument in call.get("arguments") or []]
    if run.command != command:
        raise CommandError(f"{config}: run of {run.command or 'another program'}, expected a run "
                           f"of {command}")  # fmt: skip
    start = Path(call.get("working_folder", ""))
    if recorded[:1] != [command] or not call.get("working_folder") or not start.is_dir():
        raise CommandError(f"{config}: its command cannot be repeated from here; expected hwdse "
                           f"{command} CONFIG --out {config} --resume")  # fmt: skip
    kept = [argument for argument in recorded if argument not in ("--overwrite", "--resume")]
    given = [text for text in _arguments[1:] if text != "--resume" and Path(text) != folder]
    raise RepeatedCall([*kept, *given, "--out", str(folder.resolve()), "--resume"], start)
