"""One optimizer step on a cluster: operator costs, collectives, pipeline, power limit, goodput.

The room combines `models` and `core` for training and enumerates and ranks parallelism strategies.
It imports only `numerics`, `specs`, `workload`, `models` and `core`. Public names load on first
use:

- `evaluate_cluster`: `Evaluation` of a design under a training workload.
- `run_step`: times and energy of one step without failures and power limit, a `StepRun`.
- `StepRun`: sharding, operator costs, times and energy of one step.
- `operator_costs`: time, traffic and work of GEMM operators on one chip.
- `OperatorCosts`: result of `operator_costs`.
- `peak_flop_per_s`: 16-bit peak of the matrix engines of a chip.
- `collective_time_s`: time of one collective on the fabric of a cluster.
- `throttled_clock_ratio`: clock over set clock at which a step meets the power limit.
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

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwdse.training.cluster_evaluation import evaluate_cluster
    from hwdse.training.gemm_operator_costs import OperatorCosts, operator_costs, peak_flop_per_s
    from hwdse.training.hierarchical_collectives import collective_time_s
    from hwdse.training.job_goodput import goodput
    from hwdse.training.power_cap import throttled_clock_ratio
    from hwdse.training.step_time_and_energy import StepRun, run_step
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
    "StrategyMetrics",
    "StrategyOptions",
    "collective_time_s",
    "enumerate_strategies",
    "evaluate_cluster",
    "evaluate_strategies",
    "goodput",
    "operator_costs",
    "peak_flop_per_s",
    "ranked",
    "representatives",
    "run_step",
    "strategy_at",
    "strategy_label",
    "throttled_clock_ratio",
]

_MODULES = MappingProxyType(
    {
        "evaluate_cluster": "hwdse.training.cluster_evaluation",
        "run_step": "hwdse.training.step_time_and_energy",
        "StepRun": "hwdse.training.step_time_and_energy",
        "operator_costs": "hwdse.training.gemm_operator_costs",
        "OperatorCosts": "hwdse.training.gemm_operator_costs",
        "peak_flop_per_s": "hwdse.training.gemm_operator_costs",
        "collective_time_s": "hwdse.training.hierarchical_collectives",
        "throttled_clock_ratio": "hwdse.training.power_cap",
        "goodput": "hwdse.training.job_goodput",
        "enumerate_strategies": "hwdse.training.strategy_enumeration",
        "StrategyOptions": "hwdse.training.strategy_enumeration",
        "strategy_at": "hwdse.training.strategy_enumeration",
        "strategy_label": "hwdse.training.strategy_enumeration",
        "evaluate_strategies": "hwdse.training.strategy_ranking",
        "StrategyMetrics": "hwdse.training.strategy_ranking",
        "ranked": "hwdse.training.strategy_ranking",
        "representatives": "hwdse.training.strategy_ranking",
    }
)
"""Module of each public name."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
