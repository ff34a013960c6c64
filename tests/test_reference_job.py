"""Reference job: required results of the gradient search."""

import jax
import numpy as np
import pytest

from hwdse.config import load_search
from hwdse.evaluation import evaluate_exact
from hwdse.objectives import constraint_values, make_objective_fn
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.evaluation.batch_evaluation import exact_evaluator
from hwdse.search.evaluation.search_result import ROUNDING
from hwdse.search.space.point_sequences import host_points, make_sequence

NUM_DESIGNS = 50_000
EFFORT = allocate_evaluations(NUM_DESIGNS // 40, num_variants=3)
"""Budget: 1/40 of the evaluations of the Sobol points below."""


@pytest.fixture(scope="module")
def job():
    return load_search("trn2_llama3_70b")


@pytest.fixture(scope="module")
def objective_fn(job):
    return make_objective_fn(job.objective, job.limits, job.workload)


@pytest.fixture(scope="module")
def search(job, objective_fn):
    """Gradient search, with its compiled programs kept between calls."""

    def run():
        with jax.enable_x64(True):
            return minimize(objective_fn, job.space, job.base, seed=job.seed, **EFFORT)

    return run


@pytest.fixture(scope="module")
def found(search):
    return search()


@pytest.mark.slow
def test_gradient_search_beats_forty_times_as_many_sobol_points(job, objective_fn, found):
    assert found.num_evaluations <= NUM_DESIGNS // 40
    assert found.is_feasible
    bases = job.space.variant_bases(job.base)
    points = host_points(
        make_sequence("sobol", job.space, seed=job.seed), np.arange(NUM_DESIGNS // len(bases))
    )
    for _, base in bases:
        with jax.enable_x64(True):
            rows = exact_evaluator(objective_fn, job.space, base, EFFORT["num_moves"])(
                job.space.snap_points(points)
            )
        assert rows.is_feasible.any()
        assert found.log_objective <= rows.log_objectives[rows.best_index()]


@pytest.mark.slow
def test_optimized_design_beats_the_preset_within_its_area_and_power(job, found):
    with jax.enable_x64(True):
        before = evaluate_exact(job.base, job.workload)
        after = evaluate_exact(found.design, job.workload)
        broken = constraint_values(after, job.limits)
    gain = (before.time_per_token_s * before.energy_per_token_j) / (
        after.time_per_token_s * after.energy_per_token_j
    )
    assert float(gain) > 1.0
    assert np.all(np.asarray(broken) <= ROUNDING)
    assert float(after.die_area_mm2) <= 1.001 * float(before.die_area_mm2)
    assert float(after.chip_power_w) <= 1.001 * float(before.chip_power_w)


@pytest.mark.slow
def test_optimized_design_is_rounded_to_the_parameter_steps(job, found):
    array = found.design.chip.array
    for extent in (array.rows, array.cols):
        assert float(extent) % 32 == 0.0
    for dimension in job.space.dimensions:
        if dimension.step is not None:
            value = float(job.space.describe(found.unit, job.base)[dimension.path])
            assert value / dimension.step == pytest.approx(round(value / dimension.step), abs=1e-9)
            assert dimension.low <= value <= dimension.high
    parallelism = found.design.parallelism
    data = float(job.base.cluster.num_chips) / float(parallelism.tensor * parallelism.pipeline)
    assert data == int(data)


@pytest.mark.slow
def test_search_is_deterministic(search, found):
    repeated = search()
    assert repeated.log_objective == found.log_objective
    np.testing.assert_array_equal(repeated.unit, found.unit)
