"""Parallelism strategies as tables, columns and JSON."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.parallelism.strategy_limits import StrategyLimits, nearest_excluded
from hwdse.cli.shared.table_output import print_table
from hwdse.report.breakdowns import part_label
from hwdse.report.metrics import metric_of
from hwdse.report.number_texts import number_cells, spaced
from hwdse.training.strategy_enumeration import (
    FIELDS,
    SCHEDULE_WORDS,
    data_degrees,
    recompute_names,
    schedule_names,
    strategy_at,
    strategy_label,
    zero_stages,
)

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.numerics.factored_program import Columns
    from hwdse.specs.design import Design
    from hwdse.training.strategy_ranking import StrategyMetrics

TIME_GROUPS = {
    "compute": ("matrix", "vector", "sram", "hbm", "fp64"),
    "exposed TP": ("tensor_comm",),
    "exposed CP": ("context_comm",),
    "exposed EP": ("expert_comm",),
    "exposed PP": ("pipeline_comm",),
    "exposed DP": ("data_comm",),
    "pipeline bubble": ("bubble",),
    "other": ("launch", "host", "optimizer"),
}
"""Parts of the step time by column of the table."""
DEGREES = (("TP", "tensor"), ("PP", "pipeline"), ("CP", "context"), ("EP", "expert"))


@dataclass(frozen=True)
class Found:
    """Ranked strategies."""

    design: "Design"
    """Design of all strategies, except for `parallelism`."""
    strategies: "Columns"
    metrics: "StrategyMetrics"
    order: np.ndarray
    """Indices of the strategies that fit and meet the limits, best first."""
    sort_by: str
    max_hbm_ratio: float
    """Largest allowed HBM usage."""
    fitting: np.ndarray
    """Indices of the strategies that fit the HBM, best first."""
    limits: StrategyLimits
    """Limits of the config."""
    elapsed_s: float

    @property
    def best(self) -> "Design | None":
        """Design of the first strategy; None if there is none."""
        if not len(self.order):
            return None
        first = strategy_at(self.strategies, int(self.order[0]), self.design.parallelism)
        return dataclasses.replace(self.design, parallelism=first)

    @property
    def num_chips(self) -> float:
        """Chips of the cluster."""
        return float(self.design.cluster.num_chips)


def print_strategies(loaded: "LoadedSearch", found: Found, num_shown: int) -> None:
    """Print the best strategies with their metrics, then their shares of the step time."""
    rows = found.order[:num_shown]
    strategies, metrics = found.strategies, found.metrics
    data = data_degrees(strategies, found.num_chips)
    recompute, zero = recompute_names(strategies), zero_stages(strategies)
    rare = _rare_columns(strategies, rows)
    cost = metric_of("cost_per_token")
    numbers = zip(
        number_cells(metrics.step_time_s[rows].tolist(), 2),
        number_cells(metrics.effective_tokens_per_s[rows].tolist(), 0),
        _percent_cells(metrics.mfu_fraction[rows]),
        cost.cells(metrics.cost_per_token_usd[rows].tolist()),
        _percent_cells(metrics.hbm_used_ratio[rows]),
        number_cells(metrics.chip_power_w[rows].tolist(), 1),
        strict=True,
    )
    cells = []
    for rank, (row, texts) in enumerate(zip(rows, numbers, strict=True), 1):
        degrees = [f"{strategies[name][row]:g}" for _, name in DEGREES]
        cells.append(
            [
                str(rank),
                *degrees[:2],
                f"{data[row]:g}",
                *degrees[2:],
                f"{strategies['micro_batch'][row]:g}",
                f"{strategies['virtual_pipeline'][row]:g}",
                recompute[row],
                f"{zero[row]:g}",
                "on" if strategies["sequence_parallel_fraction"][row] else "off",
                *(column[rank - 1] for column in rare.values()),
                *texts,
            ]
        )
    columns = ["", "TP", "PP", "DP", "CP", "EP", "MBS", "VPP", "recompute", "ZeRO", "SP"]
    columns += rare
    columns += ["step time (s)", "effective tokens/s", "MFU (%)", "cost (USD/Mtoken)", "HBM (%)",
                "power (W)"]  # fmt: skip
    title = f"{loaded.title}: {found.num_chips:g} chips, sorted by {spaced(found.sort_by)}"
    print_table(title, columns, cells)
    _print_times(found, rows)


def _rare_columns(strategies: "Columns", rows: np.ndarray) -> dict[str, list[str]]:
    """Cells of fields that most strategies do not use, of those that some of the rows use."""
    chosen = strategies.take(rows)
    shards = np.where(chosen["expert_tensor"] > 0.0, chosen["expert_tensor"], chosen["tensor"])
    columns = {}
    if np.any(shards != chosen["tensor"]):
        columns["ETP"] = [f"{value:g}" for value in shards.tolist()]
    schedules = schedule_names(chosen)
    if set(schedules) != {"1f1b"}:
        columns["schedule"] = [SCHEDULE_WORDS.get(name, name) for name in schedules]
    return columns


def _percent_cells(fractions: np.ndarray) -> list[str]:
    return [f"{100.0 * value:.1f}" for value in fractions.tolist()]


def _print_times(found: Found, rows: np.ndarray) -> None:
    """Print the shares of the step time, without groups that are zero in every strategy."""
    shares = {name: share[rows] for name, share in time_shares(found.metrics).items()}
    shown = {name: _percent_cells(share) for name, share in shares.items() if np.any(share > 0.0)}
    cells = [[str(rank), *texts] for rank, texts in enumerate(zip(*shown.values(), strict=True), 1)]
    print_table("share of step time (%)", ["", *shown], cells)


def time_shares(metrics: "StrategyMetrics") -> dict[str, np.ndarray]:
    """Share of each group of `TIME_GROUPS` in the step time, one element per strategy."""
    return {
        # Rounding can make differences of nearly equal times negative.
        name: np.maximum(sum(getattr(metrics.time, part) for part in parts), 0.0)
        / metrics.step_time_s
        for name, parts in TIME_GROUPS.items()
    }


def summary(found: Found) -> str:
    """Number of evaluated and feasible strategies, the limits that exclude some, and the time."""
    line = (
        f"{len(found.strategies):,} strategies evaluated in {found.elapsed_s:.3g} s (compilation "
        f"included); {len(found.fitting):,} fit the HBM"
    )
    if found.limits.excluding:
        names = ", ".join(
            f"{metric_of(name).name} <= {metric_of(name).text(limit)}"
            for name, limit in found.limits.excluding.items()
        )
        line += f", {len(found.order):,} of these meet {names} (--ignore-limits ranks all)"
    for text in found.limits.always_violated:
        line += f"; with every strategy {text}"
    return line


def explain_infeasible(found: Found) -> str:
    """Message: excess memory of the smallest strategy and its largest part, or the limit that the
    nearest strategy misses."""
    if len(found.fitting):
        nearest = nearest_excluded(found.metrics, found.limits, found.fitting)
        return (
            f"none of {len(found.fitting):,} strategies that fit the HBM meets the limits; "
            f"nearest: {nearest} (--ignore-limits ranks all)"
        )
    from hwdse.training.strategy_ranking import least_hbm_index

    row = least_hbm_index(found.metrics)
    parts = {
        field.name: float(getattr(found.metrics.hbm, field.name)[row])
        for field in dataclasses.fields(found.metrics.hbm)
    }
    required = sum(parts.values())
    available = found.max_hbm_ratio * found.design.chip.hbm.capacity_bytes
    largest = max(parts, key=lambda name: parts[name])
    name = strategy_label(found.strategies, row, found.num_chips)
    return (
        f"none of {len(found.strategies):,} strategies fits: the smallest ({name}) requires "
        f"{_gigabytes(required)}, available {_gigabytes(available)}, excess "
        f"{_gigabytes(required - available)}; largest part: {part_label(largest, 'hbm')} "
        f"{_gigabytes(parts[largest])}"
    )


def _gigabytes(size_bytes: float) -> str:
    """Size in GB, one unit for comparison."""
    return f"{size_bytes / 1e9:.4g} GB"


def strategy_columns(found: Found, rows: np.ndarray) -> dict[str, Any]:
    """Fields and metrics of some strategies as columns in SI base units."""
    chosen = found.strategies.take(rows)
    columns: dict[str, Any] = {name: chosen[name] for name in FIELDS}
    columns["data"] = data_degrees(chosen, found.num_chips)
    columns["zero"] = zero_stages(chosen)
    columns["recompute"] = np.array(recompute_names(chosen))
    for field in dataclasses.fields(found.metrics):
        value = getattr(found.metrics, field.name)
        if not dataclasses.is_dataclass(value):
            columns[field.name] = value[rows]
    for group, unit in (("time", "s"), ("hbm", "bytes")):
        parts = getattr(found.metrics, group)
        for field in dataclasses.fields(parts):
            columns[f"{group}.{field.name}_{unit}"] = getattr(parts, field.name)[rows]
    return columns


def as_json(loaded: "LoadedSearch", found: Found, num_shown: int) -> dict[str, Any]:
    """The best strategies with all metrics, and the counts."""
    columns = strategy_columns(found, found.order[:num_shown])
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return {
        "title": loaded.title,
        "labels": dict(loaded.labels),
        "num_chips": found.num_chips,
        "sort_by": found.sort_by,
        "num_evaluated": len(found.strategies),
        "num_fitting": len(found.fitting),
        "num_feasible": len(found.order),
        "excluding_limits": found.limits.excluding,
        "always_violated": found.limits.always_violated,
        "elapsed_s": found.elapsed_s,
        "strategies": rows,
    }
