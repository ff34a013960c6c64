"""Minimum and maximum with slopes that add up to 1 at ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.numerics.ties import larger, smaller

NUMBERS = st.floats(-1e12, 1e12, allow_subnormal=False)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@given(NUMBERS, NUMBERS)
def test_values_are_those_of_minimum_and_maximum(a, b):
    assert smaller(a, b) == min(a, b)
    assert larger(a, b) == max(a, b)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_slopes_add_up_to_one(a, b):
    for function in (smaller, larger):
        slopes = jax.grad(function, argnums=(0, 1))(a, b)
        assert sum(map(float, slopes)) == 1.0
        if abs(a - b) > 1e-9 * max(a, b):
            of_first, _ = slopes
            assert float(of_first) == float(function(a, b) == a)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
def test_values_that_differ_by_rounding_share_the_slope(dtype, ulps):
    a = jnp.asarray(0.1, dtype)
    b = a * jnp.asarray(1.0 + ulps * float(np.finfo(dtype).eps), dtype)
    for function in (smaller, larger):
        np.testing.assert_array_equal(jax.grad(function, argnums=(0, 1))(a, b), 0.5)


def test_an_unreachable_time_has_no_slope():
    assert jax.grad(smaller, argnums=(0, 1))(2.0, np.inf) == (1.0, 0.0)
    assert jax.grad(smaller, argnums=(0, 1))(np.inf, 2.0) == (0.0, 1.0)
