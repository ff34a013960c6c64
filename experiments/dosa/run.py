"""DOSA's game: sides, buffers and mappings of a Gemmini for whole networks, least energy x delay.

    python experiments/dosa/run.py

Writes results/dosa.json and results/dosa.md. Some minutes on two cores.
"""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from hwdse.config import load_search
from hwdse.numerics import EXACT
from hwdse.objectives import make_costs, make_score
from hwdse.search.gradient import minimize, split_evaluations
from hwdse.search.paths import get_path
from hwdse.search.plan import plan_sweep
from hwdse.search.sweep import sweep
from hwdse.system.network_mapping import map_network

HERE = pathlib.Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
NETWORKS = ("bert_base", "resnet50", "unet", "retinanet")
BUDGETS = (250, 1000)
LARGE_SWEEP = 20_000
SEEDS = range(3)
UJ_CYCLES = 1e15
"""Of one J s at 1 GHz: DOSA's unit."""
DOSA_DESCENT = 2.05e9
"""Best rounded result on BERT of an Adam loop over DOSA's own model functions, two starts of 900
steps, 80 CPU s each; in uJ x cycles."""
DOSA_SWEEP = 1.519e9
"""The same model, 880 square arrays and buffers swept with all divisor tiles."""


def search_of(network: str, mapping: str = "optimise") -> Any:
    """The search file with this network."""
    file = (
        CONFIGS / "searches" / "dosa_bert.toml" if mapping == "optimise" else HERE / "explicit.toml"
    )
    return load_search(file, [f"design.workload={network}"])


def re_evaluated(loaded: Any, design: Any) -> float:
    """Energy x delay in uJ x cycles of the found nests, by the model of given mappings."""
    network = map_network(design, loaded.workload)
    count = np.asarray(loaded.workload.count, float)
    costs = [network.given(i, network.operator(i).text).costs for i in range(count.size)]
    time_s = count @ np.array([cost.time_s for cost in costs])
    return float(UJ_CYCLES * time_s * (count @ np.array([cost.energy_j for cost in costs])))


def described(loaded: Any, design: Any) -> dict[str, float]:
    """The searched values of the hardware."""
    paths = [d.path for d in loaded.space.dimensions if d.path.startswith("accelerator.")]
    return {path: float(get_path(design, path)) for path in paths}


def compared(network: str) -> dict[str, Any]:
    """Best, median and worst over seeds of each method, in uJ x cycles, with CPU seconds."""
    loaded = search_of(network)
    rows: dict[str, Any] = {}
    score = make_score(loaded.objective, loaded.limits, loaded.workload)
    best = None
    for budget in BUDGETS:
        found, seconds = [], []
        for seed in SEEDS:
            start = time.process_time()
            result = minimize(
                score, loaded.space, loaded.base, seed=seed, **split_evaluations(budget)
            )
            seconds.append(time.process_time() - start)
            found.append(result)
        best = min([*found, *([best] if best else [])], key=lambda r: r.log_objective)
        logs = [result.log_objective for result in found]
        rows[f"gradient, mapping inside, {budget}"] = summary(logs, seconds)
    costs = make_costs((loaded.objective,), loaded.limits, loaded.workload)

    def only_exact(design: Any) -> Any:
        return costs(design, EXACT)

    for points in (*BUDGETS, LARGE_SWEEP):
        seeds = SEEDS if points < LARGE_SWEEP else range(1)
        logs, seconds = [], []
        for seed in seeds:
            plan = plan_sweep(loaded.space, num_points=points, seed=seed)
            start = time.process_time()
            result = sweep(only_exact, plan, loaded.base)
            seconds.append(time.process_time() - start)
            logs.append(float(result.best(0).costs[0, 0]))
        rows[f"Sobol sweep, mapping inside, {points}"] = summary(logs, seconds)
    rows |= explicit(network)
    value = float(UJ_CYCLES * np.exp(best.log_objective))
    return {
        "best": value,
        "re_evaluated": re_evaluated(loaded, best.design),
        "hardware": described(loaded, best.design),
        "methods": rows,
    }


def explicit(network: str) -> dict[str, Any]:
    """DOSA's way in our engine: tile factors of every operator as variables."""
    loaded = search_of(network, "explicit")
    score = make_score(loaded.objective, loaded.limits, loaded.workload)
    num_variables = len(loaded.space.dimensions)
    rows = {}
    for budget in BUDGETS:
        logs, seconds = [], []
        for seed in SEEDS:
            start = time.process_time()
            result = minimize(
                score, loaded.space, loaded.base, seed=seed, **split_evaluations(budget)
            )
            seconds.append(time.process_time() - start)
            logs.append(result.log_objective if result.is_feasible else np.inf)
        rows[f"gradient, {num_variables} variables, {budget}"] = summary(logs, seconds)
    return rows


def summary(logs: list[float], seconds: list[float]) -> dict[str, float]:
    """Best, median, worst in uJ x cycles; CPU seconds of the first run, compiling, and later."""
    values = UJ_CYCLES * np.exp(logs)
    return {
        "best": float(values.min()),
        "median": float(np.median(values)),
        "worst": float(values.max()),
        "first_s": seconds[0],
        "later_s": float(np.median(seconds[1:])) if len(seconds) > 1 else float("nan"),
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The tables of results/dosa.md."""
    lines = [
        "| network | EDP, uJ x cycles | nests re-evaluated | array | scratchpad | accumulators |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for network, row in results["networks"].items():
        rows, cols, scratchpad, sums = row["hardware"].values()
        kib = [f"{size / 1024:,.0f} KiB" for size in (scratchpad, sums)]
        values = f"{row['best']:.4g} | {row['re_evaluated']:.4g}"
        lines.append(f"| {network} | {values} | {rows:g} x {cols:g} | {' | '.join(kib)} |")
    lines += [
        "",
        "| network | method, evaluations | best | median | worst | CPU s, first | later |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for network, row in results["networks"].items():
        for method, figures in row["methods"].items():
            values = [f"{figures[key] / row['best']:.3f} x" for key in ("best", "median", "worst")]
            times = [f"{figures[key]:.2f}" for key in ("first_s", "later_s")]
            lines.append(f"| {network} | {method} | {' | '.join([*values, *times])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    with jax.enable_x64(True):
        networks = {network: compared(network) for network in NETWORKS}
    gain = DOSA_DESCENT / networks["bert_base"]["best"]
    results = {
        "networks": networks,
        "bert_gain_over_descent_as_dosa": gain,
        "bert_gain_over_sweep_of_880": DOSA_SWEEP / networks["bert_base"]["best"],
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "dosa.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "results" / "dosa.md").write_text(as_markdown(results))
    print(as_markdown(results))
    print(f"BERT: {gain:.3f} x below the descent over mappings")


if __name__ == "__main__":
    main()
