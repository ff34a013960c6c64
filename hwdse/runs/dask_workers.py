"""Chunks of a sweep on a Dask cluster, whose workers may die and join at any time."""

import functools
import time
from collections.abc import Generator, Iterable
from typing import Any

from hwdse.runs.local_workers import Outcome
from hwdse.runs.run_errors import RunError

TIMEOUT_S = 30.0
"""To reach the scheduler."""
ALLOWED_FAILURES = 1_000_000
"""Dask's 3 takes a chunk for the reason when three workers die of something else."""
TASKS_A_THREAD = 2
"""In flight: one runs, one waits, so that no worker is idle and little is lost with it."""
LOOK_EVERY_S = 2.0
"""Between looks at how many workers there are."""


def run_chunks(
    packed: bytes, indices: Iterable[int], address: str
) -> Generator[Outcome, None, None]:
    """Chunks of a packed `SweepJob` as they are done, by the workers of a scheduler.

    Results come to this process at once and leave the workers, so that a worker that dies costs
    what it had in hand. Raises `RunError` without Dask, or where no scheduler answers.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise RunError(
            "--scheduler needs Dask: pip install 'hwdse[dask]', here and where the workers run"
        ) from None
    try:
        client: Any = Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"--scheduler {address}: no answer ({reason})") from None
    with client:
        client.run_on_scheduler(_allow_failures)
        todo = iter(indices)
        finished = as_completed(loop=client.loop)
        num_flying, room, looked = 0, 0, -LOOK_EVERY_S
        while True:
            if time.monotonic() - looked > LOOK_EVERY_S:
                room = TASKS_A_THREAD * max(sum(client.nthreads().values()), 1)
                looked = time.monotonic()
            while num_flying < room and (index := next(todo, None)) is not None:
                finished.add(client.submit(run_chunk, packed, index, pure=False))
                num_flying += 1
            if not num_flying:
                return
            future = next(finished)
            outcome = future.result()
            future.release()
            num_flying -= 1
            yield outcome


def run_chunk(packed: bytes, index: int) -> Outcome:
    """One chunk, in a worker of the cluster; its compiled programs stay for the next."""
    return index, *_worker(packed).run(index)


@functools.lru_cache(maxsize=2)
def _worker(packed: bytes) -> Any:
    from hwdse.runs.sweep_job import JobWorker

    return JobWorker(packed)


def _allow_failures(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, ALLOWED_FAILURES)
