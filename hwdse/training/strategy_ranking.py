"""Metrics, ranking and representatives of parallelism strategies."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.factored_program import Columns, FactoredProgram
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.specs.design import Design
from hwdse.specs.results.evaluation_result import Evaluation, MemoryParts, TimeParts
from hwdse.training.cluster_evaluation import evaluate_cluster
from hwdse.training.strategy_enumeration import with_equal_stages
from hwdse.workload.transformer.model_config import TransformerTraining

MAX_PLAIN_ROWS = 1 << 16
"""Strategies up to which one program for all designs is faster than one compiled for a design."""
PLAIN_BLOCK = 1 << 12
"""Strategies per call of that program."""


@struct.dataclass
class StrategyMetrics:
    """Fields of an `Evaluation` for comparison; arrays with one element per strategy."""

    step_time_s: Leaf
    time_per_token_s: Leaf
    effective_tokens_per_s: Leaf
    cost_per_token_usd: Leaf
    energy_per_token_j: Leaf
    mfu_fraction: Leaf
    chip_power_w: Leaf
    die_area_mm2: Leaf
    chip_cost_usd: Leaf
    carbon_per_token_g: Leaf
    reticle_used_ratio: Leaf
    hbm_used_ratio: Leaf
    time: TimeParts
    hbm: MemoryParts

    @property
    def energy_delay_j_s(self) -> Leaf:
        """Product of time and energy per token."""
        return self.time_per_token_s * self.energy_per_token_j


def strategy_metrics_of(evaluation: Evaluation) -> StrategyMetrics:
    """Metrics of one strategy."""
    names = StrategyMetrics.__dataclass_fields__
    return StrategyMetrics(**{name: getattr(evaluation, name) for name in names})


def strategy_program(
    design: Design, job: TransformerTraining, strategies: Columns
) -> FactoredProgram:
    """Compiled program whose `run` returns the `StrategyMetrics` of all strategies.

    Fields without a column are those of `design`. The float type is that of the `jax.enable_x64` in
    scope, which must be the same for `run`.
    """
    base, work = jax.tree.map(float, design), jax.tree.map(float, job)

    def metrics(fields: dict[str, Any]) -> StrategyMetrics:
        parallelism = dataclasses.replace(with_equal_stages(base.parallelism), **fields)
        return strategy_metrics_of(
            evaluate_cluster(base.replace(parallelism=parallelism), work, EXACT)
        )

    return FactoredProgram(metrics, strategies)


def evaluate_strategies(
    design: Design, job: TransformerTraining, strategies: Columns
) -> StrategyMetrics:
    """Metrics of every strategy, in float64.

    Up to `MAX_PLAIN_ROWS` strategies by one compiled program for all designs; more by
    `strategy_program`, which is faster per row and compiled for each design.
    """
    with jax.enable_x64(True):
        if len(strategies) > MAX_PLAIN_ROWS:
            return strategy_program(design, job, strategies).run()
        base, work = jax.tree.map(float, design), jax.tree.map(float, job)
        fields = {name: np.asarray(strategies[name], float) for name in strategies.levels}
        program, results = _plain_program(), []
        for start in range(0, len(strategies), PLAIN_BLOCK):
            part = {name: column[start : start + PLAIN_BLOCK] for name, column in fields.items()}
            size = len(next(iter(part.values())))
            padded = {
                n: np.pad(column, (0, PLAIN_BLOCK - size), "edge") for n, column in part.items()
            }
            found = program(base, work, padded)
            results.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], found))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


@functools.cache
def _plain_program() -> Callable[[Design, TransformerTraining, Any], StrategyMetrics]:
    """Metrics of `PLAIN_BLOCK` strategies of any design and job."""

    def one(design: Design, job: TransformerTraining, fields: dict[str, Any]) -> StrategyMetrics:
        parallelism = dataclasses.replace(with_equal_stages(design.parallelism), **fields)
        found = evaluate_cluster(dataclasses.replace(design, parallelism=parallelism), job, EXACT)
        return strategy_metrics_of(jax.tree.map(jnp.asarray, found))

    return quick_jit(jax.vmap(one, in_axes=(None, None, 0)))


METRICS: Mapping[str, str] = MappingProxyType(
    {
        "step_time": "step_time_s",
        "time_per_token": "time_per_token_s",
        "cost_per_token": "cost_per_token_usd",
        "energy_per_token": "energy_per_token_j",
        "memory": "hbm_used_ratio",
    }
)
"""Fields of `StrategyMetrics` for ranking, by name of the metric; less is better."""
DEGREES = ("tensor", "pipeline", "context", "expert")
"""Columns that group the chips; the data-parallel degree follows from them."""


def ranked(metrics: StrategyMetrics, metric: str, max_hbm_ratio: float = 1.0) -> np.ndarray:
    """Rows of the strategies that fit the HBM, best first by a metric of `METRICS`.

    Ties are sorted by HBM usage. Strategies with non-finite metrics are excluded.
    """
    values, used = getattr(metrics, METRICS[metric]), metrics.hbm_used_ratio
    order = np.lexsort((used, values))
    return order[(used <= max_hbm_ratio)[order] & np.isfinite(values)[order]]


def least_hbm_index(metrics: StrategyMetrics) -> int:
    """Row of the strategy with the least HBM usage."""
    used = np.where(np.isfinite(metrics.hbm_used_ratio), metrics.hbm_used_ratio, np.inf)
    return int(np.argmin(used))


def representatives(strategies: Columns, metrics: StrategyMetrics, num_kept: int) -> np.ndarray:
    """Rows of `num_kept` strategies for a search that also varies the hardware, fastest first.

    The fastest strategy of each combination of `DEGREES` is kept first, then the fastest of the
    remaining ones. Strategies that fit the HBM precede others. Other hardware prefers other degrees
    and may have more memory.
    """
    used = metrics.hbm_used_ratio
    times = np.where(np.isfinite(metrics.step_time_s), metrics.step_time_s, np.inf)
    overfull = np.where(np.isfinite(used), np.maximum(used, 1.0), np.inf)
    order = np.lexsort((used, times, overfull))
    groups = np.zeros(len(strategies), dtype=np.int64)
    for name in DEGREES:
        groups = groups * len(strategies.levels[name]) + strategies.indices[name]
    is_first = np.zeros(len(strategies), dtype=bool)
    is_first[order[np.unique(groups[order], return_index=True)[1]]] = True
    kept = np.concatenate((order[is_first[order]], order[~is_first[order]]))[:num_kept]
    return order[np.isin(order, kept)]
