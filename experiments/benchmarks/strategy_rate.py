"""Evaluation rate of parallelism strategies of GPT-3 175B on 4096 chips, compared with Calculon.

    python experiments/benchmarks/strategy_rate.py [--float64] [--devices 2] [--repeats 9]

One evaluation is one strategy of one training step with all metrics of `hwdse parallelism`: step
time and its 14 parts, memory footprint of the most loaded stage and its 5 parts, throughput, MFU,
energy and cost per token. Two lists: all valid strategies of the batch, and the same crossed with
overlap fractions of the collectives (which Calculon's grid varies as well), over a million rows.
Each run includes all steps from the columns on: parts that depend on few columns are recomputed,
once per combination. Compilation is reported separately. Some rows are compared with `evaluate`.
Run it on an idle machine.

Calculon v0.1.0 evaluates 42 to 46 strategies per CPU second as its search ships, 290 to 360 without
its logger (measured on one core of a 2-core Xeon for GPT-3 175B; it is on no package registry, the
`calculon` of PyPI is another project). Its grid for 4096 chips has 9.67 million points.
"""

import argparse
import json
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.factored_program import Columns
from hwdse.training.strategy_enumeration import StrategyOptions, enumerate_strategies
from hwdse.training.strategy_ranking import strategy_metrics_of, strategy_program

SEARCH = "trn2_llama3_70b"
CHANGES = (
    "design.workload=gpt3_175b",
    "design.num_systems=64",
    "design.parallelism.tensor=8",
    "workload.global_batch=1536",
)
"""GPT-3 175B on 4096 Trainium2 chips, with the batch of Brown et al. (3.2 M tokens)."""
OVERLAPS = np.linspace(0.0, 1.0, 12)
CALCULON_PER_CPU_S = (42.0, 360.0)
CALCULON_GRID = 9.67e6
COMPARED_ROWS = 64


def crossed(strategies: Columns) -> Columns:
    """All strategies with all pairs of overlap fractions of TP and DP collectives."""
    indices = {n: np.repeat(column, OVERLAPS.size**2) for n, column in strategies.indices.items()}
    overlaps = np.arange(OVERLAPS.size, dtype=np.int16)
    indices["tensor_overlap_fraction"] = np.tile(
        np.repeat(overlaps, OVERLAPS.size), len(strategies)
    )
    indices["data_overlap_fraction"] = np.tile(overlaps, OVERLAPS.size * len(strategies))
    own = {"tensor_overlap_fraction": OVERLAPS, "data_overlap_fraction": OVERLAPS}
    return Columns({**strategies.levels, **own}, indices)


def largest_difference(design: Any, job: Any, strategies: Columns, metrics: Any) -> float:
    """Largest relative difference of some rows from `evaluate` in the same float type. Parts of
    the step time are relative to the step time."""
    rows = np.linspace(0, len(strategies) - 1, COMPARED_ROWS).astype(int)
    fields = {name: jnp.asarray(strategies[name][rows], float) for name in strategies.levels}

    def one(fields: dict[str, Any]) -> Any:
        parallelism = design.parallelism.replace(**fields)
        return strategy_metrics_of(evaluate(design.replace(parallelism=parallelism), job))

    want = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(fields))
    got = jax.tree.map(lambda column: column[rows], metrics)
    ratios = [
        np.abs(found - exact)
        / np.maximum(np.abs(exact), want.step_time_s if "time" in str(path) else 0)
        for (path, exact), found in zip(
            jax.tree.leaves_with_path(want), jax.tree.leaves(got), strict=True
        )
    ]
    return float(np.nanmax(ratios))


def rate(design: Any, job: Any, strategies: Columns, repeats: int) -> dict[str, Any]:
    """Median wall and CPU seconds of one list, and strategies per second."""
    start = time.perf_counter(), time.process_time()
    program = strategy_program(design, job, strategies)
    metrics = program.run()
    compile_s = time.perf_counter() - start[0], time.process_time() - start[1]
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        metrics = program.run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    wall_s, cpu_s = float(np.median(walls)), float(np.median(cpus))
    return {
        "num_strategies": len(strategies),
        "num_fitting": int(np.sum(metrics.hbm_used_ratio <= 1.0)),
        "compile_wall_s": compile_s[0],
        "compile_cpu_s": compile_s[1],
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "strategies_per_s": len(strategies) / wall_s,
        "strategies_per_cpu_s": len(strategies) / cpu_s,
        "ratio_to_calculon": [len(strategies) / cpu_s / other for other in CALCULON_PER_CPU_S],
        "calculon_grid_cpu_s": CALCULON_GRID * cpu_s / len(strategies),
        "largest_difference_from_evaluate": largest_difference(design, job, strategies, metrics),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Print the rates of both lists as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--devices", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)
    loaded = load_search(SEARCH, CHANGES)
    design, job = jax.tree.map(float, (loaded.base, loaded.workload))
    stages = StrategyOptions(zero=(0, 1, 2, 3))
    strategies = enumerate_strategies(job, design.cluster.num_chips, stages)
    found: dict[str, Any] = {"float": 64 if options.float64 else 32, "devices": options.devices}
    with jax.enable_x64(options.float64):
        found["list"] = rate(design, job, strategies, options.repeats)
        found["crossed list"] = rate(design, job, crossed(strategies), options.repeats)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
