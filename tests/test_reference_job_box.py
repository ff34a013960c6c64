"""Reference job: finite gradients in the full search space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import with_static_defaults

import hwdse.analysis.operand_reuse
import hwdse.models.compute.systolic
import hwdse.training.gemm_operator_costs
from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.workload.gemms import Gemms

NUM_DESIGNS = 24_000
BATCH = 2_000
ANY = "any dataflow"
TABLES = (
    (hwdse.models.compute.systolic, "FOLDS"),
    (hwdse.analysis.operand_reuse, "FOLDS"),
    (hwdse.training.gemm_operator_costs, "DATAFLOWS"),
)


@pytest.fixture(scope="module")
def job():
    return load_search("trn2_llama3_70b")


class AnyDataflow:
    """Dataflow selected by `number` at run time among the given ones.

    One program contains all dataflows. Non-finite gradients of unselected dataflows remain visible:
    zero times infinity is not a number.
    """

    def __init__(self, names):
        self.names = names
        self.number = None

    def of(self, table):
        def selected(*arguments):
            found = [table[name](*arguments) for name in self.names]
            is_selected = [self.number == index for index in range(len(found))]
            return jax.tree.map(lambda *values: jnp.select(is_selected, values), *found)

        return {**table, ANY: selected}


@pytest.fixture
def any_dataflow(job, monkeypatch):
    bases = [base for _, base in job.space.variant_bases(job.base)]
    names = [base.chip.array.dataflow for base in bases]
    assert len(set(names)) == 3
    assert all(
        with_dataflow(base, names[0]) == bases[0] for base in bases
    )  # equal except for the dataflow
    choice = AnyDataflow(names)
    for module, name in TABLES:
        monkeypatch.setattr(module, name, choice.of(getattr(module, name)))
    return choice


def with_dataflow(design, name):
    array = design.chip.array.replace(dataflow=name)
    return design.replace(chip=design.chip.replace(array=array))


def test_any_dataflow_equals_the_selected_dataflow(job, any_dataflow):
    gemms = Gemms(*np.array([[300.0, 70.0, 900.0, 5.0, 1.0, 1.0, 1.0, 0.0, 0.0]]).T)
    arguments = gemms, job.base.chip.array, EXACT
    with jax.enable_x64(True):
        for index, name in enumerate(any_dataflow.names):
            any_dataflow.number = index
            for table in (getattr(module, attribute) for module, attribute in TABLES):
                found, expected = (jax.tree.leaves(table[key](*arguments)) for key in (ANY, name))
                assert len(found) == len(expected)
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_gradients_of_all_metrics_are_finite_in_the_search_space(job, any_dataflow):
    """The gradient of the sum of all metrics is finite only if that of each metric is finite.

    Half of the designs use the exact model, half smooth relaxations. Covers every dataflow and
    every leaf of `Design` that the job uses (`with_static_defaults`).
    """
    base = with_dataflow(job.base, ANY)
    generator = np.random.default_rng(1)

    def metrics(design, relaxation):
        return sum(
            jax.tree.leaves(evaluate(with_static_defaults(design), job.workload, relaxation))
        )

    def slopes(unit, number, temperature, kind):
        any_dataflow.number = number
        design = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), job.space.decode(unit, base))
        found = jax.grad(metrics)(design, kind.replace(temperature=temperature))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found))

    numbers = jnp.arange(BATCH) % len(any_dataflow.names)
    with jax.enable_x64(True):
        for kind in (EXACT, smooth(0.0)):
            program = quick_jit(jax.vmap(lambda *each, kind=kind: slopes(*each, kind)))
            for _ in range(NUM_DESIGNS // (2 * BATCH)):
                units = jnp.asarray(generator.random((BATCH, job.space.num_dims)))
                temperatures = jnp.asarray(generator.random(BATCH) * (not kind.is_exact))
                assert bool(jnp.all(jnp.isfinite(program(units, numbers, temperatures))))
