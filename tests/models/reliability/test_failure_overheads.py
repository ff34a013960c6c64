"""Spares, stragglers, late detection, and where checkpoints are written: worked values, bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import poisson

from hwdse.models.reliability.checkpoint_write_time import (
    ADAM_STATE_BYTES,
    file_system_duty_fraction,
    shared_write_time_s,
    spread_write_time_s,
    storage_cost_usd,
)
from hwdse.models.reliability.failure_overheads import (
    no_spare_fraction,
    nodes_in_repair,
    num_kept_checkpoints,
    num_spares,
    silent_loss_s,
    smooth_num_spares,
    spare_wait_s,
    straggler_ratio,
)
from hwdse.numerics.jit_compile import quick_jit


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("level", [0.9, 0.99, 0.999])
def test_spares_equal_the_quantile_of_scipy(level):
    load = np.concatenate([[0.0], np.geomspace(1e-4, 1e5, 300)])
    found = quick_jit(jax.vmap(lambda x: num_spares(x, level)))(load)
    np.testing.assert_array_equal(found, poisson.ppf(level, load))


def test_smooth_number_of_spares():
    assert smooth_num_spares(1.16) == pytest.approx(4.4, abs=0.05)  # exact 4
    assert smooth_num_spares(13.3) == pytest.approx(22.5, abs=0.05)  # exact 22
    load = np.geomspace(0.01, 1e5, 200)
    off = jax.vmap(smooth_num_spares)(load) - poisson.ppf(0.99, load)
    assert np.max(np.abs(off)) < 1.5


def test_fraction_of_failures_without_a_spare():
    load, spares = np.array(
        np.meshgrid(np.geomspace(1e-3, 300.0, 60), np.arange(0.0, 300.0, 7.0))
    ).reshape(2, -1)
    found = quick_jit(jax.vmap(no_spare_fraction))(load, spares)
    assert np.max(np.abs(found - poisson.sf(spares, load))) < 0.006
    assert np.all((found >= 0.0) & (found <= 1.0))
    both = quick_jit(jax.vmap(jax.grad(spare_wait_s, argnums=(0, 1, 2)), (0, 0, None)))
    edges = np.array([0.0, 1e-30, 1.0, 1e9, 1e30]), np.array([0.0, 1e6, 0.0, 3.0, 1e9])
    assert all(np.all(np.isfinite(slope)) for slope in both(*edges, 3600.0))


def test_wait_without_a_spare_is_a_repair():
    # With many in repair none is free: the wait is for the first to return.
    assert spare_wait_s(1e4, 0.0, 3600.0) == pytest.approx(3600.0)
    assert spare_wait_s(1e-6, 0.0, 3600.0) == pytest.approx(3.6e-3, rel=1e-3)
    # A node of any size: 100 servers of 8 chips, or 800 chips.
    assert nodes_in_repair(100.0, 1e6, 3600.0) == nodes_in_repair(800.0, 8e6, 3600.0) == 0.36


def test_one_rank_has_no_stragglers():
    assert straggler_ratio(1.0, 0.1) == pytest.approx(1.0, abs=1e-6)
    assert straggler_ratio(4096.0, 0.0) == 1.0
    slopes = jax.grad(straggler_ratio, argnums=(0, 1))(1.0, 0.1)
    assert all(jnp.isfinite(slope) for slope in slopes)


def test_late_detection_of_corruption():
    assert silent_loss_s(3600.0, 0.014) == pytest.approx(50.4)
    assert num_kept_checkpoints(0.0, 600.0, 10.0) == 1.0
    assert num_kept_checkpoints(610.0, 600.0, 10.0) == 2.0
    assert num_kept_checkpoints(3600.0, 600.0, 10.0) == 7.0


def test_writes_of_llama_3():
    """405 B parameters: 5.67 TB, 0.35 GB on each of 16,384 GPUs, 2.8 s at 2 TB/s sustained."""
    state = ADAM_STATE_BYTES * 405e9
    assert state == pytest.approx(5.67e12)
    assert spread_write_time_s(state, 16384.0, 0.35e9) == pytest.approx(0.99, abs=0.01)
    assert shared_write_time_s(state, 2048.0, 10e9, 2e12) == pytest.approx(2.835)
    assert shared_write_time_s(state, 10.0, 10e9, 2e12) == pytest.approx(56.7)
    assert file_system_duty_fraction(state, 283.5, 2e12) == pytest.approx(0.01)
    assert file_system_duty_fraction(state, 1.0, 2e12) == 1.0
    assert storage_cost_usd(1e9, 3.0, 2e-9, 5.0) == pytest.approx(30.0)
