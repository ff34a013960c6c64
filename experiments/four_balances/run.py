"""Four balances of current accelerators, and FP64 shares at which FP64:FP16 = 1:100 is optimal.

    python experiments/four_balances/run.py

Writes results/balances.json, results/tables.md and the plots penalties and one_to_hundred (PNG and
SVG), and inserts the tables into README.md. A few CPU minutes.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
from balance_figures import draw_penalties, draw_shares
from tables import all_tables

from hwdse.analysis.fp64_balance import precision_balance
from hwdse.analysis.memory_level_balance import memory_balance
from hwdse.analysis.resource_balance import parameter_balances
from hwdse.config import load_system, load_workload
from hwdse.evaluation import evaluate
from hwdse.models.precision.precision_mix import fp64_fraction_for_ratio
from hwdse.models.silicon.area import fp64_cost_ratio
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.training.strategy_enumeration import (
    FIELDS,
    StrategyOptions,
    enumerate_strategies,
    strategy_label,
)
from hwdse.training.strategy_ranking import evaluate_strategies

RESULTS = pathlib.Path(__file__).parent / "results"
JOB = "llama3_70b"
SYSTEMS = {
    "Trainium1": ("trn1_32xlarge", 1024),
    "Trainium2": ("trn2_ultraserver", 1024),
    "Trainium3": ("trn3_ultraserver", 1152),
    "H100": ("dgx_h100", 1024),
    "B200": ("p6_b200", 1024),
    "MI300X": ("mi300x_platform", 1024),
    "SW26010-Pro": ("oceanlight", 1024),
}
"""Preset and number of chips; a Trainium3 UltraServer has 144 chips."""
FP64_SHARE = 1e-4
"""FP64 share of the FLOP of the job; assumed, as in the reference job."""
INTERVAL_S = 3600.0
"""Checkpoint interval; assumed."""
HIDDEN = 0.5
"""Fraction of the tensor-parallel traffic that overlaps with GEMMs; assumed."""
EMULATED = {"gemm_share": 0.8, "flop_ratio": 15.0}
"""Job with 80 % of its FP64 work in GEMMs, emulated with 15 16-bit FLOP per FP64 FLOP. GH200
measurements range from 12 to 18."""


def base_of(name: str) -> Design:
    """Design of a system with the assumptions above and the fastest strategy that fits."""
    preset, count = SYSTEMS[name]
    system, job = load_system(preset), load_workload(JOB)
    num_chips = float(count)
    parallelism = Parallelism(1.0, 1.0, 1.0, 0.0, tensor_overlap_fraction=HIDDEN)
    design = Design(
        system.chip,
        dataclasses.replace(system.cluster, num_chips=num_chips),
        PrecisionMix(FP64_SHARE, 0.0),
        parallelism,
        INTERVAL_S,
    )
    strategies = enumerate_strategies(
        job, num_chips, StrategyOptions(micro_batch=(1.0, 2.0), sequence=(1,))
    )
    metrics = evaluate_strategies(design, job, strategies)
    fits = metrics.hbm_used_ratio <= 1.0
    if not fits.any():
        raise RuntimeError(f"{name}: no strategy fits the memory")
    row = int((metrics.time_per_token_s + 1e9 * ~fits).argmin())
    print(f"{name}: {strategy_label(strategies, row, num_chips)}", flush=True)
    fields = {field: float(strategies[field][row]) for field in FIELDS}
    return dataclasses.replace(design, parallelism=dataclasses.replace(parallelism, **fields))


def shares_for(design: Design, evaluation: Evaluation) -> dict[str, float]:
    """FP64 shares for which 1:100 and the own ratio of the chip are optimal."""
    chip = design.chip
    emulating = dataclasses.replace(chip, emulated_fp64_flop_ratio=EMULATED["flop_ratio"])
    kappa = fp64_cost_ratio(chip)
    # 16-bit GEMMs take the time that the arrays need for them in this job.
    at_peak_s = evaluation.mfu_fraction * evaluation.step_time_s
    rest = evaluation.time.matrix / at_peak_s

    def best_ratios(shares: jax.Array, one: Chip, gemm_share: float) -> jax.Array:
        def best(share: jax.Array) -> jax.Array:
            mix = PrecisionMix(share, 0.0, fp64_gemm_fraction=gemm_share)
            return precision_balance(one, mix, rest_time_ratio=rest).optimal_ratio

        return jax.vmap(best)(shares)

    with jax.enable_x64(True):
        shares = jnp.geomspace(1e-6, 0.9, 20001)
        in_job = best_ratios(shares, chip, 0.0)
        emulated = best_ratios(shares, emulating, EMULATED["gemm_share"])
        return {
            "one_to_hundred": float(fp64_fraction_for_ratio(0.01, kappa, 1.0)),
            "own_ratio": float(fp64_fraction_for_ratio(chip.fp64_per_fp16_ratio, kappa, 1.0)),
            "kappa": float(kappa),
            # The optimal ratio increases with the share.
            "in_job": float(shares[int((in_job < 0.01).sum())]),
            "emulated": float(shares[int((emulated < 0.01).sum())]),
        }


def study(name: str) -> dict[str, Any]:
    """Values of one system for all tables and plots."""
    design, job = base_of(name), load_workload(JOB)
    balances = parameter_balances(design, job)
    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        parts = quick_jit(lambda _: (evaluate(base, job), memory_balance(base, job)))(0.0)
        evaluation, memory = jax.tree.map(float, parts)
    return {
        "name": name,
        "parallelism": {field: float(getattr(design.parallelism, field)) for field in FIELDS},
        "num_chips": float(design.cluster.num_chips),
        "parameters": {
            item.parameter.path: {
                "current": item.current,
                "optimum": item.optimum,
                "near_optimal": item.near_optimal,
                "is_at_end": item.is_at_end,
                "penalty_fraction": item.penalty_fraction,
                "elasticity": item.elasticity,
            }
            for item in balances
        },
        "shares": shares_for(design, evaluation),
        "memory": dataclasses.asdict(memory),
        "mfu_fraction": evaluation.mfu_fraction,
        "goodput_fraction": evaluation.goodput_fraction,
        "time": dataclasses.asdict(evaluation.time),
        "step_time_s": evaluation.step_time_s,
    }


def refresh_readme(tables: str) -> None:
    """Replace the tables below the heading "Tables" of README.md."""
    readme = RESULTS.parent / "README.md"
    before, heading, _ = readme.read_text().partition("## Tables\n")
    readme.write_text(f"{before}{heading}\n{tables}")


def main() -> None:
    """Write the results, plots and tables."""
    RESULTS.mkdir(exist_ok=True)
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hwdse"
    found = [study(name) for name in SYSTEMS]
    (RESULTS / "balances.json").write_text(json.dumps(found, indent=1) + "\n")
    tables = all_tables(found)
    (RESULTS / "tables.md").write_text(tables)
    draw_penalties(found, RESULTS)
    draw_shares(found, RESULTS)
    refresh_readme(tables)
    print(tables)


if __name__ == "__main__":
    main()
