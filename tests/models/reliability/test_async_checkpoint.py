"""Laws of asynchronous checkpoints: limits, the attempt by attempt sum, optimum, extremes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.models.reliability import single_level_checkpoint
from hwdse.models.reliability.async_checkpoint import (
    best_interval_s,
    ettr_fraction,
    finite_job_ettr_fraction,
    first_order_ettr_fraction,
    first_order_interval_s,
)
from hwdse.numerics.jit_compile import quick_jit

# tau, snapshot, persist, slowdown, R, D, M
TYPICAL = (600.0, 2.0, 120.0, 0.02, 300.0, 0.0, 11140.0)
NUM_JOBS = 1500
STALLED = (300.0, 1.0, 450.0, 0.1, 300.0, 0.0, 11140.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def outputs_and_slopes():
    """Both ETTRs and the best interval of rows of numbers, with all slopes."""

    def values(numbers):
        found = [
            ettr_fraction(*numbers),
            finite_job_ettr_fraction(numbers[0] * 7.3, *numbers),
            best_interval_s(*numbers[1:4], numbers[6]),
        ]
        return jnp.stack(found)

    return quick_jit(jax.vmap(lambda x: (values(x), jax.jacrev(values)(x))))


def test_values_of_the_analysis_and_the_simulation():
    assert ettr_fraction(*TYPICAL) == pytest.approx(0.930491, abs=5e-7)
    assert ettr_fraction(*STALLED) == pytest.approx(0.617636, abs=5e-7)


def test_cycle_equals_a_sum_over_attempts():
    """Failures before the end of the persist roll back two snapshots, later failures one."""
    for interval_s, snapshot_s, persist_s, slowdown, restart_s, downtime_s, mtbf_s in (
        TYPICAL,
        STALLED,
        (900.0, 30.0, 700.0, 0.3, 200.0, 50.0, 3000.0),
    ):
        cycle_s = max(persist_s, interval_s + slowdown * persist_s) + snapshot_s
        recovery_s = (mtbf_s + downtime_s) * math.exp(restart_s / mtbf_s) - mtbf_s
        again = math.expm1((interval_s + snapshot_s) / mtbf_s)
        redo_s = recovery_s + (mtbf_s + recovery_s) * again
        fails = -math.expm1(-cycle_s / mtbf_s)
        expected_s = fails * (mtbf_s + redo_s) * math.exp(persist_s / mtbf_s)
        found = ettr_fraction(
            interval_s, snapshot_s, persist_s, slowdown, restart_s, downtime_s, mtbf_s
        )
        assert found == pytest.approx(interval_s / expected_s, rel=1e-12)


def test_without_a_persist_it_equals_the_single_level():
    found = ettr_fraction(600.0, 30.0, 0.0, 0.3, 300.0, 120.0, 11140.0)
    single = single_level_checkpoint.ettr_fraction(600.0, 30.0, 300.0, 120.0, 11140.0)
    assert found == pytest.approx(float(single), rel=1e-12)
    best_s = best_interval_s(30.0, 0.0, 0.3, 11140.0)
    assert best_s == single_level_checkpoint.optimal_checkpoint_interval_s(30.0, 11140.0)


def test_without_failures_only_snapshot_stall_and_slowdown_cost_time():
    assert ettr_fraction(900.0, 50.0, 500.0, 0.1, 9.0, 9.0, 1e17) == pytest.approx(0.9)
    assert ettr_fraction(300.0, 50.0, 550.0, 0.1, 9.0, 9.0, 1e17) == pytest.approx(0.5)


def test_finite_jobs_worked_by_hand():
    """One segment; two segments, the second without a snapshot and ending during its persist."""
    one = finite_job_ettr_fraction(100.0, 200.0, 5.0, 50.0, 0.5, 20.0, 7.0, 1000.0)
    recovery = 1007.0 * math.exp(0.02)
    assert one == pytest.approx(100.0 / (recovery * math.expm1(0.1)), rel=1e-12)
    two = finite_job_ettr_fraction(120.0, 100.0, 5.0, 50.0, 0.5, 20.0, 7.0, 1000.0)
    # 20 s of work at half the rate: 40 s, in which a failure costs the first segment.
    expected = recovery * (math.expm1(0.105) + math.expm1(0.04) * math.exp(0.105))
    assert two == pytest.approx(120.0 / expected, rel=1e-12)
    safe = finite_job_ettr_fraction(120.0, 100.0, 5.0, 50.0, 0.5, 20.0, 7.0, 1000.0, 0.0)
    assert safe == pytest.approx(120.0 / (expected / recovery * 1027.0), rel=1e-12)


def test_long_finite_jobs_converge_to_the_infinite_job():
    for numbers in (TYPICAL, STALLED):
        found = finite_job_ettr_fraction(numbers[0] * 1e6, *numbers)
        assert found == pytest.approx(float(ettr_fraction(*numbers)), rel=1e-5)


def test_no_interval_is_better_than_the_best_interval(outputs_and_slopes):
    """Jobs with and without stalls, ETTR from near 1 to near 0; on a fine grid around the best."""
    rng, num = np.random.default_rng(0), 400
    snapshot_s = 10.0 ** rng.uniform(-2.0, 4.0, num)
    persist_s = 10.0 ** rng.uniform(0.0, 5.0, num)
    slowdown, mtbf_s = rng.uniform(0.0, 0.1, num), 10.0 ** rng.uniform(2.0, 6.0, num)
    best_s = jax.vmap(best_interval_s)(snapshot_s, persist_s, slowdown, mtbf_s)
    useful = quick_jit(jax.vmap(lambda *x: ettr_fraction(*x[:4], 60.0, 30.0, x[4])))
    rest = snapshot_s, persist_s, slowdown, mtbf_s
    best = useful(best_s, *rest)
    for factor in np.exp(np.linspace(-3.0, 3.0, 61)):
        assert np.all(useful(factor * best_s, *rest) <= best * (1.0 + 1e-12))
    assert 20 < np.sum(best_s == (1.0 - slowdown) * persist_s) < num - 20  # both kinds occur


def test_gradients_agree_with_differences(outputs_and_slopes):
    for numbers in (TYPICAL, STALLED):
        job = np.array(numbers)
        steps = 1e-5 * np.diag(job)
        rows = np.concatenate([[job], job + steps, job - steps])
        values, slopes = outputs_and_slopes(np.resize(rows, (NUM_JOBS, 7)))
        difference = (values[1:8] - values[8:15]).T / np.maximum(2e-5 * job, 1e-30)
        scale = np.asarray(values[0])[:, None] / np.maximum(job, 1.0)
        wrong = np.abs(slopes[0] - difference) > 1e-6 * np.abs(difference) + 1e-7 * scale
        assert not np.any(wrong[:, job > 0.0])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_finite_at_extreme_values(outputs_and_slopes, kind):
    rng = np.random.default_rng(1)
    jobs = 10.0 ** rng.uniform(-30.0, 30.0, (NUM_JOBS, 7))
    jobs[:, 1:] *= rng.random((NUM_JOBS, 6)) > 0.2
    jobs[:, 3] = rng.choice([0.0, 0.02, 0.5, 1.0], NUM_JOBS)
    with jax.enable_x64(kind is np.float64):
        values, slopes = outputs_and_slopes(jobs.astype(kind))
    assert np.all(np.isfinite(values) & (values > 0.0))
    assert np.all(values[:, :2] <= 1.0 + 1e-6)
    assert np.all(np.isfinite(slopes))


def test_first_order_is_close_in_its_range():
    exact = float(ettr_fraction(*TYPICAL))
    assert first_order_ettr_fraction(*TYPICAL) == pytest.approx(exact, rel=0.009)
    half = (600.0, 2.0, 5000.0, 0.02, 300.0, 0.0, 11140.0)  # persist near half the MTBF
    exact = float(ettr_fraction(*half))
    assert abs(float(first_order_ettr_fraction(*half)) / exact - 1.0) > 0.05
    assert first_order_interval_s(2.0, 120.0, 11140.0) == pytest.approx(211.1, abs=0.1)
    assert first_order_interval_s(2.0, 450.0, 11140.0) == 450.0
