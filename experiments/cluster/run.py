"""Sweep on a local Dask cluster of two workers, one of which is killed halfway.

Usage: python experiments/cluster/run.py [--points 4e6] [--chunk 262144]. Needs `hwdse[dask]`.
Prints whether the files equal those of a single process, and the scheduling overhead.
"""

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from distributed import Client, LocalCluster

from hwdse.config import load_search
from hwdse.runs.dask_workers import run_chunks
from hwdse.runs.run_chunks import run_sweep
from hwdse.runs.run_folder import create_run
from hwdse.runs.sweep_job import job_of
from hwdse.search.sweeps.sweep_plan import plan_sweep

SEARCH = "trn2_llama3_70b"
IDLE_S = 1.0
"""Duration of the tasks that measure the scheduling overhead."""
NUM_IDLE = 40
NUM_WORKERS = 2


def swept(job, folder: Path, scheduler: str | None) -> tuple[float, dict[str, bytes]]:
    """Run a sweep into a new folder; its seconds and its parts."""
    record = create_run(folder, {"experiment": "cluster"}, "experiments/cluster/run.py", seed=0)
    started = time.monotonic()
    result, _ = run_sweep(job, record, None, 1, scheduler)
    print(f"    {result.num_feasible:,} feasible, front {len(result.front)}")
    seconds = time.monotonic() - started
    return seconds, {path.name: path.read_bytes() for path in (folder / "points").glob("*.parquet")}


def kill_one(cluster: LocalCluster, folder: Path, after: int) -> None:
    """Kill one worker once `after` chunks are on disk."""
    while len(list(folder.glob("points/*.parquet"))) < after:
        time.sleep(0.05)
    process = next(iter(cluster.workers.values())).pid
    os.kill(process, signal.SIGKILL)
    print(f"    killed worker {process}")


def scheduling_overhead(address: str) -> float:
    """Scheduling and transport time of tasks of `IDLE_S`, as a fraction of their own time."""
    from hwdse.runs import dask_workers

    run_chunk, dask_workers.run_chunk = dask_workers.run_chunk, _idle
    try:
        started = time.monotonic()
        outcomes = list(run_chunks(b"x" * 50_000, range(NUM_IDLE), address))
    finally:
        dask_workers.run_chunk = run_chunk
    assert len(outcomes) == NUM_IDLE
    return (time.monotonic() - started) * NUM_WORKERS / (NUM_IDLE * IDLE_S) - 1.0


def _idle(_packed: bytes, index: int):
    import time

    time.sleep(1.0)
    return index, {}, {}


def main() -> None:
    """Run three sweeps of the same points, and measure the scheduling overhead."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=float, default=4e6)
    parser.add_argument("--chunk", type=float, default=2**18)
    options = parser.parse_args()
    loaded = load_search(SEARCH)
    plan = plan_sweep(loaded.space, num_points=int(options.points), chunk_points=int(options.chunk))
    job = job_of(loaded, plan)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        alone_s, alone = swept(job, folder / "alone", None)
        print(f"one process: {alone_s:.1f} s, {len(alone)} chunks")
        workers = {"n_workers": NUM_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**workers) as cluster:
            address = cluster.scheduler_address
            together_s, together = swept(job, folder / "cluster", address)
            print(f"two workers: {together_s:.1f} s, equal files: {together == alone}")
            target = (cluster, folder / "killed", plan.num_chunks // 2)
            threading.Thread(target=kill_one, args=target, daemon=True).start()
            killed_s, killed = swept(job, folder / "killed", address)
            print(f"one killed:  {killed_s:.1f} s, equal files: {killed == alone}")
        with LocalCluster(**workers) as cluster:
            with Client(cluster) as client:
                client.wait_for_workers(NUM_WORKERS)
            overhead = scheduling_overhead(cluster.scheduler_address)
            print(f"scheduling overhead of tasks of {IDLE_S:g} s: {100.0 * overhead:.2f} %")


if __name__ == "__main__":
    main()
