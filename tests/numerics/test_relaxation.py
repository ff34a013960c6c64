"""Laws of rounding, maxima and `materialize`: exact and smooth, in both float types."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import (
    EXACT,
    IDENTITY_SIZE,
    SMALLEST,
    floor_ste,
    largest,
    materialize,
    maximum,
    num_tiles,
    positive_part,
    safe_log,
    smooth,
)

TEMPERATURES = (0.0, 0.3, 1.0)
POSITIVE = st.floats(1e-12, 1e12)


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param):
        yield jnp.float64 if request.param else jnp.float32


@pytest.mark.parametrize("compiled", [jax.jit, quick_jit])
def test_tiles_are_exact_for_every_divisor(dtype, compiled):
    extents = np.concatenate([np.arange(1, 1025), 2**20 + np.arange(0, 64), 2**22 - np.arange(64)])
    tiles = compiled(jax.vmap(num_tiles, (None, 0)))
    divisors = np.arange(1, 513)
    found = tiles(jnp.asarray(extents, dtype), jnp.asarray(divisors, dtype))
    assert np.array_equal(found, -(-extents[None, :] // divisors[:, None]))


@pytest.mark.parametrize("compiled", [jax.jit, quick_jit])
@pytest.mark.parametrize("divisor", [3, 7, 32, 41, 49, 128, 511])
def test_tiles_are_exact_for_a_constant_divisor(dtype, compiled, divisor):
    # A compiler may replace the constant by its reciprocal, which makes ceil(a / b) wrong.
    extents = np.arange(1, 513) * divisor
    found = compiled(lambda a: num_tiles(a, float(divisor)))(jnp.asarray(extents, dtype))
    assert np.array_equal(found, np.arange(1, 513))


def test_there_is_at_least_one_tile(dtype):
    assert num_tiles(jnp.asarray(0.0, dtype), 128.0) == 1.0
    assert num_tiles(jnp.asarray(0.0, dtype), 128.0, smooth(1.0)) == 1.0


def test_gradient_of_tiles_equals_that_of_the_quotient(dtype):
    slopes = jax.grad(num_tiles, (0, 1))(jnp.asarray(300.0, dtype), jnp.asarray(128.0, dtype))
    assert slopes == pytest.approx((1.0 / 128.0, -300.0 / 128.0**2), rel=1e-6)


@given(st.integers(1, 10**6), st.integers(1, 4096), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_smooth_tiles_are_between_quotient_and_exact(extent, tile, temperature):
    with jax.enable_x64(True):
        exact = float(num_tiles(float(extent), float(tile)))
        relaxed = max(extent / tile, 1.0)
        found = float(num_tiles(float(extent), float(tile), smooth(temperature)))
    assert relaxed - 1e-9 * relaxed <= found <= exact + 1e-9 * exact


def test_relaxation_at_both_ends(dtype):
    a, b = jnp.asarray(300.0, dtype), jnp.asarray(128.0, dtype)
    assert num_tiles(a, b, smooth(0.0)) == num_tiles(a, b, EXACT) == 3.0
    assert num_tiles(a, b, smooth(1.0)) == pytest.approx(300.0 / 128.0, rel=1e-6)


def test_annealing_does_not_recompile():
    traces = []

    @jax.jit
    def tiles(temperature):
        traces.append(1)
        return num_tiles(300.0, 128.0, smooth(temperature))

    for temperature in TEMPERATURES:
        tiles(temperature)
    assert len(traces) == 1


@given(POSITIVE, POSITIVE, st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_smooth_maximum_is_bounded(a, b, temperature):
    power = 2.0 + 30.0 * (1.0 - temperature)
    with jax.enable_x64(True):
        found = float(maximum(a, b, smooth(temperature)))
    assert max(a, b) <= found <= max(a, b) * 2.0 ** (1.0 / power) * (1.0 + 1e-9)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e15])
def test_smooth_maximum_is_scale_free_and_symmetric(dtype, temperature, scale):
    relaxation = smooth(temperature)
    a, b = jnp.asarray(2.0, dtype), jnp.asarray(3.0, dtype)
    found = maximum(a, b, relaxation)
    assert maximum(b, a, relaxation) == found
    assert maximum(scale * a, scale * b, relaxation) / scale == pytest.approx(
        float(found), rel=1e-5
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_of_smooth_maximum(temperature):
    with jax.enable_x64(True):
        check_grads(lambda a, b: maximum(a, b, smooth(temperature)), (2.0, 3.0), order=1)


@pytest.mark.parametrize(
    "pair", [(0.0, 0.0), (0.0, 1.0), (1e-25, 1e-25), (1e25, 1e25), (1.0, 1.0), (1e-20, 1e10)]
)
def test_gradients_of_maxima_are_finite_at_the_edges(dtype, pair):
    a, b = (jnp.asarray(x, dtype) for x in pair)
    for relaxation in (EXACT, *map(smooth, TEMPERATURES)):
        assert np.all(np.isfinite(jax.grad(maximum, (0, 1))(a, b, relaxation))), relaxation


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_largest_of_many_equals_nested_maxima(temperature):
    """Also with ties and zeros; one logarithm and one exponential for all of them."""
    relaxation = smooth(temperature)

    def one_by_one(values):
        return functools.reduce(lambda a, b: maximum(a, b, relaxation), values)

    def at_once(values):
        return largest(values, relaxation)

    with jax.enable_x64(True):
        columns = np.exp(np.random.default_rng(0).normal(0.0, 2.0, (5, 50)))
        columns[:, 0], columns[2:, 1] = (0.0, 1.0, 1.0, 0.5, 0.0), columns[1, 1]
        values = tuple(jnp.asarray(columns))
        np.testing.assert_allclose(at_once(values), one_by_one(values), rtol=1e-11)
        assert np.array_equal(largest(values), np.max(columns, axis=0))
        slopes = jax.grad(lambda values: jnp.sum(at_once(values)))(values)
        assert np.all(np.isfinite(slopes))
        # A p-norm is homogeneous: Euler's theorem.
        np.testing.assert_allclose(np.sum(slopes * columns, axis=0), at_once(values), rtol=1e-9)
        assert str(jax.make_jaxpr(at_once)(values)).count("log1p") == 1


def plain_norm(values, temperature):
    """The formula of `largest`, without rules for its derivative."""
    ordered = jnp.sort(jnp.stack(values))
    power = 2.0 + 30.0 * (1.0 - temperature)
    ratios = jnp.maximum(ordered[:-1] / jnp.where(ordered[-1] > 1e-18, ordered[-1], 1.0), 1e-6)
    return ordered[-1] * jnp.exp(jnp.log1p(jnp.sum(ratios**power)) / power)


@jax.jit
def norms_and_slopes(point, temperature):
    """Value, gradient and Hessian of `largest` and of the plain formula."""

    def all_of(norm):
        return norm(point), jax.grad(norm)(point), jax.hessian(norm)(point)

    return (
        all_of(lambda x: largest(list(x), smooth(temperature))),
        all_of(lambda x: plain_norm(list(x), temperature)),
    )


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-9, 1e9), min_size=3, max_size=3, unique=True),
    st.sampled_from(TEMPERATURES),
)
def test_slopes_of_the_norm_are_those_of_its_formula(values, temperature):
    """Slopes are also homogeneous: their sum times the values is the norm."""
    with jax.enable_x64(True):
        point = jnp.asarray(values)
        found, want = norms_and_slopes(point, temperature)
        for one, other in zip(found, want, strict=True):
            scale = float(jnp.max(jnp.abs(other)))
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11 * scale)
        assert float(found[1] @ point) == pytest.approx(float(found[0]), rel=1e-9)


def test_slopes_of_the_norm_are_finite_at_zero(dtype):
    for values in ([0.0, 0.0, 0.0], [0.0, 1.0], [1.0, 1.0, 1.0], [1e-30, 1e-30]):
        for temperature in TEMPERATURES:
            slopes = jax.grad(lambda x, t=temperature: largest(list(x), smooth(t)))(
                jnp.asarray(values, dtype)
            )
            assert np.all(np.isfinite(slopes)), (values, temperature)


def test_exact_maximum_equals_the_maximum():
    assert maximum(2.0, 3.0) == maximum(3.0, 2.0) == 3.0


def test_floor_is_exact_with_a_slope_of_one(dtype):
    x = jnp.asarray(2.75, dtype)
    assert floor_ste(x) == 2.0
    assert jax.grad(floor_ste)(x) == 1.0


def test_positive_part_and_guarded_logarithm(dtype):
    assert positive_part(-3.0) == 0.0
    assert positive_part(3.0) == 3.0
    assert safe_log(jnp.e) == pytest.approx(1.0, rel=1e-6)
    assert safe_log(jnp.asarray(0.0, dtype)) == pytest.approx(np.log(SMALLEST), rel=1e-6)
    assert np.isfinite(jax.grad(safe_log)(jnp.asarray(0.0, dtype)))


def test_materialize_is_the_identity_with_its_gradient(dtype):
    rows = {
        "small": jnp.asarray([1e-7, 0.1, 1.0 / 3.0], dtype),
        "large": jnp.asarray([16777217.0, 1e15, 1e30], dtype),
    }
    same = jax.jit(materialize)(rows)
    assert all(np.array_equal(same[name], rows[name]) for name in rows)
    _, pull = jax.vjp(materialize, rows)
    assert all(np.array_equal(pull(rows)[0][name], rows[name]) for name in rows)


def test_materialize_keeps_scalars_and_batches():
    assert materialize({"x": 3.0}) == {"x": 3.0}
    batch = jnp.arange(12.0).reshape(4, 3)
    assert np.array_equal(jax.vmap(materialize)(batch), batch)


@pytest.mark.parametrize("size", [IDENTITY_SIZE, IDENTITY_SIZE + 1, 3 * IDENTITY_SIZE, 1000])
def test_materialize_keeps_long_axes_in_blocks(dtype, size):
    row = jnp.asarray(np.random.default_rng(0).lognormal(size=size), dtype)
    value, pull = jax.vjp(jax.jit(materialize), row)
    assert np.array_equal(value, row)
    assert np.array_equal(pull(row)[0], row)
    batch = jnp.stack((row, 2.0 * row))
    assert np.array_equal(materialize(batch), batch)
    assert np.array_equal(jax.vmap(materialize)(batch), batch)


def test_materialize_needs_memory_in_proportion_to_the_number_of_operators():
    """The largest array of the program: one block more than the operators, never their square."""
    size = 100_000
    program = jax.make_jaxpr(materialize)(jnp.ones(size))
    largest = max(math.prod(v.aval.shape) for e in program.eqns for v in e.outvars)
    assert size <= largest < size + IDENTITY_SIZE
