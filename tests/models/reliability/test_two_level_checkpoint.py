"""Laws of two-level checkpoints: the recursion, limits, optimum, gradients, extremes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.models.reliability import single_level_checkpoint
from hwdse.models.reliability.two_level_checkpoint import (
    TwoLevelTimes,
    best_integer_schedule,
    best_interval_s,
    best_schedule,
    ettr_fraction,
    finite_job_ettr_fraction,
    nested_young_schedule,
    split_mtbf_s,
)
from hwdse.numerics.jit_compile import quick_jit

JOBS = {  # tau, n, c1, c2, r1, r2, D1, D2, M1, M2: ETTR by the recursion and by simulation
    (600.0, 20.0, 5.0, 120.0, 30.0, 900.0, 0.0, 0.0, 2e4, 2e5): 0.931627,
    (300.0, 12.0, 2.0, 60.0, 60.0, 600.0, 60.0, 300.0, 11140.0, 6e4): 0.909788,
    (300.0, 5.0, 20.0, 300.0, 60.0, 600.0, 0.0, 0.0, 2000.0, 4000.0): 0.438936,
}
NUM_JOBS = 1500
COLUMNS = np.array(list(JOBS)).T


TIME = st.floats(1.0, 3000.0)


def of_numbers(interval_s, count, *times):
    return ettr_fraction(interval_s, count, TwoLevelTimes(*times))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def useful():
    return quick_jit(jax.vmap(of_numbers))


@pytest.fixture(scope="module")
def schedules():
    """Real and integer optimum, the best interval of a given n, and slopes at the real optimum."""

    def solve(count, *numbers):
        times = TwoLevelTimes(*numbers)
        interval_s, best_count = best_schedule(times)
        slopes = jax.grad(lambda x: jnp.log(ettr_fraction(x[0], x[1], times)))(
            jnp.stack([interval_s, best_count])
        )
        whole = best_integer_schedule(times)
        given_s = best_interval_s(count, times)
        return interval_s, best_count, *whole, given_s, *slopes

    compiled = quick_jit(jax.vmap(solve))

    def of_columns(*columns):
        """One program for every number of jobs: inputs are repeated up to a fixed number."""
        found = compiled(*(np.resize(column, NUM_JOBS) for column in columns))
        return [column[: len(columns[0])] for column in found]

    return of_columns


def recursion(interval_s, count, c1, c2, r1, r2, d1, d2, m1, m2):
    """Expected time of a pattern as a sum over attempts (integer n), without the closed form."""
    rate, odds1 = 1 / m1 + 1 / m2, m2 / (m1 + m2)
    odds2, safe = 1.0 - odds1, math.exp(-rate * r1)
    retry_s, once = (1.0 - safe) / rate, 1.0 - (1.0 - safe) * odds1

    def segment(span_s):
        stays = math.exp(-rate * span_s)
        scale = odds2 + odds1 * stays * safe
        elapsed = (1.0 - stays) / rate * once + (1.0 - stays) * odds1 * (d1 + retry_s)
        return elapsed / scale, stays * once / scale

    recovery_s = (d2 + 1.0 / rate) * math.exp(rate * r2) - 1.0 / rate
    elapsed_s, reached = 0.0, 1.0
    for place in range(int(count)):
        a, g = segment(interval_s + c1 + (c2 if place == int(count) - 1 else 0.0))
        elapsed_s, reached = elapsed_s + reached * a, reached * g
    return (elapsed_s + (1.0 - reached) * recovery_s) / reached


def test_values_of_the_recursion_and_the_simulation(useful):
    np.testing.assert_allclose(useful(*COLUMNS), list(JOBS.values()), atol=5e-7)


@settings(max_examples=100, deadline=None)
@given(st.tuples(TIME, st.integers(1, 30), *[TIME] * 6, *[st.floats(1e3, 1e6)] * 2))
def test_closed_form_equals_the_recursion(useful, job):
    expected = job[0] * job[1] / recursion(*map(float, job))
    if expected > 1e-60:
        found = float(useful(*np.array(job, float)[:, None])[0])
        assert found == pytest.approx(expected, rel=1e-9)


def test_without_one_type_of_failure_it_equals_the_single_level(useful):
    """Only failures of type 2 and n = 1: writes of c1 + c2. Only type 1, never remote: c1."""
    single = single_level_checkpoint.ettr_fraction
    found = useful(
        *np.array(
            [
                [600, 1, 5, 120, 30, 900, 7, 70, 1e15, 2e4],
                [600, 1e4, 5, 0, 30, 900, 7, 70, 2e4, 1e18],
            ],
            float,
        ).T
    )
    assert found[0] == pytest.approx(float(single(600.0, 125.0, 900.0, 70.0, 2e4)), rel=1e-6)
    assert found[1] == pytest.approx(float(single(600.0, 5.0, 30.0, 7.0, 2e4)), rel=1e-6)


def test_without_failures_only_writes_take_time(useful):
    found = useful(*np.array([[900.0, 4, 50, 200, 10, 10, 10, 10, 1e17, 1e17]]).T)
    assert found[0] == pytest.approx(900.0 / 1000.0)


def test_both_slopes_are_zero_at_the_optimum_and_no_integer_schedule_is_better(useful, schedules):
    interval_s, count, whole_s, whole, _, *slopes = schedules(COLUMNS[1], *COLUMNS[2:])
    assert np.max(np.abs(slopes[0] * interval_s)) < 1e-10
    assert np.max(np.abs(slopes[1] * count)) < 1e-10
    np.testing.assert_allclose(count, [15.518, 12.723, 5.451], atol=1e-3)
    grid = np.exp(np.linspace(-1.0, 1.0, 41))
    factors = np.array(np.meshgrid(grid, grid)).reshape(2, -1)
    for job in range(len(JOBS)):
        around = (factors.T * [interval_s[job], count[job]]).T
        rest = np.repeat(COLUMNS[2:, job : job + 1], around.shape[1], axis=1)
        values = useful(*around, *rest)
        best = float(values[len(grid) * 20 + 20])
        assert np.all(values <= best * (1.0 + 1e-12))
        on_whole = useful(*np.array([[whole_s[job], whole[job], *COLUMNS[2:, job]]]).T)[0]
        assert best * (1.0 - 2e-3) < on_whole <= best * (1.0 + 1e-12)
    assert np.all(whole == np.round(whole))
    # The first case by a search over integer n: 430 s, every 16th, 0.93814.
    assert (whole_s[0], whole[0]) == (pytest.approx(430.0, rel=0.01), 16.0)


def test_every_checkpoint_is_remote_if_local_copies_do_not_help(schedules):
    """No failure that a local copy survives, and an equally expensive local write."""
    numbers = (100.0, 50.0, 30.0, 600.0, 0.0, 0.0, 1e12, 2e4)
    found = schedules(*np.array([[1.0, *numbers]]).T)
    assert found[1][0] == 1.0
    single_s = single_level_checkpoint.optimal_checkpoint_interval_s(150.0, 2e4)
    assert found[0][0] == pytest.approx(float(single_s), rel=1e-6)
    assert found[4][0] == pytest.approx(float(single_s), rel=1e-6)


def test_no_schedule_is_better_than_the_best(useful, schedules):
    """Jobs with ETTR from near 1 to near 0; the best, the best of a given n, and any other."""
    rng, num = np.random.default_rng(2), NUM_JOBS
    costs = 10.0 ** rng.uniform(-2.0, 5.0, (6, num))
    numbers = np.concatenate([costs, 10.0 ** rng.uniform(2.0, 7.0, (2, num))])
    count, share = rng.uniform(1.0, 200.0, num), rng.uniform(0.3, 3.0, num)
    stretch = np.exp(rng.uniform(-1.6, 1.6, num))
    best_s, best_count, _, _, given_s, *_ = schedules(count, *numbers)
    best = useful(best_s, best_count, *numbers) * (1.0 + 1e-9)
    given = useful(given_s, count, *numbers) * (1.0 + 1e-9)
    assert np.all(given >= useful(given_s * stretch, count, *numbers))
    assert np.all(best >= given / (1.0 + 1e-9))
    other = np.maximum(best_count * share, 1.0)
    assert np.all(best >= useful(best_s * stretch, other, *numbers))
    assert 100 < np.sum(best_count == 1.0) < num - 100


@pytest.fixture(scope="module")
def outputs_and_slopes():
    """Both ETTRs, the best interval of a given n, the best schedule, with all slopes."""

    def values(numbers):
        times = TwoLevelTimes(*numbers[2:])
        found = [
            ettr_fraction(numbers[0], numbers[1], times),
            finite_job_ettr_fraction(numbers[0] * 7.3, numbers[0], numbers[1], times),
            best_interval_s(numbers[1], times),
            *best_schedule(times),
        ]
        return jnp.stack(found)

    return quick_jit(jax.vmap(lambda x: (values(x), jax.jacrev(values)(x))))


def test_gradients_agree_with_differences(outputs_and_slopes):
    """Every output by every time, for n = 5 (a full and a partial pattern in the finite job)."""
    job = np.array(list(JOBS)[2])
    steps = 1e-5 * np.diag(job)
    rows = np.concatenate([[job], job + steps, job - steps])
    values, slopes = outputs_and_slopes(np.resize(rows, (NUM_JOBS, 10)))
    difference = (values[1:11] - values[11:21]).T / (2e-5 * job)
    scale = np.asarray(values[0])[:, None] / np.maximum(job, 1.0)
    has_slope = np.ones((5, 10), bool)
    has_slope[1, 1] = False  # full patterns: n is discontinuous in the finite job
    has_slope[:, 6:8] = False  # downtimes are zero here, where differences are one-sided
    wrong = np.abs(slopes[0] - difference) > 1e-6 * np.abs(difference) + 1e-7 * scale
    assert not np.any(wrong & has_slope)


@pytest.mark.parametrize(("kind", "decades"), [(np.float32, 9.0), (np.float64, 30.0)])
def test_finite_at_extreme_values(outputs_and_slopes, kind, decades):
    """Costs above the MTBF, no interval, no failures: values in range, gradients finite."""
    rng = np.random.default_rng(1)
    jobs = 10.0 ** rng.uniform(-decades, decades, (NUM_JOBS, 10))
    jobs[:, 1] = 10.0 ** rng.uniform(0.0, 9.0, NUM_JOBS)
    jobs[:, 2:] *= rng.random((NUM_JOBS, 8)) > 0.3
    with jax.enable_x64(kind is np.float64):
        values, slopes = outputs_and_slopes(jobs.astype(kind))
    assert np.all(np.isfinite(slopes))
    assert np.all(np.isfinite(values) & (values > 0.0))
    assert np.all(values[:, :2] <= 1.0 + 1e-6)
    assert np.all(values[:, 4] >= 1.0)


def test_float32_agrees_with_float64(useful):
    high = np.asarray(useful(*COLUMNS))
    with jax.enable_x64(False):
        low = useful(*COLUMNS.astype(np.float32))
    np.testing.assert_allclose(low, high, rtol=5e-6)


def test_finite_jobs_of_full_patterns_equal_long_jobs():
    job = list(JOBS)[1]
    long_job = of_numbers(*job)
    times = TwoLevelTimes(*job[2:])
    for patterns in (1.0, 50.0):
        found = finite_job_ettr_fraction(300.0 * 12.0 * patterns, 300.0, 12.0, times)
        assert found == pytest.approx(float(long_job), rel=1e-12)


def test_last_partial_pattern_worked_by_hand():
    """Three segments, n = 2, negligible failures of type 1: spans of 2 tau + 2 c1 + c2 and
    of the rest, a last segment of half an interval, single-level each."""
    times = TwoLevelTimes(10.0, 40.0, 5.0, 70.0, 0.0, 30.0, 1e15, 1000.0)
    patterns = math.expm1((100.0 + 100.0 + 20.0 + 40.0) / 1000.0), math.expm1(0.1)
    expected = 250.0 / ((1000.0 + 30.0) * math.exp(0.07) * sum(patterns))
    found = finite_job_ettr_fraction(250.0, 100.0, 2.0, times)
    assert found == pytest.approx(expected, rel=1e-9)
    # Restores that cannot fail, and no write after the last segment.
    patterns = patterns[0], math.expm1(0.05)
    expected = 250.0 / ((1000.0 + 30.0 + 70.0) * sum(patterns))
    found = finite_job_ettr_fraction(250.0, 100.0, 2.0, times, 0.0, 0.0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_nested_young_is_close_for_rare_failures(useful, schedules):
    """447 s and 15.5 in the first case, 0.001 % of ETTR lost."""
    interval_s, count = nested_young_schedule(TwoLevelTimes(*next(iter(JOBS))[2:]))
    assert float(interval_s) == pytest.approx(447.2, abs=0.1)
    assert float(count) == pytest.approx(15.5, abs=0.05)
    best = schedules(*np.array([next(iter(JOBS))])[:, 1:].T)
    pair = np.array([[interval_s, count], [best[0][0], best[1][0]]])
    rest = np.repeat(COLUMNS[2:, :1], 2, axis=1)
    loss = useful(*pair.T, *rest)
    assert loss[1] * (1.0 - 5e-5) < loss[0] <= loss[1]


def test_fraction_of_failures_that_a_local_copy_survives():
    first_s, second_s = split_mtbf_s(1000.0, 0.85)
    assert 1.0 / first_s + 1.0 / second_s == pytest.approx(1e-3)
    assert first_s / second_s == pytest.approx(0.15 / 0.85)
    assert all(np.isfinite(x) for share in (0.0, 1.0) for x in split_mtbf_s(1000.0, share))
