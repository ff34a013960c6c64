"""Ctrl-C and SIGTERM: a command runs in a worker thread, the main thread waits for signals.

JAX compiles in native code and calls back into Python. An exception that a signal raises there is
lost, or ends the process with a segmentation fault. Here no signal interrupts the computation: the
main thread writes the best result so far, as the command has asked with `on_interrupt`, and ends
the process without waiting for the worker.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.shared.run_call import end_call

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Batch systems send SIGTERM before they end a job."""
POLL_INTERVAL_S = 0.5
"""Longest wait of the main thread without a look at signals, which Windows needs."""
REPEAT_S = 1.0
"""A further signal after this time ends the process at once; a shell may send one twice."""
STACK_BYTES = 64 << 20
"""Stack of the worker, as large as that of a main thread on all systems: tracing is recursive."""

OnInterrupt = Callable[[], str | None]
"""Function that the main thread calls: writes what there is and returns the last line on stderr.
None: the command ends by itself soon."""


class _State:
    """Signals of this process, and the function of the running command."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.requested = threading.Event()
        self.is_watching = False
        self.on_interrupt: OnInterrupt = lambda: "stopped; nothing was written"


_state = _State()


def run_interruptible(work: Callable[[], int]) -> int:
    """Exit code of `work`, run in a thread; signals are handled here, in the main thread.

    A signal that the parent process has set to be ignored is still ignored, as `nohup` and shells
    with background jobs expect.
    """
    outcome: list[Any] = []
    wake = threading.Event()
    signaled_s: list[float] = []

    def note_signal(_number: int, _frame: FrameType | None) -> None:
        if signaled_s and time.monotonic() - signaled_s[0] > REPEAT_S:
            os._exit(Exit.ABORTED)
        signaled_s.append(time.monotonic())
        _state.requested.set()
        wake.set()

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        finally:
            wake.set()

    watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note_signal) for number in watched}
    _state.requested.clear()
    _state.is_watching = True
    try:
        _start(body)
        is_handled = False
        while not outcome:
            if _state.requested.is_set() and not is_handled:
                is_handled = True
                _interrupt()
            wake.wait(POLL_INTERVAL_S)
    finally:
        _state.is_watching = False
        for number, handler in before.items():
            signal.signal(number, handler)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _start(body: Callable[[], None]) -> None:
    before = threading.stack_size(STACK_BYTES)
    try:
        threading.Thread(target=body, name="command", daemon=True).start()
    finally:
        threading.stack_size(before)


def _interrupt() -> None:
    """Call the function of the command, and end the process unless the command ends by itself."""
    with _state.lock:  # waits for files that are being written
        try:
            line = _state.on_interrupt()
        except Exception as error:
            line = f"stopped; {' '.join(str(error).split()) or type(error).__name__}"
        if line is not None:
            end_call()
            # The worker may be printing: streams are not flushed, which could wait for it.
            cursor = "\033[?25h\r\n" if sys.stderr.isatty() else ""
            os.write(2, f"{cursor}hwdse: {line}\n".encode(errors="replace"))
            os._exit(Exit.ABORTED)


@contextmanager
def on_interrupt(function: OnInterrupt) -> Iterator[None]:
    """Call `function` in the main thread if a signal arrives during the block."""
    with _state.lock:
        before, _state.on_interrupt = _state.on_interrupt, function
    try:
        yield
    finally:
        with _state.lock:
            _state.on_interrupt = before


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the handling of signals to the end of the block, which writes files."""
    with _state.lock:
        yield


def is_interruptible() -> bool:
    """True if signals are watched, as in a command of a shell; False in a call from Python."""
    return _state.is_watching


def is_interrupted() -> bool:
    """True after a signal."""
    return _state.requested.is_set()
