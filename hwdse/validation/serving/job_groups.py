"""Evaluation of many measured servers: jobs of one model in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.stacking import stacked
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import Requests, StepLoad
from hwdse.validation.serving.served_jobs import ServedJob
from hwdse.workload.transformer.model_config import Transformer

_GROUPS = ("tensor", "pipeline", "context", "expert")
"""Degrees of which the model of collectives knows whether they are 1."""


class JobRow(NamedTuple):
    """Values of one job."""

    design: ServingDesign
    loads: StepLoad
    """Steps without and with prompts, stacked."""
    requests: Requests


def by_model(jobs: Sequence[ServedJob], function: Callable[[Transformer, JobRow], Any]) -> Any:
    """Results of a function of all jobs, stacked, in float64.

    Jobs of one model with designs of the same fields share a compiled program.
    """
    groups: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        known = tuple(float(getattr(job.design.strategy, name)) > 1.0 for name in _GROUPS)
        key = (job.preset, jax.tree.structure(job.design), known)
        groups.setdefault(key, []).append(index)
    found: list[Any] = [None] * len(jobs)
    with jax.enable_x64(True):
        for rows in groups.values():
            model = jobs[rows[0]].model
            program = quick_jit(jax.vmap(lambda row, model=model: function(model, row)))
            values = jax.tree.map(np.asarray, program(stacked([_row(jobs[i]) for i in rows])))
            for place, index in enumerate(rows):
                found[index] = jax.tree.map(lambda x, p=place: x[p], values)
    return stacked(found)


def _row(job: ServedJob) -> JobRow:
    loads = stacked([job.steps.without, job.steps.with_prompts])
    return JobRow(job.design, loads, job.requests)
