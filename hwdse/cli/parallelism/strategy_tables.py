"""Layouts as rows of tables and of JSON."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.metric_tables import format_metric, spaced
from hwdse.cli.shared.table_output import percent, print_table
from hwdse.training.strategy_enumeration import (
    FIELDS,
    data_degrees,
    recompute_names,
    strategy_label,
    zero_stages,
)

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.design import Design
    from hwdse.training.factored_program import Columns
    from hwdse.training.strategy_ranking import StrategyMetrics

TIME_GROUPS = {
    "compute": ("matrix", "vector", "sram", "hbm", "fp64"),
    "tensor": ("tensor_comm",),
    "context": ("context_comm",),
    "expert": ("expert_comm",),
    "pipeline": ("pipeline_comm",),
    "data": ("data_comm",),
    "bubble": ("bubble",),
    "other": ("launch", "host", "optimizer"),
}
"""Parts of the step time that stand together in the table."""
CUT = (("TP", "tensor"), ("PP", "pipeline"), ("CP", "context"), ("EP", "expert"))


@dataclass(frozen=True)
class Found:
    """A ranked list of layouts."""

    design: "Design"
    """What all have beside their layouts."""
    strategies: "Columns"
    scores: "StrategyMetrics"
    order: np.ndarray
    """Rows that fit, best first."""
    by: str
    max_hbm_ratio: float
    elapsed_s: float

    @property
    def num_chips(self) -> float:
        """Chips of the cluster."""
        return float(self.design.cluster.num_chips)


def print_layouts(loaded: "LoadedSearch", found: Found, num_shown: int) -> None:
    """The best layouts: how they cut the job and what comes of it, then where their time goes."""
    rows = found.order[:num_shown]
    data = data_degrees(found.strategies, found.num_chips)
    recompute, zero = recompute_names(found.strategies), zero_stages(found.strategies)
    strategies, scores = found.strategies, found.scores
    cells = []
    for rank, row in enumerate(rows, 1):
        degrees = [f"{strategies[name][row]:g}" for _, name in CUT]
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
                "yes" if strategies["sequence_parallel_fraction"][row] else "no",
                format_metric(scores.step_time_s[row], "s"),
                format_metric(scores.effective_tokens_per_s[row], "1/s"),
                percent(scores.mfu_fraction[row]),
                format_metric(1e6 * scores.cost_per_token_usd[row], "USD"),
                percent(scores.hbm_used_ratio[row], 0),
            ]
        )
    columns = ["", "TP", "PP", "DP", "CP", "EP", "micro", "chunks", "recompute", "ZeRO", "SP"]
    columns += ["step time", "tokens/s", "MFU", "USD/Mtoken", "HBM"]
    title = f"{loaded.title}: {found.num_chips:g} chips, by {spaced(found.by)}"
    print_table(title, columns, cells)
    _print_times(found, rows)


def _print_times(found: Found, rows: np.ndarray) -> None:
    """Shares of the step time; groups that no layout shown has are left out."""
    shares = {name: share[rows] for name, share in time_shares(found.scores).items()}
    shown = {name: share for name, share in shares.items() if np.any(share > 0.0)}
    cells = [
        [str(rank + 1), *(percent(share[rank]) for share in shown.values())]
        for rank in range(len(rows))
    ]
    print_table("where the step time goes", ["", *shown], cells)


def time_shares(scores: "StrategyMetrics") -> dict[str, np.ndarray]:
    """Share of each group of `TIME_GROUPS` in the step time, an element a layout."""
    return {
        # Differences of nearly equal times may come out below zero by their rounding.
        name: np.maximum(sum(getattr(scores.time, part) for part in parts), 0.0)
        / scores.step_time_s
        for name, parts in TIME_GROUPS.items()
    }


def summary(found: Found) -> str:
    """How many layouts were scored and fit, and how long that took."""
    evaluated_points, fit = len(found.strategies), len(found.order)
    return (
        f"{evaluated_points:,} layouts scored in {found.elapsed_s:.3g} s, compilation included; "
        f"{fit:,} fit the HBM"
    )


def explain_overfull(found: Found) -> str:
    """By how much the smallest layout misses the HBM, and what takes most of it."""
    from hwdse.training.strategy_ranking import least_hbm_index

    row = least_hbm_index(found.scores)
    parts = {
        field.name: float(getattr(found.scores.hbm, field.name)[row])
        for field in dataclasses.fields(found.scores.hbm)
    }
    needed = sum(parts.values())
    room = found.max_hbm_ratio * found.design.chip.hbm.capacity_bytes
    largest = max(parts, key=lambda name: parts[name])
    name = strategy_label(found.strategies, row, found.num_chips)
    return (
        f"none of {len(found.strategies):,} layouts fits: the smallest ({name}) needs "
        f"{_gigabytes(needed)} of {_gigabytes(room)}, {_gigabytes(needed - room)} too much; "
        f"largest part: {spaced(largest)} {_gigabytes(parts[largest])}"
    )


def _gigabytes(size_bytes: float) -> str:
    """One unit for sizes that are compared with each other."""
    return f"{size_bytes / 1e9:.4g} GB"


def strategy_columns(found: Found, rows: np.ndarray) -> dict[str, Any]:
    """All figures of some layouts as columns, in SI base units, for files and programs."""
    chosen = found.strategies.take(rows)
    columns: dict[str, Any] = {name: chosen[name] for name in FIELDS}
    columns["data"] = data_degrees(chosen, found.num_chips)
    columns["zero"] = zero_stages(chosen)
    columns["recompute"] = np.array(recompute_names(chosen))
    for field in dataclasses.fields(found.scores):
        value = getattr(found.scores, field.name)
        if not dataclasses.is_dataclass(value):
            columns[field.name] = value[rows]
    for group in ("time", "hbm"):
        parts = getattr(found.scores, group)
        for field in dataclasses.fields(parts):
            columns[f"{group}.{field.name}"] = getattr(parts, field.name)[rows]
    return columns


def as_json(loaded: "LoadedSearch", found: Found, num_shown: int) -> dict[str, Any]:
    """The best layouts with all figures, and the counts."""
    columns = strategy_columns(found, found.order[:num_shown])
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return {
        "title": loaded.title,
        "labels": dict(loaded.labels),
        "num_chips": found.num_chips,
        "by": found.by,
        "scored": len(found.strategies),
        "fit": len(found.order),
        "elapsed_s": found.elapsed_s,
        "layouts": rows,
    }
