"""Many training jobs at once through the model of a step."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.validation.measured.training_jobs import Job


class Result(NamedTuple):
    """What the model says of one job."""

    step_time_s: float
    mfu_fraction: float
    held_bytes: float
    fits: bool


@cache
def _batched() -> Callable[..., Any]:
    def one(design: Any, workload: Any) -> tuple[Any, ...]:
        found = evaluate(design, workload, EXACT)
        return (
            found.step_time_s,
            found.mfu_fraction,
            total(found.hbm),
            found.hbm_used_ratio,
        )

    return quick_jit(jax.vmap(one))


def batches_of(jobs: Sequence[Job]) -> list[tuple[list[int], tuple[Any, Any]]]:
    """Places of the jobs of each structure, and their designs and workloads as one batch."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, job in enumerate(jobs):
        groups[jax.tree.structure((job.design, job.workload))].append(index)

    def batch(indices: list[int]) -> tuple[Any, Any]:
        pairs = [(jobs[i].design, jobs[i].workload) for i in indices]
        return jax.tree.map(lambda *leaves: np.array(leaves, float), *pairs)

    return [(indices, batch(indices)) for indices in groups.values()]


def results_of(jobs: Sequence[Job]) -> list[Result]:
    """The model's result of each job, in float64; jobs of one structure run as one batch."""
    results: list[Result | None] = [None] * len(jobs)
    with jax.enable_x64(True):
        for indices, batch in batches_of(jobs):
            columns = [np.asarray(column) for column in _batched()(*batch)]
            for place, i in enumerate(indices):
                time_s, share, held, ratio = (float(column[place]) for column in columns)
                results[i] = Result(time_s, share, held, ratio <= 1.0)
    return [result for result in results if result is not None]
