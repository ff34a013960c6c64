"""Parallelism strategies of a job, ranked, as a table."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hwdse.config.design.strategy import within_limits
from hwdse.config.files.errors import ConfigError, listed
from hwdse.jobs.job_interface import AnyJob
from hwdse.jobs.job_results import ResultTable
from hwdse.report.number_texts import number_cells
from hwdse.specs.design import Design
from hwdse.training.strategy_enumeration import (
    FIELDS,
    StrategyOptions,
    enumerate_strategies,
    strategy_label,
)
from hwdse.training.strategy_ranking import METRICS, evaluate_strategies, ranked
from hwdse.workload.transformer.model_config import TransformerTraining

_SHOWN = (
    ("step time (s)", "step_time_s", 1.0, 2),
    ("effective tokens/s", "effective_tokens_per_s", 1.0, 0),
    ("MFU (%)", "mfu_fraction", 100.0, 1),
    ("cost (USD/Mtoken)", "cost_per_token_usd", 1e6, 3),
    ("HBM (%)", "hbm_used_ratio", 100.0, 1),
)
"""Head, field, factor and decimals of the printed metrics."""


def strategy_table(job: AnyJob, top: int, sort_by: str, options: Mapping[str, Any]) -> ResultTable:
    """The best strategies of a job that meet its limits; see `Job.strategies`.

    Raises `ConfigError` for layers and cores, unknown options, and jobs without a strategy.
    """
    design, work = job.design, job.workload
    if not isinstance(work, TransformerTraining) or not isinstance(design, Design):
        raise ConfigError(f"{job.title}: expected a training job; layers have no strategies")
    if sort_by not in METRICS:
        raise ConfigError(f"sort_by = {sort_by!r}: expected one of {listed(METRICS)}")
    known = [field.name for field in dataclasses.fields(StrategyOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"{name}: expected one of {listed(known)}")
    num_chips = float(design.cluster.num_chips)
    strategies = enumerate_strategies(work, num_chips, StrategyOptions(**options))
    if not len(strategies):
        raise ConfigError(f"{job.title}: no strategy is possible with these options")
    metrics = evaluate_strategies(design, work, strategies)
    limit = min(1.0, job.loaded.limits.get("hbm_used_ratio", 1.0))
    rows = within_limits(metrics, job.loaded.limits, ranked(metrics, sort_by, limit))
    labels = [strategy_label(strategies, int(row), num_chips) for row in rows[:top]]
    cells = [
        number_cells(
            (factor * getattr(metrics, name)[rows[:top]]).tolist(),
            decimals,
            0 if "%" in head else 3,
        )
        for head, name, factor, decimals in _SHOWN
    ]
    columns = {name: strategies[name][rows] for name in FIELDS}
    columns |= {name: getattr(metrics, name)[rows] for _, name, _, _ in _SHOWN}
    return ResultTable(
        f"{job.title}: {len(rows):,} of {len(strategies):,} strategies fit, by {sort_by}",
        ("strategy", *(head for head, *_ in _SHOWN)),
        tuple(zip(labels, *cells, strict=True)),
        columns,
    )
