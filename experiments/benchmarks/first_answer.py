"""Time from a command to its answer: first process, later processes, and another checkout.

    python experiments/benchmarks/first_answer.py [--repeats 5] [--against FOLDER]

Wall time of whole processes. Each checkout has its own empty cache; its first process of a command
fills it, later ones find it filled. The checkouts take turns, so a busy machine disturbs both.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOB = "trn2_llama3_70b"
COMMANDS = {
    "evaluate": (["evaluate", JOB], 1.2),
    "explain": (["explain", "chip.hbm.bandwidth_bytes_per_s", JOB], 2.0),
    "sensitivity": (["sensitivity", JOB], 2.0),
    "parallelism": (["parallelism", JOB], 2.5),
    "balance": (["balance", JOB], 3.0),
    "sweep --points 1e6": (["sweep", JOB, "--points", "1e6"], 5.0),
    "optimize": (["optimize", JOB], 8.0),
}
"""Command lines, and the seconds that a later process may take."""
MAIN = "import sys; from hwdse.cli import main; sys.exit(main())"


def seconds(root: pathlib.Path, command: list[str], cache: str) -> float | None:
    """Wall time of one process of a checkout; `None` for a command that it does not have."""
    folder = tempfile.mkdtemp(prefix="first_answer_")
    environment = {**os.environ, "PYTHONPATH": str(root), "HWDSE_CACHE": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for users: modules are compiled once
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    elapsed_s = time.perf_counter() - start
    shutil.rmtree(folder)
    if done.returncode and "No such command" not in done.stderr:
        raise RuntimeError(done.stderr)
    return None if done.returncode else elapsed_s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=pathlib.Path)
    options = parser.parse_args()
    roots = {"this version": ROOT}
    if options.against is not None:
        roots = {"before": options.against.resolve(), **roots}
    print(
        "| command | version | first process (s) | later (s, median) | fastest (s) | target (s) |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (command, target_s) in COMMANDS.items():
        caches = {label: tempfile.mkdtemp(prefix="hwdse_cache_") for label in roots}
        times: dict[str, list[float | None]] = {label: [] for label in roots}
        for _ in range(1 + options.repeats):
            for label, root in roots.items():
                if not times[label] or times[label][0] is not None:
                    times[label].append(seconds(root, command, caches[label]))
        for label, (first, *later) in times.items():
            cells = ["-"] * 3
            if first is not None:
                known = [x for x in later if x is not None]
                cells = [f"{x:.2f}" for x in (first, statistics.median(known), min(known))]
            print(f"| {name} | {label} | {' | '.join(cells)} | {target_s} |", flush=True)
        for cache in caches.values():
            shutil.rmtree(cache)


if __name__ == "__main__":
    main()
