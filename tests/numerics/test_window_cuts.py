"""Smallest part of a cut window, against all boundaries one by one."""

import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.numerics.window_cuts import is_whole, smallest_cut_part

SIZES = st.integers(1, 64) | st.integers(1, 5000)


@jax.jit
def _smallest(window, block, total):
    return smallest_cut_part(window, block, total)


def smallest(window, block, total):
    return float(_smallest(*(jnp.asarray(float(x)) for x in (window, block, total))))


def counted(window, block, total):
    """Smallest part of all cut windows."""
    end = max(total // window, 1) * window
    parts = [(i * block % window, -i * block % window) for i in range(1, (end - 1) // block + 1)]
    return min((part for pair in parts for part in pair if part > 0), default=0)


@settings(max_examples=300, deadline=None)
@given(SIZES, SIZES, st.integers(1, 100_000))
def test_bounds_the_smallest_part_of_all_boundaries(window, block, total):
    found, expected = smallest(window, block, total), counted(window, block, total)
    assert (found > 0) == (expected > 0)
    assert found <= expected
    end = max(total // window, 1) * window
    if end <= 2 * block or end >= math.lcm(window, block):
        assert found == expected


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES)
def test_is_the_greatest_common_divisor_over_a_whole_period(window, block):
    expected = math.gcd(window, block) if block % window else 0
    assert smallest(window, block, math.lcm(window, block)) == expected


def test_by_hand():
    assert smallest(12, 8, 24) == 4  # 8 | 4 and 4 | 8
    assert smallest(8, 16, 1024) == 0  # two windows a block
    assert smallest(16, 8, 1024) == 8  # two blocks a window
    assert smallest(5, 8, 10) == 2  # one boundary: 3 | 2
    assert smallest(5, 8, 40) == 1  # four boundaries, among them 4 | 1
    assert smallest(5, 8, 8) == 0  # one block
    assert smallest(5, 2, 1) == 1  # less than a window counts as one


@pytest.mark.parametrize("size", [0.0, -3.0, 2.5, math.inf, math.nan, 1e12])
def test_sizes_that_are_not_whole_are_not_cut(size):
    assert not is_whole(size)
    assert smallest_cut_part(size, 8.0, 64.0) == 0.0
    assert smallest_cut_part(12.0, size, 64.0) == 0.0
    assert jnp.isfinite(smallest_cut_part(12.0, 8.0, size))


def test_batches_equal_single_values_and_gradients_are_zero():
    windows, blocks = jnp.array([3.0, 12.0, 16.0, 5.0]), jnp.array([4.0, 8.0])
    found = jax.vmap(lambda w: smallest_cut_part(w, blocks, 240.0))(windows)
    expected = [[counted(int(w), int(b), 240) for b in blocks] for w in windows]
    assert found.tolist() == expected
    assert jax.grad(lambda w: smallest_cut_part(w, 8.0, 240.0))(12.0) == 0.0
