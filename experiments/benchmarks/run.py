"""Speed of hwdse, and of its systolic model compared with SCALE-Sim 3.0.0, measured in one run.

    python experiments/benchmarks/run.py [--without-scalesim]

Writes results/benchmarks.json and results/benchmarks.md. Run it on an idle machine.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_search
from hwdse.models.compute.systolic import DATAFLOWS
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, Relaxation, smooth
from hwdse.objectives import make_objective_fn, make_objectives_fn
from hwdse.search.sweeps.chunked_sweep import BLOCK
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

HERE = pathlib.Path(__file__).parent
SEARCH = HERE.parents[1] / "configs" / "searches" / "trn2_llama3_70b.toml"
NAMES = {"ws": "weight_stationary", "os": "output_stationary", "is": "input_stationary"}
REPEATS = 25


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Median wall and CPU seconds of a compiled call."""
    jax.block_until_ready(call())
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return float(np.median(walls)), float(np.median(cpus))


def cold_start() -> dict[str, float]:
    """Wall seconds of new processes: the help text, and an evaluation with its tables."""
    command = str(pathlib.Path(sys.executable).parent / "hwdse")
    seconds = {}
    for name, arguments in {"help_s": ["--help"], "evaluate_s": ["evaluate", str(SEARCH)]}.items():
        walls = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([command, *arguments], check=True, capture_output=True)
            walls.append(time.perf_counter() - start)
        seconds[name] = float(np.median(walls))
    return seconds


def sweep_rate(num_designs: int = BLOCK) -> dict[str, float]:
    """Full evaluations per second of one sweep block in float32, each with its own strategy."""
    loaded = load_search(SEARCH)
    objectives_fn = make_objectives_fn(
        ("time_per_token", "energy_per_token"), loaded.limits, loaded.workload
    )
    base = jax.tree.map(float, loaded.base)

    def sums(unit):
        values, constraint_values = objectives_fn(loaded.space.decode_rounded(unit, base), EXACT)
        return jnp.sum(values), jnp.max(constraint_values)

    points = np.random.default_rng(0).random((num_designs, loaded.space.num_dims))
    units = jnp.asarray(points, jnp.float32)
    start = time.perf_counter()
    program = jax.jit(jax.vmap(sums)).lower(units).compile()
    compile_s = time.perf_counter() - start
    wall_s, cpu_s = timed(lambda: program(units))
    return {
        "designs": num_designs,
        "compile_s": compile_s,
        "evaluations_per_s": num_designs / wall_s,
        "evaluations_per_cpu_s": num_designs / cpu_s,
    }


def gradient_cost(num_designs: int, relaxation: Relaxation, jit: Callable = quick_jit) -> dict:
    """Time of value and gradient over that of the value alone, float64, same compilation.

    The value is the objective with penalized constraints. The gradient has all search dimensions.
    """
    loaded = load_search(SEARCH)
    with jax.enable_x64(True):
        objective_fn = make_objective_fn(loaded.objective, loaded.limits, loaded.workload)

        def value(unit):
            design = loaded.space.decode(unit, loaded.base)
            objective, constraint_values = objective_fn(design, relaxation)
            return objective + jnp.sum(jnp.maximum(constraint_values, 0.0) ** 2)

        points = np.random.default_rng(0).random((num_designs, loaded.space.num_dims))
        units = jnp.asarray(points)
        plain, gradient = jit(jax.vmap(value)), jit(jax.vmap(jax.value_and_grad(value)))
        plain_s, _ = timed(lambda: plain(units))
        gradient_s, _ = timed(lambda: gradient(units))
    return {
        "designs": num_designs,
        "evaluation_us": 1e6 * plain_s / num_designs,
        "gradient_us": 1e6 * gradient_s / num_designs,
        "gradient_over_evaluation": gradient_s / plain_s,
    }


def read_layers() -> list[dict[str, str]]:
    """Rows of scalesim_layers.csv."""
    lines = (HERE / "scalesim_layers.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if line[:1] != "#"))


def scalesim_seconds(rows: int, cols: int) -> list[dict]:
    """Cycles and CPU seconds of SCALE-Sim 3.0.0, run in a temporary environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = os.path.join(folder, "bin", "python")
        packages = ["scalesim==3.0.0", "numpy==1.26.4"]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        command = [python, str(HERE / "scalesim_peer.py"), str(HERE / "scalesim_layers.csv")]
        done = subprocess.run(
            [*command, str(rows), str(cols)], check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout)


def scalesim_comparison(rows: int = 128, cols: int = 128, num_arrays: int = 100_000) -> dict:
    """CPU seconds per layer and dataflow of both tools, and equality of their cycles."""
    simulated = scalesim_seconds(rows, cols)
    layers = {layer["name"]: layer for layer in read_layers()}

    def extents(name: str) -> tuple[float, float, float]:
        row = {key: int(value) for key, value in layers[name].items() if key != "name"}
        high = (row["ifmap_h"] - row["filter_h"]) // row["stride"] + 1
        wide = (row["ifmap_w"] - row["filter_w"]) // row["stride"] + 1
        depth = row["filter_h"] * row["filter_w"] * row["channels"]
        return float(high * wide), float(depth), float(row["num_filters"])

    sizes = np.array([extents(name) for name in layers]).T
    with jax.enable_x64(True):
        ones = jnp.ones(len(layers))
        gemms = Gemms(*map(jnp.asarray, sizes), ones, ones, ones, ones, 0.0 * ones, 0.0 * ones)

        def cycles(side):
            array = SystolicArray(side, cols * 1.0, 1.0, 1e9, "weight_stationary")
            return [DATAFLOWS[name](gemms, array, EXACT) for name in NAMES.values()]

        modeled = dict(zip(NAMES, jax.tree.map(np.asarray, cycles(rows * 1.0)), strict=True))
        equal = all(
            run["total_cycles"] == modeled[run["dataflow"]][list(layers).index(run["name"])] - 1
            for run in simulated
        )
        # Arrays of different heights, so that the compiler cannot fold constants.
        sides = jnp.arange(num_arrays, dtype=float) % 512 + 1.0
        program = jax.jit(jax.vmap(cycles))
        _, cpu_s = timed(lambda: program(sides))
    scalesim_cpu_s = float(np.mean([run["cpu_s"] for run in simulated]))
    hwdse_cpu_s = cpu_s / (num_arrays * len(simulated))
    return {
        "runs": simulated,
        "cycles_equal": equal,
        "scalesim_cpu_s_per_layer": scalesim_cpu_s,
        "hwdse_cpu_s_per_layer": hwdse_cpu_s,
        "speedup_ratio": scalesim_cpu_s / hwdse_cpu_s,
    }


def as_markdown(results: dict) -> str:
    """Table of results/benchmarks.md."""
    sweep, cold = results["sweep"], results["cold_start"]
    smooth_ratio = results["gradient_smooth"]["gradient_over_evaluation"]
    exact_ratio = results["gradient_exact"]["gradient_over_evaluation"]
    rows = [
        ("`hwdse --help`, new process (s)", f"{cold['help_s']:.2f}"),
        ("`hwdse evaluate` of the reference job, new process (s)", f"{cold['evaluate_s']:.1f}"),
        ("full evaluations per second, float32 batch", f"{sweep['evaluations_per_s']:,.0f}"),
        ("full evaluations per CPU second", f"{sweep['evaluations_per_cpu_s']:,.0f}"),
        ("compile time of that batch (s)", f"{sweep['compile_s']:.1f}"),
        (
            "gradient / evaluation, smooth relaxation, 64 designs, base as constants",
            f"{smooth_ratio:.2f}",
        ),
        (
            "gradient / evaluation, exact model, 512 designs, base as constants",
            f"{exact_ratio:.2f}",
        ),
    ]
    if "scalesim" in results:
        peer = results["scalesim"]
        rows += [
            ("SCALE-Sim 3.0.0, per layer (CPU s)", f"{peer['scalesim_cpu_s_per_layer']:.2f}"),
            (
                "hwdse, same cycles in a batch of 100,000 arrays, per layer (CPU s)",
                f"{peer['hwdse_cpu_s_per_layer']:.2e}",
            ),
            ("SCALE-Sim / hwdse", f"{peer['speedup_ratio']:.1e}"),
            ("cycles equal", "all" if peer["cycles_equal"] else "NO"),
        ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| quantity | value |", "| --- | --- |", *lines]) + "\n"


def main() -> None:
    """Write results/benchmarks.json and results/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-scalesim", action="store_true")
    without_scalesim = parser.parse_args().without_scalesim
    results = {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "load_average": os.getloadavg()[0],
        "cold_start": cold_start(),
        "sweep": sweep_rate(),
        "gradient_smooth": gradient_cost(64, smooth(0.5)),
        "gradient_exact": gradient_cost(512, EXACT, jax.jit),
    }
    if not without_scalesim:
        results["scalesim"] = scalesim_comparison()
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(as_markdown(results))
    print(as_markdown(results))


if __name__ == "__main__":
    main()
