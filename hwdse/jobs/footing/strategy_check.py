"""All parallelism strategies on one design, by the objective and the limits of its search."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.config.design.strategy import limited_values
from hwdse.config.files.errors import ConfigLocation
from hwdse.config.schema.metric_fields import metric_field
from hwdse.config.schema.schema import check
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.config.search.parallelism_choices import (
    NUM_KEPT,
    choice_fields,
    choice_of,
    strategy_options,
)
from hwdse.config.search.search_file import CHOICE_TABLE
from hwdse.evaluation import evaluate_exact
from hwdse.numerics.factored_program import Columns
from hwdse.search.evaluation.search_result import ROUNDING
from hwdse.specs.design import Design
from hwdse.training.strategy_enumeration import (
    FIELDS,
    StrategyOptions,
    enumerate_strategies,
    strategy_at,
    strategy_label,
)
from hwdse.training.strategy_ranking import DEGREES, evaluate_strategies
from hwdse.workload.transformer.model_config import TransformerTraining

PARALLELISM = "parallelism"
BEST = "best"
SAME = 1e-9
"""Relative difference of objectives that is rounding: the programs differ."""


@dataclass(frozen=True)
class StrategyCheck:
    """All strategies of a job on one design with its own strategy."""

    strategies: Columns
    log_objectives: np.ndarray
    violations: np.ndarray
    """Sum of ln(value / limit) over the limits that a strategy breaks; 0 where it meets all."""
    log_objective: float
    """Of the design with its own strategy."""
    design: Design
    is_searched: bool
    """True if the search may take any of them (`values = "best"`)."""

    @property
    def num_feasible(self) -> int:
        """Strategies that meet all limits."""
        return int(self.is_feasible.sum())

    @property
    def is_feasible(self) -> np.ndarray:
        """True where a strategy meets all limits."""
        return (self.violations <= 0.0) & np.isfinite(self.log_objectives)

    @property
    def num_better(self) -> int:
        """Strategies that meet all limits and are better than that of the design."""
        better = self.log_objectives < self.log_objective - SAME
        return int((better & self.is_feasible).sum())

    @property
    def best_row(self) -> int:
        """Row of the best strategy that meets all limits, or of the nearest to them."""
        return int(np.lexsort((self.log_objectives, self.violations))[0])

    @property
    def best_log_objective(self) -> float:
        """ln of the objective with the best strategy; infinite if none meets all limits."""
        row = self.best_row
        return float(self.log_objectives[row]) if self.is_feasible[row] else np.inf

    @property
    def best_label(self) -> str:
        """Text of the best strategy."""
        return strategy_label(self.strategies, self.best_row, float(self.design.cluster.num_chips))

    @property
    def best_design(self) -> Design:
        """The design with the best strategy."""
        own = self.design.parallelism
        return dataclasses.replace(
            self.design, parallelism=strategy_at(self.strategies, self.best_row, own)
        )


def has_strategies(loaded: LoadedSearch) -> bool:
    """True if the search chooses the strategy of a training job on a cluster."""
    return (
        isinstance(loaded.workload, TransformerTraining)
        and isinstance(loaded.base, Design)
        and loaded.robust is None
        and any(choice.name == PARALLELISM for choice in loaded.space.choices)
    )


def check_strategies(loaded: LoadedSearch, design: Design) -> StrategyCheck:
    """All strategies that the file allows, or all that exist if it lists some, on a design."""
    options, is_searched = _options(loaded)
    job: Any = loaded.workload
    strategies = enumerate_strategies(job, float(design.cluster.num_chips), options)
    logs, violations = scores(evaluate_strategies(design, job, strategies), loaded)
    own = scores(evaluate_exact(design, job), loaded)[0]
    return StrategyCheck(strategies, logs, violations, float(own), design, is_searched)


def scores(metrics: Any, loaded: LoadedSearch) -> tuple[np.ndarray, np.ndarray]:
    """ln of the objective, and the violation of the limits, of an evaluation or of the
    `StrategyMetrics` of strategies, which have the fields that objectives and limits take."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(getattr(metrics, metric_field(loaded.objective)), float))
        broken = np.zeros_like(logs)
        for name, limit in loaded.limits.items():
            over = np.log(limited_values(metrics, name) / limit)
            broken = broken + np.where(over <= ROUNDING, 0.0, over)
    return (
        np.where(np.isnan(logs), np.inf, logs),
        np.where(np.isnan(broken), np.inf, broken),
    )


def with_checked_strategies(loaded: LoadedSearch, found: StrategyCheck) -> LoadedSearch:
    """The search with the best strategies of a check and that of its design.

    The best of each combination of degrees come first, as in `representatives`: other hardware
    prefers other degrees.
    """
    order = np.lexsort((found.log_objectives, found.violations))
    degrees = np.stack([found.strategies[name] for name in DEGREES], axis=1)
    _, first = np.unique(degrees[order], axis=0, return_index=True)
    ranks = np.concatenate((np.sort(first), np.setdiff1d(np.arange(len(order)), first)))
    kept = found.strategies.take(order[ranks[:NUM_KEPT]])
    own = found.design.parallelism
    columns = {name: np.append(kept[name], float(getattr(own, name))) for name in FIELDS}
    strategies = Columns.of(columns)
    base: Any = loaded.base
    fields = choice_fields(strategies, base.parallelism)
    choice = choice_of(strategies, fields, float(found.design.cluster.num_chips))
    rows = dict(zip(choice.table, choice.labels, strict=True))  # without the own one twice
    choice = dataclasses.replace(choice, table=tuple(rows), labels=tuple(rows.values()))
    choices = tuple(choice if c.name == PARALLELISM else c for c in loaded.space.choices)
    return dataclasses.replace(loaded, space=dataclasses.replace(loaded.space, choices=choices))


def _options(loaded: LoadedSearch) -> tuple[StrategyOptions, bool]:
    """Lists of the file for `values = "best"` and True, or no lists."""
    for table in loaded.tables.get("choices", ()):
        if table.get("path") == PARALLELISM and table.get("values") == BEST:
            where = ConfigLocation("choices")
            return strategy_options(check(CHOICE_TABLE, table, where), where), True
    return StrategyOptions(), False
