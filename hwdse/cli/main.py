"""App with all commands; maps errors to one line on stderr and an exit code.

No command module imports JAX, NumPy or matplotlib at module level: `hwdse --help` needs 0.2 s.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hwdse.cli.balance import balance_command
from hwdse.cli.compare import compare_search_command
from hwdse.cli.evaluate import (
    evaluate_command,
    presets_command,
    sensitivity_command,
    validate_command,
)
from hwdse.cli.files import import_command
from hwdse.cli.jobs import compare_command, explain_command, new_command, show_command
from hwdse.cli.mapping import mapping_command
from hwdse.cli.optimize import optimize_command
from hwdse.cli.parallelism import parallelism_command
from hwdse.cli.schemas import schema_command
from hwdse.cli.serve import serve_command, serve_front_command
from hwdse.cli.shared.compilation_cache import enable_compilation_cache, expected_programs
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.interrupts import is_interrupted, run_interruptible
from hwdse.cli.shared.job_flags import with_job_flags
from hwdse.cli.shared.run_call import RepeatedCall, recorded_call
from hwdse.cli.shared.table_output import safe_text
from hwdse.cli.solve import solve_command
from hwdse.cli.sweep import pareto_command, query_command, sweep_command
from hwdse.cli.uncertainty import uncertainty_command

HELP_WIDTH = 100
"""Largest width of help texts, in columns."""
MAX_LINE = 1000
"""Largest number of characters of a message on stderr."""


class _Command(TyperCommand):
    """Command whose usage and help show arguments by their metavar only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Words of the usage line, without the braces around required arguments."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.strip("{}").replace("}...", "") for piece in pieces]


app = typer.Typer(
    name="hwdse",
    rich_markup_mode=None,
    context_settings={"max_content_width": HELP_WIDTH},
    pretty_exceptions_enable=False,
    add_completion=True,
)
for _module in (
    presets_command,
    show_command,
    new_command,
    evaluate_command,
    compare_command,
    explain_command,
    sensitivity_command,
    balance_command,
    mapping_command,
    parallelism_command,
    serve_command,
    serve_front_command,
    optimize_command,
    solve_command,
    sweep_command,
    pareto_command,
    query_command,
    compare_search_command,
    uncertainty_command,
    validate_command,
    import_command,
    schema_command,
):
    app.command(name=_module.NAME, cls=_Command)(with_job_flags(_module.run))


def _print_version(is_set: bool) -> bool:
    if is_set:
        from importlib.metadata import version

        typer.echo(f"hwdse {version('hwdse')}")
        raise typer.Exit()
    return is_set


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Design-space exploration of AI accelerators and training clusters.

    Start with `hwdse presets` and `hwdse evaluate trn2_llama3_70b`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; the entry point."""
    enable_compilation_cache()
    # Tracing makes many small objects that live. Searching them for garbage took a quarter of it.
    gc.set_threshold(100_000, 50, 100)
    given = sys.argv[1:] if arguments is None else arguments
    code = run_interruptible(lambda: run(given))
    if is_interrupted():  # threads may still compute: Python does not end while they do
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; a user error is one line on stderr."""
    try:
        with expected_programs(arguments), recorded_call(arguments):
            code: Any = app(list(arguments) or ["--help"], standalone_mode=False, prog_name="hwdse")
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer exits where it sees the error first
        # The reader (head, less) has closed the pipe: no output, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except typer.Abort:
        return Exit.ABORTED
    except RepeatedCall as call:
        with contextlib.chdir(call.working_folder):
            return run(call.arguments)
    except Exception as error:
        line = _line_of(error)
        if line is None:
            raise
        for text in line.splitlines():
            sys.stderr.write(f"hwdse: {one_line(text)}\n")
        return _code_of(error)
    return code if isinstance(code, int) else Exit.OK


def one_line(message: str) -> str:
    """Message as one printable line; the middle of a very long one, such as a cell of a file, is
    left out."""
    line = safe_text(" ".join(message.split()))
    if len(line) <= MAX_LINE:
        return line
    return f"{line[: MAX_LINE // 2]} ... {line[-MAX_LINE // 2 :]}"


def _code_of(error: Exception) -> Exit:
    """Exit code of an error with a message for the user."""
    from hwdse.runs.run_errors import NoFeasibleDesignError, StoppedRunError

    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, NoFeasibleDesignError):
        return Exit.INFEASIBLE
    return Exit.INTERRUPTED if isinstance(error, StoppedRunError) else Exit.USER_ERROR


def _line_of(error: Exception) -> str | None:
    """Message for the user; `None` for an internal error, which prints its traceback."""
    if isinstance(error, CommandError):
        return str(error)
    format_message = getattr(error, "format_message", None)
    if format_message is not None:  # of typer: unknown options, missing arguments
        return str(format_message())
    if isinstance(error, OSError):
        prefix = f"{error.filename}: " if error.filename else ""
        return f"{prefix}{error.strerror or error}"
    from hwdse.config.files.errors import ConfigError
    from hwdse.runs.run_errors import RunError

    return str(error) if isinstance(error, ConfigError | RunError) else None
