"""Optimizers by name descend; a stopped search returns its best design so far."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.plane_problem import PLANE, PLANE_EFFORT, PLANE_SPACE, bowl

from hwdse.search.descent.minimize import minimize
from hwdse.search.descent.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS

NUM_STEPS = 80


def descents():
    """Points after 80 steps from (2, -1) on x^2 + 3 y^2, by optimizer."""

    def loss(point):
        return point[0] ** 2 + 3.0 * point[1] ** 2

    def walk(name):
        rule = make_optimizer(name, "cosine", NUM_STEPS)
        rate = 0.2 * OPTIMIZERS[name].learning_rate
        start = jnp.array([2.0, -1.0])

        def step(carry, _):
            point, state = carry
            updates, state = rule.update(jax.grad(loss)(point), state, point)
            return (optax.apply_updates(point, rate * jnp.asarray(updates)), state), None

        return jax.lax.scan(step, (start, rule.init(start)), length=NUM_STEPS)[0][0]

    return jax.jit(lambda: {name: loss(walk(name)) for name in OPTIMIZERS})()


def test_every_optimizer_descends():
    ends = descents()
    assert set(ends) == set(OPTIMIZERS)
    assert max(float(end) for end in ends.values()) < 0.05 * 7.0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_start_at_one_and_never_rise(name):
    schedule = SCHEDULES[name](NUM_STEPS)
    rates = np.array([float(schedule(step)) for step in range(NUM_STEPS + 1)])
    assert rates[0] == pytest.approx(1.0)
    assert (np.diff(rates) <= 1e-7).all()
    assert rates[-1] == pytest.approx(1.0 if name == "constant" else 0.05, rel=1e-3)


@pytest.mark.parametrize("names", [("adma", "cosine"), ("adam", "cosin")])
def test_unknown_names_list_the_allowed_ones(names):
    with pytest.raises(ValueError, match=r"expected one of (adam, |cosine, )"):
        make_optimizer(*names, 10)


def test_another_optimizer_finds_the_same_optimum():
    with jax.enable_x64(True):
        found = minimize(bowl, PLANE_SPACE, PLANE, seed=0, optimizer="lion", **PLANE_EFFORT)
    assert found.is_feasible
    assert found.log_objective == pytest.approx(2.0, abs=0.01)


def test_stopped_search_returns_the_best_design_so_far():
    with jax.enable_x64(True):
        runs = [
            minimize(bowl, PLANE_SPACE, PLANE, seed=0, should_stop=lambda: True, **PLANE_EFFORT)
            for _ in range(2)
        ]
    first = runs[0]
    assert first.is_feasible
    assert first.num_evaluations == 64
    assert math.isnan(first.relaxed_log_objective)
    assert first.log_objective == first.history_log_objective[-1]
    np.testing.assert_array_equal(first.unit, runs[1].unit)


def test_local_search_ends_after_the_round_in_which_time_is_up():
    first = 64 + GRADIENT_COST_EVALUATIONS * 4 * 200 + 4
    spent = [0]
    with jax.enable_x64(True):
        found = minimize(
            bowl, PLANE_SPACE, PLANE, seed=0, should_stop=lambda: spent[-1] >= first + 5 * 64,
            progress=lambda count, _: spent.append(count), **PLANE_EFFORT
        )  # fmt: skip
    assert found.num_evaluations == first + 5 * 64
