"""Evaluation of many measured servers: jobs of one structure in one compiled program."""

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


class JobRow(NamedTuple):
    """Values of one job."""

    model: Transformer
    design: ServingDesign
    loads: StepLoad
    """Steps without and with prompts, stacked."""
    requests: Requests


def for_all(jobs: Sequence[ServedJob], function: Callable[[JobRow], Any]) -> Any:
    """Results of a function of all jobs, stacked, in float64.

    Jobs whose models and designs have the same fields and kinds of layers share a compiled program.
    """
    rows = [_row(job) for job in jobs]
    groups: dict[Any, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(jax.tree.structure(row), []).append(index)
    found: list[Any] = [None] * len(jobs)
    program = quick_jit(jax.vmap(function))
    with jax.enable_x64(True):
        for members in groups.values():
            values = jax.tree.map(np.asarray, program(stacked([rows[i] for i in members])))
            for place, index in enumerate(members):
                found[index] = jax.tree.map(lambda x, p=place: x[p], values)
    return stacked(found)


def _row(job: ServedJob) -> JobRow:
    loads = stacked([job.steps.without, job.steps.with_prompts])
    return JobRow(job.model, job.design, loads, job.requests)
