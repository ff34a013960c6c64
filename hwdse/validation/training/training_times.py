"""Batched evaluation of training jobs."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.numerics.stacking import stacked
from hwdse.validation.training.training_jobs import Job


class Result(NamedTuple):
    """Predictions for one job."""

    step_time_s: float
    mfu_fraction: float
    memory_bytes: float
    fits: bool


@cache
def _batched() -> Callable[..., Any]:
    def one(design: Any, workload: Any) -> tuple[Any, ...]:
        found = evaluate(design, workload, EXACT)
        return (
            found.step_time_s,
            found.mfu_fraction,
            total(found.hbm) - found.hbm.runtime,  # measured: what the allocator holds
            found.hbm_used_ratio,
        )

    return quick_jit(jax.vmap(one))


def batches_of(jobs: Sequence[Job]) -> list[tuple[list[int], tuple[Any, Any]]]:
    """Indices of the jobs of each pytree structure, and their designs and workloads as a batch."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, job in enumerate(jobs):
        groups[jax.tree.structure((job.design, job.workload))].append(index)

    def batch(indices: list[int]) -> tuple[Any, Any]:
        pairs = [(jobs[i].design, jobs[i].workload) for i in indices]
        return stacked(pairs)

    return [(indices, batch(indices)) for indices in groups.values()]


def results_of(jobs: Sequence[Job]) -> list[Result]:
    """Result of each job in float64; jobs of one pytree structure are one batch."""
    results: list[Result | None] = [None] * len(jobs)
    with jax.enable_x64(True):
        for indices, batch in batches_of(jobs):
            columns = [np.asarray(column) for column in _batched()(*batch)]
            for row, i in enumerate(indices):
                time_s, mfu, memory_bytes, ratio = (float(column[row]) for column in columns)
                results[i] = Result(time_s, mfu, memory_bytes, ratio <= 1.0)
    return [result for result in results if result is not None]
