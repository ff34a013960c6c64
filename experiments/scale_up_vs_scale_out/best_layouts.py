"""The best layout of a job for each of many clusters at once."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hwdse.config import load_system
from hwdse.evaluation import evaluate
from hwdse.models.reliability.single_level_checkpoint import optimal_checkpoint_interval_s
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.results.evaluation_result import TimeParts
from hwdse.training.factored_program import Columns, FactoredProgram
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
HIDDEN = 0.5
"""Assumed: half of the tensor-parallel traffic hides behind products, and all-to-alls behind half
of the compute. Data-parallel collectives may hide behind all of it."""
STATE_BYTES = 14.0
"""Saved for a parameter: weights, and Adam's state in fp32."""
PARTS = tuple(field.name for field in dataclasses.fields(TimeParts))


def base_design() -> Design:
    """Trainium2 in Project Rainier, bf16, compiled software that costs nothing itself."""
    system = load_system("rainier")
    parallelism = Parallelism(
        1.0, 1.0, 1.0, 0.0, tensor_overlap_fraction=HIDDEN, expert_overlap_fraction=HIDDEN
    )
    return Design(system.chip, system.cluster, PrecisionMix(0.0, 0.0), parallelism, 3600.0)


def with_best_interval(design: Design, num_parameters: float) -> Design:
    """The design with the checkpoint interval that loses least, whatever the layout."""
    chip, cluster = design.chip, design.cluster
    paths = cluster.num_chips * chip.checkpoint_bandwidth_bytes_per_s
    rate = jax.numpy.minimum(paths, cluster.storage_bandwidth_bytes_per_s)
    mtbf_s = cluster.chip_mtbf_s / cluster.num_chips
    best_s = optimal_checkpoint_interval_s(STATE_BYTES * num_parameters / rate, mtbf_s)
    return design.replace(checkpoint_interval_s=best_s)


@dataclasses.dataclass(frozen=True)
class Point:
    """One cluster with one batch, and what else is varied: a number for each name."""

    num_chips: int
    domain: int
    global_batch: int
    varied: dict[str, float]


def options() -> StrategyOptions:
    """All tensor, pipeline, context, expert and interleave degrees; always sequence parallel."""
    return StrategyOptions(micro_batch=MICRO_BATCHES, zero=ZERO, sequence=(1,))


def is_even(strategies: Columns, num_chips: float, domain: float) -> np.ndarray:
    """Whether groups fill scale-up domains: the ranks up to each kind of group divide a domain or
    are a multiple of it. Others would lie across domains, each in another way."""
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


def stack_gemms(job: TransformerTraining, points: Sequence[Point]) -> tuple[Columns, np.ndarray]:
    """All layouts of all points one after the other, and the point of each row."""
    columns: dict[str, list[np.ndarray]] = {}
    places, lists = [], {}
    for number, point in enumerate(points):
        key = (point.num_chips, point.global_batch)
        if key not in lists:
            batch = job.replace(global_batch=float(point.global_batch))
            lists[key] = enumerate_strategies(batch, point.num_chips, options())
        is_kept = is_even(lists[key], point.num_chips, point.domain)
        is_kept &= zero_stages(lists[key]) <= point.varied["largest_zero"]
        kept = np.flatnonzero(is_kept)
        strategies = lists[key].take(kept)
        given = {"num_chips": point.num_chips, "domain": point.domain, **point.varied}
        given["global_batch"] = point.global_batch
        values = {name: strategies[name] for name in FIELDS}
        values |= {name: np.full(kept.size, float(value)) for name, value in given.items()}
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
        places.append(np.full(kept.size, number))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Columns.of(joined), np.concatenate(places)


def best_of(
    job: TransformerTraining,
    points: Sequence[Point],
    design_of: Callable[[dict[str, Any]], Design],
) -> list[dict[str, Any]]:
    """For each point the fastest layout that fits the memory, as a row of a table.

    `design_of` makes the design from the numbers of a point. Of a point where nothing fits, the
    row of the layout that needs the least memory.
    """
    columns, places = stack_gemms(job, points)
    work = jax.tree.map(float, job)

    def scores(fields: dict[str, Any]) -> StrategyMetrics:
        design = design_of(fields)
        parallelism = design.parallelism.replace(**{name: fields[name] for name in FIELDS})
        batch = work.replace(global_batch=fields["global_batch"])
        return strategy_metrics_of(evaluate(design.replace(parallelism=parallelism), batch))

    with jax.enable_x64(True):
        found = FactoredProgram(scores, columns).run()
    used = np.where(np.isfinite(found.hbm_used_ratio), found.hbm_used_ratio, np.inf)
    rank = np.where(used <= 1.0, found.step_time_s, 1e12 * used)
    order = np.lexsort((used, rank, places))
    firsts = order[np.unique(places[order], return_index=True)[1]]
    counts = np.bincount(places, minlength=len(points))
    return [
        {"layouts": int(counts[places[row]])}
        | _row(points[places[row]], job.seq_len, columns, found, int(row))
        for row in firsts
    ]


def _row(
    point: Point, seq_len: float, columns: Columns, found: StrategyMetrics, row: int
) -> dict[str, Any]:
    """Figures of one layout, by name."""
    tokens = point.global_batch * seq_len
    seconds = {name: float(getattr(found.time, name)[row]) for name in PARTS}
    return {
        "num_chips": point.num_chips,
        "domain": point.domain,
        "global_batch": point.global_batch,
        **point.varied,
        "tokens": tokens,
        "layout": strategy_label(columns, row, point.num_chips),
        **{name: float(columns[name][row]) for name in FIELDS[:6]},
        "step_time_s": float(found.step_time_s[row]),
        "tokens_per_s": float(tokens / found.step_time_s[row]),
        "mfu": float(found.mfu_fraction[row]),
        "hbm_used_ratio": float(found.hbm_used_ratio[row]),
        "effective_tokens_per_s": float(found.effective_tokens_per_s[row]),
        "goodput": float(found.effective_tokens_per_s[row] * found.step_time_s[row] / tokens),
        "usd_per_million_tokens": 1e6 * float(found.cost_per_token_usd[row]),
        **{f"{name}_s": value for name, value in seconds.items()},
    }


def shares_of(row: dict[str, Any]) -> dict[str, float]:
    """Shares of the step by what chips wait for."""
    parts = {
        "compute": ("matrix", "vector", "sram", "hbm", "launch", "host", "fp64", "optimizer"),
        "bubble": ("bubble",),
        "tensor, context": ("tensor_comm", "context_comm"),
        "expert": ("expert_comm",),
        "pipeline": ("pipeline_comm",),
        "data": ("data_comm",),
    }
    return {
        label: sum(row[f"{name}_s"] for name in names) / row["step_time_s"]
        for label, names in parts.items()
    }
