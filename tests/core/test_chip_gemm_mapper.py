"""HBM traffic of a chip under the best mappings of its cores, compared with fixed tilings."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.config import load_chip, load_search
from hwdse.core.mapper.chip_gemm_mapper import chip_core, mapped_traffic_bytes, partition_gemms
from hwdse.models.memory import hbm_traffic
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.space.pytree_path import set_path
from hwdse.specs.hardware.accelerator import Operands
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.conv_shapes import ConvLayer, ConvShape, conv_operators, layer_list
from hwdse.workload.loops.operators import extents

CHIP = load_chip("trainium2")
SIZES = np.array([[4096.0, 4096.0, 4096.0, 1.0], [64.0, 1000.0, 333.0, 12.0], [512.0] * 3 + [3.0]])
M, K, N, COUNT = SIZES.T
ONES = np.ones(3)
GEMMS = Gemms(M, K, N, COUNT, ONES, ONES, ONES, 0.0 * ONES, 0.0 * ONES)
DISTINCT = 2.0 * COUNT * (M * K + K * N + M * N)
KIB = 1024.0


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@functools.cache
def program():
    """Bytes, and gradient of their sum with respect to the chip, for each capacity."""

    def traffic(chip, gemms):
        return mapped_traffic_bytes(gemms, chip, 1.0, 2.0, EXACT)

    return quick_jit(lambda chip, gemms: (
        traffic(chip, gemms), jax.grad(lambda x: jnp.sum(traffic(x, gemms)))(chip)
    ))  # fmt: skip


def run(capacity_bytes, **fractions):
    chip = set_path(CHIP, "sram.capacity_bytes", 8.0 * capacity_bytes)
    gemms = GEMMS.replace(**{name: share * ONES for name, share in fractions.items()})
    moved, slope = program()(jax.tree.map(lambda x: jnp.asarray(x, float), chip), gemms)
    return np.asarray(moved), slope


def test_traffic_is_at_least_compulsory_and_equal_if_all_operands_fit():
    for capacity in (64 * KIB, 1024 * KIB, 2.0**40):
        assert np.all(run(capacity)[0] >= DISTINCT * (1.0 - 1e-12))
    # Whole GEMMs are distributed over eight cores, or split so that one operand goes to each.
    endless = run(2.0**40)[0]
    cut = 2.0 * COUNT * (M * K + 8.0 * K * N + M * N)
    assert np.all(endless <= cut)
    assert endless[1] == pytest.approx(DISTINCT[1])  # 12 products for 8 cores


def test_traffic_never_rises_with_scratchpad_capacity():
    moved = [np.sum(run(capacity * KIB)[0]) for capacity in (32.0, 128.0, 512.0, 2048.0, 8192.0)]
    assert np.all(np.diff(moved) <= 0.02 * moved[0])  # energy, not traffic, is what it minimizes
    assert moved[-1] < 0.7 * moved[0]


def test_traffic_is_comparable_with_the_closed_form():
    for capacity in (128 * KIB, 1024 * KIB, 4096 * KIB):
        sram = CHIP.sram.replace(capacity_bytes=8.0 * capacity)
        closed = hbm_traffic.hbm_traffic_bytes(GEMMS, sram, CHIP.num_scratchpads, 2.0)
        ratio = run(capacity)[0] / np.asarray(closed)
        assert np.all(ratio < 1.6)
        assert np.all(ratio > 0.25)


def test_operands_outside_hbm_have_no_traffic():
    moved, _ = run(1024 * KIB, a_in_hbm=0.0, c_in_hbm=0.0)
    assert np.all(moved >= 2.0 * COUNT * K * N * (1.0 - 1e-12))
    assert np.all(moved < run(1024 * KIB)[0])
    np.testing.assert_array_equal(run(1024 * KIB, a_in_hbm=0.0, b_in_hbm=0.0, c_in_hbm=0.0)[0], 0.0)


def test_gradients_are_finite_and_traffic_falls_with_scratchpad_capacity():
    _, slope = run(40 * KIB)
    assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves(slope))
    assert float(slope.sram.capacity_bytes) < 0.0


def test_a_core_is_the_part_of_one_scratchpad():
    core = chip_core(CHIP, 1.0, 2.0, Operands(1.0, 0.5, 0.0))
    hbm, scratchpad, sums, registers = core.levels
    assert hbm.read_bandwidth_bytes_per_s == pytest.approx(CHIP.hbm.bandwidth_bytes_per_s / 8)
    assert scratchpad.capacity_bytes == pytest.approx(0.375 * 28 * 2**20)
    assert sums.capacity_bytes == 2.0 * 2**20
    assert registers.capacity_bytes == 128 * 128 * 2
    assert (hbm.word_bytes.inputs, hbm.word_bytes.outputs) == (1.0, 0.0)
    assert core.clock_hz == CHIP.array.clock_hz
    four = chip_core(CHIP.replace(num_scratchpads=2.0), 2.0, 2.0, Operands(1.0, 1.0, 1.0))
    assert four.clock_hz == 8.0 * CHIP.array.clock_hz  # four arrays, twice the rate


def test_mapping_key_selects_the_mapper():
    assert load_search("trn2_llama3_70b").base.mapping == "closed_form"
    loaded = load_search("trn2_llama3_70b", ["design.mapping=optimize"])
    assert loaded.base.mapping == "optimize"
    assert loaded.base.runs_long
    with pytest.raises(
        ValueError, match=r"\[design\] mapping = \"best\": expected one of closed_f"
    ):
        load_search("trn2_llama3_70b", ["design.mapping=best"])


CONVS = conv_operators(
    [
        ConvLayer("conv", ConvShape(58, 58, 3, 3, 64, 64, 1, 1, batch=4), 1),
        ConvLayer("small", ConvShape(9, 9, 3, 3, 512, 512, 1, 1), 1),
    ]
)


def test_convolutions_are_divided_by_lines_of_outputs():
    """224 lines of 4 images: 28 on each of 8 cores; 7 lines on 7 of the 8 cores."""
    gemms = layer_list(CONVS).gemms
    chip = CHIP.replace(num_scratchpads=8.0)
    by_rows, by_cols, whole = np.asarray(
        extents(partition_gemms(gemms, chip, 1.0, 2.0).parts)
    ).reshape(3, 2, 7)
    np.testing.assert_array_equal(by_rows[0], [3, 3, 28, 56, 64, 64, 1])
    np.testing.assert_array_equal(by_rows[1], [3, 3, 1, 7, 512, 512, 1])
    np.testing.assert_array_equal(by_cols[:, 5], [8, 64])
    np.testing.assert_array_equal(whole, extents(CONVS))


def test_a_core_reads_each_input_of_a_convolution_once_if_it_fits():
    """Split by lines, halos included, or by filters; never the unrolled image."""
    gemms = layer_list(CONVS).gemms
    moved = mapped_traffic_bytes(gemms, set_path(CHIP, "sram.capacity_bytes", 1e9), 1.0, 2.0, EXACT)
    outputs, filters = 4 * 56 * 56 * 64, 9 * 64 * 64
    lines = 2.0 * (8 * 30 * 58 * 64 + 8 * filters + outputs)
    assert moved[0] == pytest.approx(lines, rel=1e-6)
    unrolled = mapped_traffic_bytes(
        gemms.replace(windows=None), set_path(CHIP, "sram.capacity_bytes", 1e9), 1.0, 2.0, EXACT
    )
    assert unrolled[0] > 3.0 * moved[0]


@pytest.mark.parametrize(
    ("mib", "most_median", "most_time_error"),
    [
        (224.0, 1e-9, 1e-9),
        (56.0, 1e-9, 1e-9),
        (16.0, 0.05, 0.10),
        (8.0, 0.05, 0.20),
        (4.0, 0.05, 0.50),
        (2.0, 0.35, 0.70),
        (1.0, 0.25, 0.20),
    ],
)
def test_error_of_the_closed_form_over_a_grid_of_gemms(mib, most_median, most_time_error):
    """80 GEMMs of extents 128 to 32,768 on 8 cores of Trainium2; see docs/concepts/evaluation."""
    sizes = (128.0, 512.0, 2048.0, 8192.0, 32768.0)
    m, k, n = np.array(list(itertools.product(sizes, sizes[:4], sizes[:4]))).T
    one = np.ones(m.size)
    gemms = Gemms(m, k, n, one, one, one, one, 0.0 * one, 0.0 * one)
    with jax.enable_x64(True):
        sram = CHIP.sram.replace(capacity_bytes=mib * 2.0**20)
        chip = CHIP.replace(sram=sram)
        closed = np.asarray(hbm_traffic.hbm_traffic_bytes(gemms, sram, chip.num_scratchpads, 2.0))
        mapped = np.asarray(mapped_traffic_bytes(gemms, chip, 1.0, 2.0, EXACT))
    assert abs(np.median(closed / mapped) - 1.0) <= most_median
    compute_s = m * k * n / (8.0 * 128.0**2 * 2.4e9)
    times = [np.maximum(compute_s, moved / 2.9e12) for moved in (closed, mapped)]
    assert np.mean(np.abs(times[0] / times[1] - 1.0)) <= most_time_error
