"""Command line of hwdse, the only package that prints: one folder per family of commands.

Imports every other package.
"""

import signal
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; the entry point.

    While the commands are imported Ctrl-C ends the process without a traceback.
    """
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from hwdse.cli.main import main as run_main

        run_main(arguments)
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
