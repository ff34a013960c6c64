"""Execution of the missing chunks of a sweep; each is written to disk when it completes.

Chunks run in this process, in local processes or on a Dask cluster, with the same results.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

from hwdse.runs.abandonable import abandonable
from hwdse.runs.run_errors import RunError
from hwdse.runs.sweep_job import SweepJob, chunk_columns, chunk_notes, read_chunk
from hwdse.search.sweeps.chunked_sweep import sweep_chunks
from hwdse.search.sweeps.sweep_plan import SweepResult, merge_chunk

if TYPE_CHECKING:
    from hwdse.runs.local_workers import Outcome
    from hwdse.runs.run_folder import Run
    from hwdse.search.sweeps.sweep_plan import SweepChunk


Update = Callable[[int | float, str], None]
"""Function of the number of completed designs and a text."""
Progress = Callable[[int, int], AbstractContextManager[Update]]
"""Function of the number of missing designs and the number of chunks found on disk."""


@contextmanager
def no_progress(num_designs: int, num_chunks_before: int) -> Iterator[Update]:
    """Yield an update function without effect."""
    yield lambda done, text: None


def run_sweep(
    job: SweepJob,
    record: "Run",
    share: tuple[int, int] | None,
    num_workers: int,
    scheduler: str | None,
    progress: Progress = no_progress,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[SweepResult | None, bool]:
    """Run the missing chunks, or those of a share, and merge all finished ones.

    Returns the merged result and whether the run was stopped: by Ctrl-C, or by `should_stop`, which
    abandons the chunk in work. `progress` displays the progress. Raises `RunError` if a chunk
    cannot be written.
    """
    plan = job.plan
    result = None
    for index in sorted(record.finished_parts()):
        chunk = read_chunk(job, *record.read_part(index), index)
        result = merge_chunk(result, chunk, top=job.top)
    done = result.done if result else frozenset()
    todo = [index for index in plan.shard(*(share or (1, 1))) if index not in done]
    if not todo:
        return result, False
    total = sum(plan.chunk(index)[2] for index in todo)
    before = result.num_points if result else 0
    outcomes = _outcomes(job, todo, num_workers, scheduler, should_stop)
    with progress(total, len(done)) as bar, closing(outcomes):
        bar(0, "compiling")
        try:
            for chunk, (index, columns, notes) in outcomes:
                _write(record, index, columns, notes)
                result = merge_chunk(result, chunk, top=job.top)
                bar(result.num_points - before, f"front {len(result.front)}")
        except KeyboardInterrupt:
            return result, True
    return result, should_stop is not None and should_stop()


def _write(record: "Run", index: int, columns: dict, notes: dict[str, int]) -> None:
    try:
        record.write_part(index, columns, notes)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise RunError(
            f"{record.part_path(index)}: cannot be written: {reason}; earlier chunks are on disk, "
            "continue with --resume"
        ) from error


def _outcomes(
    job: SweepJob,
    todo: list[int],
    num_workers: int,
    scheduler: str | None,
    should_stop: Callable[[], bool] | None,
) -> "Generator[tuple[SweepChunk, Outcome], None, None]":
    """Completed chunks, each with the columns and notes that are written to disk."""
    if scheduler is None and num_workers == 1:
        for chunk in abandonable(sweep_chunks(job.runner(), job.plan, only=todo), should_stop):
            yield chunk, (chunk.index, chunk_columns(job, chunk), chunk_notes(chunk))
        return
    if scheduler is None:
        from hwdse.runs import local_workers

        outcomes = local_workers.run_chunks(job.pack(), todo, num_workers, should_stop)
    else:
        from hwdse.runs import dask_workers

        outcomes = abandonable(dask_workers.run_chunks(job.pack(), todo, scheduler), should_stop)
    with closing(outcomes):
        for index, columns, notes in outcomes:
            yield read_chunk(job, columns, notes, index), (index, columns, notes)
