"""Laws of energy and area of arithmetic, and data movement energy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.models.energy import arithmetic_unit_costs as units
from hwdse.models.energy.data_movement_energy import (
    DRAM_PJ_PER_BIT,
    LINK_PJ_PER_BIT,
    SRAM_PORT_J_PER_BYTE,
    SRAM_WRITE_RATIO,
    j_per_byte,
)
from hwdse.models.energy.voltage_and_leakage import sram_energy_j_per_byte
from hwdse.specs.number_formats import FORMATS


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_exponents_follow_from_the_anchors():
    assert units.MULTIPLY_J.exponent == pytest.approx(1.55, abs=0.006)
    assert units.MULTIPLY_MM2.exponent == pytest.approx(1.98, abs=0.006)
    assert units.ADD_J.exponent == pytest.approx(1.17, abs=0.006)
    assert units.ADD_MM2.exponent == pytest.approx(1.62, abs=0.006)


@pytest.mark.parametrize(
    ("bits", "picojoules", "square_um"),
    [(8.0, 0.67, 872), (4.0, 0.23, 221), (3.0, 0.146, 125), (53.0, 12.7, 37e3)],
)
def test_multipliers_of_other_widths(bits, picojoules, square_um):
    assert 1e12 * units.MULTIPLY_J(bits) == pytest.approx(picojoules, rel=0.02)
    assert 1e6 * units.MULTIPLY_MM2(bits) == pytest.approx(square_um, rel=0.02)


def test_fp64_add_by_the_law():
    assert 1e12 * units.ADD_J(64.0) == pytest.approx(2.0, rel=0.02)
    assert 1e6 * units.ADD_MM2(64.0) == pytest.approx(12_900, rel=0.01)


def test_narrower_formats_are_cheaper_and_blocks_add_their_scale():
    names = ("fp64", "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
    energies = [float(units.format_mac_energy_j(FORMATS[n], FORMATS["fp32"])) for n in names]
    areas = [float(units.format_mac_area_mm2(FORMATS[n], FORMATS["fp32"])) for n in names]
    assert np.all(np.diff(energies) < 0.0)
    assert np.all(np.diff(areas) < 0.0)
    plain, block = FORMATS["fp8_e4m3"], FORMATS["mxfp8_e4m3"]
    scaled = float(units.format_mac_energy_j(block, FORMATS["fp32"]))
    # 1 / 32 of an add of 8 bits and one of 32: 0.03 and 0.9 pJ
    expected = float(units.format_mac_energy_j(plain, FORMATS["fp32"])) + 0.93e-12 / 32.0
    assert scaled == pytest.approx(expected, rel=1e-6)
    assert units.format_of("fp4") == FORMATS["mxfp4_e2m1"]
    with pytest.raises(KeyError):
        units.format_of("fp7")


def test_integers_by_hand():
    assert 1e12 * units.int_mac_energy_j(8.0, 32.0) == pytest.approx(0.3)
    assert 1e6 * units.int_mac_area_mm2(8.0, 32.0) == pytest.approx(282.0 + 137.0)


def test_nodes_scale_as_in_their_sources():
    ratio = units.node_energy_ratio
    assert ratio(45.0) == pytest.approx(1.0)
    assert 3.7 * ratio(7.0) == pytest.approx(1.31)
    assert ratio(5.0) / ratio(7.0) == pytest.approx(0.70)
    assert ratio(3.0) / ratio(5.0) == pytest.approx(0.68)
    nodes = jnp.linspace(1.0, 130.0, 300)
    assert np.all(np.diff(jax.vmap(ratio)(nodes)) > 0.0)
    assert np.all(np.diff(jax.vmap(units.node_area_ratio)(nodes)) > 0.0)
    assert units.logic_density_mtr_per_mm2(7.0) == pytest.approx(96.3)


def test_gradients():
    check_grads(lambda m, b: 1e12 * units.mac_energy_j(m, b, 0.5), (9.0, 30.0), 1)
    check_grads(lambda m, b: 1e6 * units.mac_area_mm2(m, b, 0.5), (9.0, 30.0), 1)
    check_grads(units.node_energy_ratio, (11.0,), 1)
    assert np.isfinite(jax.grad(units.MULTIPLY_J)(0.0))


def test_data_movement_energy():
    assert j_per_byte(DRAM_PJ_PER_BIT["hbm2"]) == pytest.approx(31.76e-12)
    generations = [DRAM_PJ_PER_BIT[name] for name in ("hbm2", "hbm2e", "hbm3", "hbm3e", "hbm4")]
    assert np.all(np.diff(generations) < 0.0)
    reach = ("ucie_advanced", "ucie_standard", "xsr", "nvlink_c2c", "pcie5", "optics_pluggable")
    assert np.all(np.diff([LINK_PJ_PER_BIT[name] for name in reach]) > 0.0)
    # CACTI 7, 1 MiB with a 32-byte port at 45 nm: 5.62 pJ read, 5.34 written
    read = sram_energy_j_per_byte(2.0**20, SRAM_PORT_J_PER_BYTE[45.0])
    assert 1e12 * read == pytest.approx(5.62, rel=0.05)
    assert 1e12 * SRAM_WRITE_RATIO * read == pytest.approx(5.34, rel=0.15)
