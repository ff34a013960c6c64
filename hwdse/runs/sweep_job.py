"""What a worker needs to run chunks of a sweep, and what a chunk looks like on disk."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from hwdse.config import LoadedSearch
from hwdse.config.search.metric_names import SCALARS, parse_metric
from hwdse.config.search.objective_functions import make_robust_objectives_fn
from hwdse.evaluation import evaluate
from hwdse.numerics.relaxation import EXACT
from hwdse.objectives import OBJECTIVES, exact_objectives_fn, log_objectives_of
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.pytree_path import get_path
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweep.chunked_sweep import ChunkRunner
from hwdse.search.sweep.sweep_plan import SweepChunk, SweepPlan, plan_sweep
from hwdse.search.uncertainty.robust import Robust
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant

NOTES = ("num_points", "num_feasible", "num_not_finite", "num_reclassified")
FLAGS = ("is_front", "is_top", "is_least_violated")
"""Parts of a chunk that a row can belong to, with `is_` before their names."""
OBJECTIVE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {name: parse_metric(name).name for name in OBJECTIVES} | {"energy_delay": "energy_delay_j_s"}
)
"""Objectives by the names, with units, that their columns have."""
ROBUST = "robust_"
"""Before the names of columns of robust objectives: the plain ones are at nominal constants."""

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class SweepJob:
    """A sweep as its workers see it: can be pickled, and knows no files."""

    space: SearchSpace
    base: Any
    workload: Any
    objectives: tuple[str, ...]
    limits: tuple[tuple[str, float], ...]
    plan: SweepPlan
    screen: str
    keep: str
    top: int
    uncertain_constants: tuple[UncertainConstant, ...] = ()
    robust: Robust | None = None
    seed: int = 0
    """Of the sample of uncertain constants."""

    def runner(self) -> ChunkRunner:
        """What runs the chunks; its programs compile once."""
        log_objectives = make_robust_objectives_fn(
            self.objectives,
            dict(self.limits),
            self.workload,
            self.uncertain_constants,
            self.robust,
            self.seed,
        )
        return ChunkRunner(
            exact_objectives_fn(log_objectives),
            self.plan,
            self.base,
            screen=self.screen,
            keep=self.keep,
            top=self.top,
            evaluate_with_metrics=_Judged(log_objectives, self),
            num_samples=self.robust.num_samples if self.robust else 1,
        )

    def pack(self) -> bytes:
        """The job for a worker in another process."""
        return pickle.dumps(self)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Costs and metrics of a design by one evaluation, but that robust costs take their own; equal
    where the costs are the same function, so that compiled programs are kept."""

    log_objectives: Any
    job: SweepJob

    def __hash__(self) -> int:
        return hash(self.log_objectives)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Judged) and self.log_objectives == other.log_objectives

    def __call__(self, design: Any) -> tuple[Any, Any, Any]:
        job = self.job
        evaluation = evaluate(design, job.workload, EXACT)
        metrics = [jnp.asarray(getattr(evaluation, name), float) for name in SCALARS]
        if job.robust is not None:
            return *self.log_objectives(design, EXACT), jnp.stack(metrics)
        return *log_objectives_of(evaluation, job.objectives, dict(job.limits)), jnp.stack(metrics)


def job_of(
    loaded: LoadedSearch,
    plan: SweepPlan | None = None,
    screen: str = "float32",
    keep: str = "front",
    top: int = 0,
) -> SweepJob:
    """The job of a search file; without a plan, for what has no numbered points."""
    return SweepJob(
        space=loaded.space,
        base=loaded.base,
        workload=loaded.workload,
        objectives=loaded.front_objectives,
        limits=tuple(loaded.limits.items()),
        plan=plan_sweep(loaded.space, num_points=1) if plan is None else plan,
        screen=screen,
        keep=keep,
        top=top,
        uncertain_constants=loaded.uncertain_constants,
        robust=loaded.robust,
        seed=loaded.seed,
    )


def chunk_columns(job: SweepJob, chunk: SweepChunk) -> Columns:
    """What a chunk leaves behind, as it goes to disk; the inverse is `read_chunk`.

    Every row stands once: flags, figures by names that give their units, parameters by their
    paths, then the logarithms that make reading exact.
    """
    rows = chunk.rows
    if rows is None:
        rows = chunk.front.joined(chunk.least_violated)
        rows = rows if chunk.top is None else rows.joined(chunk.top)
        rows = rows.take(np.unique(rows.numbers, return_index=True)[1])
    flags: Columns = {}
    for name in FLAGS:
        members = getattr(chunk, name.removeprefix("is_"))
        flags[name] = np.isin(rows.numbers, [] if members is None else members.numbers)
    return {**flags, **row_columns(job, rows)}


def row_columns(job: SweepJob, rows: DesignSet) -> Columns:
    """Points as columns: figures, parameters, and what tells them from all others."""
    columns: Columns = {"is_feasible": rows.is_feasible}
    for place, name in enumerate(job.objectives):
        prefix = "" if job.robust is None else ROBUST
        columns[prefix + OBJECTIVE_COLUMNS[name]] = np.exp(rows.log_objectives[:, place])
    columns |= dict(zip(SCALARS, rows.metrics.T, strict=False))  # not every search keeps them
    for name, values in _parameters(job, rows).items():
        columns[name if name not in columns else f"design.{name}"] = values
    columns |= {
        "variant": rows.variants.astype(np.int64),
        "number": rows.numbers.astype(np.int64),
    }
    columns |= {f"log.{name}": rows.log_objectives[:, i] for i, name in enumerate(job.objectives)}
    for place, (name, _) in enumerate(job.limits):
        columns[f"violation.{name}"] = rows.constraint_values[:, place]
    return columns


def _parameters(job: SweepJob, rows: DesignSet) -> Columns:
    """Buildable values by path, alternatives by the name of the choice, variants by path."""
    columns: Columns = {}
    for place, dimension in enumerate(job.space.dimensions):
        columns[dimension.path] = np.asarray(dimension.rounded(rows.units[:, place]), float)
    for place, choice in enumerate(job.space.choices, len(job.space.dimensions)):
        index = np.asarray(choice.index(rows.units[:, place])).astype(int)
        columns[choice.name] = np.array(choice.labels, dtype=str)[index]
        table = np.asarray(choice.table, float)
        columns |= {path: table[index, i] for i, path in enumerate(choice.paths)}
    bases = [base for _, base in job.space.variant_bases(job.base)]
    for variant in job.space.variants:
        names = np.array([str(get_path(base, variant.path)) for base in bases], dtype=str)
        columns[variant.path] = names[rows.variants.astype(int)]
    return columns


def chunk_notes(chunk: SweepChunk) -> dict[str, int]:
    """Counts of a chunk."""
    return {name: int(getattr(chunk, name)) for name in NOTES}


def read_chunk(
    job: SweepJob, columns: Mapping[str, np.ndarray], notes: Mapping[str, Any], index: int
) -> SweepChunk:
    """A chunk as the sweep left it, bit for bit, without rows that belong to no part of it."""
    flagged = np.any([columns[name].astype(bool) for name in FLAGS], axis=0)
    columns = {name: values[flagged] for name, values in columns.items()}
    size = int(flagged.sum())

    def matrix(names: list[str]) -> np.ndarray:
        return np.stack([columns[n] for n in names], axis=1) if names else np.zeros((size, 0))

    numbers = columns["number"]
    rows = DesignSet(
        units=job.space.snap_points(host_points(job.plan.sequence, numbers)),
        log_objectives=matrix([f"log.{name}" for name in job.objectives]),
        constraint_values=matrix([f"violation.{name}" for name, _ in job.limits]),
        variants=columns["variant"],
        numbers=numbers,
        metrics=matrix(list(SCALARS)),
    )
    front, top, least = (rows.take(np.flatnonzero(columns[name])) for name in FLAGS)
    counts = [int(notes[name]) for name in NOTES]
    return SweepChunk(index, *counts, front=front, least_violated=least, top=top)


class JobWorker:
    """Runs chunks of a packed job in whatever process it is made in."""

    def __init__(self, packed: bytes) -> None:
        self.job: SweepJob = pickle.loads(packed)
        self._runner = self.job.runner()

    def run(self, index: int) -> tuple[Columns, dict[str, int]]:
        """Columns and counts of a chunk."""
        chunk = self._runner.run(index)
        return chunk_columns(self.job, chunk), chunk_notes(chunk)
