"""Laws of die area and yield: published dies, hand-worked parts, own designs, gradients."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.config import load_chip
from hwdse.models.silicon.area import (
    WHITE_SPACE_FRACTION,
    area_parts_mm2,
    datapath_ratio,
    die_link_area_mm2,
    network_bytes_per_cycle,
    own_fp64_ratio,
    reticle_used_ratio,
)
from hwdse.models.silicon.die_yield import die_yield_fraction
from hwdse.models.silicon.unit_areas import BITCELL_UM2, macro_area_mm2_per_byte
from hwdse.numerics.relaxation import total
from hwdse.search.space.pytree_path import get_path, set_path

MIB = 1024.0**2
PUBLISHED_MM2 = {
    "a100": 826.0,
    "h100": 814.0,
    "h200": 814.0,
    "gh200": 814.0,
    "h200_nvl": 814.0,
    "h100_nvl": 814.0,
    "l40s": 608.5,
    "rtx_4090": 608.5,
    "b200": 1600.0,  # about: two dies at the limit of the reticle
    "gb200": 1600.0,
    "b300": 1600.0,
    "tpu_v4": 600.0,  # an upper bound
    "mi300x": 8.0 * 115.0 + 4.0 * 370.0,
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def chip():
    return load_chip("trainium2")


def area_of(chip):
    return float(total(area_parts_mm2(chip)))


@pytest.mark.parametrize("name", sorted(PUBLISHED_MM2))
def test_presets_have_the_area_of_their_dies_within_10_percent(name):
    assert area_of(load_chip(name)) == pytest.approx(PUBLISHED_MM2[name], rel=0.10)


def test_chips_of_one_die_have_one_area():
    hopper = area_of(load_chip("h200"))
    for name in ("h100", "h800", "h100_96gb", "gh200"):
        assert area_of(load_chip(name)) == pytest.approx(hopper, rel=2e-3), name
    assert area_of(load_chip("a100_40")) == pytest.approx(area_of(load_chip("a100")), rel=2e-3)


def test_cores_of_a100_take_their_share_of_the_floorplan():
    parts = area_parts_mm2(load_chip("a100"))
    cores = parts.matrix + parts.fp64 + parts.vector
    assert 0.4 < cores / total(parts) < 0.58  # 476 of 823 mm² with first-level SRAM


def test_parts_by_hand(chip):
    process, array = chip.process, chip.array
    parts = area_parts_mm2(chip)
    num_macs = array.rows * array.cols * array.num_arrays
    # FP8 pairs need a second aligner and adder beside 1640 + 4184 µm²
    pe_ratio = (1640.0 + 1360.0 + 4184.0) / (1640.0 + 4184.0)
    psum_mm2 = 8.0 * 2.0 * MIB * process.sram_area_mm2_per_byte
    assert parts.matrix == pytest.approx(num_macs * process.mac_area_mm2 * pe_ratio + psum_mm2)
    ports = 58e12 / 2.4e9 * process.sram_port_area_mm2_per_byte
    capacity = chip.sram.capacity_bytes * process.sram_area_mm2_per_byte
    assert parts.sram == pytest.approx(capacity + ports)
    lanes = 4.42368e12 / 1.08e9
    per_lane = process.fp32_unit_area_mm2 + process.int32_unit_area_mm2
    per_lane += process.issue_lane_area_mm2
    assert parts.vector == pytest.approx(lanes * per_lane)
    moved = 2.0 * (2.9e12 + 640e9) / 2.4e9  # each array has its own scratchpad
    assert parts.on_chip_network == pytest.approx(moved * process.network_port_area_mm2_per_byte)
    assert parts.other == pytest.approx(chip.fixed_area_mm2)
    assert parts.white_space == pytest.approx(WHITE_SPACE_FRACTION * area_of(chip))
    assert parts.fp64 == parts.base_dies == 0.0


def test_datapath_of_one_systolic_pe_and_of_dot_products():
    assert datapath_ratio(1.0, 1.0) == 1.0
    assert datapath_ratio(16.0, 1.0) < datapath_ratio(8.0, 1.0) < 0.6
    ratios = [float(datapath_ratio(16.0, products)) for products in (1.0, 2.0, 4.0)]
    assert np.all(np.diff(ratios) > 0.0)  # narrow formats are not free


def test_fp64_units_share_multipliers_up_to_their_number(chip):
    kappa = chip.process.fp64_area_ratio
    own = chip.replace(fp64_per_fp16_ratio=0.5)
    assert own_fp64_ratio(own) == 0.5
    assert area_parts_mm2(own).fp64 == pytest.approx(
        0.5 * kappa * 128**2 * 8 * chip.process.mac_area_mm2
    )
    shared = own.replace(fp64_shared_fraction=0.5)
    assert own_fp64_ratio(shared) == pytest.approx(0.5 - 1.0 / kappa)
    hopper = load_chip("h100")
    assert own_fp64_ratio(hopper) == pytest.approx(0.5 * hopper.fp64_per_fp16_ratio)


GROWING = {  # every unit takes area
    "array.rows": "matrix",
    "array.num_arrays": "matrix",
    "accumulator_column_bytes": "matrix",
    "fp4_speedup_ratio": "matrix",
    "sram.capacity_bytes": "sram",
    "sram.bandwidth_bytes_per_s": "sram",
    "vector_flop_per_s": "vector",
    "hbm.bandwidth_bytes_per_s": "hbm_phy",
    "link.bandwidth_bytes_per_s": "link_phy",
    "fixed_area_mm2": "other",
    "spare_unit_ratio": "matrix",
}


@pytest.mark.parametrize("path", sorted(GROWING))
def test_more_of_any_unit_takes_area(chip, path):
    grown = set_path(chip, path, 4.0 * get_path(chip, path))
    before, after = area_parts_mm2(chip), area_parts_mm2(grown)
    assert getattr(after, GROWING[path]) > 1.2 * getattr(before, GROWING[path])
    for field in dataclasses.fields(after):
        assert getattr(after, field.name) >= getattr(before, field.name), field.name


def test_arrays_without_a_scratchpad_of_their_own_need_the_network(chip):
    grown = chip.replace(array=chip.array.replace(num_arrays=13.0), num_scratchpads=4.0)
    added = network_bytes_per_cycle(grown) - network_bytes_per_cycle(chip)
    assert added == pytest.approx(9.0 * 2.0 * (128.0 + 128.0))


def test_a_petabyte_per_second_of_sram_takes_area(chip):
    faster = chip.replace(sram=chip.sram.replace(bandwidth_bytes_per_s=1e15))
    assert area_of(faster) > 2.0 * area_of(chip)


def test_base_dies_carry_the_compute_dies_and_the_interfaces():
    stacked = load_chip("mi300x")
    parts = area_parts_mm2(stacked)
    assert parts.base_dies / 8.0 == pytest.approx(115.0, rel=0.15)
    assert (area_of(stacked) - float(parts.base_dies)) / 4.0 == pytest.approx(370.0, rel=0.15)


@pytest.mark.parametrize("clock_hz", [1.5e9, 1.9e9, 2.4e9, 2.8e9])
def test_2_6_pflops_do_not_fit_600_mm2_of_n5(chip, clock_hz):
    """B200 has 2.25 PFLOP/s on about 1600 mm²; bare PEs alone are not a chip."""
    num_arrays = 2.64e15 / (2.0 * 128.0**2 * clock_hz)
    own = chip.replace(
        array=chip.array.replace(num_arrays=num_arrays, clock_hz=clock_hz),
        nominal_clock_hz=clock_hz,
        num_scratchpads=4.0,
        sram=chip.sram.replace(capacity_bytes=32.0 * MIB, bandwidth_bytes_per_s=100e12),
        hbm=chip.hbm.replace(bandwidth_bytes_per_s=6e12),
        vector_clock_hz=0.0,
    )
    assert 2.0 * 128.0**2 * own.array.num_arrays * clock_hz == pytest.approx(2.64e15)
    assert area_of(own) > 800.0


def test_systolic_chips_have_more_multipliers_per_area_than_gpus():
    """Fewer lanes and registers per multiplier, not another constant."""
    density = {}
    for name in ("h100", "tpu_v6e", "trainium2"):
        one = load_chip(name)
        array = one.array
        density[name] = array.rows * array.cols * array.num_arrays / area_of(one)
    assert density["tpu_v6e"] > 1.5 * density["h100"]


def test_clock_and_dataflow_use_no_area(chip):
    faster = chip.replace(array=chip.array.replace(clock_hz=2.0 * chip.array.clock_hz))
    assert jax.tree.leaves(area_parts_mm2(faster)) == jax.tree.leaves(area_parts_mm2(chip))


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(sorted(PUBLISHED_MM2)), st.floats(0.05, 20.0), st.sampled_from(sorted(GROWING))
)
def test_gradients_are_finite(name, factor, path):
    with jax.enable_x64(True):
        one = load_chip(name)
        moved = set_path(one, path, factor * get_path(one, path))
        slopes = jax.grad(lambda c: total(area_parts_mm2(c)))(
            jax.tree.map(lambda x: np.float64(x), moved)
        )
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))


def test_gradient_agrees_with_finite_differences():
    one = jax.tree.map(float, load_chip("h100"))

    def scaled(rows, vector, ports):
        changed = set_path(one, "array.rows", 128.0 * rows)
        changed = set_path(changed, "vector_flop_per_s", 30e12 * vector)
        return total(area_parts_mm2(set_path(changed, "sram.bandwidth_bytes_per_s", 3e13 * ports)))

    check_grads(scaled, (1.0, 1.1, 0.9), order=1)


def test_links_between_dies_use_area():
    linked = load_chip("b200")
    alone = linked.replace(die_link_bandwidth_bytes_per_s=0.0)
    added = area_parts_mm2(linked).link_phy - area_parts_mm2(alone).link_phy
    # 5 TB/s are 19.5 modules of 256 GB/s on each die, 0.4055 mm² each
    assert added == pytest.approx(2.0 * 5e12 / 256e9 * 0.4055)
    assert die_link_area_mm2(linked.replace(num_dies=1.0)) == 0.0


def test_reticle():
    assert reticle_used_ratio(858.0, 1.0) == pytest.approx(1.0)
    assert reticle_used_ratio(1600.0, 2.0) == pytest.approx(800.0 / 858.0)


def test_memory_densities():
    assert MIB * macro_area_mm2_per_byte(BITCELL_UM2[7.0]) == pytest.approx(0.324, rel=0.003)
    assert MIB * macro_area_mm2_per_byte(BITCELL_UM2[5.0]) == pytest.approx(0.252, rel=0.003)
    for name in ("a100", "h100"):
        process = load_chip(name).process
        assert process.cache_area_mm2_per_byte > process.sram_area_mm2_per_byte


def test_published_yield():
    # 814 mm², 0.11 defects per cm², clustering 10
    assert die_yield_fraction(814.0, 0.0011, 10.0) == pytest.approx(0.424, abs=5e-4)


def test_yield_limits():
    assert die_yield_fraction(0.0, 0.0011, 10.0) == 1.0
    assert die_yield_fraction(814.0, 0.0, 10.0) == 1.0
    poisson = float(die_yield_fraction(500.0, 0.001, 1e9))
    assert poisson == pytest.approx(np.exp(-0.5), rel=1e-6)
    # Clustered defects leave other dies good.
    assert die_yield_fraction(500.0, 0.001, 2.0) > poisson
    yields = [float(die_yield_fraction(area, 0.0011, 10.0)) for area in (1.0, 100.0, 800.0, 1e5)]
    assert np.all(np.diff(yields) < 0.0)
    assert yields[-1] > 0.0


def test_gradient_of_yield():
    check_grads(lambda a, d, c: die_yield_fraction(1e3 * a, 1e-3 * d, c), (0.8, 1.1, 9.0), 1)
    assert np.isfinite(jax.grad(die_yield_fraction)(0.0, 0.0011, 10.0))
