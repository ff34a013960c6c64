"""Kept designs of a sweep are independent of chunks, their order and their workers."""

import itertools

import jax
import numpy as np
import pytest
from support.search_toys import TOY_8, TOY_BASE, three_objectives_8

from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.search.space.point_sequences import host_points
from hwdse.search.sweeps.chunked_sweep import (
    ChunkRunner,
    merge_chunk,
    plan_list,
    plan_sweep,
    sweep,
    sweep_chunks,
)

NUM_POINTS = 10_000
TOP = 300


def with_metrics(design):
    log_objectives, constraint_values = three_objectives_8(design)
    return log_objectives, constraint_values, log_objectives[:1] * 2.0


def plan_of(**changes):
    options = {"num_points": NUM_POINTS, "chunk_points": 2048, "seed": 3, **changes}
    return plan_sweep(TOY_8, **options)


@pytest.fixture(scope="module")
def everything():
    plan = plan_of()
    units = TOY_8.snap_points(host_points(plan.sequence, np.arange(NUM_POINTS)))
    with jax.enable_x64(True):
        both = jax.jit(jax.vmap(lambda u: three_objectives_8(TOY_8.decode_rounded(u, TOY_BASE))))(
            units
        )
    return tuple(np.asarray(part) for part in both)


def merged(chunks, top=0):
    result = None
    for chunk in chunks:
        result = merge_chunk(result, chunk, top=top)
    assert result is not None
    return result


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in first.__dataclass_fields__
    )


def test_chunk_result_does_not_depend_on_other_chunks():
    plan = plan_of()
    in_order = list(sweep_chunks(ChunkRunner(three_objectives_8, plan, TOY_BASE), plan))
    for chunk in in_order[::-2]:
        alone = ChunkRunner(three_objectives_8, plan, TOY_BASE).run(chunk.index)
        assert same(alone.front, chunk.front)
        assert same(alone.least_violated, chunk.least_violated)
        for name in ("num_points", "num_feasible", "num_not_finite", "num_reclassified"):
            assert getattr(alone, name) == getattr(chunk, name)


@pytest.mark.parametrize("num_shards", [2, 3, 7])
def test_merged_shards_equal_the_whole_sweep_in_any_order(num_shards):
    plan = plan_of(chunk_points=1024)
    shares = [plan.shard(number, num_shards) for number in range(1, num_shards + 1)]
    assert sorted(itertools.chain(*shares)) == list(range(plan.num_chunks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    runner = ChunkRunner(three_objectives_8, plan, TOY_BASE)
    whole = merged(sweep_chunks(runner, plan))
    parts = [chunk for share in shares[::-1] for chunk in sweep_chunks(runner, plan, only=share)]
    again = merged(parts)
    assert same(again.front, whole.front)
    assert same(again.least_violated, whole.least_violated)
    assert (again.num_feasible, again.num_reclassified) == (
        whole.num_feasible, whole.num_reclassified
    )  # fmt: skip


@pytest.mark.parametrize("screen", ["float32", "float64"])
@pytest.mark.parametrize("chunk_points", [512, 4096])
def test_kept_top_designs_are_the_best_of_all_points(everything, screen, chunk_points):
    log_objectives, constraint_values = everything
    feasible = np.flatnonzero((constraint_values <= 0.0).all(axis=1))
    order = feasible[np.lexsort((feasible, log_objectives[feasible, 0]))][:TOP]
    plan = plan_of(chunk_points=chunk_points)
    result = sweep(three_objectives_8, plan, TOY_BASE, screen=screen, keep="top", top=TOP)
    np.testing.assert_allclose(result.top.log_objectives, log_objectives[order], rtol=1e-12)
    assert set(result.top.sequence_indices) == set(order)
    front = feasible[non_dominated_mask(log_objectives[feasible])]
    assert set(result.front.sequence_indices) == set(front)
    assert result.num_feasible == len(feasible)


def test_keep_all_keeps_every_point_with_its_metrics(everything):
    log_objectives, constraint_values = everything
    plan = plan_of(num_points=3000)
    runner = ChunkRunner(
        three_objectives_8, plan, TOY_BASE, keep="all", evaluate_with_metrics=with_metrics
    )
    chunks = list(sweep_chunks(runner, plan))
    rows = chunks[0].rows.joined(chunks[1].rows)
    np.testing.assert_array_equal(rows.sequence_indices, np.arange(3000))
    np.testing.assert_allclose(rows.log_objectives, log_objectives[:3000], rtol=1e-12)
    np.testing.assert_allclose(
        rows.constraint_values, constraint_values[:3000], rtol=1e-9, atol=1e-11
    )
    np.testing.assert_array_equal(rows.metrics[:, 0], 2.0 * rows.log_objectives[:, 0])
    only_front = sweep(three_objectives_8, plan, TOY_BASE)
    result = merged(chunks)
    assert set(result.front.sequence_indices) == set(only_front.front.sequence_indices)
    assert result.num_feasible == only_front.num_feasible
    assert set(result.least_violated.sequence_indices) == set(
        only_front.least_violated.sequence_indices
    )


def test_list_is_evaluated_without_screening(everything):
    points = host_points(plan_of().sequence, np.arange(600))
    plan = plan_list(TOY_8, points, np.zeros(600, int), chunk_points=256)
    result = sweep(three_objectives_8, plan, TOY_BASE)
    log_objectives, constraint_values = (part[:600] for part in everything)
    feasible = np.flatnonzero((constraint_values <= 0.0).all(axis=1))
    assert set(result.front.sequence_indices) == set(
        feasible[non_dominated_mask(log_objectives[feasible])]
    )
    assert (result.num_points, result.num_feasible) == (600, len(feasible))


def test_kept_rows_do_not_grow_with_chunk_size():
    sizes = []
    for chunk_points in (1024, 8192):
        plan = plan_of(num_points=16_384, chunk_points=chunk_points)
        runner = ChunkRunner(three_objectives_8, plan, TOY_BASE, keep="top", top=50)
        sizes.append(max(len(chunk.front) + 50 for chunk in sweep_chunks(runner, plan)))
    assert sizes[1] < 3.0 * sizes[0]


def test_unknown_keep_is_refused():
    with pytest.raises(ValueError, match="best"):
        ChunkRunner(three_objectives_8, plan_of(), TOY_BASE, keep="best")
