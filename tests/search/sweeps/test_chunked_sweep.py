"""Sweeps: fronts of all points, screening, resumption, grids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.search_toys import TOY_8, TOY_BASE, three_objectives_8

from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.search.pareto.pareto_archive import dominated_by, merge, pruning_points
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace
from hwdse.search.sweeps.chunked_sweep import (
    ChunkRunner,
    merge_chunk,
    plan_sweep,
    sweep,
    sweep_chunks,
)

NUM_POINTS = 20_000


def impossible(chip):
    log_objectives, constraint_values = three_objectives_8(chip)
    return log_objectives, constraint_values + 20.0


def sometimes_nan(chip):
    log_objectives, constraint_values = three_objectives_8(chip)
    return jnp.where(chip.rows > 256.0, jnp.nan, 1.0) * log_objectives, constraint_values


def plan_of(**changes):
    return plan_sweep(
        **{"space": TOY_8, "num_points": NUM_POINTS, "chunk_points": 4096, "seed": 7, **changes}
    )


@pytest.fixture(scope="module")
def everything():
    """Objectives and constraint values of all points, evaluated as one float64 batch."""
    plan = plan_of(chunk_points=1 << 15)
    units = TOY_8.snap_points(host_points(plan.sequence, np.arange(NUM_POINTS)))
    with jax.enable_x64(True):
        both = jax.jit(jax.vmap(lambda u: three_objectives_8(TOY_8.decode_rounded(u, TOY_BASE))))(
            units
        )
    return tuple(np.asarray(part) for part in both)


@pytest.fixture(scope="module")
def result():
    return sweep(three_objectives_8, plan_of(), TOY_BASE, screen="float64")


def test_sweep_front_equals_the_front_of_all_points(result, everything):
    log_objectives, constraint_values = everything
    feasible = (constraint_values <= 0.0).all(axis=1)
    expected = log_objectives[feasible][non_dominated_mask(log_objectives[feasible])]
    np.testing.assert_allclose(
        np.sort(result.front.log_objectives, axis=0), np.sort(expected, axis=0)
    )
    assert result.num_feasible == feasible.sum()
    assert result.num_points == NUM_POINTS
    assert result.num_reclassified == result.num_not_finite == 0
    assert non_dominated_mask(result.front.log_objectives).all()


def test_front_members_are_feasible_rounded_and_reproducible(result):
    front = result.front
    assert front.is_feasible.all()
    np.testing.assert_array_equal(TOY_8.snap_points(front.units), front.units)
    with jax.enable_x64(True):
        again, _ = jax.vmap(lambda u: three_objectives_8(TOY_8.decode_rounded(u, TOY_BASE)))(
            front.units
        )
    np.testing.assert_allclose(again, front.log_objectives, rtol=1e-12)


@pytest.mark.parametrize("chunk_points", [1024, 1 << 15])
def test_sweep_does_not_depend_on_chunk_size(result, chunk_points):
    other = sweep(
        three_objectives_8, plan_of(chunk_points=chunk_points), TOY_BASE, screen="float64"
    )
    order, other_order = (
        np.lexsort(result.front.log_objectives.T),
        np.lexsort(other.front.log_objectives.T),
    )
    for name in ("log_objectives", "units", "sequence_indices"):
        np.testing.assert_array_equal(
            getattr(result.front, name)[order], getattr(other.front, name)[other_order]
        )
    assert other.num_feasible == result.num_feasible


def test_float32_screening_gives_the_same_front(result):
    single = sweep(three_objectives_8, plan_of(), TOY_BASE, screen="float32")
    assert set(single.front.sequence_indices) == set(result.front.sequence_indices)
    assert single.num_feasible == result.num_feasible


def test_resumed_sweep_gives_the_same_result(result):
    chunks = sweep_chunks(
        ChunkRunner(three_objectives_8, plan_of(), TOY_BASE, screen="float64"), plan_of()
    )
    half = merge_chunk(merge_chunk(None, next(chunks)), next(chunks))
    seen = []
    whole = sweep(
        three_objectives_8,
        plan_of(),
        TOY_BASE,
        screen="float64",
        so_far=half,
        on_chunk=lambda chunk, _: seen.append(chunk.index),
    )
    assert seen == [2, 3, 4]
    assert set(whole.front.sequence_indices) == set(result.front.sequence_indices)
    assert whole.num_feasible == result.num_feasible
    assert whole.done == frozenset(range(5))


def test_sweep_does_not_depend_on_chunk_order(result):
    runner = ChunkRunner(three_objectives_8, plan_of(), TOY_BASE, screen="float64")
    chunks = list(sweep_chunks(runner, plan_of()))
    backwards = None
    for chunk in reversed(chunks):
        backwards = merge_chunk(backwards, chunk)
    assert backwards is not None
    assert set(backwards.front.sequence_indices) == set(result.front.sequence_indices)
    # Stored rows do not grow with the points: few rows per chunk.
    assert max(len(chunk.front) for chunk in chunks) < 0.2 * 4096


def test_front_contains_the_best_design_of_each_objective(result, everything):
    log_objectives, constraint_values = everything
    feasible = (constraint_values <= 0.0).all(axis=1)
    for objective in range(3):
        best = result.best(objective)
        assert best.log_objectives[0, objective] == pytest.approx(
            log_objectives[feasible, objective].min()
        )


@pytest.mark.parametrize("screen", ["float32", "float64"])
def test_sweep_without_a_feasible_point_keeps_the_least_violated(screen, everything):
    plan = plan_of(num_points=8192)
    result = sweep(impossible, plan, TOY_BASE, screen=screen)
    assert result.num_feasible == len(result.front) == 0
    least = (everything[1][:8192] + 20.0).max(axis=1).min()
    assert result.least_violated.constraint_values.max() == pytest.approx(least, rel=1e-6)


def test_non_finite_points_are_counted_and_excluded():
    result = sweep(sometimes_nan, plan_of(num_points=4096), TOY_BASE)
    assert 500 < result.num_not_finite < 2000
    assert np.isfinite(result.front.log_objectives).all()
    assert len(result.front)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_grid_and_random_sweeps_have_non_dominated_fronts(method):
    plan = plan_of(method=method, num_points=10_000)
    result = sweep(three_objectives_8, plan, TOY_BASE)
    assert result.num_points == plan.num_points <= 10_000
    assert plan.num_points > 3000
    assert non_dominated_mask(result.front.log_objectives).all()


def test_sweep_covers_choices():
    sides = Choice("sides", ("rows", "cols"), ((128.0, 64.0), (64.0, 128.0)), ("tall", "wide"))
    space = SearchSpace((Dimension("clock_ghz", 0.6, 2.4, "linear", 0.1),), (sides,))
    plan = plan_of(space=space, method="grid", num_points=1000)
    assert plan.num_points == 2 * 19
    result = sweep(three_objectives_8, plan, TOY_BASE)
    assert set(result.front.units[:, 1]) <= {0.25, 0.75}


def test_impossible_grids_are_refused():
    sides = Choice("sides", ("rows",), tuple((32.0 * n,) for n in range(1, 9)), tuple("abcdefgh"))
    space = SearchSpace((Dimension("clock_ghz", 0.6, 2.4, "linear", 0.1),), (sides,))
    assert plan_of(space=space, method="grid", num_points=8).num_points == 8
    with pytest.raises(ValueError, match="at least 8 points"):
        plan_of(space=space, method="grid", num_points=7)
    wide = SearchSpace(tuple(Dimension(name, 1.0, 64.0, "log", None) for name in "abcdef"), ())
    assert plan_of(space=wide, method="grid", num_points=1 << 32).num_points <= 1 << 32
    with pytest.raises(ValueError, match="at most 2\\^32"):
        plan_of(space=wide, method="grid", num_points=10**10)


def test_shards_of_very_many_chunks_are_ranges():
    share = plan_of(num_points=10**15, chunk_points=1 << 17).shard(3, 1000)
    assert (share[0], share[1] - share[0]) == (2, 1000)
    assert len(share) == pytest.approx(10**15 / 2**17 / 1000, abs=1.0)


def test_plan_visits_every_point_once():
    plan = plan_of(num_points=10_001, chunk_points=1000)
    assert plan.chunk_points == 1024
    spans = [plan.chunk(index) for index in range(plan.num_chunks)]
    indices = np.concatenate([np.arange(start, start + count) for _, start, count in spans])
    np.testing.assert_array_equal(indices, np.arange(10_001))


def test_pruning_points_are_front_members_and_dominate_most_points():
    log_objectives = np.random.default_rng(0).random((5000, 3))
    front = log_objectives[non_dominated_mask(log_objectives)]
    points = pruning_points(front)
    finite = points[np.isfinite(points).all(axis=1)]
    assert {tuple(row) for row in finite} <= {tuple(row) for row in front}
    is_dominated = dominated_by(log_objectives, points, 1e-12)
    assert is_dominated.mean() > 0.9
    assert not is_dominated[non_dominated_mask(log_objectives)].any()


def test_merge_of_a_front_with_itself_is_the_front(result):
    again = merge(result.front, result.front)
    np.testing.assert_array_equal(
        np.sort(again.sequence_indices), np.sort(result.front.sequence_indices)
    )
