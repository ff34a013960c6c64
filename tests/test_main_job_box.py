"""The main job as a whole: finite gradients everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import settled

from hwdse.compiling import quick_jit
from hwdse.config import load_search
from hwdse.numerics import EXACT, smooth
from hwdse.system import evaluate

NUM_DESIGNS = 40_000
BATCH = 2_000


@pytest.fixture(scope="module")
def job():
    return load_search("trn2_llama3_70b")


@pytest.mark.slow
def test_gradients_of_all_metrics_are_finite_in_the_whole_box(job):
    """A gradient of the sum of all metrics is finite only if each metric's is: nothing cancels
    an infinity or a NaN. Half of the designs in the exact and half in smooth readings, every
    dataflow, every leaf of Design that the job does not leave alone (`settled`)."""
    bases = [base for _, base in job.space.variant_bases(job.base)]
    generator = np.random.default_rng(1)

    def metrics(design, reading):
        return sum(jax.tree.leaves(evaluate(settled(design), job.workload, reading)))

    def slopes(unit, base, reading):
        design = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), job.space.decode(unit, base))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(jax.grad(metrics)(design, reading)))

    program = quick_jit(jax.vmap(slopes, in_axes=(0, None, 0)))
    with jax.enable_x64(True):
        for base in bases:
            for _ in range(NUM_DESIGNS // (2 * BATCH * len(bases)) + 1):
                cold = EXACT.replace(temperature=jnp.zeros(BATCH))
                for reading in (cold, smooth(jnp.asarray(generator.random(BATCH)))):
                    units = jnp.asarray(generator.random((BATCH, job.space.num_dims)))
                    assert bool(jnp.all(jnp.isfinite(program(units, base, reading))))
