"""Laws of die area and yield."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.config import load_chip
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.models.silicon.die_yield import die_yield_fraction


@pytest.fixture(scope="module")
def chip():
    return load_chip("trainium2")


def test_parts_by_hand(chip):
    process, array = chip.process, chip.array
    parts = area_parts_mm2(chip)
    num_macs = array.rows * array.cols * array.num_arrays
    assert parts.matrix == pytest.approx(num_macs * process.mac_area_mm2)
    sram_mm2 = chip.sram.capacity_bytes * process.sram_area_mm2_per_byte
    assert parts.sram == pytest.approx(sram_mm2)
    assert parts.other == pytest.approx(chip.fixed_area_mm2)
    half = chip.replace(fp64_per_fp16_ratio=0.5)
    assert area_parts_mm2(half).fp64 == pytest.approx(0.5 * process.fp64_area_ratio * parts.matrix)
    assert area_parts_mm2(chip.replace(fp64_per_fp16_ratio=0.0)).fp64 == 0.0


def doubled(chip):
    """Each changed parameter with the one component proportional to it."""
    yield "matrix", chip.replace(array=chip.array.replace(num_arrays=2 * chip.array.num_arrays))
    yield "sram", chip.replace(sram=chip.sram.replace(capacity_bytes=2 * chip.sram.capacity_bytes))
    hbm, link = chip.hbm, chip.link
    faster = hbm.replace(bandwidth_bytes_per_s=2 * hbm.bandwidth_bytes_per_s)
    yield "hbm_phy", chip.replace(hbm=faster)
    faster = link.replace(bandwidth_bytes_per_s=2 * link.bandwidth_bytes_per_s)
    yield "link_phy", chip.replace(link=faster)
    yield "vector", chip.replace(vector_flop_per_s=2 * chip.vector_flop_per_s)
    yield "other", chip.replace(fixed_area_mm2=2 * chip.fixed_area_mm2)


def test_each_component_is_proportional_to_its_parameter(chip):
    before = area_parts_mm2(chip)
    for name, changed in doubled(chip):
        after = area_parts_mm2(changed)
        for part in ("matrix", "sram", "hbm_phy", "link_phy", "vector", "other"):
            factor = 2.0 if part == name else 1.0
            assert getattr(after, part) == pytest.approx(factor * getattr(before, part)), part


def test_clock_and_dataflow_use_no_area(chip):
    faster = chip.replace(array=chip.array.replace(clock_hz=2.0 * chip.array.clock_hz))
    assert jax.tree.leaves(area_parts_mm2(faster)) == jax.tree.leaves(area_parts_mm2(chip))


def test_published_yield():
    # 814 mm², 0.11 defects per cm², clustering 10
    assert die_yield_fraction(814.0, 0.0011, 10.0) == pytest.approx(0.424, abs=5e-4)


def test_yield_limits():
    assert die_yield_fraction(0.0, 0.0011, 10.0) == 1.0
    assert die_yield_fraction(814.0, 0.0, 10.0) == 1.0
    with jax.enable_x64(True):
        poisson = float(die_yield_fraction(500.0, 0.001, 1e9))
        assert poisson == pytest.approx(np.exp(-0.5), rel=1e-6)
        # Clustered defects leave other dies good.
        assert die_yield_fraction(500.0, 0.001, 2.0) > poisson
        yields = [
            float(die_yield_fraction(area, 0.0011, 10.0)) for area in (1.0, 100.0, 800.0, 1e5)
        ]
        assert np.all(np.diff(yields) < 0.0)
        assert yields[-1] > 0.0


def test_gradient_of_yield():
    with jax.enable_x64(True):
        check_grads(lambda a, d, c: die_yield_fraction(1e3 * a, 1e-3 * d, c), (0.8, 1.1, 9.0), 1)
        assert np.isfinite(jax.grad(die_yield_fraction)(0.0, 0.0011, 10.0))
