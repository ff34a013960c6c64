"""Optimality report: bounds below sampled designs, shadow prices confirmed by re-optimization,
failed checks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.search_toys import TOY_8, TOY_29, TOY_BASE, objective_8, objective_29

from hwdse.numerics import struct
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, RELAXED, ROUNDING_SOURCES, num_tiles
from hwdse.search.answers.optimality import fixed_report_evaluations, report_optimality
from hwdse.search.descent.relaxed_optimum import RelaxedProblem, relaxed_optimum
from hwdse.search.neighborhood.neighbors import neighbors, step_toward
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace


@struct.dataclass
class Plane:
    x: object
    y: object
    kind: object


PLANE = Plane(3.0, 3.0, 0.0)
GRID = SearchSpace(
    (Dimension("x", 1.0, 10.0, "linear", 1.0), Dimension("y", 1.0, 10.0, "linear", 1.0)),
    (Choice("kind", ("kind",), ((0.0,), (1.0,), (2.0,)), ("a", "b", "c")),),
)


def folds(plane, relaxation):
    """Log of the product of rounded-up folds: 1000 over x rows, 500 over y columns."""
    rows = num_tiles(jnp.asarray(1000.0), plane.x, relaxation, "rows")
    return jnp.log(rows * num_tiles(jnp.asarray(500.0), plane.y, relaxation, "cols")), jnp.zeros(0)


def bowl(plane, relaxation):
    """(x - 3)^2 + (y - 3)^2 with x + y <= limit, a convex problem without rounding."""
    value = (plane.x - 3.0) ** 2 + (plane.y - 3.0) ** 2
    return value + plane.kind, jnp.log(plane.x + plane.y)[None] - math.log(4.0)


def bumpy(plane, relaxation):
    return jnp.sin(2.0 * plane.x) + 0.1 * plane.y, jnp.zeros(0)


def upside_down(plane, relaxation):
    """Objective that decreases with rounding: the relaxation is above the exact model."""
    return -jnp.log(num_tiles(jnp.asarray(1000.0), plane.x, relaxation)), jnp.zeros(0)


@pytest.fixture(
    scope="module", params=[(objective_8, TOY_8), (objective_29, TOY_29)], ids=["8-D", "29-D"]
)
def toy(request):
    objective_fn, space = request.param
    unit = space.snap(space.encode(TOY_BASE))
    with jax.enable_x64(True):
        value, broken = objective_fn(space.decode_rounded(unit, TOY_BASE), EXACT)
        names = [f"limit {i}" for i in range(len(broken))]
        optimality = report_optimality(
            objective_fn,
            space,
            TOY_BASE,
            unit,
            names,
            seed=0,
            max_neighbors=500,
            num_starts=2,
            max_iterations=30,
        )
    return objective_fn, space, (unit, float(value)), optimality


def test_bound_is_below_every_sampled_feasible_design(toy):
    objective_fn, space, (unit, _), optimality = toy
    generator = np.random.default_rng(1)
    wide = generator.random((2048, space.num_dims))
    near = np.clip(unit + 0.2 * generator.standard_normal(wide.shape), 0.0, 1.0)
    units = space.snap_points(np.concatenate((wide, near, unit[None])))
    with jax.enable_x64(True):
        evaluate = quick_jit(
            jax.vmap(lambda u: objective_fn(space.decode_rounded(u, TOY_BASE), EXACT))
        )
        logs, broken = (np.asarray(x) for x in evaluate(jnp.asarray(units)))
    feasible = logs[(broken <= 0.0).all(axis=1)]
    assert len(feasible) > 20
    assert optimality.log_bound < feasible.min()
    assert 0.0 < optimality.optimality_gap < 0.99


def test_relaxed_objective_never_exceeds_the_exact_one_with_relaxed_tiles(toy):
    optimality = toy[3]
    assert optimality.num_checked > 500
    assert optimality.num_bound_violations == 0


def test_neighborhood_has_the_requested_size_and_its_best_design_is_reported(toy):
    objective_fn, space, (_, value), optimality = toy
    assert 400 <= optimality.num_neighbors <= 520
    with jax.enable_x64(True):
        there, broken = objective_fn(space.decode_rounded(optimality.unit, TOY_BASE), EXACT)
    assert float(there) == pytest.approx(optimality.log_objective, rel=1e-9)
    np.testing.assert_allclose(broken, optimality.constraint_values, atol=1e-9)
    assert optimality.num_improvements > 0
    assert optimality.log_objective < value
    assert (optimality.constraint_values <= 0.0).all()


def test_shadow_prices_equal_the_effect_of_a_larger_limit():
    class Eased(RelaxedProblem):
        more = np.zeros(2)

        def __call__(self, unit):
            values, slopes = super().__call__(unit)
            return values - np.append(0.0, self.more), slopes

    problem = Eased(objective_8, TOY_8, TOY_BASE)

    def optimum(more):
        problem.more = np.asarray(more)
        with jax.enable_x64(True):
            return relaxed_optimum(problem, TOY_8.encode(TOY_BASE)[None], max_iterations=200)

    base = optimum([0.0, 0.0])
    assert base.is_feasible
    for index in (0, 1):
        more = optimum(0.01 * np.eye(2)[index])
        price = (base.log_objective - more.log_objective) / 0.01
        assert base.multipliers[index] == pytest.approx(price, rel=0.03, abs=3e-3)
    assert base.multipliers.max() > 0.05


def test_convex_problem_passes_all_checks_with_its_known_multiplier():
    """Optimum at (2, 2), value 2, -dv/dL = 2 for x + y <= L = 4, thus 8 for its logarithm. In
    linear coordinates the limit is quasi-convex."""
    design = Plane(2.0, 2.0, 0.0)
    with jax.enable_x64(True):
        found = report_optimality(bowl, GRID, design, GRID.encode(design), ["sum"], seed=0)
    assert found.passed_bound_checks
    assert found.multipliers[0] == pytest.approx(8.0, rel=1e-4)
    assert 2.0 - 0.03 < found.log_bound < 2.0
    assert found.num_improvements == 0
    assert found.is_exhaustive
    assert found.bound_by == ("sum", "sum")
    np.testing.assert_allclose(found.elasticities, -4.0, rtol=1e-6)


def test_better_neighbor_replaces_the_design():
    design = Plane(1.0, 2.0, 1.0)
    with jax.enable_x64(True):
        found = report_optimality(bowl, GRID, design, GRID.encode(design), ["sum"], seed=0)
    assert found.num_improvements == 2
    assert found.is_local_optimum
    assert GRID.decode_rounded(found.unit, design) == Plane(2.0, 2.0, 0.0)
    assert found.log_objective == pytest.approx(2.0)


def test_report_is_no_local_optimum_after_the_maximum_of_moves(monkeypatch):
    monkeypatch.setattr("hwdse.search.answers.optimality.MAX_MOVES", 1)
    design = Plane(1.0, 2.0, 1.0)
    with jax.enable_x64(True):
        found = report_optimality(bowl, GRID, design, GRID.encode(design), ["sum"], seed=0)
    assert found.num_improvements == 1
    assert not found.is_local_optimum
    assert found.log_objective > 2.0 + 1e-9


@pytest.mark.parametrize(
    ("objective_fn", "field"),
    [(bumpy, "num_nonconvex_segments"), (upside_down, "num_bound_violations")],
)
def test_bound_checks_fail_if_one_check_fails(objective_fn, field):
    with jax.enable_x64(True):
        found = report_optimality(objective_fn, GRID, PLANE, GRID.encode(PLANE), [], seed=0)
    assert not found.passed_bound_checks
    assert getattr(found, field) > 0


def test_range_ends_and_steps_are_binding_constraints():
    space = SearchSpace(
        (Dimension("x", 1.0, 96.0, "log", 1.0), Dimension("y", 1.0, 400.0, "log", 1.0))
    )
    design = Plane(96.0, 250.0, 0.0)
    with jax.enable_x64(True):
        found = report_optimality(folds, space, design, space.encode(design), [], seed=0)
    assert found.bound_by == ("upper range end", "step size")


def test_quantization_loss_by_source_in_closed_form():
    space = SearchSpace((Dimension("y", 130.0, 400.0, "linear", 1.0),))
    design = Plane(96.0, 130.0, 0.0)
    with jax.enable_x64(True):
        quantization_loss = report_optimality(
            folds, space, design, np.zeros(1), [], seed=0
        ).quantization_loss
    assert quantization_loss["rows"] == pytest.approx(math.log(11.0 * 96.0 / 1000.0))
    assert quantization_loss["cols"] == pytest.approx(math.log(4.0 * 130.0 / 500.0))
    assert quantization_loss["arrays"] == quantization_loss["tiles"] == 0.0
    assert quantization_loss["all"] == pytest.approx(
        quantization_loss["rows"] + quantization_loss["cols"]
    )


def test_neighbors_are_distinct_rounded_and_exclude_the_point():
    unit = GRID.encode(Plane(1.0, 5.0, 1.0))
    points, is_exhaustive = neighbors(GRID, unit, reach=2, max_neighbors=100, seed=0)
    assert is_exhaustive
    assert len(points) == 3 * 5 - 1 + 2  # x is at its lower end; two other alternatives
    np.testing.assert_allclose(GRID.snap_points(points), points, atol=1e-12)
    assert len(np.unique(points, axis=0)) == len(points)
    assert not (points == GRID.snap_points(unit[None])[0]).all(axis=1).any()
    some, is_exhaustive = neighbors(GRID, unit, reach=9, max_neighbors=40, seed=0)
    assert not is_exhaustive
    assert len(some) <= 40
    np.testing.assert_array_equal(some, neighbors(GRID, unit, reach=9, max_neighbors=40, seed=0)[0])


def test_no_step_leaves_a_range():
    unit = GRID.encode(Plane(1.0, 5.0, 0.0))
    assert step_toward(GRID, unit, 0, -1.0) is None
    up = step_toward(GRID, unit, 0, 1.0)
    assert up is not None
    assert GRID.decode_rounded(up, PLANE).x == 2.0


def test_optimality_report_is_deterministic_for_a_seed():
    design = Plane(2.0, 2.0, 0.0)
    with jax.enable_x64(True):
        first, second = (
            report_optimality(bowl, GRID, design, GRID.encode(design), ["sum"], seed=3)
            for _ in range(2)
        )
    assert first.log_bound == second.log_bound
    np.testing.assert_array_equal(first.multipliers, second.multipliers)


def test_continuous_relaxation_has_exact_maxima():
    from hwdse.numerics.relaxation import maximum

    assert float(maximum(jnp.asarray(2.0), jnp.asarray(3.0), RELAXED)) == 3.0


WIDE = SearchSpace(
    (Dimension("x", 1.0, 96.0, "log", 1.0), Dimension("y", 1.0, 400.0, "log", 1.0)), GRID.choices
)
LEAST = fixed_report_evaluations(WIDE)


@pytest.mark.parametrize("max_evaluations", [LEAST, LEAST + 1, LEAST + 7, 40, 100, 400, 3000])
def test_a_report_needs_no_more_than_its_budget(max_evaluations):
    design = Plane(20.0, 100.0, 1.0)
    with jax.enable_x64(True):
        found = report_optimality(
            bowl, WIDE, design, WIDE.encode(design), ["sum"], seed=0, reach=3,
            max_evaluations=max_evaluations,
        )  # fmt: skip
    assert LEAST <= found.num_evaluations <= max_evaluations
    assert len(found.bound_by) == 2
    assert set(found.quantization_loss) == {"all", *ROUNDING_SOURCES}
    if not found.is_bound_complete:
        assert not found.passed_bound_checks


def test_a_large_budget_changes_nothing():
    design = Plane(20.0, 100.0, 1.0)
    with jax.enable_x64(True):
        whole = report_optimality(bowl, WIDE, design, WIDE.encode(design), ["sum"], seed=0)
        again = report_optimality(
            bowl, WIDE, design, WIDE.encode(design), ["sum"], seed=0,
            max_evaluations=50 * whole.num_evaluations,
        )  # fmt: skip
    assert again.num_evaluations == whole.num_evaluations
    assert again.log_bound == whole.log_bound


def test_too_small_a_budget_is_refused():
    with pytest.raises(ValueError, match=f"at least {LEAST}"), jax.enable_x64(True):
        report_optimality(
            bowl, WIDE, PLANE, WIDE.encode(PLANE), ["sum"], seed=0, max_evaluations=LEAST - 1
        )


def test_a_bound_without_feasible_relaxed_designs_is_unknown_with_its_violation():
    def out_of_reach(plane, relaxation):
        return bowl(plane, relaxation)[0], jnp.log(plane.x / 0.5)[None]

    design = Plane(1.0, 2.0, 0.0)
    with jax.enable_x64(True):
        found = report_optimality(out_of_reach, GRID, design, GRID.encode(design), ["x"], seed=0)
    assert found.log_bound == -np.inf
    assert found.largest_violation == pytest.approx(math.log(2.0), abs=1e-3)
    assert not found.passed_bound_checks


def test_once_the_time_is_up_no_stage_begins():
    design = Plane(1.0, 2.0, 1.0)
    with jax.enable_x64(True):
        found = report_optimality(
            bowl, GRID, design, GRID.encode(design), ["sum"], seed=0, should_stop=lambda: True
        )
    assert found.num_improvements == 1  # the neighbors of the first design are known
    assert not found.is_local_optimum
    assert found.log_objective < 6.0
    assert math.isnan(found.largest_violation)
    assert found.num_checked == found.num_segments == 0
    assert found.log_bound == -np.inf
    assert np.isfinite(found.elasticities).all()
