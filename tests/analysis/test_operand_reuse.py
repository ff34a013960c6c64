"""Words per storage location: hand calculations, limits, equalities between engines."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.analysis.operand_reuse import (
    EYERISS_ENERGIES,
    INSTRUCTION_MACS,
    WIRES,
    instruction_energy_j,
    reuse_energy_j,
    row_stationary_reuse,
    simd_reuse,
    systolic_reuse,
)
from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.config.hardware.cpus import load_simd
from hwdse.models.compute.systolic import FOLDS
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.chip import Memory, SystolicArray
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators

NAMES = sorted(FOLDS)
SCRATCHPAD = Memory(2.0**20, 1e12, 0.0)
GRAVITON2 = load_simd("graviton2")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_gemms(m, k, n, count=1.0) -> Gemms:
    m, k, n, count = (np.asarray(x, dtype=np.float64) for x in (m, k, n, count))
    one, zero = np.ones_like(m), np.zeros_like(m)
    return Gemms(m, k, n, count * one, one, one, one, zero, zero)


def make_array(name, side=16.0) -> SystolicArray:
    return SystolicArray(side, side, 1.0, 1e9, dataflow=name)


def test_every_dataflow_has_a_words_function():
    assert set(WIRES) == set(FOLDS)


@pytest.mark.parametrize("name", NAMES)
def test_scratchpad_words_of_large_gemms_follow_the_array_dimensions(name):
    """1 / R + 1 / C of A and B if output stationary; else one operand plus sums both ways."""
    words = systolic_reuse(make_gemms(4096.0, 4096.0, 4096.0), make_array(name), SCRATCHPAD, 2.0)
    per_mac = words.buffer / 4096.0**3
    expected = 2.0 / 16.0 if name.startswith("output") else 3.0 / 16.0
    assert per_mac == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_streamed_operands_come_from_a_neighbor_pe_or_the_scratchpad(name):
    """Two operands per MAC for any array, apart from loads and drains."""
    gemms = make_gemms(160.0, 320.0, 480.0)
    array = make_array(name)
    words = systolic_reuse(gemms, array, SCRATCHPAD, 2.0)
    folds = FOLDS[name](gemms, array)
    m, k, n = 160.0, 320.0, 480.0
    moved_in = {"output": m * n, "weight": k * n, "input": m * k}[name.split("_")[0]]
    from_buffer = {
        "output": folds.a_passes * m * k + folds.b_passes * k * n,
        "weight": folds.a_passes * m * k + folds.c_passes * m * n,
        "input": folds.b_passes * k * n + folds.c_passes * m * n,
    }[name.split("_")[0]]
    assert words.array + from_buffer - moved_in * 7.5 == pytest.approx(2.0 * m * k * n)


def test_one_pe_forwards_nothing():
    for name in NAMES:
        words = systolic_reuse(make_gemms(5.0, 6.0, 7.0), make_array(name, 1.0), SCRATCHPAD, 2.0)
        assert words.array == 0.0


def test_register_words_match_hand_calculation():
    """16 x 16 x 16 on 16 x 16: sums are read and written 4096 times; weights are read 4096 times
    and written 256 times."""
    gemms = make_gemms(16.0, 16.0, 16.0)
    by_name = {n: systolic_reuse(gemms, make_array(n), SCRATCHPAD, 2.0).registers for n in NAMES}
    assert by_name["output_stationary"] == 2 * 4096
    assert by_name["weight_stationary"] == by_name["input_stationary"] == 4096 + 256


def test_simd_reads_registers_for_every_mac_and_forwards_nothing():
    gemms = make_gemms(960.0, 512.0, 960.0)
    words = simd_reuse(gemms, GRAVITON2, 2.0)
    assert words.array == 0.0
    assert 4.0 < words.registers / gemms.num_macs < 4.5
    assert words.buffer / gemms.num_macs == pytest.approx(1.0 / 8.0 + 1.0 / 24.0, rel=0.02)


def test_array_needs_less_traffic_than_simd_if_larger_than_the_register_block():
    """FP16: the block of 32 registers is 8 x 24, equivalent to a square of 12."""
    gemms = make_gemms(4800.0, 4800.0, 4800.0)
    simd = simd_reuse(gemms, GRAVITON2, 2.0).buffer

    def array_words(side):
        return systolic_reuse(gemms, make_array("output_stationary", side), SCRATCHPAD, 2.0).buffer

    assert array_words(10.0) > simd > array_words(15.0)
    outputs = 4800.0**2
    assert 8.0 * (array_words(120.0) - outputs) == array_words(15.0) - outputs


@pytest.mark.parametrize("name", NAMES)
def test_words_are_proportional_to_counts(name):
    once, often = (
        systolic_reuse(make_gemms(64.0, 32.0, 48.0, c), make_array(name), SCRATCHPAD, 2.0)
        for c in (1, 7)
    )
    assert jax.tree.map(float, often) == jax.tree.map(lambda x: 7.0 * float(x), once)


def test_row_stationary_counts_are_comparable_with_other_engines():
    """A 3 x 3 filter over 6 x 7 inputs at once, as in `test_row_stationary`.

    Buffer fills from DRAM are not counted here.
    """
    sizes = (3.0, 3.0, 4.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0)
    operator = Operators(*sizes, names=("conv",))
    sets = RowStationaryMapping(3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    words = quick_jit(row_stationary_reuse)(operator, load_accelerator("eyeriss"), sets)
    assert words.buffer == 2 * (42 + 20 + 20)
    assert words.dram == 2 * (9 + 42 + 20)
    assert words.array == 2 * 160


def test_energy_is_the_sum_over_locations():
    words = systolic_reuse(
        make_gemms(64.0, 64.0, 64.0), make_array("output_stationary"), SCRATCHPAD, 2.0
    )
    energy = reuse_energy_j(words, EYERISS_ENERGIES)
    assert energy.registers == words.registers
    assert energy.array == 2.0 * words.array
    assert energy.buffer == 6.0 * words.buffer
    assert energy.dram == 200.0 * words.dram


def test_instruction_energy_falls_with_vector_width():
    """20 MACs per instruction: 20 / 8 on 8 lanes, and the same for loads."""
    gemms = make_gemms(960.0, 960.0, 960.0)
    energies = EYERISS_ENERGIES.replace(instruction_j=INSTRUCTION_MACS)
    per_mac = instruction_energy_j(gemms, GRAVITON2, 2.0, energies) / gemms.num_macs
    assert per_mac == pytest.approx(20.0 / 8.0 * (1.0 + 1.0 / 8.0 + 1.0 / 24.0))
    wide = GRAVITON2.replace(vector_bytes=64.0)
    assert instruction_energy_j(gemms, wide, 2.0, energies) < 0.3 * per_mac * gemms.num_macs
    assert instruction_energy_j(gemms, wide, 2.0, EYERISS_ENERGIES) == 0.0


@pytest.mark.parametrize("name", ["output_stationary", "weight_stationary", "input_stationary"])
def test_gradients_are_finite(name):
    def words(leaves):
        m, k, n, side, capacity_bytes = leaves
        gemms = Gemms(m, k, n, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0)
        scratchpad = Memory(capacity_bytes, 1e12, 0.0)
        moved = systolic_reuse(gemms, make_array(name, side), scratchpad, 2.0)
        return sum(jnp.log1p(x) for x in jax.tree.leaves(moved))

    program = quick_jit(jax.value_and_grad(words))
    for size in (1.0, 300.0):
        value, slopes = program([jnp.float64(x) for x in (size, size, size, 16.0, 1e6)])
        assert math.isfinite(value)
        assert np.all(np.isfinite(slopes))
