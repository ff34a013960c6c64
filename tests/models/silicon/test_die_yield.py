"""Yield laws, packages and carbon: limits, bounds, numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.config import load_chip, load_system
from hwdse.config.hardware.process_presets import load_process
from hwdse.models.silicon.carbon import chip_carbon_g, die_carbon_g_per_mm2, step_carbon_g
from hwdse.models.silicon.cost import (
    chip_cost_usd,
    chip_operating_cost_usd_per_s,
    dies_per_wafer,
    good_die_cost_usd,
)
from hwdse.models.silicon.die_yield import YIELDS, die_yield_fraction, gross_dies_per_wafer
from hwdse.models.silicon.packaging_cost import PACKAGES, chip_last_cost_usd, substrate_cost_usd

DEFECTS = 8.14 * 0.11
"""Mean defects of a die of 814 mm² at 0.11 per cm²."""


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("name", "shape", "good"),
    [
        ("poisson", 1.0, 0.4084),
        ("murphy", 1.0, 0.4365),
        ("seeds", 1.0, 0.5276),
        ("negative_binomial", 10.0, 0.4242),
        ("negative_binomial", 3.0, 0.4568),
        ("bose_einstein", 2.0, 0.5276**2),
    ],
)
def test_published_yields(name, shape, good):
    assert YIELDS[name](DEFECTS, shape) == pytest.approx(good, rel=3e-4)


@pytest.mark.parametrize("name", sorted(YIELDS))
def test_laws_of_every_yield(name):
    yields = jax.vmap(lambda a: YIELDS[name](a, 3.0))(jnp.logspace(-8, 2, 200))
    assert np.all(np.diff(yields) < 0.0)
    assert np.all(np.asarray(yields) > 0.0)
    assert np.all(np.asarray(yields) < 1.0)
    assert YIELDS[name](0.0, 3.0) == 1.0
    check_grads(lambda a: YIELDS[name](a, 3.0), (0.7,), 1)
    small = jax.grad(lambda a: YIELDS[name](a, 3.0))(0.0)
    assert small == pytest.approx(-3.0 if name == "bose_einstein" else -1.0)


def test_laws_agree_in_their_limits():
    binomial = YIELDS["negative_binomial"]
    assert binomial(DEFECTS, 1e9) == pytest.approx(float(YIELDS["poisson"](DEFECTS, 1.0)), rel=1e-6)
    assert binomial(DEFECTS, 1.0) == pytest.approx(float(YIELDS["seeds"](DEFECTS, 1.0)))
    assert die_yield_fraction(814.0, 0.0011, 10.0) == pytest.approx(float(binomial(DEFECTS, 10.0)))
    # the series of Murphy's law is continuous with the closed form
    murphy = YIELDS["murphy"]
    assert murphy(0.999999e-3, 1.0) == pytest.approx(float(murphy(1.000001e-3, 1.0)), rel=1e-8)


def test_dies_per_wafer_by_both_conventions():
    assert gross_dies_per_wafer(814.0) == pytest.approx(63.5, rel=1e-3)
    assert gross_dies_per_wafer(814.0, 290.0, 0.2) == pytest.approx(float(dies_per_wafer(814.0)))


@pytest.mark.parametrize(
    ("node", "area", "usd"), [("n5", 814.0, 695), ("n5", 400.0, 201), ("n7", 814.0, 329)]
)
def test_published_good_dies_within_1_percent(node, area, usd):
    process = load_process(node)
    good = die_yield_fraction(area, process.defects_per_mm2, process.defect_clustering)
    assert good_die_cost_usd(area, good, process) == pytest.approx(usd, rel=0.01)


def test_a_package_by_hand():
    # (100 / 0.9 + 2 x 300) / (0.95^2 x 0.99) + 50 / 0.99
    expected = (100.0 / 0.9 + 600.0) / (0.95**2 * 0.99) + 50.0 / 0.99
    assert chip_last_cost_usd(100.0, 0.9, 50.0, 600.0, 0.95, 2.0) == pytest.approx(expected)
    perfect = chip_last_cost_usd(100.0, 1.0, 50.0, 600.0, 1.0, 9.0, 1.0)
    assert perfect == pytest.approx(750.0)
    silicon = PACKAGES["silicon_interposer"]
    assert substrate_cost_usd(800.0, silicon) > substrate_cost_usd(800.0, PACKAGES["organic"])


def test_failed_bonds_lose_dies_and_memory_but_not_the_package():
    chip = load_chip("b200")
    free = float(chip_cost_usd(300.0, chip))
    bonded = chip.replace(bond_yield_fraction=0.99, num_hbm_stacks=8.0)
    usd = float(chip_cost_usd(300.0, bonded))
    assert usd == pytest.approx((free - chip.package_cost_usd) / 0.99**10 + chip.package_cost_usd)
    lost = chip.replace(package_yield_fraction=0.9)
    assert chip_cost_usd(300.0, lost) == pytest.approx(free / 0.9)


def test_operating_cost_by_hand():
    cluster = load_system("trn2_ultraserver").cluster.replace(
        server_cost_usd_per_chip=1000.0,
        lifetime_s=4e8,
        host_power_w=300.0,
        supply_loss_fraction=0.0,
        pue_ratio=1.25,
        electricity_usd_per_j=1e-8,
    )
    assert 1e8 * chip_operating_cost_usd_per_s(3000.0, 500.0, cluster) == pytest.approx(
        1000.0 + 1000.0
    )


def test_embodied_carbon_of_a_square_centimeter():
    # ACT, 5 nm: 583 g/kWh x 2.75 kWh + 430 + 500 g
    n5 = load_process("n5")
    assert 100.0 * die_carbon_g_per_mm2(n5) == pytest.approx(583.0 * 2.75 + 930.0)
    nodes = [float(die_carbon_g_per_mm2(load_process(n))) for n in ("n40", "n7", "n5", "n3")]
    assert np.all(np.diff(nodes) > 0.0)


def test_carbon_of_chips_and_steps_by_hand():
    chip = load_chip("trainium2")
    silicon = float(die_carbon_g_per_mm2(chip.process)) * 470.0 / 0.5
    memory = 65e-9 * chip.hbm.capacity_bytes
    assert chip_carbon_g(470.0, 0.5, chip) == pytest.approx(silicon + memory + 150.0)
    cluster = load_system("trn2_ultraserver").cluster.replace(
        num_chips=10.0,
        lifetime_s=1e8,
        host_power_w=500.0,
        supply_loss_fraction=0.25,
        pue_ratio=1.0,
        grid_carbon_g_per_j=1e-4,
    )
    # 1 kW a chip and 500 W of its host, behind a supply that loses a quarter
    assert step_carbon_g(2e4, 100.0, 1e6, cluster) == pytest.approx(0.2 + 200.0)
