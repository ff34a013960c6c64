"""Front search, scalarizations, domination ranks, and baselines of the comparison."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.plane_problem import FRONT_PLANE_SPACE, PLANE, PLANE_DIMS, bowl, two_objectives
from support.search_toys import TOY_8, TOY_29, TOY_BASE, objective_8, objectives_8, objectives_29

from hwdse.numerics.relaxation import EXACT
from hwdse.search.compare.baselines import BASELINES, TPE_TRIALS, MissingPackageError
from hwdse.search.compare.method_comparison import (
    METHODS,
    ComparisonProblem,
    evaluation_cap,
    run_method,
)
from hwdse.search.evaluation.evaluator import Evaluator
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS
from hwdse.search.evaluation.search_log import SearchLog
from hwdse.search.front.front_search import allocate_front_evaluations, search_front
from hwdse.search.front.scalarize import (
    Scalarization,
    choose_scalarizations,
    distances_to,
    scalarized,
    smooth_chebyshev,
)
from hwdse.search.pareto.dominance_and_hypervolume import hypervolume, non_dominated_mask
from hwdse.search.pareto.non_dominated_sorting import crowding_distance, domination_ranks
from hwdse.search.space.search_space import SearchSpace

HAS_PYMOO = importlib.util.find_spec("pymoo") is not None
HAS_OPTUNA = importlib.util.find_spec("optuna") is not None and HAS_PYMOO
TIED_COSTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(2, 4)),
    elements=st.integers(0, 4),
)
POINTS = hnp.arrays(np.float64, (6, 3), elements=st.floats(-5.0, 5.0))

SOFTEN = jax.jit(jax.vmap(smooth_chebyshev, in_axes=(0, None)))
SCALARIZE = jax.jit(jax.vmap(scalarized, in_axes=(0, None, None)))


@functools.cache
def plane_front(seed):
    rows = []
    result = search_front(
        two_objectives, FRONT_PLANE_SPACE, PLANE, seed=seed, num_evaluations=400,
        report=lambda batch, spent: rows.append((batch, spent)),
    )  # fmt: skip
    return result, rows


def test_front_is_exact_feasible_and_non_dominated():
    result, rows = plane_front(0)
    front = result.front
    assert len(front) > 20
    assert front.is_feasible.all()
    assert non_dominated_mask(front.log_objectives).all()
    everything = np.concatenate([batch.log_objectives[batch.is_feasible] for batch, _ in rows])
    expected = everything[non_dominated_mask(everything)]
    np.testing.assert_array_equal(np.sort(front.log_objectives, axis=0), np.sort(expected, axis=0))
    bases = [base for _, base in FRONT_PLANE_SPACE.variant_bases(PLANE)]
    with jax.enable_x64(True):
        for row in range(0, len(front), 7):
            design = FRONT_PLANE_SPACE.decode_rounded(front.units[row], bases[front.variants[row]])
            log_objectives, _ = two_objectives(design, EXACT)
            np.testing.assert_allclose(log_objectives, front.log_objectives[row], rtol=1e-12)


def test_front_has_both_extremes_the_best_choice_and_the_best_variant():
    front = plane_front(0)[0].front
    # Extremes: (2, 2) on the limit with f = 2 + 0.5, and the corner (0.1, 0.1).
    ends = front.log_objectives.min(axis=0)
    assert np.all(ends >= (2.5 - 1e-9, 0.02 - 1e-9))
    assert np.all(ends <= (2.8, 0.2))
    assert np.mean(front.variants == 1) > 0.7
    kinds = FRONT_PLANE_SPACE.choices[0].index(front.units[:, 2])
    assert np.mean(kinds == 1.0) > 0.7
    # Between them x = y = t: objectives 2 (3 - t)^2 + 0.5 and 2 t^2.
    ideal = 2.0 * (3.0 - np.sqrt(front.log_objectives[:, 1] / 2.0)) ** 2 + 0.5
    assert np.median(front.log_objectives[:, 0] / ideal) < 1.1


def test_evaluations_are_counted_and_deterministic_for_a_seed():
    result, rows = plane_front(0)
    assert result.num_evaluations == rows[-1][1] == 400
    again = search_front(two_objectives, FRONT_PLANE_SPACE, PLANE, seed=0, num_evaluations=400)
    np.testing.assert_array_equal(again.front.log_objectives, result.front.log_objectives)
    np.testing.assert_array_equal(again.front.units, result.front.units)
    search_budget = allocate_front_evaluations(400)
    evaluated = sum(len(batch) for batch, _ in rows)
    num_steps = search_budget.num_descent_rounds * search_budget.num_steps
    num_gradients = num_steps * search_budget.num_starts
    assert evaluated == 400 - GRADIENT_COST_EVALUATIONS * num_gradients


@pytest.mark.parametrize("num_evaluations", [1, 2, 3, 10, 36, 50, 120])
def test_a_front_search_evaluates_no_more_than_its_budget(num_evaluations):
    rows = []
    result = search_front(
        two_objectives, FRONT_PLANE_SPACE, PLANE, seed=0, num_evaluations=num_evaluations,
        report=lambda batch, spent: rows.append((batch, spent)),
    )  # fmt: skip
    assert 1 <= result.num_evaluations <= num_evaluations
    assert sum(len(batch) for batch, _ in rows) <= result.num_evaluations
    first = rows[0][0]
    assert first.variants[0] == 0  # that of the base design
    np.testing.assert_allclose(first.units[0, :2], FRONT_PLANE_SPACE.encode(PLANE)[:2], atol=1e-12)


@pytest.mark.parametrize("num_batches", [1, 2, 3, 8])
def test_a_front_search_continues_from_the_log_of_a_stopped_one(num_batches):
    log, computed = SearchLog(), []
    whole = search_front(
        two_objectives, FRONT_PLANE_SPACE, PLANE, seed=0, num_evaluations=400, log=log
    )
    resumed = SearchLog(dict(list(log.batches().items())[:num_batches]))
    keep = resumed.keep
    resumed.keep = lambda name, points, compute: keep(
        name, points, lambda: computed.append(name) or compute()
    )
    again = search_front(
        two_objectives, FRONT_PLANE_SPACE, PLANE, seed=0, num_evaluations=400, log=resumed
    )
    assert len(computed) == len(log.batches()) - num_batches
    for name in ("units", "log_objectives", "variants", "sequence_indices"):
        np.testing.assert_array_equal(getattr(again.front, name), getattr(whole.front, name))


def test_infeasible_problem_returns_an_empty_front_and_the_least_violated_design():
    def out_of_reach(plane, relaxation):
        log_objectives, _ = two_objectives(plane, relaxation)
        return log_objectives, jnp.log(plane.x / 0.05)[None]

    result = search_front(out_of_reach, SearchSpace(PLANE_DIMS), PLANE, seed=0, num_evaluations=120)
    assert not len(result.front)
    assert result.least_violated.constraint_values[0, 0] == pytest.approx(np.log(2.0), abs=0.05)


@pytest.mark.parametrize("num_evaluations", [200, 500, 2000, 10_000])
def test_stages_leave_evaluations_for_local_search(num_evaluations):
    search_budget = allocate_front_evaluations(num_evaluations)
    descents = (
        search_budget.num_descent_rounds
        * search_budget.num_starts
        * (3 * search_budget.num_steps + 1)
    )
    assert search_budget.num_screened + descents <= 0.75 * num_evaluations


@given(TIED_COSTS)
@settings(deadline=None, max_examples=60)
def test_domination_ranks_are_successive_fronts(log_objectives):
    ranks = domination_ranks(log_objectives)
    np.testing.assert_array_equal(ranks == 0, non_dominated_mask(log_objectives))
    for rank in range(1, ranks.max() + 1):
        above = log_objectives[ranks == rank - 1]
        for point in log_objectives[ranks == rank]:
            assert (above <= point).all(axis=1).any()


@pytest.mark.skipif(not HAS_PYMOO, reason="pymoo is not installed")
@pytest.mark.parametrize("num_objectives", [2, 3, 4])
@pytest.mark.parametrize("levels", [4, 30, 10**9])
def test_fronts_ranks_crowding_and_volume_agree_with_pymoo(num_objectives, levels):
    from pymoo.indicators.hv import HV
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    rng = np.random.default_rng(num_objectives)
    log_objectives = rng.integers(0, levels, (150, num_objectives)) / levels
    log_objectives = np.concatenate((log_objectives, log_objectives[:20]))  # duplicates
    fronts = NonDominatedSorting().do(log_objectives)
    mine = log_objectives[non_dominated_mask(log_objectives)]
    theirs = np.unique(log_objectives[fronts[0]], axis=0)
    np.testing.assert_array_equal(np.unique(mine, axis=0), theirs)
    assert hypervolume(log_objectives, np.ones(num_objectives)) == pytest.approx(
        HV(ref_point=np.ones(num_objectives))(log_objectives), rel=1e-10
    )
    distinct = np.unique(log_objectives, axis=0)
    for rank, indices in enumerate(NonDominatedSorting().do(distinct)):
        np.testing.assert_array_equal(
            np.flatnonzero(domination_ranks(distinct) == rank), np.sort(indices)
        )
    if levels > 1000:
        # pymoo returns the mean over objectives, hwdse the sum.
        front = distinct[NonDominatedSorting().do(distinct)[0]]
        np.testing.assert_allclose(
            crowding_distance(front) / num_objectives, calc_crowding_distance(front)
        )


@pytest.mark.skipif(not HAS_OPTUNA, reason="pymoo or optuna is not installed")
@pytest.mark.parametrize("name", BASELINES)
def test_every_method_evaluates_the_one_design_of_a_search_without_parameters(name):
    def evaluate_base(plane, relaxation):
        value, constraint_values = bowl(plane, relaxation)
        return jnp.reshape(value, 1), constraint_values

    batches = []
    evaluator = Evaluator(
        evaluate_base, SearchSpace(()), PLANE, lambda batch, _: batches.append(batch)
    )
    BASELINES[name](evaluator, PLANE, 10, 0)
    assert 1 <= evaluator.num_evaluations <= 10
    for batch in batches:
        np.testing.assert_array_equal(batch.log_objectives, 8.0 + PLANE.kind)


def test_crowding_distance_of_a_worked_case():
    log_objectives = np.asarray([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0]])
    np.testing.assert_allclose(crowding_distance(log_objectives), [np.inf, 1.5, 1.5, np.inf])
    np.testing.assert_array_equal(crowding_distance(np.ones((3, 2))), 0.0)


@given(POINTS, st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=40)
def test_smooth_maximum_bounds_the_maximum(points, temperature):
    values = np.asarray(SOFTEN(points, temperature))
    softness = max(0.1 * temperature, 1e-3)
    assert np.all(values >= points.max(axis=1) - 1e-4)
    assert np.all(values <= points.max(axis=1) + softness * np.log(3.0) + 1e-4)


@given(POINTS, hnp.arrays(np.float64, 3, elements=st.floats(0.02, 1.0)), st.booleans())
@settings(deadline=None, max_examples=40)
def test_dominated_points_are_never_better_in_a_scalarization(points, weights, is_bounded):
    scalarization = Scalarization(
        weights[None], np.zeros((1, 3)), np.full((1, 3), 1e3), np.full(1, float(is_bounded))
    )
    values = distances_to(points, scalarization)[:, 0]
    worse = distances_to(points + np.asarray([0.5, 0.0, 0.1]), scalarization)[:, 0]
    assert np.all(worse > values)
    one = Scalarization(*(leaf[0] for leaf in scalarization))
    exact = np.asarray(SCALARIZE(points, one, 0.0))
    assert np.all(exact >= values - 1e-4)
    assert np.all(exact <= values + 1e-3 * np.log(3.0) + 1e-4)


def test_an_epsilon_constraint_minimizes_one_objective_below_its_bounds():
    scalarizations = Scalarization(
        np.asarray([[1.0, 0.02]]), np.zeros((1, 2)), np.asarray([[1e3, 0.5]]), np.ones(1)
    )
    values = distances_to(np.asarray([[0.2, 0.5], [0.1, 0.6], [0.3, 0.1]]), scalarizations)[:, 0]
    # The second point is best without its bound, which it violates by 0.1.
    np.testing.assert_allclose(values, [0.21, 0.612, 0.302])


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_scalarizations_point_to_gaps_of_the_front(num_objectives):
    # A front with a gap in its middle.
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(num_objectives), 400)
    front = share[share.max(axis=1) > 0.75]
    scalarizations = choose_scalarizations(front, num_objectives + 4, rng, with_extremes=True)
    ends = np.asarray(scalarizations.weights)[:num_objectives]
    np.testing.assert_array_equal(np.argmax(ends, axis=1), np.arange(num_objectives))
    inverse = 1.0 / (np.asarray(scalarizations.weights)[num_objectives] * np.ptp(front, axis=0))
    direction = inverse / inverse.sum()
    assert np.linalg.norm(front - direction, axis=1).min() > 0.15
    assert np.asarray(scalarizations.is_bounded)[num_objectives:].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert all(np.isfinite(leaf).all() for leaf in scalarizations)


@functools.cache
def reference(name):
    """Worst value of each objective on the front of 4,096 random designs."""
    log_objectives, space = TOYS[name]
    units = space.snap_points(np.random.default_rng(0).random((4096, space.num_dims)))
    rows = Evaluator(log_objectives, space, TOY_BASE, sizes=(128,))(units, np.zeros(4096, int))
    feasible = rows.log_objectives[rows.is_feasible]
    return feasible[non_dominated_mask(feasible)].max(axis=0)


NUM_COMPARED = 500
TOYS = {"8-D": (objectives_8, TOY_8), "29-D": (objectives_29, TOY_29)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8-D", "29-D"])
def test_front_search_is_ahead_of_sobol_points_and_nsga2(name):
    log_objectives, space = TOYS[name]
    volumes = {}
    for method in ("gradient", "sobol", *(["nsga2"] if HAS_PYMOO else [])):
        each = []
        for seed in range(2):
            if method == "gradient":
                found = search_front(
                    log_objectives, space, TOY_BASE, seed=seed, num_evaluations=NUM_COMPARED
                )
                assert found.num_evaluations == NUM_COMPARED
                rows = found.front.log_objectives
            else:
                batches = []
                evaluator = Evaluator(
                    log_objectives,
                    space,
                    TOY_BASE,
                    lambda r, _, b=batches: b.append(r),
                    sizes=(128,),
                )
                BASELINES[method](evaluator, TOY_BASE, NUM_COMPARED, seed)
                assert evaluator.num_evaluations == NUM_COMPARED
                rows = np.concatenate(
                    [batch.log_objectives[batch.is_feasible] for batch in batches]
                )
            each.append(hypervolume(rows, reference(name)))
        volumes[method] = np.median(each)
    assert volumes["gradient"] > 1.1 * volumes["sobol"]
    if HAS_PYMOO:
        assert volumes["gradient"] > volumes["nsga2"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_spends_its_budget(method):
    if method in ("nsga2", "tpe", "cma_es") and not HAS_OPTUNA:
        pytest.skip("needs hwdse[compare]")
    problem = ComparisonProblem(bowl, two_objectives, FRONT_PLANE_SPACE, PLANE)
    ticks = iter(range(10**6))
    for task in ("single", "pareto"):
        if (method, task) == ("cma_es", "pareto"):
            continue
        trace = run_method(
            problem, method, task, num_evaluations=120, seed=1, clock=lambda: float(next(ticks))
        )
        assert 0.7 * 120 <= trace.num_evaluations <= 1.1 * 120
        assert np.all(np.diff(trace.evaluations) >= 0.0)
        assert np.all(np.diff(trace.seconds) >= 0.0)
        if task == "single":
            assert np.all(np.diff(trace.log_objectives[:, 0]) < 0.0)
            assert 2.5 <= trace.best_at(np.inf) < (3.0 if method == "gradient" else 6.0)
        else:
            assert (
                0.0
                < trace.volume_at(80.0, np.full(2, 20.0))
                <= trace.volume_at(np.inf, np.full(2, 20.0))
            )


def test_evaluation_cap_of_tpe():
    assert evaluation_cap("tpe", 10_000) == TPE_TRIALS
    assert evaluation_cap("nsga2", 10_000) == evaluation_cap("gradient", 10_000) == 10_000


def test_missing_package_is_a_one_line_error(monkeypatch):
    def none_there(name):
        raise ImportError(name)

    monkeypatch.setattr("hwdse.search.compare.baselines.importlib.import_module", none_there)
    with pytest.raises(MissingPackageError, match=r"pymoo is not installed: pip install 'hwdse"):
        BASELINES["nsga2"](Evaluator(objectives_8, TOY_8, TOY_BASE), TOY_BASE, 10, 0)


def test_unknown_methods_are_refused():
    problem = ComparisonProblem(objective_8, objectives_8, TOY_8, TOY_BASE)
    with pytest.raises(ValueError, match="no method 'magic'"):
        run_method(problem, "magic", "single", num_evaluations=5, seed=0, clock=lambda: 0.0)
