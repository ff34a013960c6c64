"""Speed of hwdse, and of its systolic model beside SCALE-Sim 3.0.0, measured in one run.

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
    """Median wall and CPU seconds of a call whose compilation is over."""
    jax.block_until_ready(call())
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return float(np.median(walls)), float(np.median(cpus))


def cold_start() -> dict[str, float]:
    """Wall seconds of new processes: the help text, and a first evaluation with its tables."""
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
    """Full evaluations a second of a sweep's block in float32, each with its own layout."""
    loaded = load_search(SEARCH)
    costs = make_objectives_fn(
        ("time_per_token", "energy_per_token"), loaded.limits, loaded.workload
    )
    base = jax.tree.map(float, loaded.base)

    def score(unit):
        values, constraint_values = costs(loaded.space.decode_rounded(unit, base), EXACT)
        return jnp.sum(values), jnp.max(constraint_values)

    points = np.random.default_rng(0).random((num_designs, loaded.space.num_dims))
    units = jnp.asarray(points, jnp.float32)
    start = time.perf_counter()
    program = jax.jit(jax.vmap(score)).lower(units).compile()
    compile_s = time.perf_counter() - start
    wall_s, cpu_s = timed(lambda: program(units))
    return {
        "designs": num_designs,
        "compile_s": compile_s,
        "evaluations_per_s": num_designs / wall_s,
        "evaluations_per_cpu_s": num_designs / cpu_s,
    }


def gradient_cost(num_designs: int, relaxation: Relaxation, jit: Callable = quick_jit) -> dict:
    """Time of a value with its gradient over that of the value, float64, the same compiler.

    The value is the objective with its constraints; the gradient is in all searched dimensions.
    """
    loaded = load_search(SEARCH)
    with jax.enable_x64(True):
        score = make_objective_fn(loaded.objective, loaded.limits, loaded.workload)

        def value(unit):
            objective, constraint_values = score(loaded.space.decode(unit, loaded.base), relaxation)
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
    """Cycles and CPU seconds of SCALE-Sim 3.0.0, in an environment made for it."""
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


def beside_scalesim(rows: int = 128, cols: int = 128, num_arrays: int = 100_000) -> dict:
    """CPU seconds a layer and dataflow of both, and whether the cycles are equal."""
    theirs = scalesim_seconds(rows, cols)
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

        mine = dict(zip(NAMES, jax.tree.map(np.asarray, cycles(rows * 1.0)), strict=True))
        equal = all(
            run["total_cycles"] == mine[run["dataflow"]][list(layers).index(run["name"])] - 1
            for run in theirs
        )
        # A batch of arrays of different heights, so that nothing can be folded away.
        sides = jnp.arange(num_arrays, dtype=float) % 512 + 1.0
        program = jax.jit(jax.vmap(cycles))
        _, cpu_s = timed(lambda: program(sides))
    their_cpu_s = float(np.mean([run["cpu_s"] for run in theirs]))
    my_cpu_s = cpu_s / (num_arrays * len(theirs))
    return {
        "runs": theirs,
        "cycles_equal": equal,
        "scalesim_cpu_s_per_layer": their_cpu_s,
        "hwdse_cpu_s_per_layer": my_cpu_s,
        "times_faster": their_cpu_s / my_cpu_s,
    }


def as_markdown(results: dict) -> str:
    """The table of results.md."""
    sweep, cold = results["sweep"], results["cold_start"]
    relaxed = results["gradient_smooth"]["gradient_over_evaluation"]
    exact = results["gradient_exact"]["gradient_over_evaluation"]
    rows = [
        ("`hwdse --help`, new process", f"{cold['help_s']:.2f} s"),
        ("`hwdse evaluate` of the main job, new process", f"{cold['evaluate_s']:.1f} s"),
        ("full evaluations, float32 batch", f"{sweep['evaluations_per_s']:,.0f} a second"),
        ("the same, per CPU second", f"{sweep['evaluations_per_cpu_s']:,.0f}"),
        ("compile time of that batch", f"{sweep['compile_s']:.1f} s"),
        ("gradient over evaluation, smooth reading, 64 designs (descent)", f"{relaxed:.2f}"),
        ("gradient over evaluation, exact reading, 512 designs", f"{exact:.2f}"),
    ]
    if "scalesim" in results:
        peer = results["scalesim"]
        rows += [
            ("SCALE-Sim 3.0.0, a layer", f"{peer['scalesim_cpu_s_per_layer']:.2f} CPU s"),
            (
                "hwdse, the same cycles in a batch of 100,000 arrays",
                f"{peer['hwdse_cpu_s_per_layer']:.2e} CPU s",
            ),
            ("ratio", f"{peer['times_faster']:.1e}"),
            ("cycles equal", "yes, all" if peer["cycles_equal"] else "NO"),
        ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| what | measured |", "| --- | --- |", *lines]) + "\n"


def main() -> None:
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
        results["scalesim"] = beside_scalesim()
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(as_markdown(results))
    print(as_markdown(results))


if __name__ == "__main__":
    main()
