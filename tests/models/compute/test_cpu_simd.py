"""GEMMs on SIMD units: register blocks of libraries, communication bounds, peaks of Graviton."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.config.files.errors import ConfigError
from hwdse.config.files.toml_files import preset_names, preset_root
from hwdse.config.hardware.cpus import load_simd, load_simd_file
from hwdse.models.compute.cpu_simd import (
    cache_blocks,
    ideal_register_block,
    register_block,
    simd_costs,
    simd_peak_flop_per_s,
    simd_words,
    step_cycles,
)
from hwdse.models.compute.systolic import scratchpad_words
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.specs.hardware.cpu import RegisterBlock
from hwdse.workload.gemms import Gemms

GRAVITON2 = load_simd("graviton2")
LEVELS = ("l1", "l2", "llc", "dram")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_gemms(m, k, n, count=1.0) -> Gemms:
    m, k, n, count = (np.asarray(x, dtype=np.float64) for x in (m, k, n, count))
    one, zero = np.ones_like(m), np.zeros_like(m)
    return Gemms(m, k, n, count * one, one, one, one, zero, zero)


RAGGED = make_gemms([1.0, 5.0, 100.0, 4096.0], [1.0, 7.0, 33.0, 500.0], [1.0, 3.0, 65.0, 1000.0])
LARGE = make_gemms(7680.0, 6820.0, 7680.0)  # full register blocks and full k blocks in FP32


class TestPresets:
    @pytest.mark.parametrize(
        ("name", "fp64_tflops", "fp16_tflops"),
        [("graviton2", 1.28, 5.1), ("graviton3", 2.66, 10.6), ("graviton4", 4.30, 17.2)],
    )
    def test_lanes_ports_and_clock_give_the_peaks(self, name, fp64_tflops, fp16_tflops):
        engine, printed = load_simd(name), load_simd_file(name).published
        assert printed["fp64_flop_per_s"] == fp64_tflops * 1e12
        for width, tflops in ((8.0, fp64_tflops), (2.0, fp16_tflops)):
            assert simd_peak_flop_per_s(engine, width) / 1e12 == pytest.approx(tflops, rel=5e-3)

    def test_graviton4_over_graviton3(self):
        """AWS: 50 % more cores and 75 % more memory bandwidth."""
        new, old = load_simd("graviton4"), load_simd("graviton3")
        assert new.num_cores / old.num_cores == 1.5
        assert new.dram_bandwidth_bytes_per_s / old.dram_bandwidth_bytes_per_s == 1.75

    @pytest.mark.parametrize("name", preset_names("simd"))
    def test_every_preset_has_sources_and_comments_on_its_numbers(self, name):
        file = load_simd_file(name)
        assert file.sources
        assert file.published
        above = ""
        for line in (preset_root() / "simd" / f"{name}.toml").read_text().splitlines():
            if line.startswith("[published]"):
                break
            if " = " in line and not line.startswith(("name", "sources", "#")):
                assert "#" in line or above.startswith("#"), line
            above = line

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("num_cores = 64", "num_cores = 1.5", "num_cores = 1.5: expected a whole number"),
            ("num_registers = 32", "num_registers = 99", "whole number from 3 to 64"),
            ('"1 MiB"', '"1 KiB"', "[l2] capacity = 1024: expected at least that of l1"),
            ("vector = ", "vectr = ", "did you mean 'vector'?"),
        ],
    )
    def test_an_invalid_value_gives_an_error_of_one_line(self, tmp_path, old, new, message):
        path = tmp_path / "bad.toml"
        path.write_text((preset_root() / "simd" / "graviton2.toml").read_text().replace(old, new))
        with pytest.raises(ConfigError) as caught:
            load_simd(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


class TestRegisterBlock:
    @pytest.mark.parametrize(
        ("width", "rows", "cols"),
        [(4.0, 8.0, 12.0), (8.0, 6.0, 8.0), (2.0, 8.0, 24.0)],
    )
    def test_equals_that_of_hand_written_kernels(self, width, rows, cols):
        """BLIS's `armv8a_asm_8x12` and `6x8` (config/cortexa57), Arm Compute Library's FP16
        `hgemm_8x24`, all for 32 registers of 128 bits."""
        block = register_block(GRAVITON2, width)
        assert (block.rows, block.cols) == (rows, cols)

    @given(registers=st.integers(4, 64), lanes=st.sampled_from([1, 2, 4, 8, 16, 32]))
    @settings(max_examples=25, deadline=None)
    def test_fits_and_reads_at_least_as_much_as_the_ideal_block(self, registers, lanes):
        engine = GRAVITON2.replace(num_registers=float(registers), vector_bytes=4.0 * lanes)
        block, ideal = (
            register_block(engine, 4.0),
            ideal_register_block(float(registers), float(lanes)),
        )
        rows, cols = int(block.rows), int(block.cols)
        assert rows % lanes == 0
        assert rows // lanes * cols + rows // lanes + -(-cols // lanes) <= registers
        assert 1.0 / rows + 1.0 / cols >= 2.0 / ideal.rows - 1e-12

    @given(registers=st.floats(4, 64), lanes=st.floats(1, 32), tilt=st.floats(0.2, 5.0))
    @settings(max_examples=25, deadline=None)
    def test_no_other_shape_with_the_same_registers_reads_less(self, registers, lanes, tilt):
        """At constant (m_r + 1)(n_r + 1) = V v + 1, 1 / m_r + 1 / n_r is least for the square."""
        ideal = ideal_register_block(registers, lanes)
        rows = (ideal.rows + 1.0) * tilt - 1.0
        cols = (registers * lanes + 1.0) / (rows + 1.0) - 1.0
        if rows > 0.0 and cols > 0.0:
            assert 1.0 / rows + 1.0 / cols >= 2.0 / ideal.rows * (1.0 - 1e-9)

    @given(registers=st.floats(4, 64), lanes=st.floats(1, 32))
    @settings(max_examples=20, deadline=None)
    def test_meets_the_lower_bound_of_communication(self, registers, lanes):
        """2 / sqrt(S) words per multiply-accumulate with S words of fast memory (Smith, Lowery,
        Langou and van de Geijn, arXiv 1702.02017)."""
        ideal = ideal_register_block(registers, lanes)
        assert 2.0 / ideal.rows >= 2.0 / math.sqrt(registers * lanes)

    def test_gradient_equals_that_of_the_ideal_block(self):
        def words(registers, ideal):
            engine = GRAVITON2.replace(num_registers=registers)
            block = ideal_register_block(registers, 4.0) if ideal else register_block(engine, 4.0)
            return block.rows + 2.0 * block.cols

        exact = jax.grad(lambda x: words(x, False))(32.0)
        assert exact == pytest.approx(float(jax.grad(lambda x: words(x, True))(32.0)))
        assert exact == pytest.approx(3.0 * 4.0 / (2.0 * math.sqrt(32.0 * 4.0 + 1.0)))

    def test_smooth_relaxation_goes_from_the_exact_to_the_ideal_block(self):
        ideal = ideal_register_block(32.0, 4.0).rows
        assert register_block(GRAVITON2, 4.0, smooth(1.0)).rows == pytest.approx(float(ideal))
        assert register_block(GRAVITON2, 4.0, smooth(0.0)).rows == pytest.approx(8.0)

    def test_float32_finds_the_same_block(self):
        with jax.enable_x64(False):
            block = register_block(GRAVITON2, 8.0)
        assert (float(block.rows), float(block.cols)) == (6.0, 8.0)


class TestSteps:
    def test_pipes_limit_a_large_block_and_latency_a_small_one(self):
        """8 x 12 in FP32 are 24 vectors on 2 pipes; four vectors wait for their previous sums."""
        assert step_cycles(RegisterBlock(8.0, 12.0), GRAVITON2, 4.0) == 12.0
        assert step_cycles(RegisterBlock(4.0, 4.0), GRAVITON2, 4.0) == 4.0

    def test_bounds_are_equal_at_latency_times_throughput(self):
        """Low et al., eq. (1): m_r n_r = v L P elements keep every pipe busy."""
        elements = 4.0 * GRAVITON2.fma_latency_cycles * GRAVITON2.num_fma_ports
        cycles = step_cycles(RegisterBlock(4.0, elements / 4.0), GRAVITON2, 4.0)
        assert cycles == GRAVITON2.fma_latency_cycles
        assert elements / cycles == 4.0 * GRAVITON2.num_fma_ports


class TestWords:
    def test_a_case_worked_by_hand(self):
        """16 x 10 x 24 in FP32, blocks of 8 x 12, all in the caches: A is loaded twice, B twice, C
        written once; every multiply-accumulate reads three registers and writes one."""
        words = simd_words(make_gemms(16.0, 10.0, 24.0), GRAVITON2, 4.0)
        a, b, c, macs = 160.0, 240.0, 384.0, 3840.0
        assert words.l1 == 2.0 * a + 2.0 * b + c
        assert words.l2 == words.llc == words.dram == a + b + c
        assert words.register_reads == 3.0 * macs + c
        assert words.register_writes == macs + 2.0 * a + 2.0 * b

    def test_l1_reads_follow_block_sizes_as_array_dimensions(self):
        """1 / m_r + 1 / n_r words of A and B, and 1 / R + 1 / C for output stationary."""
        words = simd_words(LARGE, GRAVITON2, 4.0)
        c_words = 2.0 * LARGE.k / 682.0 - 1.0
        loads = words.l1 - c_words * LARGE.m * LARGE.n
        assert loads / LARGE.num_macs == pytest.approx(1.0 / 8.0 + 1.0 / 12.0, rel=1e-9)
        array = SystolicArray(8.0, 12.0, 1.0, 1e9, "output_stationary")
        assert scratchpad_words(LARGE, array) == pytest.approx(float(loads), rel=1e-9)

    @pytest.mark.parametrize("width", [1.0, 2.0, 4.0, 8.0])
    def test_every_operand_moves_at_least_once_and_less_at_outer_levels(self, width):
        words = simd_words(RAGGED, GRAVITON2, width)
        distinct = RAGGED.m * RAGGED.k + RAGGED.k * RAGGED.n + RAGGED.m * RAGGED.n
        assert jnp.all(words.dram >= distinct)
        for outer, inner in (("dram", "llc"), ("llc", "l2"), ("l2", "l1")):
            assert jnp.all(getattr(words, outer) <= getattr(words, inner) * (1.0 + 1e-12))
        assert jnp.all(words.register_reads >= 3.0 * RAGGED.num_macs)

    @pytest.mark.parametrize("name", ["l2", "llc"])
    def test_a_larger_cache_never_increases_traffic_beyond_it(self, name):
        gemms = make_gemms(20000.0, 9000.0, 30000.0)
        moved = []
        for scale in np.geomspace(1.0, 64.0, 13):
            cache = getattr(GRAVITON2, name)
            cache = cache.replace(capacity_bytes=cache.capacity_bytes * scale)
            words = simd_words(gemms, GRAVITON2.replace(**{name: cache}), 4.0)
            moved.append(float(words.dram if name == "llc" else words.llc))
        assert np.all(np.diff(moved) <= 0.0)
        assert moved[-1] < moved[0]

    def test_counts_multiply(self):
        once, often = (simd_words(make_gemms(64.0, 32.0, 48.0, c), GRAVITON2, 4.0) for c in (1, 7))
        for level in LEVELS:
            assert getattr(often, level) == 7.0 * getattr(once, level)

    def test_blocks_half_fill_the_caches(self):
        block = register_block(GRAVITON2, 8.0)
        blocks = cache_blocks(make_gemms(1e5, 1e5, 1e5), GRAVITON2, 8.0, block)
        for elements, cache in (
            (blocks.k * block.cols, GRAVITON2.l1),
            (blocks.k * blocks.m, GRAVITON2.l2),
            (blocks.k * blocks.n, GRAVITON2.llc),
        ):
            assert 0.45 < elements * 8.0 / cache.capacity_bytes <= 0.5


class TestTimes:
    @pytest.mark.parametrize("name", preset_names("simd"))
    def test_never_faster_than_the_peak_and_near_it_for_large_gemms(self, name):
        engine = load_simd(name)
        for gemms in (RAGGED, LARGE):
            costs = simd_costs(gemms, engine, 4.0)
            share = 2.0 * gemms.num_macs / costs.time_s / simd_peak_flop_per_s(engine, 4.0)
            assert jnp.all(share <= 1.0 + 1e-12)
        assert share > 0.98

    def test_matrix_vector_product_is_memory_bound(self):
        costs = simd_costs(make_gemms(1.0, 4096.0, 4096.0), GRAVITON2, 4.0)
        distinct_bytes = 4.0 * (4096.0**2 + 2.0 * 4096.0)
        assert costs.time_s == costs.dram_s
        assert costs.dram_s == pytest.approx(distinct_bytes / 204.8e9, rel=1e-6)

    def test_one_block_runs_on_one_core(self):
        """8 x 100 x 12 in FP32: 100 steps of 12 cycles for any number of cores."""
        costs = simd_costs(make_gemms(8.0, 100.0, 12.0), GRAVITON2, 4.0)
        assert costs.fma_s == pytest.approx(1200.0 / 2.5e9)
        assert costs.l1_s == pytest.approx((800 + 1200 + 96) * 4.0 / 32.0 / 2.5e9)

    @pytest.mark.parametrize("field", ["m", "k", "n", "count"])
    def test_more_work_never_takes_less_time(self, field):
        sizes = jnp.arange(1.0, 200.0)
        gemms = make_gemms(*(jnp.full_like(sizes, 40.0) for _ in range(3)), 2.0)
        gemms = gemms.replace(**{field: sizes})
        assert jnp.all(jnp.diff(simd_costs(gemms, GRAVITON2, 4.0).fma_s) >= 0.0)


def time_of(leaves, relaxation=EXACT):
    size, count, registers, vector_bytes, cores, clock, l1_bytes, dram = leaves
    engine = GRAVITON2.replace(
        num_registers=registers,
        vector_bytes=vector_bytes,
        num_cores=cores,
        clock_hz=clock,
        l1=GRAVITON2.l1.replace(capacity_bytes=l1_bytes),
        dram_bandwidth_bytes_per_s=dram,
    )
    gemms = Gemms(size, size, size, count, 1.0, 1.0, 1.0, 0.0, 0.0)
    costs = simd_costs(gemms, engine, 4.0, relaxation)
    moved = sum(getattr(costs.words, level) for level in LEVELS)
    return jnp.log(costs.time_s) + jnp.log(moved)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(1.0), smooth(0.0)], ids=str)
@pytest.mark.parametrize("size", [1.0, 100.0, 1e6])
def test_gradients_are_finite(size, relaxation):
    leaves = [jnp.float64(x) for x in (size, 2.0, 32.0, 16.0, 64.0, 2.5e9, 65536.0, 2e11)]
    value, slopes = jax.value_and_grad(lambda x: time_of(x, relaxation))(leaves)
    assert math.isfinite(value)
    assert np.all(np.isfinite(slopes))
    if size > 1000.0:
        assert slopes[2] < 0.0  # registers; a larger block only pads a GEMM of one element


def test_gradient_of_the_relaxation_agrees_with_finite_differences():
    """Relative steps; only cache blocks are rounded in the full relaxation."""
    fixed = [jnp.float64(x) for x in (16.0, 64.0, 2.5e9, 65536.0, 2e11)]

    def value(logs):
        return time_of([*jnp.exp(logs), *fixed], smooth(1.0))

    start = jnp.log(jnp.asarray([5000.0, 2.0, 32.0]))
    check_grads(value, (start,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-4)
