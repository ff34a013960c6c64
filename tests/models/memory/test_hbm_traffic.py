"""Laws of HBM traffic: bounds, limits, brute force, monotony, gradients."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.models.memory.hbm_traffic import (
    ACCUMULATOR_BYTES,
    RESIDENCIES,
    RESIDENT_FRACTION,
    SPLITS,
    Tiling,
    best_tiling,
    hbm_traffic_bytes,
    roofline_time_s,
    tile_extents,
    tiling_traffic_bytes,
)
from hwdse.models.memory.io_lower_bound import compulsory_bytes
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.hardware.chip import Memory
from hwdse.workload.gemms import Gemms, InputWindows
from hwdse.workload.loops.conv_shapes import ConvLayer, ConvShape, conv_operators, layer_list

MIB = 2.0**20
EXTENTS = st.sampled_from([1, 2, 7, 64, 100, 128, 333, 1024, 4096, 8191])
CAPACITIES = st.floats(3.0, 8.5).map(lambda power: 10.0**power)
traffic = jax.jit(hbm_traffic_bytes)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def product(m, k, n, count=1.0, a=1.0, b=1.0, c=1.0, extra_bytes=0.0):
    """One GEMM operator."""
    numbers = (m, k, n, count, a, b, c, 0.0, extra_bytes)
    return Gemms(*(jnp.asarray([float(x)]) for x in numbers))


def scratchpad(capacity_bytes):
    return Memory(capacity_bytes, 1e13, 1e-12)


def distinct_bytes(m, k, n, count=1.0, flags=(1.0, 1.0, 1.0), size=2.0):
    return size * count * (flags[0] * m * k + flags[1] * k * n + flags[2] * m * n)


def brute_force_bytes(m, k, n, count, capacity_bytes, parts, size):
    """Least traffic over the same choices, in integers and loops."""
    tile_bytes = RESIDENT_FRACTION * capacity_bytes / parts
    sums = tile_bytes / ACCUMULATOR_BYTES
    block = math.floor(tile_bytes / (k * size) * (1 + 1e-15))
    found = []
    for split in ("m", "n", "products"):
        if split == "products" and count < parts:
            continue
        own_m = -(-m // parts) if split == "m" else m
        own_n = -(-n // parts) if split == "n" else n
        num_parts = 1 if split == "products" else parts
        tiles = [(block, own_n), (own_m, block)]
        if sums >= 1.0:
            side = min(math.sqrt(sums), own_m)
            across = min(sums / side, own_n)
            tiles.append((min(sums / across, own_m), across))
        for rows, cols in tiles:
            if min(rows, cols) < 1:
                continue
            whole_rows, whole_cols = (math.floor(x * (1 + 1e-15)) for x in (rows, cols))
            reads_of_a, reads_of_b = -(-own_n // whole_cols), -(-own_m // whole_rows)
            words = own_m * k * reads_of_a + k * own_n * reads_of_b + own_m * own_n
            found.append(num_parts * size * words)
    return count * min(found)


@given(EXTENTS, EXTENTS, EXTENTS, st.integers(1, 20), CAPACITIES, st.sampled_from([1, 2, 8]))
@settings(max_examples=150, deadline=None)
def test_least_traffic_equals_brute_force(m, k, n, count, capacity, parts):
    found = traffic(product(m, k, n, count), scratchpad(capacity), float(parts), 2.0)
    expected = brute_force_bytes(m, k, n, count, capacity, parts, 2.0)
    assert float(found[0]) == pytest.approx(expected, rel=1e-12)


@given(EXTENTS, EXTENTS, EXTENTS, st.integers(1, 20), CAPACITIES, st.sampled_from([1.0, 3.0, 8.0]))
@settings(max_examples=100, deadline=None)
def test_never_below_the_distinct_words(m, k, n, count, capacity, parts):
    found = float(traffic(product(m, k, n, count), scratchpad(capacity), parts, 2.0)[0])
    assert found >= distinct_bytes(m, k, n, count) * (1.0 - 1e-12)


@pytest.mark.parametrize(
    "flags", [f for f in itertools.product((0.0, 1.0), repeat=3) if any(f)], ids=str
)
def test_equal_to_the_distinct_words_if_all_fits(flags):
    gemms = product(300, 200, 100, 5.0, *flags)
    found = traffic(gemms, scratchpad(64.0 * MIB), 1.0, 2.0)
    assert found[0] == distinct_bytes(300, 200, 100, 5.0, flags)


def test_private_scratchpads_each_read_an_operand():
    # Two of them split the rows: B goes to both, A and C once.
    found = traffic(product(512, 64, 8), scratchpad(64.0 * MIB), 2.0, 2.0)
    assert found[0] == 2.0 * (512 * 64 + 2 * 64 * 8 + 512 * 8)
    # With one GEMM each, nothing is read twice.
    found = traffic(product(512, 64, 8, 2.0), scratchpad(64.0 * MIB), 2.0, 2.0)
    assert found[0] == distinct_bytes(512, 64, 8, 2.0)


@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from([1.0, 8.0]), CAPACITIES, st.floats(1.0, 50.0))
@settings(max_examples=150, deadline=None)
def test_more_capacity_never_adds_traffic(m, k, n, parts, capacity, factor):
    gemms = product(m, k, n)
    less = float(traffic(gemms, scratchpad(capacity), parts, 2.0)[0])
    more = float(traffic(gemms, scratchpad(capacity * factor), parts, 2.0)[0])
    assert more <= less * (1.0 + 1e-12)


def test_fewer_bytes_per_element_never_add_traffic():
    gemms = product(4096, 4096, 4096)
    sizes = [float(traffic(gemms, scratchpad(8.0 * MIB), 8.0, size)[0]) for size in (1.0, 1.5, 2.0)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_elementwise_traffic_is_not_an_operand():
    """`training/gemm_operator_costs.py` adds it, scaled by the software's fusion."""
    plain = traffic(product(100, 100, 100, 7.0), scratchpad(MIB), 1.0, 2.0)
    extra = traffic(product(100, 100, 100, 7.0, extra_bytes=500.0), scratchpad(MIB), 1.0, 2.0)
    assert extra[0] == plain[0]


@pytest.mark.parametrize("is_double", [False, True])
def test_tiles_that_fit_exactly_keep_their_last_row(is_double):
    # s / (s / m) rounds to just under m; a lost row would read B twice.
    rng = np.random.default_rng(0)
    m, n = rng.integers(2, 4000, 5000).astype(float), np.full(5000, 1e5)
    tile_bytes = 4.0 * m * m * rng.uniform(1.0, 9.0, 5000)
    tiling = Tiling(*SPLITS["GEMMs distributed"], *RESIDENCIES["resident tile of C"])
    ones = np.ones(5000)
    with jax.enable_x64(is_double):
        gemms = Gemms(m, 64.0 * ones, n, ones, ones, ones, ones, 0.0 * ones, 0.0 * ones)
        gemms = jax.tree.map(lambda x: jnp.asarray(x, float), gemms)
        sram_bytes = jnp.asarray(tile_bytes, float) / RESIDENT_FRACTION

        @jax.jit
        def reads_of_b(gemms, sram_bytes):
            gemms = gemms.replace(a_in_hbm=0.0 * gemms.m, c_in_hbm=0.0 * gemms.m)
            moved = tiling_traffic_bytes(gemms, sram_bytes, 1.0, 2.0, tiling)
            return moved / (2.0 * gemms.k * gemms.n)

        assert np.allclose(reads_of_b(gemms, sram_bytes), 1.0, rtol=1e-6)


@pytest.mark.parametrize("residency", sorted(RESIDENCIES))
def test_tiles_fit(residency):
    tiling = Tiling(*SPLITS["rows split"], *RESIDENCIES[residency])
    for m, k, n in itertools.product((64.0, 1000.0, 8192.0), repeat=3):
        rows, cols = tile_extents(m, k, n, MIB, 2.0, tiling)
        if residency == "resident tile of C":
            assert rows * cols * ACCUMULATOR_BYTES <= MIB * (1.0 + 1e-12)
            assert rows <= m
            assert cols <= n
        else:
            assert min(float(rows), float(cols)) * k * 2.0 <= MIB * (1.0 + 1e-12)


def test_best_tiling_is_a_candidate():
    gemms = Gemms(*(jnp.asarray(x) for x in np.tile([[4096.0, 64.0, 1.0]], (9, 1))))
    tiling = best_tiling(gemms, MIB, 8.0, 2.0)
    names = [(*s, *r) for s in SPLITS.values() for r in RESIDENCIES.values()]
    for i in range(3):
        assert tuple(float(leaf[i]) for leaf in jax.tree.leaves(tiling)) in names


def test_gradient_equals_that_of_the_best_tiling():
    # Bytes per element scale A, B and C directly, and through the depth of the resident block.
    gemms, parts, size = product(4096, 3000, 5000), 8.0, 2.0

    def best(size):
        return hbm_traffic_bytes(gemms, scratchpad(8.0 * MIB), parts, size)[0]

    winner = best_tiling(gemms, 8.0 * MIB, parts, size)

    def of_winner(size):
        return tiling_traffic_bytes(gemms, 8.0 * MIB, parts, size, winner)[0]

    assert best(size) == of_winner(size)
    assert jax.grad(best)(size) == pytest.approx(float(jax.grad(of_winner)(size)), rel=1e-12)


def test_gradient_agrees_with_differences_without_rounding():
    # Everything fits, so traffic is the plain sum of the operands.
    def moved(k, size):
        gemms = product(300, 1, 100).replace(k=k * jnp.ones(1))
        return hbm_traffic_bytes(gemms, scratchpad(64.0 * MIB), 1.0, size)[0]

    slopes = jax.grad(moved, (0, 1))(200.0, 2.0)
    # The straight-through slope of the one tile adds the used fraction of the scratchpad.
    assert slopes[0] == pytest.approx(2.0 * (300.0 + 100.0), rel=2e-3)
    assert slopes[1] == pytest.approx(distinct_bytes(300, 200, 100, size=1.0), rel=2e-3)
    difference = (moved(200.0, 2.0 + 1e-3) - moved(200.0, 2.0 - 1e-3)) / 2e-3
    assert difference == pytest.approx(distinct_bytes(300, 200, 100, size=1.0), rel=1e-9)


@pytest.mark.parametrize(
    "relaxation", [EXACT, smooth(0.5), smooth(1.0)], ids=["exact", "half", "all"]
)
@pytest.mark.parametrize("is_double", [False, True])
def test_gradients_are_finite_at_the_edges(relaxation, is_double):
    cases = itertools.product((1.0, 8192.0), (1.0, 3e5), (1.0, 1e6), (1.0, 1e4))
    rows = jnp.asarray([(m, k, n, c, 1.0, 1.0, 1.0, 0.0, 0.0) for m, k, n, c in cases]).T
    with jax.enable_x64(is_double):
        gemms = Gemms(*jnp.asarray(np.asarray(rows), float))

        @jax.jit
        @jax.grad
        def slopes(arguments):
            gemms, capacity, parts, size = arguments
            return hbm_traffic_bytes(gemms, scratchpad(capacity), parts, size, relaxation).sum()

        for capacity, parts in itertools.product((16.0, 1e9), (1.0, 64.0)):
            found = jax.tree.leaves(slopes((gemms, capacity, parts, 2.0)))
            assert all(np.all(np.isfinite(x)) for x in found), (capacity, parts)


def test_smooth_relaxation_converges_to_the_exact_model():
    gemms = product(4096, 3000, 5000)
    exact = hbm_traffic_bytes(gemms, scratchpad(8.0 * MIB), 8.0, 2.0)
    cold = hbm_traffic_bytes(gemms, scratchpad(8.0 * MIB), 8.0, 2.0, smooth(0.0))
    warm = hbm_traffic_bytes(gemms, scratchpad(8.0 * MIB), 8.0, 2.0, smooth(1.0))
    assert cold[0] == pytest.approx(float(exact[0]), rel=1e-12)
    assert warm[0] <= exact[0]  # without rounding up


def test_roofline_is_the_slowest():
    assert roofline_time_s(1.0, 2.0, 4.0, 3.0) == 4.0
    assert 4.0 < roofline_time_s(1.0, 2.0, 4.0, 3.0, relaxation=smooth(1.0)) < 1.0 + 2.0 + 4.0 + 3.0


CONV = ConvShape(58, 58, 3, 3, 64, 64, 1, 1)
"""3 x 3 windows at stride 1: the unrolled image has 8.4 times the words of the image."""


def convolution(shape=CONV, count=1):
    """One convolution as the GEMM of its windows."""
    operators = conv_operators([ConvLayer("conv", shape, count)])
    return jax.tree.map(jnp.asarray, layer_list(operators).gemms)


def test_a_convolution_reads_its_inputs_once_if_the_filters_stay():
    """Image 58 x 58 x 64, filters 9 x 64 x 64, outputs 56 x 56 x 64, 2 bytes each."""
    words = 58 * 58 * 64 + 9 * 64 * 64 + 56 * 56 * 64
    assert traffic(convolution(), scratchpad(64.0 * MIB), 1.0, 2.0)[0] == 2.0 * words
    # The filters take 72 KiB: enough for them and no more.
    assert traffic(convolution(), scratchpad(200e3), 1.0, 2.0)[0] == 2.0 * words


def test_scratchpads_with_parts_of_a_convolution_read_a_halo_each():
    """Two scratchpads of 28 lines of outputs: 30 input rows, and all filters, each."""
    words = 2 * (30 * 58 * 64 + 9 * 64 * 64) + 56 * 56 * 64
    by_rows = Tiling(1.0, 0.0, 0.0, 1.0)
    found = tiling_traffic_bytes(convolution(), 64.0 * MIB, 2.0, 2.0, by_rows)
    assert found[0] == pytest.approx(2.0 * words, rel=1e-12)


def test_blocks_of_resident_rows_read_a_halo_each():
    """14 of 56 lines of outputs fit, unrolled: 4 blocks of 16 input rows; filters 4 times."""
    capacity = 14 * 56 * 576 * 2.0 / RESIDENT_FRACTION
    rows = Tiling(0.0, 0.0, 1.0, 0.0)
    words = 4 * (16 * 58 * 64 + 9 * 64 * 64) + 56 * 56 * 64
    found = tiling_traffic_bytes(convolution(), capacity, 1.0, 2.0, rows)
    assert found[0] == pytest.approx(2.0 * words, rel=1e-12)


def test_images_of_a_batch_are_read_once_each():
    one, four = (
        traffic(convolution(dataclasses.replace(CONV, batch=n)), scratchpad(64.0 * MIB), 1.0, 2.0)
        for n in (1, 4)
    )
    assert four[0] - one[0] == 3 * 2.0 * (58 * 58 * 64 + 56 * 56 * 64)


def test_a_convolution_of_one_tap_is_a_gemm():
    gemms = convolution(ConvShape(56, 56, 1, 1, 64, 128, 1, 1))
    one = jnp.ones(1)
    windows = InputWindows(one, one, 56.0 * one, 56.0 * one, one, one, one, one)
    for capacity in (1e4, 1e5, 1e7):
        plain = traffic(gemms, scratchpad(capacity), 4.0, 2.0)
        assert traffic(gemms.replace(windows=windows), scratchpad(capacity), 4.0, 2.0) == plain


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    CAPACITIES,
    st.floats(1.0, 8.0),
)
def test_a_convolution_moves_no_more_than_its_unrolled_gemm(sizes, steps, capacity, factor):
    p, q, r, s = sizes
    stride, dilation, batch = steps
    extent = [(n - 1) * stride + (t - 1) * dilation + 1 for n, t in ((p, r), (q, s))]
    gemms = convolution(ConvShape(*extent, r, s, 32, 48, stride, stride, batch, dilation, dilation))
    moved = traffic(gemms, scratchpad(capacity), 2.0, 2.0)[0]
    unrolled = traffic(gemms.replace(windows=None), scratchpad(capacity), 2.0, 2.0)[0]
    assert moved <= unrolled * (1.0 + 1e-12)
    least = compulsory_bytes(gemms, 2.0)[0]
    assert moved >= least * (1.0 - 1e-12)
    assert traffic(gemms, scratchpad(factor * capacity), 2.0, 2.0)[0] <= moved * (1.0 + 1e-12)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.5)])
@pytest.mark.parametrize("capacity", [2e3, 1e5, 1e8])
def test_gradients_of_convolutions_are_finite(relaxation, capacity):
    def moved(bytes_, parts, size):
        return hbm_traffic_bytes(convolution(), scratchpad(bytes_), parts, size, relaxation).sum()

    slopes = jax.grad(moved, argnums=(0, 1, 2))(capacity, 4.0, 2.0)
    assert np.all(np.isfinite(slopes))
