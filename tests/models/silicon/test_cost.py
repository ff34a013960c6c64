"""Laws of the cost of dies, chips and steps."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.config import load_chip, load_system
from hwdse.models.silicon.cost import (
    chip_cost_usd,
    dies_per_wafer,
    good_die_cost_usd,
    step_cost_usd,
)
from hwdse.models.silicon.die_yield import die_yield_fraction


@pytest.fixture(scope="module")
def chip():
    return load_chip("trainium2")


@pytest.fixture(scope="module")
def cluster():
    return load_system("trn2_ultraserver").cluster


def test_published_dies_and_cost(chip):
    assert dies_per_wafer(814.0) == pytest.approx(57.6, abs=0.05)
    n5 = chip.process.replace(wafer_cost_usd=16988.0)
    price = good_die_cost_usd(814.0, die_yield_fraction(814.0, 0.0011, 10.0), n5)
    assert price == pytest.approx(695.0, abs=1.0)


def test_larger_dies_are_fewer_and_costlier_per_area(chip):
    areas = np.array([10.0, 100.0, 400.0, 800.0])
    dies = np.array([float(dies_per_wafer(area)) for area in areas])
    assert np.all(np.diff(dies) < 0.0)
    assert np.all(dies * areas < np.pi * 145.0**2)
    prices = [
        float(good_die_cost_usd(area, die_yield_fraction(area, 0.0011, 10.0), chip.process)) / area
        for area in areas
    ]
    assert np.all(np.diff(prices[1:]) > 0.0)  # very small dies lose area to scribe lanes


def test_a_die_of_any_size_has_a_finite_cost_and_slope(chip):
    def price(area):
        return good_die_cost_usd(area, die_yield_fraction(area, 0.0011, 10.0), chip.process)

    for is_double, largest in ((False, 5e4), (True, 1e6)):  # the wafer has 7e4 mm²
        with jax.enable_x64(is_double):
            for area in (1e-3, 1.0, largest):
                assert np.isfinite(price(area))
                assert np.isfinite(jax.grad(price)(area))
    assert dies_per_wafer(1e6) == 1.0


def test_gradient_of_the_cost(chip):
    with jax.enable_x64(True):
        check_grads(lambda a: dies_per_wafer(100.0 * a), (5.0,), order=1)


def test_chip_cost_is_dies_package_and_memory(chip):
    hbm_usd = chip.hbm_cost_usd_per_byte * chip.hbm.capacity_bytes
    expected = chip.num_dies * 300.0 + chip.package_cost_usd + hbm_usd
    assert chip_cost_usd(300.0, chip) == pytest.approx(expected)


def test_step_by_hand(cluster):
    cluster = cluster.replace(
        num_chips=100.0,
        server_cost_usd_per_chip=1000.0,
        lifetime_s=1e8,
        host_power_w=500.0,
        supply_loss_fraction=0.04,
        pue_ratio=1.28,
        electricity_usd_per_j=1e-8,
    )
    # 100 chips x 3000 USD x 10 s / 1e8 s, and (1000 + 500) W / 0.96 x 1.28 of 100 chips for 10 s
    assert step_cost_usd(2000.0, 10.0, 1e6, cluster) == pytest.approx(0.03 + 0.02)


def test_idle_steps_cost_capital_and_amortized_steps_electricity(cluster):
    assert step_cost_usd(2000.0, 10.0, 0.0, cluster) > 0.0
    free = cluster.replace(server_cost_usd_per_chip=0.0)
    joules = 1e6 + 10.0 * cluster.num_chips * cluster.host_power_w
    facility_j = joules / (1.0 - cluster.supply_loss_fraction) * cluster.pue_ratio
    usd = facility_j * cluster.electricity_usd_per_j
    assert step_cost_usd(0.0, 10.0, 1e6, free) == pytest.approx(usd)
