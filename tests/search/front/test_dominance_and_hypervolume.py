"""Non-dominated sets and hypervolumes against brute force and moocore."""

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwdse.search.pareto.dominance_and_hypervolume import (
    hypervolume,
    merge_fronts,
    non_dominated_mask,
)

SMALL_COSTS = st.integers(1, 4).flatmap(
    lambda m: hnp.arrays(
        np.float64, st.tuples(st.integers(1, 25), st.just(m)), elements=st.integers(0, 5)
    )
)


def brute_force(log_objectives):
    no_worse = (log_objectives[:, None] <= log_objectives[None]).all(axis=2)
    better = (log_objectives[:, None] < log_objectives[None]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    equal_before = np.triu((log_objectives[:, None] == log_objectives[None]).all(axis=2), 1).any(
        axis=0
    )
    return ~dominated & ~equal_before


@given(SMALL_COSTS)
@settings(deadline=None)
def test_mask_agrees_with_the_definition_and_keeps_the_first_of_equals(log_objectives):
    np.testing.assert_array_equal(non_dominated_mask(log_objectives), brute_force(log_objectives))


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
@pytest.mark.parametrize("levels", [10, 10**9])
def test_mask_agrees_with_moocore(num_objectives, levels):
    log_objectives = np.random.default_rng(1).integers(0, levels, (20_000, num_objectives)) * 1.0
    expected = moocore.is_nondominated(log_objectives, keep_weakly=False)
    np.testing.assert_array_equal(non_dominated_mask(log_objectives), expected)


def test_nan_rows_are_never_kept():
    log_objectives = np.asarray([[np.nan, 0.0], [1.0, 1.0], [np.inf, 0.0]])
    assert non_dominated_mask(log_objectives).tolist() == [False, True, True]
    assert not non_dominated_mask(np.empty((0, 3))).any()


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
@pytest.mark.parametrize("kind", ["random", "sphere", "ties"])
def test_hypervolume_agrees_with_moocore(num_objectives, kind):
    rng = np.random.default_rng(2)
    log_objectives = rng.random((200, num_objectives)) * 1.2
    if kind == "sphere":
        log_objectives = 1.0 - log_objectives / np.linalg.norm(
            log_objectives, axis=1, keepdims=True
        )
    if kind == "ties":
        log_objectives = np.round(log_objectives * 5.0) / 5.0
    reference = np.ones(num_objectives)
    expected = moocore.hypervolume(log_objectives, ref=reference)
    assert hypervolume(log_objectives, reference) == pytest.approx(expected, rel=1e-10)


@given(SMALL_COSTS, st.integers(0, 5))
@settings(deadline=None)
def test_additional_point_never_lowers_the_hypervolume(log_objectives, value):
    reference = np.full(log_objectives.shape[1], 6.0)
    more = np.concatenate((log_objectives, np.full((1, log_objectives.shape[1]), float(value))))
    assert hypervolume(more, reference) >= hypervolume(log_objectives, reference) - 1e-9


def test_hypervolume_of_one_point_is_its_box_and_zero_outside():
    reference = np.asarray([2.0, 3.0, 4.0])
    assert hypervolume(np.asarray([[1.0, 1.0, 1.0]]), reference) == pytest.approx(6.0)
    assert hypervolume(np.asarray([[1.0, 3.0, 1.0]]), reference) == 0.0


def test_merged_fronts_equal_the_front_of_all_points():
    log_objectives = np.random.default_rng(3).random((3000, 3))
    parts = [part[non_dominated_mask(part)] for part in np.array_split(log_objectives, 7)]
    merged, indices = merge_fronts(*parts)
    np.testing.assert_array_equal(merged, np.concatenate(parts)[indices])
    whole = log_objectives[non_dominated_mask(log_objectives)]
    assert {tuple(row) for row in merged} == {tuple(row) for row in whole}
