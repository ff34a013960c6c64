"""Co-search of array, buffers and mappings of a Gemmini for DNNs: DOSA's problem, minimum EDP.

    python experiments/dosa/run.py

Writes results/dosa.json and results/dosa.md, updated after each network. About twelve CPU
minutes. BERT runs with three seeds; the other networks run with two seeds at the small budget and
one at the large budget.
"""

import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np

from hwdse.config import load_operators, load_search
from hwdse.core.network_mapper import map_network
from hwdse.numerics.relaxation import EXACT
from hwdse.objectives import make_objective_fn, make_objectives_fn
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.space.pytree_path import get_path
from hwdse.search.sweeps.chunked_sweep import sweep
from hwdse.search.sweeps.sweep_plan import plan_sweep

HERE = pathlib.Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
NETWORKS = ("bert_base", "resnet50", "unet", "retinanet")
BUDGETS = (250, 1000)
LARGE_SWEEP = 20_000
FULL = "bert_base"
"""Network with all seeds and the large sweep; the others need ten times as long per design."""
UJ_CYCLES = 1e15
"""Number of µJ x cycles (DOSA's unit) per J s at 1 GHz."""
DOSA_DESCENT = 2.05e9
"""Best rounded result on BERT of an Adam loop over DOSA's own model functions, two starts of 900
steps, 80 CPU s each, in µJ x cycles."""
DOSA_SWEEP = 1.519e9
"""Best result of a sweep of 880 square arrays and buffers with all divisor tiles, same model."""


def seeds_of(network: str, num_evaluations: int) -> range:
    """Seeds of one method: fewer for slow networks and large budgets."""
    if network == FULL:
        return range(3 if num_evaluations < LARGE_SWEEP else 1)
    return range(2 if num_evaluations == BUDGETS[0] else 1)


def search_of(network: str, mapping: str = "optimize") -> Any:
    """Search problem of a network, with the mapper inside or with explicit tile variables."""
    change = [f"design.workload={network}"]
    if mapping == "optimize":
        return load_search(CONFIGS / "searches" / "dosa_bert.toml", change)
    head, *variables = (HERE / "explicit.toml").read_text().split("[[variables]]")
    if np.max(load_operators(network).q) == 1.0:  # GEMMs have one output column: no tiles along q
        variables = [text for text in variables if "tiles.*.q" not in text]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "explicit.toml"
        file.write_text("[[variables]]".join([head, *variables]))
        return load_search(file, change)


def re_evaluated(loaded: Any, design: Any) -> float:
    """EDP (µJ x cycles) of the mappings found, from the model of given mappings."""
    network = map_network(design, loaded.workload)
    count = np.asarray(loaded.workload.count, float)
    costs = [network.given(i, network.operator(i).text).costs for i in range(count.size)]
    time_s = count @ np.array([cost.time_s for cost in costs])
    return float(UJ_CYCLES * time_s * (count @ np.array([cost.energy_j for cost in costs])))


def hardware_values(loaded: Any, design: Any) -> dict[str, float]:
    """Values of the searched hardware parameters."""
    paths = [d.path for d in loaded.space.dimensions if d.path.startswith("accelerator.")]
    return {path: float(get_path(design, path)) for path in paths}


def compared(network: str) -> dict[str, Any]:
    """Best, median and worst EDP (µJ x cycles) over seeds of each method, and CPU seconds."""
    loaded = search_of(network)
    rows: dict[str, Any] = {}
    objective_fn = make_objective_fn(loaded.objective, loaded.limits, loaded.workload)
    best = None
    for budget in BUDGETS:
        found, seconds = [], []
        for seed in seeds_of(network, budget):
            start = time.process_time()
            result = minimize(
                objective_fn, loaded.space, loaded.base, seed=seed, **allocate_evaluations(budget)
            )
            seconds.append(time.process_time() - start)
            found.append(result)
        best = min([*found, *([best] if best else [])], key=lambda r: r.log_objective)
        logs = [result.log_objective for result in found]
        rows[f"gradient, mapper in the loop, {budget}"] = summary(logs, seconds)
    objectives_fn = make_objectives_fn((loaded.objective,), loaded.limits, loaded.workload)

    def exact_objectives(design: Any) -> Any:
        return objectives_fn(design, EXACT)

    for points in (*BUDGETS, *([LARGE_SWEEP] if network == FULL else [])):
        logs, seconds = [], []
        for seed in seeds_of(network, points):
            plan = plan_sweep(loaded.space, num_points=points, seed=seed)
            start = time.process_time()
            result = sweep(exact_objectives, plan, loaded.base)
            seconds.append(time.process_time() - start)
            logs.append(float(result.best(0).log_objectives[0, 0]))
        rows[f"Sobol sweep, mapper in the loop, {points}"] = summary(logs, seconds)
    rows |= explicit(network)
    value = float(UJ_CYCLES * np.exp(best.log_objective))
    return {
        "best": value,
        "re_evaluated": re_evaluated(loaded, best.design),
        "hardware": hardware_values(loaded, best.design),
        "methods": rows,
    }


def explicit(network: str) -> dict[str, Any]:
    """Results of DOSA's formulation in hwdse: tile factors of all operators as variables."""
    loaded = search_of(network, "explicit")
    objective_fn = make_objective_fn(loaded.objective, loaded.limits, loaded.workload)
    num_variables = len(loaded.space.dimensions)
    rows = {}
    for budget in BUDGETS if network == FULL else BUDGETS[:1]:
        logs, seconds = [], []
        for seed in seeds_of(network, budget):
            start = time.process_time()
            result = minimize(
                objective_fn, loaded.space, loaded.base, seed=seed, **allocate_evaluations(budget)
            )
            seconds.append(time.process_time() - start)
            logs.append(result.log_objective if result.is_feasible else np.inf)
        rows[f"gradient, {num_variables} tile and hardware variables, {budget}"] = summary(
            logs, seconds
        )
    return rows


def summary(logs: list[float], seconds: list[float]) -> dict[str, float | None]:
    """Best, median, worst EDP (µJ x cycles); CPU seconds of the first (with compilation), later."""
    values = UJ_CYCLES * np.exp(logs)
    return {
        "best": float(values.min()),
        "median": float(np.median(values)),
        "worst": float(values.max()),
        "first_s": seconds[0],
        "later_s": float(np.median(seconds[1:])) if len(seconds) > 1 else None,
    }


def as_markdown(results: dict[str, Any]) -> str:
    """Tables of results/dosa.md."""
    lines = [
        "| network | EDP (µJ x cycles) | EDP re-evaluated (µJ x cycles) | array (rows x columns) "
        "| scratchpad (KiB) | accumulators (KiB) |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for network, row in results["networks"].items():
        rows, cols, scratchpad, sums = row["hardware"].values()
        kib = [f"{size / 1024:,.0f}" for size in (scratchpad, sums)]
        values = f"{row['best']:.4g} | {row['re_evaluated']:.4g}"
        lines.append(f"| {network} | {values} | {rows:g} x {cols:g} | {' | '.join(kib)} |")
    lines += [
        "",
        "| network | method, evaluations | best (x best EDP) | median | worst | first run (CPU s) "
        "| later runs (CPU s) |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for network, row in results["networks"].items():
        for method, entry in row["methods"].items():
            values = [f"{entry[key] / row['best']:.3f}" for key in ("best", "median", "worst")]
            spent = (entry[key] for key in ("first_s", "later_s"))
            times = ["-" if seconds is None else f"{seconds:.1f}" for seconds in spent]
            lines.append(f"| {network} | {method} | {' | '.join([*values, *times])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write results/dosa.json and results/dosa.md."""
    networks: dict[str, Any] = {}
    (HERE / "results").mkdir(exist_ok=True)
    with jax.enable_x64(True):
        for network in NETWORKS:
            networks[network] = compared(network)
            bert = networks[FULL]["best"]
            results = {
                "networks": networks,
                "bert_gain_over_dosa_descent": DOSA_DESCENT / bert,
                "bert_gain_over_dosa_sweep": DOSA_SWEEP / bert,
            }
            (HERE / "results" / "dosa.json").write_text(json.dumps(results, indent=1) + "\n")
            (HERE / "results" / "dosa.md").write_text(as_markdown(results))
    print(as_markdown(results))
    print(f"BERT: EDP {DOSA_DESCENT / bert:.3f}x below the gradient descent over mappings")


if __name__ == "__main__":
    main()
