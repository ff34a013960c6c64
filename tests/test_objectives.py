"""Laws of objectives and constraints: positive values, logarithms, constraint values in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.objectives import (
    CONSTRAINTS,
    OBJECTIVES,
    SERVING_OBJECTIVES,
    constraint_values,
    exact_objectives_fn,
    make_objective_fn,
    make_objectives_fn,
)
from hwdse.workload.gemms import Gemms, LayerList

BASE = load_search("trn2_llama3_70b").base
COLUMNS = np.array([[4096.0, 1024.0, 4096.0, 2.0], [49.0, 512.0, 300.0, 1.0]]).T
LAYERS = LayerList(Gemms(*COLUMNS, *np.ones((3, 2)), *np.zeros((2, 2))), ("a", "b"))
LIMITS = {"chip_power": 300.0, "die_area": 800.0, "hbm_used_ratio": 1.0}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def evaluation():
    with jax.enable_x64(True):
        return quick_jit(lambda design: evaluate(design, LAYERS))(BASE)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - set(SERVING_OBJECTIVES)))
def test_objectives_are_positive_numbers(name, evaluation):
    value = float(OBJECTIVES[name](evaluation))
    assert np.isfinite(value)
    assert value > 0.0


def test_public_names_exist():
    assert {
        "time_per_token",
        "energy_per_token",
        "cost_per_token",
        "energy_delay",
        "die_area",
        "chip_power",
        "step_time",
    } <= set(OBJECTIVES)
    assert {"die_area", "chip_power", "hbm_used_ratio", "chip_cost", "time_per_token"} <= set(
        CONSTRAINTS
    )


def test_energy_delay_is_the_product_of_energy_and_time(evaluation):
    product = float(OBJECTIVES["energy_per_token"](evaluation)) * float(
        OBJECTIVES["time_per_token"](evaluation)
    )
    assert OBJECTIVES["energy_delay"](evaluation) == pytest.approx(product)


def test_constraint_values_are_logarithms_in_the_order_of_the_limits(evaluation):
    found = constraint_values(evaluation, LIMITS)
    expected = [np.log(float(CONSTRAINTS[name](evaluation)) / LIMITS[name]) for name in LIMITS]
    assert np.allclose(found, expected)
    backwards = constraint_values(evaluation, dict(reversed(LIMITS.items())))
    assert np.array_equal(backwards, found[::-1])


def test_limit_is_met_up_to_its_value(evaluation):
    area = float(evaluation.die_area_mm2)
    signs = [
        float(constraint_values(evaluation, {"die_area": area * x})[0]) for x in (0.9, 1.0, 1.1)
    ]
    assert signs[0] > 0.0
    assert signs[1] == pytest.approx(0.0, abs=1e-12)
    assert signs[2] < 0.0


def test_no_limits_give_no_constraint_values(evaluation):
    assert constraint_values(evaluation, {}).shape == (0,)


def test_unknown_names_are_errors(evaluation):
    with pytest.raises(KeyError):
        constraint_values(evaluation, {"beauty": 1.0})


def test_objective_functions_agree_with_the_evaluation(evaluation):
    """Objective functions of programs with and without a power limit agree with `evaluate`."""
    objective_fn = quick_jit(make_objective_fn("energy_delay", LIMITS, LAYERS))
    value, broken = objective_fn(BASE, EXACT)
    assert value == pytest.approx(float(jnp.log(OBJECTIVES["energy_delay"](evaluation))))
    assert np.allclose(broken, constraint_values(evaluation, LIMITS))
    names = ("time_per_token", "energy_per_token")
    values, broken = quick_jit(make_objectives_fn(names, LIMITS, LAYERS))(BASE, EXACT)
    expected = [float(jnp.log(OBJECTIVES[name](evaluation))) for name in names]
    assert np.allclose(values, expected)
    assert np.allclose(broken, constraint_values(evaluation, LIMITS))


def test_equal_arguments_return_the_same_function():
    """The function object keys the cache of compiled programs."""
    again = jax.tree.map(lambda x: x.copy(), LAYERS)
    other = jax.tree.map(lambda x: np.nextafter(x, 2e4), LAYERS)
    objectives_fn = make_objectives_fn(("step_time",), LIMITS, LAYERS)
    assert make_objectives_fn(("step_time",), dict(LIMITS), again) is objectives_fn
    assert exact_objectives_fn(objectives_fn) is exact_objectives_fn(objectives_fn)
    assert make_objective_fn("step_time", LIMITS, LAYERS) is make_objective_fn(
        "step_time", LIMITS, again
    )
    for different in (
        make_objectives_fn(("step_time",), LIMITS, other),
        make_objectives_fn(("step_time",), {**LIMITS, "die_area": 800}, LAYERS),
        make_objectives_fn(("step_time",), dict(reversed(LIMITS.items())), LAYERS),
        make_objectives_fn(("die_area",), LIMITS, LAYERS),
    ):
        assert different is not objectives_fn


def test_objective_has_finite_gradients_in_exact_model_and_relaxation():
    """The smooth relaxation, which searches use, is also tested with a binding power limit. The
    exact model with that limit is tested in `test_power_cap`."""
    limited = BASE.replace(chip=BASE.chip.replace(power_limit_w=100.0))
    objective_fn = make_objective_fn("energy_delay", LIMITS, LAYERS)
    for relaxation, base in ((EXACT, BASE), (smooth(0.5), limited)):
        design = jax.tree.map(lambda x: jnp.asarray(x, float), base)

        def merit(design, relaxation=relaxation):
            value, broken = objective_fn(design, relaxation)
            return value + broken.sum()

        slopes = jax.grad(merit)(design)
        assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
