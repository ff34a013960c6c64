"""Regret over bands around constants: hand-worked cases, laws, and the design of least regret."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.search.space.dimension import Dimension
from hwdse.search.space.search_space import Choice, SearchSpace
from hwdse.search.uncertainty.regret import Band, study_regret


@struct.dataclass
class Toy:
    """Design with an optimum at x = target, and a cost of its kind."""

    x: Leaf
    kind: Leaf = 0.0
    target: Leaf = 10.0
    price: Leaf = 1.0
    unused: Leaf = 3.0


SPACE = SearchSpace((Dimension("x", 1.0, 20.0, "linear", 1.0),))
TARGET, UNUSED = Band("target", 10.0, 5.0, 15.0), Band("unused", 3.0, 1.0, 5.0)


def quadratic(toy, relaxation):
    return 0.01 * (toy.x - toy.target) ** 2, jnp.zeros(0)


def limited(toy, relaxation):
    """Less is better, but x times price must be at least 10: ln(10 / (x price)) <= 0."""
    return jnp.log(toy.x), jnp.log(10.0 / (toy.x * toy.price))[None]


def study(objective, design, bands, num_limits=0, space=SPACE, **options):
    return study_regret(
        objective, space, design, bands, np.full(num_limits, 1.0), seed=0, **options
    )


def test_regret_of_a_quadratic_is_worked_by_hand():
    """At target 5 or 15 the design x = 10 has 0.01 * 25 = 0.25 of ln more than the best, x = 5
    or 15 with 0. The nominal design is the best one."""
    found = study(quadratic, Toy(10.0), [TARGET, UNUSED])
    assert found.nominal.regret == 0.0
    assert list(found.effects) == ["target"]  # nothing depends on the other
    assert found.effects["target"] == pytest.approx(0.25)
    assert [one.value for one in found.scenarios[1:]] == [5.0, 15.0]
    for scenario in found.scenarios[1:]:
        assert scenario.regret == pytest.approx(np.expm1(0.25))
        assert scenario.best_design.x == scenario.value
        assert scenario.best_design.target == 10.0  # the constants of designs are nominal
    assert found.num_bands == 2
    assert found.robust is None


def test_a_better_nominal_design_is_found():
    found = study(quadratic, Toy(7.0), [TARGET])
    assert found.nominal.best_design.x == 10.0
    assert found.nominal.regret == pytest.approx(np.expm1(0.09))


def test_the_middle_has_the_least_largest_regret():
    """Over targets 5, 10 (nominal) and 12, the largest distance is least at x = 8 or 9: 4."""
    band = Band("target", 10.0, 5.0, 12.0)
    found = study(quadratic, Toy(10.0), [band], finds_robust=True)
    assert found.robust.design.x in (8.0, 9.0)
    worst = max(one.regret for one in found.scenarios)
    assert np.max(found.robust.regrets) < worst
    assert found.robust.is_feasible


def test_limits_count_in_effects_and_regrets():
    """The price changes only the limit. Below its nominal value the design breaks it, and the
    design of least regret meets it everywhere: x = 20 at price 0.5."""
    band = Band("price", 1.0, 0.5, 2.0)
    found = study(limited, Toy(10.0), [band], num_limits=1, finds_robust=True)
    assert found.effects["price"] == pytest.approx(np.log(2.0))
    cheap, dear = found.scenarios[1:]
    assert np.isinf(cheap.regret)
    assert not cheap.is_feasible
    assert cheap.best_design.x == 20.0
    assert dear.regret == pytest.approx(1.0)  # x = 5 is enough
    assert found.robust.design.x == 20.0
    assert found.robust.regrets == pytest.approx([1.0, 0.0, 3.0])


def test_a_scenario_without_any_design_has_no_regret():
    band = Band("price", 1.0, 0.1, 1.0)  # x = 100 would be needed
    found = study(limited, Toy(10.0), [band], num_limits=1, finds_robust=True)
    (scenario,) = found.scenarios[1:]
    assert np.isnan(scenario.regret)
    assert scenario.best_design is None
    assert found.robust.design.x == 10.0  # of the others, here the nominal values only


def test_choices_are_searched_again():
    def objective(toy, relaxation):
        cost = jnp.where(toy.kind == 0.0, toy.price, 1.5)
        return jnp.log(cost) + 0.01 * (toy.x - 10.0) ** 2, jnp.zeros(0)

    kinds = Choice("kind", ("kind",), ((0.0,), (1.0,)), ("first", "second"))
    space = SearchSpace(SPACE.dimensions, (kinds,))
    found = study(objective, Toy(10.0), [Band("price", 1.0, 0.5, 3.0)], space=space)
    low, high = found.scenarios[1:]
    assert (low.best_design.kind, low.regret) == (0.0, 0.0)
    assert high.best_design.kind == 1.0
    assert high.regret == pytest.approx(1.0)


@settings(max_examples=8, deadline=None)
@given(low=st.floats(2.0, 9.5), high=st.floats(10.5, 19.0), x=st.integers(1, 20))
def test_regrets_are_not_negative_and_the_robust_design_is_no_worse(low, high, x):
    band = Band("target", 10.0, low, high)
    found = study(quadratic, Toy(float(x)), [band], finds_robust=True, num_rounds=10)
    regrets = [one.regret for one in found.scenarios]
    assert min(regrets) >= 0.0
    assert found.robust.regrets.max() <= max(regrets) + 1e-12
    assert found.robust.regrets.min() >= 0.0


def test_the_seed_decides_all():
    first, second = (study(quadratic, Toy(7.0), [TARGET], finds_robust=True) for _ in range(2))
    assert first.robust.design == second.robust.design
    assert [s.regret for s in first.scenarios] == [s.regret for s in second.scenarios]
