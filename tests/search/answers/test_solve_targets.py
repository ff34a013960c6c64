"""Target solve: closed forms of monomials, targets met, conflicting targets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.numerics import struct
from hwdse.numerics.relaxation import maximum, num_tiles
from hwdse.search.answers.minimum_change import FreeParameter
from hwdse.search.answers.solve_targets import solve


@struct.dataclass
class Triple:
    a: object
    b: object
    c: object


BASE = Triple(2.0, 5.0, 0.5)
POWERS = np.array([-1.0, -0.25, 0.5])
WEIGHTS = np.array([1.0, 2.0, 0.8])
SAVING = 0.4
FREE = tuple(
    FreeParameter(name, getattr(BASE, name), 1e-3, 1e3, None, weight)
    for name, weight in zip("abc", WEIGHTS, strict=True)
)


def monomial(design, relaxation):
    """ln(f / (f_0 exp(-SAVING))) of f = a^-1 b^-1/4 c^1/2: a target of exp(-SAVING) f_0."""
    logs = [jnp.log(getattr(design, name) / getattr(BASE, name)) for name in "abc"]
    return (sum(p * x for p, x in zip(POWERS, logs, strict=True)) + SAVING)[None]


def bounded(design, relaxation):
    """A maximum of two times with upper bound 1, which requires more of both, and a sum with a
    budget."""
    time = maximum(8.0 / design.a, 20.0 / design.b, relaxation)
    return jnp.log(jnp.stack([time, (design.a + design.b) / 40.0]))


def tiled(design, relaxation):
    """Rounded-up tiles of 1000 by a, over b."""
    return jnp.log(num_tiles(jnp.asarray(1000.0), design.a, relaxation) / design.b / 60.0)[None]


def test_minimum_l2_norm_of_a_monomial_in_closed_form():
    with jax.enable_x64(True):
        found = solve(monomial, BASE, FREE)
    ratio = POWERS / WEIGHTS**2
    np.testing.assert_allclose(found.changes, -SAVING * ratio / (POWERS @ ratio), atol=1e-5)
    norm = math.sqrt(POWERS @ ratio)
    assert found.is_feasible
    assert found.size == pytest.approx(SAVING / norm, rel=1e-5)
    assert found.relaxed.multipliers[0] == pytest.approx(1.0 / norm, rel=1e-5)


def test_minimum_l1_norm_changes_only_the_cheapest_parameter():
    with jax.enable_x64(True):
        found = solve(monomial, BASE, FREE, norm="l1")
    cost = WEIGHTS / np.abs(POWERS)
    cheapest = int(np.argmin(cost))
    expected = np.where(np.arange(3) == cheapest, -SAVING / POWERS, 0.0)
    np.testing.assert_allclose(found.changes, expected, atol=1e-4)
    assert found.size == pytest.approx(SAVING * cost[cheapest], rel=1e-4)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_minimum_change_where_two_arguments_of_a_maximum_are_equal(norm):
    with jax.enable_x64(True):
        found = solve(bounded, BASE, FREE[:2], norm=norm)
    assert found.is_feasible
    np.testing.assert_allclose(found.values, (8.0, 20.0), rtol=1e-3)
    assert np.abs(found.relaxed.constraint_values[0]) < 1e-6
    assert found.relaxed.multipliers[1] == 0.0


def test_multiplier_is_the_marginal_change_of_a_stricter_target():
    def with_stricter_target(more):
        def targets(design, relaxation):
            time = 8.0 / design.a + 20.0 / design.b
            return (jnp.log(time) + more)[None]

        with jax.enable_x64(True):
            return solve(targets, BASE, FREE[:2])

    base, more = with_stricter_target(0.0), with_stricter_target(0.01)
    price = (more.relaxed.size - base.relaxed.size) / 0.01
    assert base.relaxed.multipliers[0] == pytest.approx(price, rel=0.01)


def test_rounded_values_are_steps_near_the_relaxed_ones_and_meet_the_target():
    free = (FreeParameter("a", 2.0, 1.0, 64.0, 1.0), FreeParameter("b", 5.0, 0.1, 100.0, 0.5))
    with jax.enable_x64(True):
        found = solve(tiled, BASE, free)
    a, b = found.values
    assert a % 1.0 == 0.0
    assert b % 0.5 == 0.0
    assert math.ceil(1000.0 / a) / b <= 60.0
    assert found.constraint_values[0] <= 0.0
    assert abs(found.relaxed.constraint_values[0]) < 1e-6
    # Brute force: no pair of steps has a smaller change.
    sizes = {
        (i, j / 2): math.hypot(math.log(i / 2.0), math.log(j / 2 / 5.0))
        for i in range(1, 65)
        for j in range(1, 201)
        if math.ceil(1000.0 / i) / (j / 2) <= 60.0
    }
    assert found.size == pytest.approx(min(sizes.values()), rel=1e-9)


def test_targets_already_met_change_nothing():
    with jax.enable_x64(True):
        found = solve(lambda d, r: jnp.log(d.a / 10.0)[None], BASE, FREE)
    assert found.is_feasible
    assert found.size == 0.0
    assert found.design == BASE
    assert found.relaxed.multipliers[0] == 0.0


def test_infeasible_target_reports_its_violation():
    free = (FreeParameter("a", 2.0, 1.0, 4.0), FreeParameter("b", 5.0, 1.0, 10.0))
    with jax.enable_x64(True):
        found = solve(lambda d, r: jnp.log(jnp.stack([16.0 / d.a, d.b / 20.0])), BASE, free)
    assert not found.is_feasible
    assert found.constraint_values[0] == pytest.approx(math.log(4.0), rel=1e-6)
    assert found.constraint_values[1] < 0.0


def test_conflicting_targets_share_the_multiplier():
    free = (FreeParameter("a", 2.0, 0.1, 40.0),)
    with jax.enable_x64(True):
        found = solve(lambda d, r: jnp.log(jnp.stack([4.0 / d.a, d.a / 2.0])), BASE, free)
    assert not found.is_feasible
    np.testing.assert_allclose(found.relaxed.constraint_values, 0.5 * math.log(2.0), atol=1e-6)
    np.testing.assert_allclose(found.relaxed.multipliers, 0.5, atol=1e-3)


def test_target_solve_is_deterministic_for_a_seed():
    with jax.enable_x64(True):
        first, second = (solve(bounded, BASE, FREE[:2], seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.relaxed.multipliers, second.relaxed.multipliers)


@pytest.mark.parametrize(
    ("bad", "named"), [({"base": 0.0}, "a"), ({"weight": 0.0}, "a"), ({"low": 3.0}, "a")]
)
def test_free_parameters_require_a_positive_base_inside_their_range(bad, named):
    fields = {"path": "a", "base": 2.0, "low": 1.0, "high": 4.0, **bad}
    with pytest.raises(ValueError, match=named):
        FreeParameter(**fields)
