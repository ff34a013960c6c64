"""Description of a sweep for its workers, and the columns of a chunk on disk."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from hwdse.config import LoadedSearch
from hwdse.config.search.metric_names import SCALARS, objective_columns
from hwdse.config.search.search_file_objectives import make_robust_objectives_fn
from hwdse.evaluation import evaluate
from hwdse.numerics.relaxation import EXACT
from hwdse.objectives import exact_objectives_fn, log_objectives_of
from hwdse.runs.run_folder import CONSTRAINT, LOG
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.pytree_path import get_path
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.sweeps.chunked_sweep import ChunkRunner
from hwdse.search.sweeps.sweep_plan import SweepChunk, SweepPlan, plan_sweep
from hwdse.search.uncertainty.robust import Robust
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant

NOTES = ("num_points", "num_feasible", "num_not_finite", "num_reclassified")
FLAGS = ("is_front", "is_top", "is_least_violated")
"""Columns of the parts of a chunk that a row can belong to: `is_` and the name of the part."""

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class SweepJob:
    """Sweep as its workers receive it: picklable, without files."""

    space: SearchSpace
    base: Any
    workload: Any
    objectives: tuple[str, ...]
    limits: tuple[tuple[str, float], ...]
    plan: SweepPlan
    screen_dtype: str
    keep: str
    top: int
    uncertain_constants: tuple[UncertainConstant, ...] = ()
    robust: Robust | None = None
    seed: int = 0
    """Seed of the sample of uncertain constants."""

    def runner(self) -> ChunkRunner:
        """Runner of the chunks; its programs compile once."""
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
            screen=self.screen_dtype,
            keep=self.keep,
            top=self.top,
            evaluate_with_metrics=_ObjectivesWithMetrics(log_objectives, self),
            num_samples=self.robust.num_samples if self.robust else 1,
        )

    def pack(self) -> bytes:
        """Pickled job for a worker in another process."""
        return pickle.dumps(self)


@dataclass(frozen=True, eq=False)
class _ObjectivesWithMetrics:
    """Objectives, constraint values and metrics of a design, from one evaluation.

    Robust objectives take further evaluations. Two instances are equal if their objectives are the
    same function, so that compiled programs are reused.
    """

    log_objectives: Any
    job: SweepJob

    @property
    def program_key(self) -> tuple[Any, ...]:
        """All that the results depend on: not the plan of the sweep."""
        job = self.job
        return self.log_objectives, job.workload, job.objectives, job.limits, job.robust is None

    def __hash__(self) -> int:
        return hash(self.log_objectives)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _ObjectivesWithMetrics)
            and self.log_objectives == other.log_objectives
        )

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
    screen_dtype: str = "float32",
    keep: str = "front",
    top: int = 0,
) -> SweepJob:
    """Job of a search file; without a plan, for designs that are not points of a sequence."""
    return SweepJob(
        space=loaded.space,
        base=loaded.base,
        workload=loaded.workload,
        objectives=loaded.front_objectives,
        limits=tuple(loaded.limits.items()),
        plan=plan_sweep(loaded.space, num_points=1) if plan is None else plan,
        screen_dtype=screen_dtype,
        keep=keep,
        top=top,
        uncertain_constants=loaded.uncertain_constants,
        robust=loaded.robust,
        seed=loaded.seed,
    )


def chunk_columns(job: SweepJob, chunk: SweepChunk) -> Columns:
    """Columns of a chunk on disk; the inverse is `read_chunk`.

    Every row appears once. The columns are flags, metrics by names with units, parameters by path,
    and logarithms, which make reading exact.
    """
    rows = chunk.rows
    if rows is None:
        rows = chunk.front.joined(chunk.least_violated)
        rows = rows if chunk.top is None else rows.joined(chunk.top)
        rows = rows.take(np.unique(rows.sequence_indices, return_index=True)[1])
    flags: Columns = {}
    for name in FLAGS:
        members = getattr(chunk, name.removeprefix("is_"))
        flags[name] = np.isin(
            rows.sequence_indices, [] if members is None else members.sequence_indices
        )
    return {**flags, **row_columns(job, rows)}


def row_columns(job: SweepJob, rows: DesignSet) -> Columns:
    """Designs as columns: metrics, parameters, variant, index in the sequence, logarithms."""
    columns: Columns = {"is_feasible": rows.is_feasible}
    names = objective_columns(job.objectives, is_robust=job.robust is not None)
    for index, name in enumerate(names):
        columns[name] = np.exp(rows.log_objectives[:, index])
    columns |= dict(zip(SCALARS, rows.metrics.T, strict=False))  # some searches keep no metrics
    for name, values in _parameters(job, rows).items():
        columns[name if name not in columns else f"design.{name}"] = values
    columns |= {
        "variant": rows.variants.astype(np.int64),
        "sequence_index": rows.sequence_indices.astype(np.int64),
    }
    columns |= {LOG + name: rows.log_objectives[:, i] for i, name in enumerate(job.objectives)}
    for index, (name, _) in enumerate(job.limits):
        columns[CONSTRAINT + name] = rows.constraint_values[:, index]
    return columns


def _parameters(job: SweepJob, rows: DesignSet) -> Columns:
    """Rounded values by path, alternatives by the name of their choice, variants by path."""
    columns: Columns = {}
    for i, dimension in enumerate(job.space.dimensions):
        columns[dimension.path] = np.asarray(dimension.rounded(rows.units[:, i]), float)
    for i, choice in enumerate(job.space.choices, len(job.space.dimensions)):
        index = np.asarray(choice.index(rows.units[:, i])).astype(int)
        columns[choice.name] = np.array(choice.labels, dtype=str)[index]
        table = np.asarray(choice.table, float)
        columns |= {path: table[index, column] for column, path in enumerate(choice.paths)}
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
    """Chunk from its columns, bit for bit; rows that belong to no part are left out."""
    flagged = np.any([columns[name].astype(bool) for name in FLAGS], axis=0)
    columns = {name: values[flagged] for name, values in columns.items()}
    size = int(flagged.sum())

    def matrix(names: list[str]) -> np.ndarray:
        return np.stack([columns[n] for n in names], axis=1) if names else np.zeros((size, 0))

    sequence_indices = columns["sequence_index"]
    rows = DesignSet(
        units=job.space.snap_points(host_points(job.plan.sequence, sequence_indices)),
        log_objectives=matrix([LOG + name for name in job.objectives]),
        constraint_values=matrix([CONSTRAINT + name for name, _ in job.limits]),
        variants=columns["variant"],
        sequence_indices=sequence_indices,
        metrics=matrix(list(SCALARS)),
    )
    front, top, least = (rows.take(np.flatnonzero(columns[name])) for name in FLAGS)
    counts = [int(notes[name]) for name in NOTES]
    return SweepChunk(index, *counts, front=front, least_violated=least, top=top)


class JobWorker:
    """Runner of the chunks of a packed job, in any process."""

    def __init__(self, packed: bytes) -> None:
        self.job: SweepJob = pickle.loads(packed)
        self._runner = self.job.runner()

    def run(self, index: int) -> tuple[Columns, dict[str, int]]:
        """Columns and counts of a chunk."""
        chunk = self._runner.run(index)
        return chunk_columns(self.job, chunk), chunk_notes(chunk)
