"""One optimizer step on a cluster: operator costs, collectives, pipeline, power limit, goodput.

The package combines `models` and `core` for training and enumerates and ranks parallelism
strategies. It imports only `numerics`, `specs`, `workload`, `models` and `core`. Public names load
on first use:

- `evaluate_cluster`: `Evaluation` of a design under a training workload.
- `step_work`: what no clock changes in a step, a `StepWork`.
- `run_step`: times and energy of that step at a clock, without failures, a `StepRun`.
- `StepWork`: sharding, work of operators and collectives of one step.
- `StepRun`: sharding, operator costs, times and energy of one step.
- `operator_costs`: time, traffic and work of GEMM operators on one chip.
- `OperatorCosts`: result of `operator_costs`.
- `peak_flop_per_s`: 16-bit peak of the matrix engines of a chip.
- `collective_time_s`: time of one collective on the fabric of a cluster.
- `run_within_limit`: the same at the highest clock at which the step meets the power limit.
- `goodput`: productive fraction of wall time of a job: failures, checkpoints, stragglers.
- `enumerate_strategies`: valid parallelism strategies of a job on a number of chips.
- `StrategyOptions`: values of each field that `enumerate_strategies` includes.
- `strategy_at`: one strategy of a table as `Parallelism`.
- `strategy_label`: text of one strategy, such as `TP8 PP4 DP32`.
- `evaluate_strategies`: metrics of all strategies of a table, in float64.
- `StrategyMetrics`: result of `evaluate_strategies`.
- `ranked`: rows of the strategies that fit the HBM, best first.
- `representatives`: rows of a few strategies that represent a table in a search.
"""

from typing import TYPE_CHECKING

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.training.cluster_evaluation import evaluate_cluster
    from hwdse.training.gemm_operator_costs import OperatorCosts, operator_costs, peak_flop_per_s
    from hwdse.training.job_goodput import goodput
    from hwdse.training.power_cap import run_within_limit
    from hwdse.training.step_time_and_energy import StepRun, StepWork, run_step, step_work
    from hwdse.training.strategy_enumeration import (
        StrategyOptions,
        enumerate_strategies,
        strategy_at,
        strategy_label,
    )
    from hwdse.training.strategy_ranking import (
        StrategyMetrics,
        evaluate_strategies,
        ranked,
        representatives,
    )

__all__ = [
    "OperatorCosts",
    "StepRun",
    "StepWork",
    "StrategyMetrics",
    "StrategyOptions",
    "enumerate_strategies",
    "evaluate_cluster",
    "evaluate_strategies",
    "goodput",
    "operator_costs",
    "peak_flop_per_s",
    "ranked",
    "representatives",
    "run_step",
    "run_within_limit",
    "step_work",
    "strategy_at",
    "strategy_label",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cluster_evaluation": ("evaluate_cluster",),
        "gemm_operator_costs": (
            "OperatorCosts",
            "operator_costs",
            "peak_flop_per_s",
        ),
        "job_goodput": ("goodput",),
        "power_cap": ("run_within_limit",),
        "step_time_and_energy": (
            "StepRun",
            "StepWork",
            "run_step",
            "step_work",
        ),
        "strategy_enumeration": (
            "StrategyOptions",
            "enumerate_strategies",
            "strategy_at",
            "strategy_label",
        ),
        "strategy_ranking": (
            "StrategyMetrics",
            "evaluate_strategies",
            "ranked",
            "representatives",
        ),
    },
)
