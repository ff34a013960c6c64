"""Execution of sweep chunks on a Dask cluster; workers may join and die at any time."""

import functools
import time
from collections.abc import Generator, Iterable
from typing import Any

from hwdse.runs.local_workers import Outcome
from hwdse.runs.run_errors import RunError

TIMEOUT_S = 30.0
"""Timeout for a connection to the scheduler."""
ALLOWED_FAILURES = 1_000_000
"""Worker deaths per chunk that Dask tolerates; its default of 3 blames the chunk for deaths with
other causes."""
TASKS_PER_THREAD = 2
"""Chunks in flight per thread: one runs and one waits, so that no worker is idle and a death loses
little."""
POLL_INTERVAL_S = 2.0
"""Interval between counts of the workers."""


def run_chunks(
    packed: bytes, indices: Iterable[int], address: str
) -> Generator[Outcome, None, None]:
    """Chunks of a packed `SweepJob` in order of completion, from the workers of a scheduler.

    Each result is fetched at once and released on the worker. A worker that dies therefore loses
    its current chunks only. Raises `RunError` without Dask or if the scheduler does not respond.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise RunError(
            "--scheduler needs Dask: pip install 'hwdse[dask]' on this machine and on the workers"
        ) from None
    try:
        client: Any = Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"--scheduler {address}: no response ({reason})") from None
    with client:
        client.run_on_scheduler(_allow_failures)
        todo = iter(indices)
        finished = as_completed(loop=client.loop)
        num_in_flight, capacity, polled = 0, 0, -POLL_INTERVAL_S
        while True:
            if time.monotonic() - polled > POLL_INTERVAL_S:
                capacity = TASKS_PER_THREAD * max(sum(client.nthreads().values()), 1)
                polled = time.monotonic()
            while num_in_flight < capacity and (index := next(todo, None)) is not None:
                finished.add(client.submit(run_chunk, packed, index, pure=False))
                num_in_flight += 1
            if not num_in_flight:
                return
            future = next(finished)
            outcome = future.result()
            future.release()
            num_in_flight -= 1
            yield outcome


def run_chunk(packed: bytes, index: int) -> Outcome:
    """One chunk, run in a worker of the cluster; compiled programs are kept for later chunks."""
    return index, *_worker(packed).run(index)


@functools.lru_cache(maxsize=2)
def _worker(packed: bytes) -> Any:
    from hwdse.runs.sweep_job import JobWorker

    return JobWorker(packed)


def _allow_failures(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, ALLOWED_FAILURES)
