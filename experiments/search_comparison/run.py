"""Comparison of hwdse with random, Sobol, NSGA-II, TPE and CMA-ES at equal budgets.

    python experiments/search_comparison/run.py --seeds 3            # adds missing cells
    python experiments/search_comparison/run.py --seeds 10           # the full study
    python experiments/search_comparison/run.py --report             # tables, plots, README

A cell is a problem, task, method, budget and seed. A finished cell is a line of results/cells.csv
and is not rerun, so the script can be stopped at any time. Needs pip install 'hwdse[compare]'.
"""

import argparse
import csv
import pathlib
import time
from typing import Any

import jax
import numpy as np
import report
from problems import HERE, PROBLEMS, SCAN, problem_of

from hwdse.cli.shared.compilation_cache import enable_compilation_cache
from hwdse.numerics.relaxation import EXACT
from hwdse.search.compare.method_comparison import (
    METHODS,
    ComparisonProblem,
    evaluation_cap,
    reference_point,
    run_method,
    supports,
)
from hwdse.search.sweeps.chunked_sweep import ChunkRunner, sweep_chunks
from hwdse.search.sweeps.sweep_plan import plan_sweep

BUDGETS = (500, 2_000, 10_000)
FIRST_SEED = 20
"""First seed. Seeds below 12 were used to tune the search."""
EXTRA_BUDGET = 1_000
"""Budget of hwdse only, for a comparison with NSGA-II at 10,000 evaluations."""
CELLS = HERE / "results" / "cells.csv"
REFERENCES = HERE / "results" / "references.csv"
FIELDS = (
    "problem", "task", "method", "budget", "seed", "value", "evaluations", "seconds",
    "cpu_seconds", "curve",
)  # fmt: skip
MARKS = np.geomspace(20, 10_000, 28).round()
"""Evaluations at which a curve is recorded."""


def read_cells() -> dict[tuple[str, ...], dict[str, str]]:
    """Results by cell."""
    if not CELLS.exists():
        return {}
    with open(CELLS, newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(row[name] for name in FIELDS[:5]): row for row in rows}


def append(path: pathlib.Path, fields: tuple[str, ...], row: dict[str, Any]) -> None:
    """Append one line; a new file gets the header first."""
    path.parent.mkdir(exist_ok=True)
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def reference_of(name: str, problem: ComparisonProblem) -> np.ndarray:
    """Reference point of the hypervolumes of a problem; computed once and stored."""
    if REFERENCES.exists():
        with open(REFERENCES, newline="") as file:
            for row in csv.DictReader(file):
                if row["problem"] == name:
                    return np.asarray([float(x) for x in row["logs"].split()])
    logs = reference_point(problem)
    text = " ".join(repr(float(x)) for x in logs)
    append(REFERENCES, ("problem", "logs"), {"problem": name, "logs": text})
    return logs


def run_cell(
    name: str, problem: ComparisonProblem, task: str, method: str, budget: int, seed: int
) -> None:
    """Run one search and append its final value and curve to the results."""
    reference = reference_of(name, problem) if task == "pareto" else None
    cpu = time.process_time()
    trace = run_method(
        problem, method, task, num_evaluations=budget, seed=seed, clock=time.perf_counter
    )

    def value(mark: float) -> float:
        if reference is not None:
            return trace.volume_at(mark, reference)
        return float(np.exp(trace.best_at(mark)))

    marks = [mark for mark in MARKS if mark <= 1.02 * trace.num_evaluations]
    row = {
        "problem": name, "task": task, "method": method, "budget": budget, "seed": seed,
        "value": repr(value(np.inf)), "evaluations": trace.num_evaluations,
        "seconds": f"{trace.total_seconds:.3f}", "cpu_seconds": f"{time.process_time() - cpu:.3f}",
        "curve": " ".join(f"{mark:.0f}:{value(mark):.6g}" for mark in marks),
    }  # fmt: skip
    append(CELLS, FIELDS, row)
    print(f"{name} {task} {method} {budget} seed {seed}: {row['value']} ({row['seconds']} s)")


def scan_cell(
    name: str, problem: ComparisonProblem, budget: int, seed: int, seconds: float
) -> None:
    """Run a vectorized random scan for the wall time of the hwdse search with this budget.

    The chunk in progress when the time ends still counts."""
    max_points = 1 << 22

    def log_objectives(design: Any) -> Any:
        return problem.objectives_fn_of("single")(design, EXACT)

    plan = plan_sweep(
        problem.space, num_points=max_points, method="random", seed=seed, chunk_points=1 << 14
    )
    runner = ChunkRunner(log_objectives, plan, problem.base)
    best, count, start = np.inf, 0, 0.0
    for index, chunk in enumerate(sweep_chunks(runner, plan)):
        if index == problem.space.num_variants:
            start = time.perf_counter()  # all variants are compiled
        count += chunk.num_points
        best = min(best, float(np.min(chunk.front.log_objectives[:, 0], initial=np.inf)))
        if start and time.perf_counter() - start >= seconds:
            break
    row = {
        "problem": name, "task": "single", "method": SCAN, "budget": budget, "seed": seed,
        "value": repr(float(np.exp(best))), "evaluations": count, "seconds": f"{seconds:.3f}",
        "cpu_seconds": "", "curve": "",
    }  # fmt: skip
    append(CELLS, FIELDS, row)
    print(f"{name} random scan of {count:,} designs in {seconds:.3f} s: {row['value']}")


def requested_cells(arguments: argparse.Namespace) -> list[tuple[str, str, str, int, int]]:
    """Requested cells, seed by seed, so that all methods have the same seeds at any time."""
    cells = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for name in arguments.problems:
            for task in arguments.tasks:
                for method in arguments.methods:
                    budgets = set(arguments.budget)
                    if (method, task) == ("gradient", "single"):
                        budgets.add(EXTRA_BUDGET)
                    if not supports(method, task):
                        continue
                    # A method that stops early has the same result for all larger budgets.
                    capped = {evaluation_cap(method, b): b for b in sorted(budgets, reverse=True)}
                    cells += [(name, task, method, b, seed) for b in sorted(capped.values())]
    return cells


def main() -> None:
    """Run the missing cells, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--tasks", nargs="+", choices=("single", "pareto"), default=["single", "pareto"]
    )
    parser.add_argument("--scan", action="store_true", help="random scans of equal wall time")
    parser.add_argument("--report", action="store_true", help="write tables, plots, README")
    arguments = parser.parse_args()
    if arguments.report:
        report.write(read_cells(), HERE)
        return
    enable_compilation_cache()
    problems: dict[str, ComparisonProblem] = {}
    for cell in requested_cells(arguments):
        name, task, method, budget, seed = cell
        if tuple(map(str, cell)) in read_cells():
            continue
        problem = problems.setdefault(name, problems.get(name) or problem_of(name))
        run_cell(name, problem, task, method, budget, seed)
    if arguments.scan:
        run_scans(problems, arguments)


def run_scans(problems: dict[str, ComparisonProblem], arguments: argparse.Namespace) -> None:
    """Run a scan for each requested hwdse search after the first seed.

    The programs of the first seed were not yet compiled, so its time includes compilation."""
    cells = read_cells()
    seeds = range(FIRST_SEED + 1, FIRST_SEED + arguments.seeds)
    for (name, task, method, budget, seed), row in cells.items():
        key = (name, "single", SCAN, budget, seed)
        if (task, method) != ("single", "gradient") or key in cells:
            continue
        if int(seed) not in seeds or int(budget) not in arguments.budget:
            continue
        problem = problems.setdefault(name, problems.get(name) or problem_of(name))
        with jax.enable_x64(True):
            scan_cell(name, problem, int(budget), int(seed), float(row["seconds"]))


if __name__ == "__main__":
    main()
