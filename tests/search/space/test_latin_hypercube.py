"""Latin hypercubes: one point in each cell of each dimension, for every division into chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.search.space.latin_hypercube import latin_column, latin_words
from hwdse.search.space.point_sequences import chunk_words, host_points, shared_words, unit_rows
from hwdse.search.space.search_space import Dimension, SearchSpace, Variant
from hwdse.search.sweeps.sweep_plan import plan_sweep

SPACE = SearchSpace(tuple(Dimension(name, 1.0, 9.0, "linear", None) for name in "abc"))


def points_of(num_points, seed=0, space=SPACE):
    plan = plan_sweep(space, num_points=num_points, method="latin", seed=seed)
    return host_points(plan.sequence, np.arange(num_points))


def words_of(num_points, column):
    """Words of all points, compiled on the device."""
    numbers = jnp.arange(num_points, dtype=jnp.uint32)
    return jax.jit(lambda each: latin_words(each, column, jnp))(numbers)


@settings(deadline=None, max_examples=60)
@given(num_points=st.integers(1, 5000), seed=st.integers(0, 2**32 - 1))
def test_every_cell_of_every_dimension_contains_one_point(num_points, seed):
    cells = np.floor(points_of(num_points, seed) * num_points).astype(int)
    for column in cells.T:
        np.testing.assert_array_equal(np.sort(column), np.arange(num_points))


def test_cells_contain_their_point_up_to_coordinate_bits():
    num_points = (1 << 23) - 9
    column = latin_column(num_points, np.random.default_rng(0))
    words = np.asarray(words_of(num_points, column))
    cells = np.floor((words + 0.5) * (num_points / 2.0**23)).astype(int)
    assert np.bincount(cells, minlength=num_points).max() == 1


def test_coordinates_beyond_their_bits_are_evenly_distributed():
    num_points = 3 << 21  # 1.5 points per word of 23 bits
    column = latin_column(4 * num_points, np.random.default_rng(0))
    words = np.asarray(words_of(4 * num_points, column))
    assert np.all(np.bincount(words, minlength=1 << 23) == 3)


def test_dimensions_are_independent_and_positions_in_cells_uniform():
    points = points_of(4096)
    assert np.abs(np.corrcoef(points.T) - np.eye(3)).max() < 0.06
    assert np.abs(np.corrcoef(points[:-1, 0], points[1:, 0])[0, 1]) < 0.06
    inside = points * 4096 - np.floor(points * 4096)
    assert np.abs(inside.mean(axis=0) - 0.5).max() < 0.03
    assert np.abs(inside.std(axis=0) - 1.0 / np.sqrt(12.0)).max() < 0.02
    assert not np.array_equal(points, points_of(4096, seed=1))


@pytest.mark.parametrize("size", [64, 1024])
def test_chunks_are_parts_of_one_hypercube(size):
    plan = plan_sweep(SPACE, num_points=1000, method="latin", seed=5, chunk_points=size)
    shared = jnp.asarray(shared_words(plan.sequence, size))
    row_of = jax.jit(
        lambda shift: jnp.stack(unit_rows(plan.sequence, shared, shift, np.float32, jnp))
    )
    found = np.empty((1000, 3))
    for index in reversed(range(plan.num_chunks)):
        _, start, count = plan.chunk(index)
        rows = np.asarray(row_of(chunk_words(plan.sequence, start)))
        found[start : start + count] = rows.T[:count]
    np.testing.assert_array_equal(found, host_points(plan.sequence, np.arange(1000)))


def test_each_variant_has_a_complete_hypercube():
    space = SearchSpace(SPACE.dimensions, variants=(Variant("kind", ("x", "y", "z")),))
    plan = plan_sweep(space, num_points=100, method="latin")
    assert plan.variant_points == (33, 33, 33)
    assert plan.sequence.columns[0][0] == 33


def test_too_many_points_are_refused():
    with pytest.raises(ValueError, match="2147483648 points"):
        plan_sweep(SPACE, num_points=1 << 32, method="latin")
