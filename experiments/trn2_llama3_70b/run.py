"""Improvement of the Trn2 preset at the same die area and power, in total and by part.

    python experiments/trn2_llama3_70b/run.py

Writes results/gain.json and results/gain.md. About 13 minutes on two busy cores.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from hwdse.config import LoadedSearch, load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.relaxation import EXACT
from hwdse.objectives import make_objective_fn, make_objectives_fn
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweeps.chunked_sweep import sweep
from hwdse.search.sweeps.sweep_plan import plan_sweep

HERE = pathlib.Path(__file__).parent
SEARCH = HERE.parents[1] / "configs" / "searches" / "trn2_llama3_70b.toml"
SWEEP_POINTS = 100_000
SEARCH_SEEDS = range(8)
SWEEP_SEEDS = range(3)


def spaces(loaded: LoadedSearch) -> dict[str, SearchSpace]:
    """The full space, and parts of it with all other parameters as in the preset."""
    whole = loaded.space
    hardware = tuple(d for d in whole.dimensions if d.path.startswith("chip."))
    interval = tuple(d for d in whole.dimensions if d.path == "checkpoint_interval_s")
    fp64 = tuple(d for d in whole.dimensions if d.path == "chip.fp64_per_fp16_ratio")
    others = tuple(d for d in hardware if d not in fp64)

    def part(dimensions: tuple, **rest: tuple) -> SearchSpace:
        fields = {"choices": (), "variants": (), **rest}
        return dataclasses.replace(whole, dimensions=dimensions, **fields)

    return {
        "checkpoint interval": part(interval),
        "parallelism strategy": part((), choices=whole.choices),
        "strategy and interval": part(interval, choices=whole.choices),
        "FP64 units": part(fp64),
        "chip without FP64 units": part(others, variants=whole.variants),
        "chip": part(hardware, variants=whole.variants),
        "everything": whole,
    }


def search(loaded: LoadedSearch, space: SearchSpace, objective_fn, seed: int, share: int = 20):
    """Result of one search with 1 / `share` of the evaluations of the sweep."""
    num_variants = len(space.variant_bases(loaded.base))
    search_budget = allocate_evaluations(SWEEP_POINTS // share, num_variants)
    return minimize(objective_fn, space, loaded.base, seed=seed, **search_budget)


def gain_by_part(loaded: LoadedSearch, objective_fn, before: float) -> dict[str, float]:
    """Best improvement factor of time x energy over seeds, for each part of the space."""
    gains = {}
    for name, space in spaces(loaded).items():
        found = [search(loaded, space, objective_fn, seed) for seed in SEARCH_SEEDS]
        gains[name] = float(np.exp(before - min(result.log_objective for result in found)))
    return gains


def search_and_sobol(loaded: LoadedSearch, objective_fn, before: float) -> dict[str, dict]:
    """Factors of single searches, and of Sobol sweeps with 20 and 80 times their evaluations."""
    objectives_fn = make_objectives_fn((loaded.objective,), loaded.limits, loaded.workload)

    def exact_objectives(design):
        return objectives_fn(design, EXACT)

    rows = {}
    for share in (80, 20):
        found = [search(loaded, loaded.space, objective_fn, seed, share) for seed in SEARCH_SEEDS]
        rows[f"gradient search, 1/{share}"] = {
            "evaluations": [result.num_evaluations for result in found],
            "gain": [float(np.exp(before - result.log_objective)) for result in found],
        }
    swept = [
        sweep(
            exact_objectives,
            plan_sweep(loaded.space, num_points=SWEEP_POINTS, seed=seed),
            loaded.base,
        )
        for seed in SWEEP_SEEDS
    ]
    rows["Sobol sweep"] = {
        "evaluations": [result.num_points for result in swept],
        "gain": [float(np.exp(before - result.best(0).log_objectives[0, 0])) for result in swept],
    }
    return rows


def as_markdown(parts: dict[str, float], compared: dict[str, dict[str, list]]) -> str:
    """Tables of results/gain.md."""
    lines = [
        "| searched, other parameters as in the preset | time x energy better by |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | {gain:.2f}x |" for name, gain in parts.items()]
    lines += ["", "| method | evaluations | seeds | worst | median | best |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name, row in compared.items():
        cells = [f"{gain:.2f}x" for gain in np.percentile(row["gain"], [0, 50, 100])]
        largest, num_seeds = max(row["evaluations"]), len(row["gain"])
        lines += [f"| {name} | {largest:,} | {num_seeds} | {' | '.join(cells)} |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write results/gain.json and results/gain.md."""
    loaded = load_search(SEARCH)
    with jax.enable_x64(True):
        base = evaluate(loaded.base, loaded.workload)
        before = float(np.log(base.time_per_token_s * base.energy_per_token_j))
        objective_fn = make_objective_fn(loaded.objective, loaded.limits, loaded.workload)
        parts = gain_by_part(loaded, objective_fn, before)
        compared = search_and_sobol(loaded, objective_fn, before)
    results = {"gain_by_part": parts, "search_and_sobol": compared}
    (HERE / "results" / "gain.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "results" / "gain.md").write_text(as_markdown(parts, compared))
    print(as_markdown(parts, compared))


if __name__ == "__main__":
    main()
