"""Surrogate search: evaluated points, end of the search, and its optimum."""

import numpy as np
import pytest

from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace, Variant
from hwdse.search.surrogate.surrogate_search import EvaluatedSet, SurrogateSearch

SPACE = SearchSpace(
    (
        *(Dimension(name, 1.0, 64.0, "log", 1.0) for name in "abcd"),
        *(Dimension(name, 1.0, 64.0, "log", None) for name in "ef"),
    ),
    (Choice("layout", ("tp",), ((1.0,), (2.0,), (4.0,), (8.0,)), ("1", "2", "4", "8")),),
    (Variant("flow", ("ws", "os")),),
)
PENALTIES = np.array([5.0])


def evaluate(units, variants):
    """Minimum in the second variant, near the third alternative. The sum of the coordinates is
    limited, and every step of the stepped values adds a small ruggedness."""
    optimum = np.array([0.2, 0.4, 0.6, 0.3, 0.5, 0.7])
    counts = np.exp(units[:, :4] * np.log(64.0)).round()
    logs = 3.0 * np.sum((units[:, :6] - optimum) ** 2, axis=1) + 0.02 * np.sum(counts % 3, axis=1)
    logs = logs + 0.4 * np.abs(units[:, 6] - 0.625) + 0.3 * (variants == 0)
    return EvaluatedPoints(units, logs, (units[:, :6].sum(axis=1) - 2.5)[:, None])


def first_points(num, seed=0):
    generator = np.random.default_rng(seed)
    units = SPACE.snap_points(generator.random((num, SPACE.num_dims)))
    variants = np.zeros(num, int)  # no point in the better variant
    return EvaluatedSet(evaluate(units, variants), variants)


def surrogate_search(known, **changes):
    options = {"penalties": PENALTIES, "num_moves": 12, "seed": 3} | changes
    return SurrogateSearch(evaluate, SPACE, known, **options)


def test_surrogate_search_finds_the_best_variant_and_a_design_at_the_limit():
    known = first_points(60)
    found = surrogate_search(known).run(30)
    best = found.rows.best_index()
    assert found.variants[best] == 1
    assert found.rows.is_feasible[best]
    assert (
        found.rows.constraint_values[best, 0] > -0.05
    )  # the unconstrained optimum violates the limit
    # 4,000 random designs of the better variant are clearly worse.
    random = SPACE.snap_points(np.random.default_rng(1).random((4000, SPACE.num_dims)))
    chance = evaluate(random, np.ones(4000, int))
    assert found.rows.sort_key()[1] < chance.sort_key()[1] - 0.02


@pytest.mark.parametrize("num_rounds", [0, 1, 7])
def test_no_design_is_evaluated_twice_and_rounds_are_counted(num_rounds):
    known, calls = first_points(40), []

    def watched(units, variants):
        calls.append(len(units))
        return evaluate(units, variants)

    run = SurrogateSearch(watched, SPACE, known, penalties=PENALTIES, num_moves=9, seed=0)
    found = run.run(num_rounds)
    assert len(calls) == num_rounds
    assert sum(calls) == 9 * num_rounds == len(found) - 40
    assert len(found.keys()) == len(found)
    np.testing.assert_array_equal(found.rows.units[40:], SPACE.snap_points(found.rows.units[40:]))


def test_surrogate_search_is_deterministic_for_a_seed():
    runs = [surrogate_search(first_points(40)).run(8).rows.units for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_surrogate_search_stops_before_the_next_round():
    found = surrogate_search(first_points(40), should_stop=lambda: True).run(8)
    assert len(found) == 40


@pytest.mark.parametrize("variants", [(), SPACE.variants])
def test_space_without_dimensions_is_enumerated(variants):
    def one_per_variant(units, variants):
        return EvaluatedPoints(units, 1.0 - variants, np.zeros((len(units), 1)))

    space = SearchSpace((), (), variants)
    known = EvaluatedSet(one_per_variant(np.zeros((1, 0)), np.zeros(1)), np.zeros(1, int))
    found = SurrogateSearch(
        one_per_variant, space, known, penalties=PENALTIES, num_moves=6, seed=0
    ).run(4)
    assert len(found) == space.num_variants
    assert found.rows.sort_key()[1] == 2.0 - space.num_variants


def test_surrogate_search_continues_without_finite_values():
    def hopeless(units, variants):
        rows = evaluate(units, variants)
        return EvaluatedPoints(units, np.full(len(units), np.inf), rows.constraint_values)

    known = first_points(20)
    lost = EvaluatedSet(hopeless(known.rows.units, known.variants), known.variants)
    found = SurrogateSearch(hopeless, SPACE, lost, penalties=PENALTIES, num_moves=6, seed=0).run(5)
    assert not found.rows.is_feasible.any()
    assert len(found) == 20 + 5 * 6
