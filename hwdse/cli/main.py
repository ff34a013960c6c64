"""The app, and the one place where a mistake becomes a line and an exit code."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hwdse.cli.balance import balance_command
from hwdse.cli.compare import compare_search_command
from hwdse.cli.evaluate import (
    evaluate_command,
    presets_command,
    sensitivity_command,
    validate_command,
)
from hwdse.cli.mapping import mapping_command
from hwdse.cli.optimize import optimize_command
from hwdse.cli.parallelism import parallelism_command
from hwdse.cli.shared.compilation_cache import keep_programs
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.solve import solve_command
from hwdse.cli.sweep import pareto_command, query_command, sweep_command
from hwdse.cli.uncertainty import uncertainty_command

app = typer.Typer(
    name="hwdse",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
for _module in (
    presets_command,
    evaluate_command,
    sensitivity_command,
    balance_command,
    mapping_command,
    parallelism_command,
    optimize_command,
    solve_command,
    sweep_command,
    pareto_command,
    query_command,
    compare_search_command,
    uncertainty_command,
    validate_command,
):
    app.command(name=_module.NAME)(_module.run)


def _print_version(is_asked: bool) -> bool:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"hwdse {version('hwdse')}")
        raise typer.Exit()
    return is_asked


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Explore designs of AI accelerators and clusters, with gradients.

    Start with `hwdse presets`, then `hwdse evaluate trn2_llama3_70b`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and leaves the process with its exit code."""
    keep_programs()
    # A batch system that ends a job asks first: what Ctrl-C keeps is then kept as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Exit code of a command line; a mistake of its user is one line on stderr."""
    try:
        code: Any = app(list(arguments) or ["--help"], standalone_mode=False, prog_name="hwdse")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has left: nothing more to say, not even while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except typer.Abort:
        return Exit.ABORTED
    except Exception as error:
        line = _line_of(error)
        if line is None:
            raise
        sys.stderr.write(f"hwdse: {' '.join(line.split())}\n")
        return _code_of(error)
    return code if isinstance(code, int) else Exit.OK


def _code_of(error: Exception) -> Exit:
    """Exit code of an error that is a line for the user."""
    from hwdse.runs.run_errors import NoFeasibleDesignError, StoppedRunError

    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, NoFeasibleDesignError):
        return Exit.INFEASIBLE
    return Exit.INTERRUPTED if isinstance(error, StoppedRunError) else Exit.USER_ERROR


def _line_of(error: Exception) -> str | None:
    """What to tell the user; `None` for a bug of ours, which shows its traceback."""
    if isinstance(error, CommandError):
        return str(error)
    format_message = getattr(error, "format_message", None)
    if format_message is not None:  # typer's own: unknown options, missing arguments
        return str(format_message())
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    from hwdse.config.files.errors import ConfigError
    from hwdse.runs.run_errors import RunError

    return str(error) if isinstance(error, ConfigError | RunError) else None
