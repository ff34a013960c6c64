"""Work in a thread beside the main one: one core compiles or draws while another computes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from hwdse.cli.shared.interrupts import STACK_BYTES

P = ParamSpec("P")
T = TypeVar("T")


def in_background(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Future result of a function that runs in a thread; the process waits for it at its end."""
    before = threading.stack_size(STACK_BYTES)
    try:
        pool = ThreadPoolExecutor(max_workers=1)
        future = pool.submit(function, *args, **kwargs)
    finally:
        threading.stack_size(before)
    pool.shutdown(wait=False)
    return future
