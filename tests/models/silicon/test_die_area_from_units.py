"""Die area from unit counts: published areas, scaling laws, links between dies, reticle."""

import dataclasses

import jax
import numpy as np
import pytest

from hwdse.config import load_chip
from hwdse.config.hardware.published_dies import load_dies
from hwdse.models.silicon.area import area_parts_mm2, die_link_area_mm2, reticle_used_ratio
from hwdse.models.silicon.die_area_from_units import (
    BITCELL_UM2,
    PHY_MM2,
    cache_area_mm2_per_byte,
    die_area_parts_mm2,
    macro_area_mm2_per_byte,
)
from hwdse.specs.hardware.die_unit_counts import DieUnitCounts

MIB = 1024.0**2


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ["A100", "H100", "TPU v4"])
def test_published_dies_within_15_percent(name):
    plan, area_mm2 = load_dies()[name]
    assert die_area_parts_mm2(plan).total == pytest.approx(area_mm2, rel=0.15)


def test_logic_shrinks_with_the_node_and_phys_do_not():
    plan = load_dies()["A100"][0]
    nothing = DieUnitCounts(
        **dict.fromkeys((f.name for f in dataclasses.fields(DieUnitCounts)), 0.0)
    )
    for node_nm in (7.0, 5.0, 3.0):
        phys = nothing.replace(node_nm=node_nm, hbm2e=6.0)
        assert die_area_parts_mm2(phys).total > 6.0 * PHY_MM2["hbm2e"][0]
    seven, three = (die_area_parts_mm2(plan.replace(node_nm=n)) for n in (7.0, 3.0))
    assert three.crossbar / seven.crossbar == pytest.approx(96.3 / (138.2 * 1.6))
    assert three.shared_memory / seven.shared_memory == pytest.approx(0.125 / 0.17)
    five = die_area_parts_mm2(plan.replace(node_nm=5.0))
    assert three.shared_memory == pytest.approx(five.shared_memory)  # SRAM stopped scaling


def test_components_are_proportional_to_their_counts():
    plan = load_dies()["H100"][0]
    before = die_area_parts_mm2(plan)
    after = die_area_parts_mm2(plan.replace(shared_bytes=2.0 * plan.shared_bytes))
    assert after.total - before.total == pytest.approx(before.shared_memory)
    fewer = die_area_parts_mm2(plan.replace(num_cores=0.5 * plan.num_cores))
    assert fewer.cores == pytest.approx(0.5 * before.cores)
    slope = jax.grad(lambda n: die_area_parts_mm2(plan.replace(num_cores=n)).total)(144.0)
    assert slope == pytest.approx((before.cores + before.crossbar) / 144.0)


def test_memory_densities():
    assert MIB * macro_area_mm2_per_byte(BITCELL_UM2[7.0]) == pytest.approx(0.324, rel=0.003)
    assert MIB * macro_area_mm2_per_byte(BITCELL_UM2[5.0]) == pytest.approx(0.252, rel=0.003)
    assert MIB * cache_area_mm2_per_byte(7.0) == pytest.approx(2.54, rel=0.002)
    nodes = np.array([2.0, 5.0, 6.0, 7.0, 16.0])
    densities = jax.vmap(cache_area_mm2_per_byte)(nodes)
    assert np.all(np.diff(densities) >= 0.0)
    assert np.all(np.diff(densities)[1:] > 0.0)


def test_links_between_dies_use_area():
    chip = load_chip("b200")
    assert chip.num_dies == 2.0
    linked = chip.replace(die_link_bandwidth_bytes_per_s=5e12)
    added = area_parts_mm2(linked).link_phy - area_parts_mm2(chip).link_phy
    # 5 TB/s are 19.5 modules of 256 GB/s on each die, 0.4055 mm² each
    assert added == pytest.approx(2.0 * 5e12 / 256e9 * 0.4055)
    assert die_link_area_mm2(linked.replace(num_dies=1.0)) == 0.0


def test_reticle():
    assert reticle_used_ratio(858.0, 1.0) == pytest.approx(1.0)
    assert reticle_used_ratio(1600.0, 2.0) == pytest.approx(800.0 / 858.0)
