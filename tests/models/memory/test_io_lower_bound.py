"""Least traffic of GEMMs and convolutions: by hand, in the limits, and below every tiling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from support.mapping_examples import ACCOUNTING
from support.tile_cores import convs, core, tile

from hwdse.models.memory.hbm_traffic import RESIDENCIES, SPLITS, Tiling, tiling_traffic_bytes
from hwdse.models.memory.io_lower_bound import (
    compulsory_bytes,
    convolution_traffic_bound,
    copies_bytes,
    demand_ratio,
    gemm_traffic_bound,
    pebble_bytes,
    safe_ratio,
    streamed_sums_words,
)
from hwdse.models.memory.tile_traffic import tile_traffic
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import total
from hwdse.specs.mappings.tiles import RESIDENCIES as TILE_RESIDENCIES
from hwdse.specs.mappings.tiles import roles
from hwdse.workload.gemms import Gemms, InputWindows

TILINGS = [Tiling(*split, *held) for split in SPLITS.values() for held in RESIDENCIES.values()]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def product(m, k, n, count=1.0, shares=(1.0, 1.0, 1.0)) -> Gemms:
    sizes = [jnp.asarray(x, float) for x in (m, k, n, count, *shares)]
    return Gemms(*sizes, 0.0 * sizes[0], 0.0 * sizes[0])


class TestByHand:
    """A square GEMM of 1024 with 2^14 words, 128 x 128 of one operand."""

    GEMM = (1024.0, 1024.0, 1024.0)

    def test_pebble_bound(self):
        words = pebble_bytes(product(*self.GEMM), 2.0**14, 1.0, 1.0, 1.0)
        assert words == 2.0 * 2.0**30 / 2.0**7 - 2.0 * 2.0**14

    def test_sums_of_four_bytes_take_the_space_of_two_elements(self):
        """e^2 s = 16 instead of 8 under the root; outputs leave as elements, 2 bytes less each."""
        narrow = pebble_bytes(product(*self.GEMM), 2.0**15, 1.0, 2.0, 2.0)
        wide = pebble_bytes(product(*self.GEMM), 2.0**15, 1.0, 2.0, 4.0)
        assert narrow == 2.0 * (2.0 * 2.0**30 / 2.0**7 - 2.0 * 2.0**14)
        assert wide == pytest.approx(
            (float(narrow) + 2.0**16) * np.sqrt(2.0) - 2.0**16 - 2.0 * 2.0**20
        )

    def test_compulsory_words(self):
        assert compulsory_bytes(product(2.0, 3.0, 5.0, 7.0), 2.0) == 2.0 * 7.0 * (6 + 15 + 10)

    def test_operand_of_eight_heads_counts_an_eighth(self):
        shared = product(2.0, 3.0, 5.0, 8.0, (1.0, 0.125, 1.0))
        assert compulsory_bytes(shared, 1.0) == 8.0 * 6 + 15 + 8.0 * 10

    def test_eight_engines_need_twice_the_words_of_one(self):
        """Cubes of half the edge: 8 x 3 (N / 2)^2 words instead of 3 N^2."""
        assert copies_bytes(product(*self.GEMM), 8.0, 1.0) == pytest.approx(6.0 * 2.0**20)
        assert copies_bytes(product(*self.GEMM, 8.0), 8.0, 1.0) == 0.0
        assert copies_bytes(product(*self.GEMM), 1.0, 1.0) == 0.0

    def test_streamed_sums(self):
        words = streamed_sums_words(1024.0, 1024.0, 1024.0, 2.0**14)
        assert words == 2.0 * 2.0**30 / 2.0**7 + 2.0**20

    def test_balance(self):
        """1 B/FLOP at 4 FLOP/s needs 4 B/s."""
        assert demand_ratio(10.0, 2.0, 10.0, 4.0) == 2.0
        assert demand_ratio(0.0, 2.0, 10.0, 4.0) == demand_ratio(1.0, 2.0, 0.0, 4.0) == 0.0
        assert safe_ratio(3.0, 0.0) == 0.0


def test_resident_rows_go_below_the_count_for_streamed_sums():
    """Depth 512 with S = 512^2 plus streamed data: 512 rows of A are resident, B passes 8 times."""
    m, k, n, fast = 4096.0, 512.0, 4096.0, 512.0 * (512.0 + 2.0)
    moved = m * k + k * n * m / 512.0 + m * n
    bound = gemm_traffic_bound(product(m, k, n), 4.0 * fast, 4.0).bytes / 4.0
    assert streamed_sums_words(m, n, k, fast) > 1.3 * moved
    assert 0.92 * moved < bound < moved


def test_a_large_memory_needs_the_compulsory_words_only():
    gemm = product(640.0, 128.0, 320.0, 3.0)
    bound = gemm_traffic_bound(gemm, 1e12, 2.0)
    assert bound.pebble_bytes == 0.0
    assert bound.bytes == compulsory_bytes(gemm, 2.0)


def test_a_memory_of_one_word_reads_both_factors_of_every_product():
    gemm = product(640.0, 128.0, 320.0)
    words = gemm_traffic_bound(gemm, 4.0, 4.0).bytes / 4.0
    assert words == pytest.approx(float(2.0 * gemm.num_macs), rel=1e-6)
    assert gemm_traffic_bound(gemm, 1e-9, 4.0).bytes == 4.0 * words


def test_operands_that_never_leave_the_chip_have_no_pebble_bound():
    fused = product(4096.0, 128.0, 4096.0, 1.0, (1.0, 1.0, 0.0))
    bound = gemm_traffic_bound(fused, 2.0**20, 2.0)
    assert bound.pebble_bytes == 0.0
    assert bound.bytes == 2.0 * 2.0 * 4096.0 * 128.0


@functools.cache
def compiled():
    def both(gemm, fast, parts, size):
        each = gemm_traffic_bound(gemm, fast, size, parts).bytes
        one = gemm_traffic_bound(gemm, fast, size).bytes
        tilings = [gemm.count * tiling_traffic_bytes(gemm, fast, parts, size, t) for t in TILINGS]
        return one, each, jnp.stack(tilings)

    return quick_jit(both)


whole = st.integers(1, 20_000).map(float)
shares = st.sampled_from([0.0, 0.125, 0.5, 1.0])


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(whole, whole, whole),
    st.integers(1, 100).map(float),
    st.tuples(shares, shares, shares),
    st.floats(1.0, 10.0),
    st.integers(1, 16).map(float),
    st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]),
)
def test_no_tiling_is_below_the_bound(sizes, count, fractions, log_bytes, parts, element_bytes):
    gemm = product(*sizes, count, fractions)
    numbers = (10.0**log_bytes, parts, element_bytes)
    one, each, tilings = compiled()(gemm, *(jnp.asarray(x, float) for x in numbers))
    assert one <= each * (1.0 + 1e-12)
    assert np.all(each <= np.asarray(tilings) * (1.0 + 1e-12))


taps, steps = st.integers(1, 5), st.integers(1, 3)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(whole, st.integers(1, 200), taps, taps, steps, steps),
    st.tuples(st.integers(1, 512), st.integers(1, 512), st.integers(1, 64)),
    st.floats(1.0, 9.0),
    st.integers(1, 16).map(float),
)
def test_no_tiling_of_a_convolution_is_below_the_bound(window, channels, log_bytes, parts):
    p, q, r, s, stride, dilation = window
    c, k, count = channels
    numbers = (r, s, p, q, stride, stride, dilation, dilation)
    windows = InputWindows(*(jnp.asarray(x, float) for x in numbers))
    gemm = product(p * q, r * s * c, k, count, (1.0, 1.0, 1.0)).replace(windows=windows)
    numbers = (10.0**log_bytes, parts, 2.0)
    one, each, tilings = compiled()(gemm, *(jnp.asarray(x, float) for x in numbers))
    assert one <= each * (1.0 + 1e-12)
    assert np.all(each <= np.asarray(tilings) * (1.0 + 1e-12))


def test_best_tiling_of_a_large_gemm_is_near_the_bound():
    """A square of FP32 sums in 3/8 of the memory: 1.63 times the bound for such sums."""
    gemm = product(65536.0, 65536.0, 65536.0)
    fast = 24.0 * 2.0**20
    best = min(float(tiling_traffic_bytes(gemm, fast, 1.0, 2.0, tiling)) for tiling in TILINGS)
    ratio = best / float(gemm_traffic_bound(gemm, fast, 2.0).bytes)
    assert 1.0 <= ratio < 1.7


def test_more_memory_never_raises_the_bound():
    fast = jnp.logspace(0.0, 11.0, 400)
    for gemm in (product(4096.0, 4096.0, 4096.0), product(1.0, 8192.0, 8192.0, 3.0)):
        bound = gemm_traffic_bound(gemm, fast, 2.0, 4.0).bytes
        assert jnp.all(jnp.diff(bound) <= 0.0)


def test_gradients_agree_with_finite_differences():
    @jax.jit
    def log_bound(m, k, fast):
        return jnp.log(gemm_traffic_bound(product(m, k, 3000.0), fast, 2.0, 4.0).bytes)

    for fast in (1e5, 1e9):  # pebble, copies
        check_grads(log_bound, (2000.0, 1000.0, fast), order=1, modes=("rev",))


def test_gradients_are_finite_without_traffic():
    def bound(leaves, parts):
        m, k, n, share, fast = leaves
        gemm = product(m, k, n, 1.0, (1.0, 1.0, share))
        return gemm_traffic_bound(gemm, fast, 2.0, parts).bytes + demand_ratio(m, 0.0, fast, k)

    slopes = quick_jit(jax.vmap(jax.grad(bound), in_axes=(0, None)))
    cases = ((64.0, 64.0, 64.0, 0.0, 1e3), (1.0, 1.0, 1.0, 1.0, 1e-6), (1e5,) * 5)
    for dtype in (jnp.float32, jnp.float64):
        assert jnp.all(jnp.isfinite(slopes(jnp.asarray(cases, dtype), jnp.asarray(8.0, dtype))))


def test_gemm_equals_a_convolution_of_one_tap():
    conv = convs(p=640.0, c=128.0, k=320.0)
    ours = convolution_traffic_bound(conv, 1000.0)
    theirs = gemm_traffic_bound(product(640.0, 128.0, 320.0), 4000.0, 4.0)
    assert ours.compulsory_bytes[0] == theirs.compulsory_bytes / 4.0
    assert ours.pebble_bytes[0] == pytest.approx(float(theirs.pebble_bytes) / 4.0)


def test_convolution_by_hand():
    """3 x 3 at stride 2: an input is in up to 2 x 2 windows; 7 outputs need 15 inputs per row."""
    conv = convs(r=3.0, s=3.0, p=7.0, q=7.0, c=64.0, k=32.0, n=2.0, stride_p=2.0, stride_q=2.0)
    bound = convolution_traffic_bound(conv, 256.0)
    macs = 9.0 * 49.0 * 64.0 * 32.0 * 2.0
    assert bound.compulsory_bytes[0] == 2 * 64 * 15 * 15 + 9 * 64 * 32 + 2 * 49 * 32
    assert bound.pebble_bytes[0] == pytest.approx(2.0 * macs / np.sqrt(4.0 * 256.0) - 512.0)


def test_inputs_between_wide_strides_are_not_counted():
    conv = convs(r=1.0, s=1.0, p=7.0, q=7.0, c=4.0, k=1.0, stride_p=3.0, stride_q=3.0)
    assert convolution_traffic_bound(conv, 1e9).bytes[0] == 4 * 49 + 4 + 49


@pytest.mark.parametrize("residency", sorted(TILE_RESIDENCIES))
def test_no_tile_of_a_convolution_is_below_the_bound(residency):
    """DRAM words of random tiles against the bound for the words in all memories."""
    rng, number = np.random.default_rng(1), 4000

    def sizes(high):
        return np.floor(np.exp(rng.uniform(0.0, np.log(high), number)))

    taps, step = sizes(8.0), sizes(4.0)
    spread = np.where(step > 1.5, 1.0, sizes(3.0))
    op = convs(
        r=taps, s=taps, p=sizes(200.0), q=sizes(200.0), c=sizes(2000.0), k=sizes(2000.0),
        n=sizes(16.0), stride_p=step, stride_q=step, dilation_r=spread, dilation_s=spread,
    )  # fmt: skip
    within = [np.minimum(sizes(most), np.asarray(x)) for most, x in
              ((200.0, op.p), (200.0, op.q), (16.0, op.n), (2000.0, op.k))]  # fmt: skip
    rows, cols = (np.minimum(16.0, np.asarray(x)) for x in (op.c, within[3]))
    some = tile(residency, within[0], within[3], rows, cols, q=within[1], n=within[2])
    accelerator = core()
    traffic, part = tile_traffic(op, some, accelerator, ACCOUNTING), roles(accelerator)

    def words(moved, level):
        return total(jax.tree.map(jnp.divide, moved, level.word_bytes))

    pairs = list(zip(traffic.levels, accelerator.levels, strict=True))
    held = sum(words(moved.used, level) for moved, level in pairs[1:])
    dram, level = pairs[part.dram]
    moved = words(dram.reads, level) + words(dram.writes, level)
    bound = convolution_traffic_bound(op, held)
    assert part.dram == 0
    assert jnp.all(bound.bytes <= moved * (1.0 + 1e-12))
    assert jnp.mean(bound.pebble_bytes > bound.compulsory_bytes) > 0.05
