"""Iteration that can be left while the next item is computed."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
POLL_INTERVAL_S = 0.1
"""Interval between looks at the stop criterion while the next item is computed."""


def abandonable(
    items: Iterable[Item], should_stop: Callable[[], bool] | None
) -> Generator[Item, None, None]:
    """The items, computed in a thread, one ahead; ends once `should_stop` returns True.

    The item in work is abandoned: its thread runs until the process ends. Without `should_stop` the
    items are computed by the caller. Errors of the thread are raised here.
    """
    if should_stop is None:
        yield from items
        return
    found: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(maxsize=1)
    is_left = threading.Event()

    def put(pair: Any) -> None:
        while not is_left.is_set():
            try:
                return found.put(pair, timeout=POLL_INTERVAL_S)
            except queue.Full:
                continue

    def compute() -> None:
        try:
            for item in items:
                put((item, None))
                if is_left.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    threading.Thread(target=compute, daemon=True).start()
    try:
        while not should_stop():
            try:
                item, error = found.get(timeout=POLL_INTERVAL_S)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        is_left.set()
