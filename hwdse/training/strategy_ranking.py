"""Which layouts of a list are best, and which few stand for all of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.struct
import jax
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT
from hwdse.specs.design import Design
from hwdse.specs.results.evaluation_result import Evaluation, MemoryParts, TimeParts
from hwdse.training.cluster_evaluation import evaluate_cluster
from hwdse.training.factored_program import Columns, FactoredProgram
from hwdse.workload.transformer.model_config import TransformerTraining


@flax.struct.dataclass
class StrategyMetrics:
    """Of an `Evaluation` what layouts are compared by; arrays with one element a layout."""

    step_time_s: Leaf
    time_per_token_s: Leaf
    effective_tokens_per_s: Leaf
    cost_per_token_usd: Leaf
    energy_per_token_j: Leaf
    mfu_fraction: Leaf
    hbm_used_ratio: Leaf
    time: TimeParts
    hbm: MemoryParts


def strategy_metrics_of(evaluation: Evaluation) -> StrategyMetrics:
    """The figures of one layout."""
    names = StrategyMetrics.__dataclass_fields__
    return StrategyMetrics(**{name: getattr(evaluation, name) for name in names})


def strategy_program(
    design: Design, job: TransformerTraining, strategies: Columns
) -> FactoredProgram:
    """The compiled scores of a list of layouts; its `run` gives `StrategyMetrics`.

    `design` gives all that the list does not set. The numbers are of the float type in scope
    (`jax.enable_x64`), which must be the same when it runs.
    """
    base, work = jax.tree.map(float, design), jax.tree.map(float, job)

    def scores(fields: dict[str, Any]) -> StrategyMetrics:
        parallelism = base.parallelism.replace(**fields)
        return strategy_metrics_of(
            evaluate_cluster(base.replace(parallelism=parallelism), work, EXACT)
        )

    return FactoredProgram(scores, strategies)


def evaluate_strategies(
    design: Design, job: TransformerTraining, strategies: Columns
) -> StrategyMetrics:
    """Scores of every layout, in float64."""
    with jax.enable_x64(True):
        return strategy_program(design, job, strategies).run()


METRICS: Mapping[str, str] = MappingProxyType(
    {
        "step_time": "step_time_s",
        "time_per_token": "time_per_token_s",
        "cost_per_token": "cost_per_token_usd",
        "energy_per_token": "energy_per_token_j",
        "memory": "hbm_used_ratio",
    }
)
"""What layouts can be ranked by, least first: the field of `StrategyMetrics`."""
DEGREES = ("tensor", "pipeline", "context", "expert")
"""Columns that say how chips are grouped."""


def ranked(scores: StrategyMetrics, metric: str, max_hbm_ratio: float = 1.0) -> np.ndarray:
    """Rows of the layouts that fit the HBM, best first by a metric of `METRICS`; of equals the
    one that holds less first. Layouts without finite figures fit nothing."""
    values, used = getattr(scores, METRICS[metric]), scores.hbm_used_ratio
    order = np.lexsort((used, values))
    return order[(used <= max_hbm_ratio)[order] & np.isfinite(values)[order]]


def least_hbm_index(scores: StrategyMetrics) -> int:
    """Row of the layout that needs the least HBM."""
    used = np.where(np.isfinite(scores.hbm_used_ratio), scores.hbm_used_ratio, np.inf)
    return int(np.argmin(used))


def representatives(strategies: Columns, scores: StrategyMetrics, num_kept: int) -> np.ndarray:
    """Rows of `num_kept` layouts for a search that changes the hardware as well, fastest first.

    First the fastest of each way to group the chips (`DEGREES`), then the fastest of the others,
    those that fit the HBM before those that do not: other hardware prefers other groups, and may
    have more memory.
    """
    used = scores.hbm_used_ratio
    times = np.where(np.isfinite(scores.step_time_s), scores.step_time_s, np.inf)
    overfull = np.where(np.isfinite(used), np.maximum(used, 1.0), np.inf)
    order = np.lexsort((used, times, overfull))
    groups = np.zeros(len(strategies), dtype=np.int64)
    for name in DEGREES:
        groups = groups * len(strategies.levels[name]) + strategies.indices[name]
    is_first = np.zeros(len(strategies), dtype=bool)
    is_first[order[np.unique(groups[order], return_index=True)[1]]] = True
    kept = np.concatenate((order[is_first[order]], order[~is_first[order]]))[:num_kept]
    return order[np.isin(order, kept)]
