"""Limits of a config applied to parallelism strategies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hwdse.report.metrics import metric_of
from hwdse.report.number_texts import distance

if TYPE_CHECKING:
    from hwdse.training.strategy_ranking import StrategyMetrics

SAME = 1e-9
"""Relative range of values that are equal for all strategies."""
MEMORY = ("hbm_used_ratio", "memory_used_ratio")
"""Limits of memory; a strategy that does not fit cannot run and is never ranked."""


class StrategyLimits(NamedTuple):
    """Strategies that meet the limits of a config, and the limits that exclude some."""

    is_met: np.ndarray
    """True for each strategy that meets all limits that depend on the strategy."""
    excluding: Mapping[str, float]
    """Limits that exclude some strategies, by name."""
    always_violated: tuple[str, ...]
    """Texts of the limits that no strategy can meet, since their metric is the same for all."""


def strategy_limits(metrics: "StrategyMetrics", limits: Mapping[str, float]) -> StrategyLimits:
    """Strategies that meet the limits, except for those of memory.

    A limit on a metric that no strategy changes, such as the die area, excludes none.
    """
    from hwdse.config.schema.metric_fields import metric_field
    from hwdse.search.evaluation.search_result import ROUNDING

    is_met = np.ones(len(metrics.step_time_s), bool)
    excluding: dict[str, float] = {}
    always_violated = []
    for name, limit in limits.items():
        if name in MEMORY:
            continue
        values = np.asarray(getattr(metrics, metric_field(name)), float)
        meets = values <= limit * (1.0 + ROUNDING)
        if meets.all():
            continue
        metric = metric_of(name)
        finite = values[np.isfinite(values)]
        lowest = float(finite.min(initial=np.inf))
        if np.ptp(finite) <= SAME * abs(lowest):
            text = f"{metric.name} {metric.text(lowest)}, {distance(lowest / limit)} the limit of "
            always_violated.append(text + metric.text(limit))
        else:
            excluding[name] = limit
            is_met &= meets
    return StrategyLimits(is_met, excluding, tuple(always_violated))


def nearest_excluded(metrics: "StrategyMetrics", limits: StrategyLimits, rows: np.ndarray) -> str:
    """Limit that the nearest of some strategies misses most, with its distance."""
    from hwdse.config.schema.metric_fields import metric_field

    values = [
        np.asarray(getattr(metrics, metric_field(name)), float)[rows] for name in limits.excluding
    ]
    bounds = list(limits.excluding.values())
    ratios = np.stack(values) / np.array(bounds)[:, None]
    nearest = int(np.argmin(ratios.max(axis=0)))
    worst = int(np.argmax(ratios[:, nearest]))
    metric = metric_of(list(limits.excluding)[worst])
    ratio, bound = float(ratios[worst, nearest]), bounds[worst]
    reached = f"{metric.name} {metric.text(ratio * bound)}"
    return f"{reached}, {distance(ratio)} the limit of {metric.text(bound)}"
