"""Gradient search: known optima, multipliers, budgets, distance to the best known designs."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plane_problem import PLANE, PLANE_DIMS, PLANE_EFFORT, PLANE_SPACE, bowl
from support.search_toys import TOY_8, TOY_29, TOY_BASE, objective_8, objective_29

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_log import SearchLog
from hwdse.search.evaluation.search_result import evaluated_points
from hwdse.search.space.search_space import Choice, SearchSpace, Variant

BEST_KNOWN = {"8-D": 6.723477546, "29-D": 6.740679720}
"""Log objectives of the best designs of about fifty searches of up to 100,000 evaluations."""
TOYS = {"8-D": (objective_8, TOY_8), "29-D": (objective_29, TOY_29)}


def beyond_reach(plane, relaxation):
    return plane.x, jnp.stack([jnp.log(plane.x / 0.05), jnp.log(plane.y / 20.0)])


def partly_nan(plane, relaxation):
    value, constraint_values = bowl(plane, relaxation)
    return jnp.where(plane.x > 6.0, jnp.nan, 1.0) * value, constraint_values


def by_shape(plane, relaxation):
    value, constraint_values = bowl(plane, relaxation)
    return value + (0.0 if plane.shape == "square" else 1.0), constraint_values


def test_known_constrained_optimum_and_its_multiplier():
    with jax.enable_x64(True):
        result = minimize(bowl, PLANE_SPACE, PLANE, seed=0, **PLANE_EFFORT)
    assert result.is_feasible
    assert result.log_objective == pytest.approx(2.0, abs=0.001)
    assert result.relaxed_log_objective == pytest.approx(2.0, abs=0.005)
    assert result.multipliers[0] == pytest.approx(8.0, rel=0.005)
    assert (result.design.x, result.design.y) == pytest.approx((2.0, 2.0), abs=0.05)


def test_search_is_deterministic_for_a_seed():
    runs = [minimize(bowl, PLANE_SPACE, PLANE, seed=3, **PLANE_EFFORT) for _ in range(2)]
    for field in dataclasses.fields(runs[0]):
        first, second = (getattr(run, field.name) for run in runs)
        np.testing.assert_array_equal(jax.tree.leaves(first), jax.tree.leaves(second))


def test_infeasible_problem_reports_the_violated_constraint():
    result = minimize(beyond_reach, PLANE_SPACE, PLANE, seed=0, **PLANE_EFFORT)
    assert not result.is_feasible
    assert result.constraint_values[0] == pytest.approx(math.log(0.1 / 0.05), abs=0.1)
    assert result.constraint_values[1] < 0.0
    assert np.isinf(result.history_log_objective).all()


def test_nan_points_do_not_affect_other_points():
    result = minimize(partly_nan, PLANE_SPACE, PLANE, seed=0, **PLANE_EFFORT)
    assert result.is_feasible
    assert result.log_objective == pytest.approx(2.0, abs=0.03)


def test_choices_and_variants_are_searched():
    kinds = Choice("kind", ("kind",), ((3.0,), (0.5,), (2.0,)), ("a", "b", "c"))
    space = SearchSpace(PLANE_DIMS, (kinds,), (Variant("shape", ("round", "square")),))
    result = minimize(by_shape, space, PLANE, seed=0, **PLANE_EFFORT)
    assert result.labels == {"shape": "square"}
    assert result.design.shape == "square"
    assert result.design.kind == 0.5
    assert result.log_objective == pytest.approx(2.5, abs=0.03)
    assert set(result.top_variants) == {0, 1}


@pytest.mark.parametrize("kept_batches", [1, 2, 3, 9])
def test_a_search_continues_from_the_log_of_a_stopped_one(kept_batches):
    """Batches that the log holds are not computed again, and the result is the same."""
    kinds = Choice("kind", ("kind",), ((3.0,), (0.5,), (2.0,)), ("a", "b", "c"))
    space = SearchSpace(PLANE_DIMS, (kinds,), (Variant("shape", ("round", "square")),))
    budget = allocate_evaluations(300, 2)
    log = SearchLog()
    whole = minimize(by_shape, space, PLANE, seed=0, log=log, **budget)
    first = dict(list(log.batches().items())[:kept_batches])
    computed = []
    resumed = SearchLog(first)
    keep = resumed.keep
    resumed.keep = lambda name, points, compute: keep(
        name, points, lambda: computed.append(name) or compute()
    )
    assert resumed.is_replayed
    again = minimize(by_shape, space, PLANE, seed=0, log=resumed, **budget)
    assert not resumed.is_replayed
    assert len(computed) == len(log.batches()) - kept_batches
    assert not {f"0.{name}" for name in computed} & set(first)
    np.testing.assert_array_equal(again.unit, whole.unit)
    np.testing.assert_array_equal(again.history_evaluations, whole.history_evaluations)
    np.testing.assert_array_equal(again.history_log_objective, whole.history_log_objective)
    assert again.num_evaluations == whole.num_evaluations


def test_the_log_holds_the_best_design_so_far():
    log, seen = SearchLog(), []
    minimize(
        bowl, PLANE_SPACE, PLANE, seed=0, log=log, **PLANE_EFFORT,
        progress=lambda _, best: seen.append((best, log.best)),
    )  # fmt: skip
    for best, kept in seen:
        assert kept.is_feasible
        assert kept.log_objective <= best  # a batch may be ahead of the progress
    assert seen[-1][0] == seen[-1][1].log_objective
    value, _ = bowl(PLANE_SPACE.decode_rounded(kept.unit, PLANE), EXACT)
    assert float(value) == pytest.approx(kept.log_objective, rel=1e-6)


def test_a_log_of_other_points_is_computed_again():
    log = SearchLog({"0.a": (np.zeros(2), np.ones(2))})
    assert log.keep("a", np.ones(2), lambda: (np.full(2, 7.0),))[0].tolist() == [7.0, 7.0]
    assert not log.is_replayed


def test_history_decreases_and_counts_every_evaluation():
    seen = []
    result = minimize(
        bowl,
        PLANE_SPACE,
        PLANE,
        seed=0,
        progress=lambda count, best: seen.append((count, best)),
        **PLANE_EFFORT,
    )
    assert np.all(np.diff(result.history_log_objective) <= 0.0)
    assert seen[-1] == (result.num_evaluations, result.log_objective)
    assert result.num_evaluations > 64 + 3 * 4 * 200
    assert result.history_log_objective[-1] == result.top_log_objectives[0]


def test_reported_values_are_those_of_the_exact_model():
    with jax.enable_x64(True):
        result = minimize(objective_8, TOY_8, TOY_BASE, seed=0, **allocate_evaluations(500))
        log_objective, constraint_values = objective_8(result.design, EXACT)
    assert float(log_objective) == pytest.approx(result.log_objective, rel=1e-12)
    np.testing.assert_allclose(constraint_values, result.constraint_values, rtol=1e-9)
    assert result.design.rows % 8.0 == result.design.sram_mib % 4.0 == 0.0
    assert isinstance(result.design.rows, float)


@pytest.mark.parametrize("num_evaluations", [500, 2000, 10_000])
@pytest.mark.parametrize("num_variants", [1, 3])
def test_allocated_stages_spend_the_budget(num_evaluations, num_variants):
    total = most_evaluations(allocate_evaluations(num_evaluations, num_variants))
    assert 0.9 * num_evaluations <= total <= num_evaluations


@given(st.integers(1, 30_000), st.integers(1, 40))
@settings(deadline=None)
def test_allocated_stages_never_exceed_the_budget(num_evaluations, num_variants):
    search_budget = allocate_evaluations(num_evaluations, num_variants)
    assert most_evaluations(search_budget) <= num_evaluations
    assert search_budget["num_screened"] >= 1
    assert search_budget["num_moves"] >= 1


def most_evaluations(search_budget):
    """Evaluations of a budget if no stage ends early and every final point has two roundings."""
    gradients = search_budget["num_starts"] * search_budget["num_steps"]
    return (
        search_budget["num_screened"]
        + GRADIENT_COST_EVALUATIONS * gradients
        + 2 * search_budget["num_starts"]
        + search_budget["local_search_rounds"] * search_budget["num_moves"]
    )


@pytest.mark.parametrize("num_evaluations", [1, 2, 5, 30, 31, 60, 200])
def test_a_search_evaluates_no_more_than_its_budget(num_evaluations):
    """Counted from the batches of the log, not by the search."""
    space = SearchSpace(PLANE_DIMS, (), (Variant("shape", ("square", "round", "oval")),))
    log = SearchLog()
    result = minimize(
        by_shape, space, PLANE, seed=0, log=log, **allocate_evaluations(num_evaluations, 3)
    )
    assert 1 <= result.num_evaluations <= num_evaluations
    assert log.num_evaluations == result.num_evaluations
    evaluated = [
        len(points)
        for name, (points, *_) in log.batches().items()
        if not name.startswith("0.descent")
    ]
    gradients = GRADIENT_COST_EVALUATIONS * sum(
        len(points) * allocate_evaluations(num_evaluations, 3)["num_steps"]
        for name, (points, *_) in log.batches().items()
        if name.startswith("0.descent")
    )
    assert sum(evaluated) + gradients == result.num_evaluations


def test_the_smallest_search_evaluates_the_base_design_in_its_own_variant():
    space = SearchSpace(PLANE_DIMS, (), (Variant("shape", ("square", "round")),))
    result = minimize(by_shape, space, PLANE, seed=0, **allocate_evaluations(1, 2))
    assert result.labels == {"shape": "round"}
    assert (result.design.x, result.design.y) == pytest.approx((PLANE.x, PLANE.y))


def test_ranking_is_feasible_first_and_infinite_last():
    rows = evaluated_points(
        np.zeros((4, 1)), [1.0, 5.0, np.nan, 0.0], [[0.5], [-0.1], [-0.1], [np.nan]]
    )
    assert rows.is_feasible.tolist() == [False, True, False, False]
    assert rows.best_index() == 1
    assert rows.take(np.asarray([0, 3])).best_index() == 0


@functools.cache
def evaluate_all(name):
    """Function that evaluates points as one batch, compiled once."""
    objective_fn, space = TOYS[name]
    return quick_jit(
        jax.vmap(lambda unit: objective_fn(space.decode_rounded(unit, TOY_BASE), EXACT))
    )


def random_best(name, num_evaluations, seed):
    """Best of the same number of random designs, relative to the best known."""
    space = TOYS[name][1]
    units = np.random.default_rng(seed).random((num_evaluations, space.num_dims))
    rows = space.snap_points(units)
    evaluated = evaluated_points(rows, *evaluate_all(name)(rows))
    return math.exp(evaluated.log_objectives[evaluated.best_index()] - BEST_KNOWN[name])


@pytest.mark.parametrize(
    ("name", "num_evaluations", "max_over_best", "min_lead"),
    [("8-D", 500, 1.05, 2.0), ("29-D", 500, 1.1, 7.0)],
)
def test_search_is_near_the_best_known_and_far_ahead_of_random(
    name, num_evaluations, max_over_best, min_lead
):
    objective_fn, space = TOYS[name]
    search_budget = allocate_evaluations(num_evaluations)
    with jax.enable_x64(True):
        runs = [minimize(objective_fn, space, TOY_BASE, seed=s, **search_budget) for s in range(3)]
        random_median = np.median([random_best(name, num_evaluations, s) for s in range(3)])
    assert all(run.is_feasible for run in runs)
    assert max(run.num_evaluations for run in runs) <= num_evaluations
    ratio = math.exp(np.median([run.log_objective for run in runs]) - BEST_KNOWN[name])
    assert 0.99 <= ratio <= max_over_best
    assert random_median / ratio >= min_lead
