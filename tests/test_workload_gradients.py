"""Gradients by every number of a design and of a job, for every model preset: finite.

Of the work, messages, memory and operator costs of a step, on which all metrics depend. The steps
from there to the metrics know nothing of the model: tests/test_evaluation_gradients.py.
"""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import BASE, names_of

from hwdse.config import load_workload
from hwdse.config.files.toml_files import preset_names
from hwdse.numerics.relaxation import EXACT, smooth, total
from hwdse.training.gemm_operator_costs import operator_costs
from hwdse.workload.transformer.sharding import shard

STRATEGIES = (
    BASE.parallelism.replace(tensor=1.0, pipeline=1.0, sequence_parallel_fraction=0.0),
    BASE.parallelism.replace(
        tensor=4.0,
        pipeline=4.0,
        context=2.0,
        expert=2.0,
        micro_batch=2.0,
        recompute_fraction=0.5,
        gradient_shard_fraction=1.0,
        weight_shard_fraction=1.0,
    ),
)
BIASES = ("num_qkv_bias", "num_output_bias", "num_mlp_bias")


def with_all_biases(job):
    """Job with a number for every optional bias, so that models have fewer structures."""
    own = {name: getattr(job.model, name) for name in BIASES}
    given = {n: job.model.num_bias if value is None else value for n, value in own.items()}
    return job.replace(model=job.model.replace(**given))


def by_structure():
    """Jobs of all model presets by their pytree structure: kinds of layers."""
    found = defaultdict(dict)
    for name in preset_names("models"):
        job = jax.tree.map(float, with_all_biases(load_workload(name)))
        found[jax.tree.structure(job)][name] = job
    return list(found.values())


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.array(leaves), *trees)


def work_and_costs(design, job, relaxation):
    """Sum of everything that a step of a job consists of."""
    step = shard(job, design.parallelism, design.cluster.num_chips, design.software)
    costs = operator_costs(step.gemms, step.executions, design, relaxation)
    return total(jax.tree.map(jnp.sum, (step, costs)))


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.5)], ids=["exact", "smooth"])
@pytest.mark.parametrize("jobs", by_structure(), ids=lambda jobs: next(iter(jobs)))
def test_gradients_by_every_number_are_finite(jobs, relaxation):
    pairs = [(BASE.replace(parallelism=x), job) for x in STRATEGIES for job in jobs.values()]

    def work(design, job):
        return work_and_costs(design, job, relaxation)

    with jax.enable_x64(True):
        # Uncompiled, all at once: faster than compiling.
        slopes = jax.vmap(jax.grad(work, (0, 1)))(*map(stacked, zip(*pairs, strict=True)))
    broken = {
        (list(jobs)[index % len(jobs)], leaf)
        for leaf, values in zip(names_of(slopes), jax.tree.leaves(slopes), strict=True)
        for index in np.nonzero(~np.isfinite(np.asarray(values)))[0]
    }
    assert not broken
