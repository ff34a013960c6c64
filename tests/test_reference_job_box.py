"""Reference job: finite gradients in the full search space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import with_static_defaults

from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth

NUM_DESIGNS = 8_000
BATCH = 2_000


@pytest.fixture(scope="module")
def job():
    return load_search("trn2_llama3_70b")


def with_dataflow(design, name, index=None):
    """Design with one dataflow, or with one program for several, of which an index is in use.

    Non-finite gradients of dataflows that are not in use remain visible: zero times infinity is
    not a number.
    """
    array = design.chip.array.replace(dataflow=name, dataflow_index=index)
    return design.replace(chip=design.chip.replace(array=array))


@pytest.mark.slow
def test_gradients_of_all_metrics_are_finite_in_the_search_space(job):
    """The gradient of the sum of all metrics is finite only if that of each metric is finite.

    Half of the designs use the exact model, half smooth relaxations. Covers every dataflow and
    every leaf of `Design` that the job uses (`with_static_defaults`).
    """
    names = [base.chip.array.dataflow for _, base in job.space.variant_bases(job.base)]
    assert len(set(names)) == 3
    generator = np.random.default_rng(1)

    def metrics(design, relaxation):
        return sum(
            jax.tree.leaves(evaluate(with_static_defaults(design), job.workload, relaxation))
        )

    def slopes(unit, number, temperature, kind):
        base = with_dataflow(job.base, "|".join(names), number)
        design = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), job.space.decode(unit, base))
        found = jax.grad(metrics)(design, kind.replace(temperature=temperature))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found))

    numbers = 1.0 * (jnp.arange(BATCH) % len(names))
    with jax.enable_x64(True):
        for kind in (EXACT, smooth(0.0)):
            program = quick_jit(jax.vmap(lambda *each, kind=kind: slopes(*each, kind)))
            for _ in range(NUM_DESIGNS // (2 * BATCH)):
                units = jnp.asarray(generator.random((BATCH, job.space.num_dims)))
                temperatures = jnp.asarray(generator.random(BATCH) * (not kind.is_exact))
                assert bool(jnp.all(jnp.isfinite(program(units, numbers, temperatures))))
