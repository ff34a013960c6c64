"""Rate and peak memory of long sweeps of the reference job, and exactness of the front.

Usage: python experiments/sweep_billion/run.py [--points 1e7 1e9] [--subset 3e5]
Each sweep runs as `hwdse sweep` in a separate process; its peak resident set is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

SEARCH = "trn2_llama3_70b"
BATCH = 1 << 12
"""Points per batch of the brute-force check."""


def measured(points: float, folder: Path) -> dict[str, float]:
    """Rate, CPU seconds and peak resident set of one complete sweep."""
    command = [sys.executable, "-c", "from hwdse.cli import main; main()", "sweep", SEARCH]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--points", f"{points:.0f}", "--out", str(folder), "--json"],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the sweep of {points:g} designs failed")
    summary = json.loads((folder / "run.json").read_text())["summary"]
    return {
        "num_points": summary["num_points"],
        "wall_s": seconds,
        "points_per_s": summary["num_points"] / seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_rss_mib": usage.ru_maxrss / 1024.0,
        "num_front": summary["num_front"],
        "num_feasible": summary["num_feasible"],
        "num_reclassified": summary["num_reclassified"],
    }


def brute_force(num_points: int) -> bool:
    """True if the front of a sweep equals that of all its points, each evaluated in float64."""
    from hwdse.config import load_search
    from hwdse.objectives import exact_objectives_fn, make_objectives_fn
    from hwdse.search.evaluation.search_result import without_rounding
    from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
    from hwdse.search.space.point_sequences import host_points
    from hwdse.search.sweeps.chunked_sweep import plan_sweep, sweep

    loaded = load_search(SEARCH)
    space, limits = loaded.space, loaded.limits
    objectives_fn = exact_objectives_fn(
        make_objectives_fn(loaded.front_objectives, limits, loaded.workload)
    )
    plan = plan_sweep(space, num_points=num_points, seed=loaded.seed)
    found = sweep(objectives_fn, plan, loaded.base)
    kept, keys = [], []
    for variant, (_, base) in enumerate(space.variant_bases(loaded.base)):
        one = jax.jit(
            jax.vmap(lambda unit, base=base: objectives_fn(space.decode_rounded(unit, base)))
        )
        for first in range(0, plan.variant_points[variant], BATCH):
            indices = np.arange(first, first + BATCH)
            with jax.enable_x64(True):
                outcome = one(space.snap_points(host_points(plan.sequence, indices)))
            log_objectives, constraint_values = (np.asarray(part) for part in outcome)
            is_kept = (without_rounding(constraint_values) <= 0.0).all(axis=1)
            is_kept &= np.isfinite(log_objectives).all(axis=1) & (
                indices < plan.variant_points[variant]
            )
            kept.append(log_objectives[is_kept])
            keys += [(variant, int(index)) for index in indices[is_kept]]
    mask = non_dominated_mask(np.concatenate(kept))
    front = found.front
    members = set(zip(front.variants.tolist(), front.sequence_indices.tolist(), strict=True))
    expected = {keys[index] for index in np.flatnonzero(mask)}
    same_count = len(keys) == found.num_feasible
    print(f"brute force over {plan.num_points:,}: front of {len(expected)}, sweep {len(members)}; "
          f"{len(keys):,} feasible, sweep {found.num_feasible:,}")  # fmt: skip
    return members == expected and same_count


def main() -> None:
    """Print the measurements and write them to results/sweeps.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=float, nargs="+", default=[1e7])
    parser.add_argument("--subset", type=float, default=3e5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for points in options.points:
            rows.append(measured(points, Path(folder) / f"{points:.0f}"))
            print("  ".join(f"{name} {value:,.6g}" for name, value in rows[-1].items()), flush=True)
    result = {"sweeps": rows, "front_equals_brute_force": brute_force(int(options.subset))}
    print(f"front of the subset equals brute force: {result['front_equals_brute_force']}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "sweeps.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
