"""Execution of sweep chunks in local processes; the chunk of a dead process is repeated."""

import multiprocessing
import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from hwdse.runs.run_errors import StoppedRunError

MAX_DEATHS = 3
"""Worker deaths during one chunk after which the sweep stops."""

POLL_INTERVAL_S = 0.2
"""Longest wait for workers without a look at the stop criterion."""

Outcome = tuple[int, dict[str, Any], dict[str, int]]
"""Index, columns and counts of a chunk."""


@dataclass
class _Worker:
    process: Any
    connection: Any
    index: int | None = None
    """Index of the current chunk."""


def run_chunks(
    packed: bytes,
    indices: Iterable[int],
    num_workers: int,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[Outcome, None, None]:
    """Chunks of a packed `SweepJob` in order of completion, from several processes.

    A worker that dies is replaced and its current chunk is repeated. Once `should_stop` returns
    True, the workers are ended.
    """
    todo = list(indices)[::-1]
    deaths: Counter[int] = Counter()
    num_workers = min(num_workers, len(todo))
    workers = [_start(packed, slot, num_workers) for slot in range(num_workers)]
    try:
        for worker in workers:
            _hand_out(worker, todo)
        while any(worker.index is not None for worker in workers):
            if should_stop is not None and should_stop():
                return
            ready = wait([w.connection for w in workers if w.index is not None], POLL_INTERVAL_S)
            for slot, worker in enumerate(workers):
                if worker.connection not in ready or worker.index is None:
                    continue
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    _note_death(worker.index, deaths)
                    todo.append(worker.index)
                    worker.process.join()
                    workers[slot] = _start(packed, slot, num_workers)
                    _hand_out(workers[slot], todo)
                    continue
                _hand_out(worker, todo)
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _note_death(index: int, deaths: Counter[int]) -> None:
    deaths[index] += 1
    if deaths[index] == MAX_DEATHS:
        text = f"chunk {index}: {MAX_DEATHS} workers died; is there enough memory?"
        raise StoppedRunError(f"{text} Continue with --resume and fewer --workers")


def _hand_out(worker: _Worker, todo: list[int]) -> None:
    """Send a worker its next chunk, or None to end it."""
    worker.index = todo.pop() if todo else None
    try:
        worker.connection.send(worker.index)
    except OSError:
        return  # the worker has died; the next `recv` fails


def _start(packed: bytes, slot: int, num_workers: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, packed, slot, num_workers), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _work(connection: Any, packed: bytes, slot: int, num_workers: int) -> None:
    """Run the main loop of a worker until None arrives or the driver ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver receives Ctrl-C too
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _pin_to_cores(slot, num_workers)
    from hwdse.runs.sweep_job import JobWorker

    worker = JobWorker(packed)
    try:
        while (index := connection.recv()) is not None:
            try:
                connection.send((index, *worker.run(index)))
            except OSError:
                raise
            except Exception as error:
                connection.send(_sendable(error))
    except (EOFError, OSError):
        return


def _sendable(error: Exception) -> Exception:
    """The error, or a `RuntimeError` with the same text if the error cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _pin_to_cores(slot: int, num_workers: int) -> None:
    """Pin this process to its share of the cores; XLA then starts one thread for each of them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[slot % len(cores) :: num_workers] or cores
    os.sched_setaffinity(0, mine)
