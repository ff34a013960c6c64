"""Fastest parallelism strategy of a job for each of many clusters."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hwdse.config import load_system
from hwdse.evaluation import evaluate
from hwdse.models.reliability.single_level_checkpoint import optimal_checkpoint_interval_s
from hwdse.numerics.factored_program import Columns, FactoredProgram
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.results.evaluation_result import TimeParts
from hwdse.training.strategy_enumeration import (
    FIELDS,
    StrategyOptions,
    enumerate_strategies,
    strategy_label,
    zero_stages,
)
from hwdse.training.strategy_ranking import StrategyMetrics, strategy_metrics_of
from hwdse.workload.transformer.model_config import TransformerTraining

MICRO_BATCHES = (1.0, 2.0, 4.0)
ZERO = (1, 2, 3)
OVERLAP = 0.5
"""Overlap fraction of the tensor-parallel traffic with GEMMs and of all-to-alls with compute;
assumed. Data-parallel collectives may overlap with all of the compute."""
STATE_BYTES = 14.0
"""Checkpoint bytes per parameter: weights, and Adam's state in FP32."""
PARTS = tuple(field.name for field in dataclasses.fields(TimeParts))


def base_design() -> Design:
    """Trainium2 in Project Rainier, BF16, compiled software without overhead."""
    system = load_system("rainier")
    parallelism = Parallelism(
        1.0, 1.0, 1.0, 0.0, tensor_overlap_fraction=OVERLAP, expert_overlap_fraction=OVERLAP
    )
    return Design(system.chip, system.cluster, PrecisionMix(0.0, 0.0), parallelism, 3600.0)


def with_optimal_interval(design: Design, num_parameters: float) -> Design:
    """Design with the optimal checkpoint interval, which does not depend on the strategy."""
    chip, cluster = design.chip, design.cluster
    write_bandwidth = cluster.num_chips * chip.checkpoint_bandwidth_bytes_per_s
    rate = jax.numpy.minimum(write_bandwidth, cluster.storage_bandwidth_bytes_per_s)
    mtbf_s = cluster.chip_mtbf_s / cluster.num_chips
    optimal_s = optimal_checkpoint_interval_s(STATE_BYTES * num_parameters / rate, mtbf_s)
    return design.replace(checkpoint_interval_s=optimal_s)


@dataclasses.dataclass(frozen=True)
class Point:
    """Cluster, batch and the values of other varied quantities by name."""

    num_chips: int
    domain: int
    global_batch: int
    varied: dict[str, float]


def options() -> StrategyOptions:
    """All TP, PP, CP, EP and VPP degrees, always with sequence parallelism."""
    return StrategyOptions(micro_batch=MICRO_BATCHES, zero=ZERO, sequence=(1,))


def is_even(strategies: Columns, num_chips: float, domain: float) -> np.ndarray:
    """True if groups fill scale-up domains: the ranks up to each kind of group divide a domain or
    are a multiple of it. Other groups would span domains unevenly."""
    tensor, pipeline = strategies["tensor"], strategies["pipeline"]
    fits = np.ones(len(strategies), dtype=bool)
    for ranks in (
        tensor,
        tensor * strategies["context"],
        tensor * strategies["expert"],
        num_chips / pipeline,
    ):
        fits &= (ranks % domain == 0) | (domain % ranks == 0)
    return fits


def stack_strategies(
    job: TransformerTraining, points: Sequence[Point]
) -> tuple[Columns, np.ndarray]:
    """Strategies of all points in one table, and the point index of each row."""
    columns: dict[str, list[np.ndarray]] = {}
    point_indices, lists = [], {}
    for index, point in enumerate(points):
        key = (point.num_chips, point.global_batch)
        if key not in lists:
            batch = job.replace(global_batch=float(point.global_batch))
            lists[key] = enumerate_strategies(batch, point.num_chips, options())
        is_kept = is_even(lists[key], point.num_chips, point.domain)
        is_kept &= zero_stages(lists[key]) <= point.varied["max_zero"]
        kept = np.flatnonzero(is_kept)
        strategies = lists[key].take(kept)
        given = {"num_chips": point.num_chips, "domain": point.domain, **point.varied}
        given["global_batch"] = point.global_batch
        values = {name: strategies[name] for name in FIELDS}
        values |= {name: np.full(kept.size, float(value)) for name, value in given.items()}
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
        point_indices.append(np.full(kept.size, index))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Columns.of(joined), np.concatenate(point_indices)


def best_of(
    job: TransformerTraining,
    points: Sequence[Point],
    design_of: Callable[[dict[str, Any]], Design],
) -> list[dict[str, Any]]:
    """Table row of the fastest strategy that fits the memory, for each point.

    `design_of` returns the design for the values of a point. If no strategy fits, the row is that
    of the strategy with the smallest memory footprint.
    """
    columns, point_indices = stack_strategies(job, points)
    work = jax.tree.map(float, job)

    def metrics(fields: dict[str, Any]) -> StrategyMetrics:
        design = design_of(fields)
        parallelism = design.parallelism.replace(**{name: fields[name] for name in FIELDS})
        batch = work.replace(global_batch=fields["global_batch"])
        return strategy_metrics_of(evaluate(design.replace(parallelism=parallelism), batch))

    with jax.enable_x64(True):
        found = FactoredProgram(metrics, columns).run()
    used = np.where(np.isfinite(found.hbm_used_ratio), found.hbm_used_ratio, np.inf)
    rank = np.where(used <= 1.0, found.step_time_s, 1e12 * used)
    order = np.lexsort((used, rank, point_indices))
    firsts = order[np.unique(point_indices[order], return_index=True)[1]]
    counts = np.bincount(point_indices, minlength=len(points))
    return [
        {"num_strategies": int(counts[point_indices[row]])}
        | _row(points[point_indices[row]], job.seq_len, columns, found, int(row))
        for row in firsts
    ]


def _row(
    point: Point, seq_len: float, columns: Columns, found: StrategyMetrics, row: int
) -> dict[str, Any]:
    """Metrics of one strategy by name."""
    tokens = point.global_batch * seq_len
    seconds = {name: float(getattr(found.time, name)[row]) for name in PARTS}
    return {
        "num_chips": point.num_chips,
        "domain": point.domain,
        "global_batch": point.global_batch,
        **point.varied,
        "tokens": tokens,
        "strategy": strategy_label(columns, row, point.num_chips),
        **{name: float(columns[name][row]) for name in FIELDS[:6]},
        "step_time_s": float(found.step_time_s[row]),
        "tokens_per_s": float(tokens / found.step_time_s[row]),
        "mfu_fraction": float(found.mfu_fraction[row]),
        "hbm_used_ratio": float(found.hbm_used_ratio[row]),
        "effective_tokens_per_s": float(found.effective_tokens_per_s[row]),
        "goodput_fraction": float(
            found.effective_tokens_per_s[row] * found.step_time_s[row] / tokens
        ),
        "cost_usd_per_mtoken": 1e6 * float(found.cost_per_token_usd[row]),
        **{f"{name}_s": value for name, value in seconds.items()},
    }


def shares_of(row: dict[str, Any]) -> dict[str, float]:
    """Fractions of the step time by cause."""
    parts = {
        "compute": ("matrix", "vector", "sram", "hbm", "launch", "host", "fp64", "optimizer"),
        "pipeline bubble": ("bubble",),
        "TP, CP communication": ("tensor_comm", "context_comm"),
        "EP communication": ("expert_comm",),
        "PP communication": ("pipeline_comm",),
        "DP communication": ("data_comm",),
    }
    return {
        label: sum(row[f"{name}_s"] for name in names) / row["step_time_s"]
        for label, names in parts.items()
    }
