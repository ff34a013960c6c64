"""Laws of the checkpoint model: limits, bounds, optimum, gradients, published values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.models.reliability.exponential_failures import young_interval_s
from hwdse.models.reliability.single_level_checkpoint import (
    best_ettr_fraction,
    daly_first_order_interval_s,
    daly_higher_order_interval_s,
    ettr_fraction,
    finite_job_ettr_fraction,
    job_mtbf_s,
    optimal_checkpoint_interval_s,
)
from hwdse.numerics.jit_compile import quick_jit

TIMES = (600.0, 30.0, 300.0, 120.0, 11140.0)  # interval, write, restart, downtime, MTBF
USEFUL = quick_jit(jax.vmap(ettr_fraction, (0, None, None, None, None)))
USEFUL_SLOPE = quick_jit(jax.grad(ettr_fraction))
IN_LOGS = {
    function: jax.jit(lambda logs, function=function: jnp.log(function(*jnp.exp(logs))))
    for function in (
        ettr_fraction,
        optimal_checkpoint_interval_s,
        best_ettr_fraction,
        finite_job_ettr_fraction,
    )
}
DALY_2006 = [(1440.0, 117.0), (360.0, 57.0), (15.0, 9.1)]  # figures 3 to 5: MTBF, best, minutes


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param):
        yield jnp.float64 if request.param else jnp.float32


def test_formula_worked_by_hand():
    # tau = M, d = R = D = 0: eta = 1 / (e - 1)
    assert ettr_fraction(100.0, 0.0, 0.0, 0.0, 100.0) == pytest.approx(1 / (math.e - 1))
    # R = M costs a factor e, D = M a factor 2
    assert ettr_fraction(100.0, 0.0, 100.0, 100.0, 100.0) == pytest.approx(
        1 / (2 * math.e * (math.e - 1)), rel=1e-6
    )


def test_without_failures_only_writes_take_time():
    assert ettr_fraction(900.0, 100.0, 300.0, 60.0, 1e17) == pytest.approx(0.9)
    assert ettr_fraction(900.0, 0.0, 0.0, 0.0, 1e17) == pytest.approx(1.0)


def test_failure_rates_of_chips_add_up():
    assert job_mtbf_s(1e9, 1e4) == 1e5


@pytest.mark.parametrize(("mtbf_min", "best_min"), DALY_2006)
def test_best_interval_matches_daly_2006(mtbf_min, best_min):
    best_s = optimal_checkpoint_interval_s(300.0, 60.0 * mtbf_min)
    assert best_s / 60.0 == pytest.approx(best_min, rel=0.01)
    interval_s = jnp.linspace(60.0, 9000.0, 20_000)
    useful = USEFUL(interval_s, 300.0, 600.0, 0.0, 60.0 * mtbf_min)
    assert interval_s[jnp.argmax(useful)] / 60.0 == pytest.approx(best_min, rel=0.01)


def test_value_at_the_optimum_of_a_tenth():
    assert best_ettr_fraction(10.0, 0.0, 0.0, 100.0) == pytest.approx(0.61682, abs=5e-6)


@pytest.mark.parametrize("write_ratio", [1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0, 5.0])
def test_closed_form_is_the_maximum(write_ratio):
    with jax.enable_x64(True):
        mtbf_s, restart_s, downtime_s = 2e4, 300.0, 120.0
        write_s = write_ratio * mtbf_s

        best_s = optimal_checkpoint_interval_s(write_s, mtbf_s)
        best = best_ettr_fraction(write_s, restart_s, downtime_s, mtbf_s)
        slope = USEFUL_SLOPE(best_s, write_s, restart_s, downtime_s, mtbf_s)
        assert abs(slope) * best_s < 1e-10 * best
        grid = best_s * jnp.geomspace(0.1, 10.0, 2001)
        useful = USEFUL(grid, write_s, restart_s, downtime_s, mtbf_s)
        assert useful[1000] == pytest.approx(float(best), rel=1e-12)  # at best_s
        assert jnp.all(useful <= best * (1.0 + 1e-12))


def test_optimum_is_independent_of_the_recovery():
    with jax.enable_x64(True):
        best_s = optimal_checkpoint_interval_s(60.0, 5000.0)
        for restart_s, downtime_s in [(0.0, 0.0), (900.0, 0.0), (300.0, 4000.0)]:
            slope = USEFUL_SLOPE(best_s, 60.0, restart_s, downtime_s, 5000.0)
            assert abs(slope) < 1e-12


def _exact_work_ratio(write_ratio):
    """u of -u - ln(1 - u) = x by bisection on v = -ln(1 - u), with e^-v + v - 1 = x."""

    def excess(v):  # e^-v + v - 1, by its series where it cancels
        if v > 0.5:
            return math.exp(-v) + v - 1.0
        return math.fsum((-v) ** n / math.factorial(n) for n in range(20, 1, -1))

    low, high = 0.0, write_ratio + 2.0 + math.sqrt(2.0 * write_ratio)
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if excess(middle) > write_ratio else (middle, high)
    return -math.expm1(-high)


def test_best_interval_is_accurate_in_both_precisions(dtype):
    write_ratio = np.geomspace(1e-8, 30.0, 300).astype(dtype)
    one = jnp.ones((), dtype)
    found = quick_jit(jax.vmap(lambda x: optimal_checkpoint_interval_s(x, one)))(write_ratio)
    assert found.dtype == dtype
    exact = np.array([_exact_work_ratio(float(x)) for x in write_ratio])
    assert np.max(np.abs(np.asarray(found, np.float64) / exact - 1.0)) < (
        6e-6 if dtype == jnp.float32 else 1e-13
    )


def test_use_in_float64_leaves_float32_unchanged():
    before = optimal_checkpoint_interval_s(10.0, 100.0)
    with jax.enable_x64(True):
        inside = optimal_checkpoint_interval_s(10.0, 100.0)
    after = optimal_checkpoint_interval_s(10.0, 100.0)
    assert (before.dtype, inside.dtype, after.dtype) == ("float32", "float64", "float32")
    assert before == after
    assert before == pytest.approx(float(inside), rel=6e-6)


def test_implicit_derivative_of_the_best_interval(dtype):
    write_s, mtbf_s = jnp.asarray(10.0, dtype), jnp.asarray(100.0, dtype)
    work = optimal_checkpoint_interval_s(write_s, mtbf_s) / mtbf_s
    expected = ((1 - work) / work, work - 0.1 * (1 - work) / work)
    reverse, forward = (
        quick_jit(slope(optimal_checkpoint_interval_s, argnums=(0, 1)))(write_s, mtbf_s)
        for slope in (jax.grad, jax.jacfwd)
    )
    np.testing.assert_allclose(reverse, expected, rtol=1e-5)
    np.testing.assert_allclose(forward, expected, rtol=1e-5)


def test_derivative_works_under_vmap_and_twice():
    with jax.enable_x64(True):
        write_s = jnp.geomspace(1e-3, 1e3, 7)
        slopes = quick_jit(jax.vmap(jax.grad(optimal_checkpoint_interval_s), (0, None)))(
            write_s, 100.0
        )
        assert slopes.shape == (7,)
        assert jnp.all(jnp.diff(slopes) < 0.0)  # sqrt-like: concave
        curvature = quick_jit(jax.grad(jax.grad(optimal_checkpoint_interval_s)))(10.0, 100.0)
        assert curvature < 0.0


@pytest.mark.parametrize("mtbf_s", [500.0, 11140.0, 1e7])
def test_gradients_agree_with_finite_differences(mtbf_s):
    with jax.enable_x64(True):
        times = jnp.log(jnp.array([*TIMES[:4], mtbf_s]))
        finite = jnp.concatenate([jnp.log(jnp.array([5432.0])), times])
        arguments = {
            ettr_fraction: times,
            optimal_checkpoint_interval_s: times[jnp.array([1, 4])],
            best_ettr_fraction: times[1:],
            finite_job_ettr_fraction: finite,
        }
        for function, logs in arguments.items():
            check_grads(IN_LOGS[function], (logs,), order=1)


def test_float32_agrees_with_float64():
    times = np.array(np.meshgrid([30.0, 600.0, 9000.0], [0.1, 30.0], [300.0], [60.0], [900.0, 1e7]))
    times = times.reshape(5, -1)
    both = quick_jit(jax.vmap(jax.value_and_grad(ettr_fraction)))
    low, low_slope = both(*times.astype(np.float32))
    with jax.enable_x64(True):
        high, high_slope = map(np.asarray, both(*times))
    np.testing.assert_allclose(low, high, rtol=5e-6)
    np.testing.assert_allclose(low_slope, high_slope, rtol=1e-4)


ANY_TIME = st.floats(min_value=1e-30, max_value=1e30, allow_nan=False)
ANY_COST = st.one_of(st.just(0.0), ANY_TIME)
FRACTIONS = {
    "long job": ettr_fraction,
    "best": lambda _, *times: best_ettr_fraction(*times),
    "finite job": lambda interval_s, *times: finite_job_ettr_fraction(5.0, interval_s, *times),
}


@quick_jit
def _values_and_slopes(*times):
    """Each fraction with its gradient, and the gradient of the logarithm of a time over it."""
    arguments = range(5)
    return {
        name: (
            jax.value_and_grad(fraction, arguments)(*times),
            jax.grad(lambda *t, fraction=fraction: jnp.log(7.0 / fraction(*t)), arguments)(*times),
        )
        for name, fraction in FRACTIONS.items()
    }, jax.value_and_grad(optimal_checkpoint_interval_s, (0, 1))(times[1], times[4])


@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
@settings(max_examples=500, deadline=None)
@given(ANY_TIME, ANY_COST, ANY_COST, ANY_COST, ANY_TIME)
def test_finite_at_extreme_values(is_double, interval_s, write_s, restart_s, downtime_s, mtbf_s):
    with jax.enable_x64(is_double):
        kind = jnp.float64 if is_double else jnp.float32
        times = np.array([interval_s, write_s, restart_s, downtime_s, mtbf_s], kind)
        fractions, (best_s, best_slopes) = _values_and_slopes(*times)
        for (value, slopes), log_slopes in fractions.values():
            assert 0.0 < value <= 1.0
            assert np.all(np.isfinite(slopes))
            assert np.all(np.isfinite(log_slopes))
        assert np.isfinite(best_s)
        assert np.all(np.isfinite(best_slopes))


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[st.floats(0.0, math.log(1e5))] * 4), st.floats(math.log(100), math.log(1e5)))
def test_bounds_and_signs_of_slopes(log_objectives_of, log_mtbf):
    with jax.enable_x64(True):
        times = np.exp(np.array([*log_objectives_of, log_mtbf]))
        interval_s, write_s, mtbf_s = times[[0, 1, 4]]
        fractions, (best_s, _) = _values_and_slopes(*times)
        (value, slopes), _ = fractions["long job"]
        assert value <= interval_s / (interval_s + write_s) + 1e-15
        assert value <= fractions["best"][0][0] * (1.0 + 1e-12)
        assert all(slope <= 0.0 for slope in slopes[1:4])  # every cost lowers the ETTR
        assert slopes[4] >= 0.0  # a higher MTBF raises it
        assert 0.0 < best_s <= mtbf_s
        assert best_s <= young_interval_s(write_s, mtbf_s) * (1.0 + 1e-12)


def test_designs_with_almost_no_ettr_have_a_gradient(dtype):
    """MTBF far below the restart time: ETTR near zero, but the slope has the right sign."""
    times = [jnp.asarray(t, dtype) for t in (600.0, 30.0, 300.0, 120.0, 1.0)]
    value, slope = quick_jit(jax.value_and_grad(ettr_fraction, argnums=4))(*times)
    assert 0.0 < value < 1e-12
    assert slope > 0.0
    assert jnp.isfinite(1.0 / value**2)


def test_finite_job_of_one_segment_worked_by_hand():
    # no final checkpoint, restart fails too: E = (M + D) e^{R/M} (e^{W/M} - 1)
    expected = 8000.0 / (5000.0 * math.exp(300.0 / 5000.0) * math.expm1(8000.0 / 5000.0))
    found = finite_job_ettr_fraction(
        8000.0, 8000.0, 200.0, 300.0, 0.0, 5000.0, 1.0, has_final_checkpoint=0.0
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_last_partial_segment_worked_by_hand():
    # W = 2.5 tau, restart cannot fail: E = (M + D + R) (2 expm1(1.1) + expm1(0.6))
    expected = 250.0 / ((100.0 + 7.0 + 20.0) * (2 * math.expm1(1.1) + math.expm1(0.6)))
    found = finite_job_ettr_fraction(250.0, 100.0, 10.0, 20.0, 7.0, 100.0, 0.0)
    assert found == pytest.approx(expected, rel=1e-6)


def test_finite_job_of_full_intervals_equals_the_long_job(dtype):
    long_job = ettr_fraction(*(jnp.asarray(t, dtype) for t in TIMES))
    for num_segments in (1.0, 3.0, 1000.0):
        work_s = jnp.asarray(600.0 * num_segments, dtype)
        finite = finite_job_ettr_fraction(work_s, *TIMES)
        assert finite == pytest.approx(float(long_job), rel=3e-6)


def test_omitting_the_last_write_raises_ettr():
    with_write = finite_job_ettr_fraction(6000.0, *TIMES)
    without = finite_job_ettr_fraction(6000.0, *TIMES, has_final_checkpoint=0.0)
    assert without > with_write


def test_restarts_that_cannot_fail_raise_ettr():
    assert finite_job_ettr_fraction(
        6000.0, 600.0, 30.0, 3000.0, 120.0, 5000.0, 0.0
    ) > finite_job_ettr_fraction(6000.0, 600.0, 30.0, 3000.0, 120.0, 5000.0, 1.0)


@pytest.mark.parametrize(
    ("mtbf_min", "young_min", "daly_min"),
    [(1440.0, 120.0, 116.69), (360.0, 60.0, 56.71), (15.0, 12.25, 9.14)],
)
def test_classic_rules_at_dalys_examples(mtbf_min, young_min, daly_min):
    mtbf_s = 60.0 * mtbf_min
    assert young_interval_s(300.0, mtbf_s) / 60.0 == pytest.approx(young_min, abs=0.005)
    higher = daly_higher_order_interval_s(300.0, mtbf_s) / 60.0
    assert higher == pytest.approx(daly_min, abs=0.005)
    assert daly_higher_order_interval_s(300.0, 100.0) == 100.0  # from d = 2 M on: M
    first = daly_first_order_interval_s(300.0, 600.0, mtbf_s)
    assert first == pytest.approx(math.sqrt(600.0 * (mtbf_s + 600.0)) - 300.0, rel=1e-5)


@pytest.mark.parametrize(
    ("write_ratio", "young", "daly"),
    [(1e-4, 1.005, 1.0), (1e-2, 1.049, 1.0), (0.1, 1.167, 0.9996), (1.0, 1.68, 0.982)],
)
def test_classic_rules_against_the_exact_optimum(write_ratio, young, daly):
    best_s = optimal_checkpoint_interval_s(write_ratio, 1.0)
    assert young_interval_s(write_ratio, 1.0) / best_s == pytest.approx(young, abs=0.005)
    assert daly_higher_order_interval_s(write_ratio, 1.0) / best_s == pytest.approx(daly, abs=1e-3)
