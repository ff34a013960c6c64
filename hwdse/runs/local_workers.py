"""Chunks of a sweep in processes of this machine, which may die: a chunk is then run again."""

import multiprocessing
import os
import pickle
import signal
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from hwdse.runs.run_errors import StoppedRunError

LARGEST_NUM_DEATHS = 3
"""Workers that one chunk may cost before it is taken for the reason."""

Outcome = tuple[int, dict[str, Any], dict[str, int]]
"""Index of a chunk, its columns and counts."""


@dataclass
class _Worker:
    process: Any
    connection: Any
    index: int | None = None
    """The chunk in hand."""


def run_chunks(
    packed: bytes, indices: Iterable[int], num_workers: int
) -> Generator[Outcome, None, None]:
    """Chunks of a packed `SweepJob` as they are done, each by one of several processes.

    A worker that dies is replaced, and costs the chunk that it had in hand.
    """
    todo = list(indices)[::-1]
    deaths: Counter[int] = Counter()
    num_workers = min(num_workers, len(todo))
    workers = [_start(packed, place, num_workers) for place in range(num_workers)]
    try:
        for worker in workers:
            _hand_out(worker, todo)
        while any(worker.index is not None for worker in workers):
            ready = wait([w.connection for w in workers if w.index is not None])
            for place, worker in enumerate(workers):
                if worker.connection not in ready or worker.index is None:
                    continue
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    _note_death(worker.index, deaths)
                    todo.append(worker.index)
                    worker.process.join()
                    workers[place] = _start(packed, place, num_workers)
                    _hand_out(workers[place], todo)
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
    if deaths[index] == LARGEST_NUM_DEATHS:
        text = f"chunk {index}: {LARGEST_NUM_DEATHS} workers died of it; is there enough memory?"
        raise StoppedRunError(f"{text} --resume goes on with fewer --workers")


def _hand_out(worker: _Worker, todo: list[int]) -> None:
    """Gives a worker the next chunk, or nothing more to do."""
    worker.index = todo.pop() if todo else None
    try:
        worker.connection.send(worker.index)
    except OSError:
        return  # it has died; waiting for its answer tells so


def _start(packed: bytes, place: int, num_workers: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, packed, place, num_workers), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _work(connection: Any, packed: bytes, place: int, num_workers: int) -> None:
    """Main loop of a worker; ends when it is told None, or when its driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the driver as well
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _take_share_of_cores(place, num_workers)
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
    """The error, or one that says the same where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _take_share_of_cores(place: int, num_workers: int) -> None:
    """XLA makes as many threads as it sees cores, before jax is imported."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[place % len(cores) :: num_workers] or cores
    os.sched_setaffinity(0, mine)
