"""Row stationary: Eyeriss chip on AlexNet, hand calculation, mapspace, best mapping."""

import csv
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.core.mapper.row_stationary import (
    hop_words,
    row_stationary_costs,
    row_stationary_memories,
    row_stationary_nest,
)
from hwdse.core.mapper.row_stationary_mapper import (
    best_row_stationary_mapping,
    row_stationary_mapspace,
)
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Operands
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.workload.loops.operators import Operators

EYERISS = load_accelerator("eyeriss")
DATA = Path(__file__).parents[1] / "data" / "eyeriss_alexnet.csv"
WORD = 2.0


def read_rows() -> dict[str, dict[str, float]]:
    lines = [line for line in DATA.read_text().splitlines() if not line.startswith("#")]
    table = csv.DictReader(lines)
    return {row.pop("name"): {k: float(v) for k, v in row.items()} for row in table}


ALEXNET = read_rows()
LAYERS = sorted(ALEXNET)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def convolution(r, s, p, q, c, k, n, stride=1.0, count=1.0, name="conv") -> Operators:
    sizes = (r, s, p, q, c, k, n, stride, stride, 1.0, 1.0, count)
    return Operators(*(float(x) for x in sizes), names=(name,))


def layer(name) -> tuple[Operators, RowStationaryMapping]:
    """A layer of AlexNet (one group, `count` of them) and the chip's mapping of it."""
    row = ALEXNET[name]
    sizes = (row[key] for key in ("R", "S", "P", "Q", "C", "K", "N", "stride", "groups"))
    columns = "strip channel_sets filter_sets filters channels held_filters held_images"
    return convolution(*sizes, name), RowStationaryMapping(
        row["R"], *(row[key] for key in columns.split())
    )


PROGRAM = quick_jit(row_stationary_costs)


def costs_of(operator, sets, core=EYERISS):
    """Costs from one program for all operators and mappings of a shape."""
    operator = operator.replace(names=())
    return PROGRAM(*jax.tree.map(jnp.float64, (operator, core, sets)))


def moved(costs, name):
    """Traffic of a level in words."""
    index = [level.name for level in EYERISS.levels].index(name)
    return jax.tree.map(lambda x: x / WORD, costs.traffic.levels[index])


class TestChip:
    @pytest.mark.parametrize("name", LAYERS)
    def test_number_of_macs(self, name):
        operator, sets = layer(name)
        macs = operator.count * costs_of(operator, sets).traffic.num_macs
        assert macs / 1e6 == pytest.approx(ALEXNET[name]["num_macs_millions"], abs=0.06)

    @pytest.mark.parametrize("name", LAYERS)
    def test_active_pes(self, name):
        _, sets = layer(name)
        assert sets.num_active == ALEXNET[name]["num_active"]

    @pytest.mark.parametrize("name", LAYERS)
    def test_global_buffer_accesses_match_table_v(self, name):
        """Table V of JSSC 2017, to its printed digits."""
        operator, sets = layer(name)
        words = moved(costs_of(operator, sets), "global_buffer")
        total = words.reads.inputs + words.reads.outputs + words.writes.outputs
        megabytes = operator.count * total * WORD / 1e6
        assert megabytes == pytest.approx(ALEXNET[name]["buffer_mb"], abs=0.06)

    @pytest.mark.parametrize("name", LAYERS)
    def test_time_is_that_of_the_chip_without_ramps(self, name):
        """The model has no array fill time, so it may be faster by at most one sixth."""
        operator, sets = layer(name)
        costs = costs_of(operator, sets)
        model_ms = 1e3 * operator.count * costs.compute_s
        assert 5.0 / 6.0 < model_ms / ALEXNET[name]["processing_ms"] <= 1.0
        assert costs.time_s == costs.compute_s

    @pytest.mark.parametrize("name", LAYERS)
    def test_dram_accesses_exceed_those_of_the_chip_with_zero_compression(self, name):
        operator, sets = layer(name)
        words = moved(costs_of(operator, sets), "dram")
        total = sum(jax.tree.leaves((words.reads, words.writes)))
        megabytes = operator.count * total * WORD / 1e6
        assert 0.45 < ALEXNET[name]["dram_mb"] / megabytes < 1.0

    @pytest.mark.parametrize("name", LAYERS)
    def test_mapping_fits_every_memory(self, name):
        operator, sets = layer(name)
        costs = costs_of(operator, sets)
        assert max(float(ratio) for ratio in costs.used_ratio) <= 1.0
        assert costs.used_ratio[1] > 0.85  # the chip keeps as many filters as there is room for

    def test_every_mac_accesses_four_pe_words(self):
        """ISCA 2016: a filter word, an input and a sum read, a sum written; fills add 1 to 5 %."""
        operator, sets = layer("conv3")
        costs = costs_of(operator, sets)
        words = [moved(costs, name) for name in ("filter_spad", "input_spad", "sum_spad")]
        total = sum(sum(jax.tree.leaves((x.reads, x.writes))) for x in words)
        assert 4.0 <= total / costs.traffic.num_macs < 4.2


class TestByHand:
    """One 3 x 3 filter over 6 x 7 inputs: 4 x 5 outputs, on 3 x 4 PEs at once."""

    OPERATOR = convolution(3, 3, 4, 5, 1, 1, 1)
    SETS = RowStationaryMapping(3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)

    def test_words(self):
        costs = costs_of(self.OPERATOR, self.SETS)
        dram, buffer = moved(costs, "dram"), moved(costs, "global_buffer")
        assert dram.reads == Operands(9.0, 42.0, 0.0)
        assert dram.writes == Operands(0.0, 0.0, 20.0)
        assert buffer.reads == Operands(0.0, 42.0, 20.0)  # diagonals share rows; sums leave
        assert buffer.writes == Operands(0.0, 42.0, 20.0)  # columns add up before they write
        assert moved(costs, "filter_spad").writes.weights == 12 * 3
        assert moved(costs, "input_spad").writes.inputs == 12 * 7
        assert costs.traffic.compute_cycles == 5 * 3
        assert costs.traffic.num_macs == 180

    def test_hops(self):
        """Twelve PEs receive 7 inputs and 3 weights each; 4 x 5 sums are forwarded twice."""
        assert hop_words(self.OPERATOR, self.SETS) == 12 * (7 + 3) + 20 * 2

    def test_sequential_channels_return_partial_sums(self):
        operator = convolution(3, 3, 4, 5, 2, 1, 1)
        buffer = moved(costs_of(operator, self.SETS), "global_buffer")
        assert buffer.writes.outputs == 2 * 20
        assert buffer.reads.outputs == 20 + 20
        assert buffer.reads.inputs == 2 * 42

    def test_concurrent_channels_return_no_partial_sums(self):
        operator = convolution(3, 3, 4, 5, 2, 1, 1)
        for sets in (self.SETS.replace(channels=2.0), self.SETS.replace(channel_sets=2.0)):
            buffer = moved(costs_of(operator, sets), "global_buffer")
            assert buffer.writes.outputs == buffer.reads.outputs == 20
            assert buffer.reads.inputs == 2 * 42


class TestSearch:
    @pytest.mark.parametrize("name", ["conv1", "conv2"])
    def test_mapspace_fits_the_core(self, name):
        operator, _ = layer(name)
        sets = row_stationary_mapspace(operator, EYERISS)
        assert np.all(sets.num_active <= EYERISS.rows * EYERISS.cols)
        some = jax.tree.map(lambda x: np.resize(x[:: len(x) // 500 + 1], 512), sets)
        costs = costs_of(operator, some)
        for ratio in costs.used_ratio:
            assert np.max(ratio) <= 1.0
        assert np.all(
            np.asarray(costs.compute_s) * EYERISS.clock_hz * some.num_active
            >= 0.99 * (operator.num_macs)
        )

    def test_best_mapping_of_conv1_is_that_of_the_chip(self):
        operator, sets = layer("conv1")
        best, _ = best_row_stationary_mapping(operator, EYERISS)
        assert jax.tree.map(float, best) == sets

    def test_best_mapping_is_never_worse_than_that_of_the_chip(self):
        operator, sets = layer("conv2")
        _, best = best_row_stationary_mapping(operator, EYERISS)
        chip = costs_of(operator, sets)
        assert best.time_s * best.energy_j <= chip.time_s * chip.energy_j * (1.0 + 1e-9)

    def test_gemm_is_mapped(self):
        """Filters of one tap: sets of one row for different channels and filters."""
        product = convolution(1, 1, 64, 1, 96, 128, 1)
        sets, costs = best_row_stationary_mapping(product, EYERISS)
        assert sets.filter_rows == 1.0
        assert costs.time_s >= product.num_macs / 168.0 / EYERISS.clock_hz
        words = 64.0 * 96.0 + 96.0 * 128.0 + 64.0 * 128.0
        assert costs.time_s >= words * WORD / 720e6  # the link
        assert costs.energy_j >= (1.0 + 4.0) * 1e-12 * product.num_macs + 200e-12 * words

    def test_filter_too_wide_for_a_pe_is_an_error(self):
        with pytest.raises(ValueError, match=r"no row-stationary mapping of \('wide',\)"):
            row_stationary_mapspace(convolution(3, 13, 4, 4, 1, 1, 1, name="wide"), EYERISS)

    def test_core_of_another_structure_is_an_error(self):
        with pytest.raises(ValueError, match="a row-stationary core has one level each"):
            row_stationary_memories(load_accelerator("gemmini"))

    def test_energy_delay_product_never_rises_with_pes(self):
        operator = convolution(3, 3, 13, 13, 64, 64, 1)
        values = []
        for scale in (0.5, 1.0, 2.0):
            levels = [
                level.replace(capacity_bytes=level.capacity_bytes * (scale if number > 1 else 1.0))
                for number, level in enumerate(EYERISS.levels)
            ]
            core = EYERISS.replace(rows=12.0 * scale, levels=tuple(levels))
            _, costs = best_row_stationary_mapping(operator, core)
            values.append(float(costs.time_s * costs.energy_j))
        assert values[0] >= values[1] >= values[2]


def test_nest_covers_the_operator():
    operator, sets = layer("conv5")
    nest = row_stationary_nest(operator, EYERISS, sets)
    sizes = np.prod(np.asarray(nest.temporal) * np.asarray(nest.spatial), axis=0)
    names = ("r", "s", "p", "q", "c", "k", "n")
    np.testing.assert_allclose(sizes, [getattr(operator, name) for name in names])


def test_gradients_are_finite_with_the_right_sign():
    operator, sets = layer("conv2")

    def cost(sets, capacity_bytes, clock_hz):
        levels = list(EYERISS.levels)
        law = {"energy_slope": 1e-15, "energy_exponent": 0.5}
        levels[1] = levels[1].replace(capacity_bytes=capacity_bytes, **law)
        core = EYERISS.replace(levels=tuple(levels), clock_hz=clock_hz)
        costs = row_stationary_costs(operator, core, sets)
        return jnp.log(costs.time_s) + jnp.log(costs.energy_j)

    gradient = quick_jit(jax.grad(cost, argnums=(0, 1, 2)))
    slopes = gradient(jax.tree.map(jnp.float64, sets), 1e5, 2e8)
    assert all(math.isfinite(slope) for slope in jax.tree.leaves(slopes))
    assert slopes[1] > 0.0  # a larger buffer takes more energy an access
    assert slopes[2] < 0.0


def test_float32_counts_are_equal():
    operator, sets = layer("conv4")
    exact = float(costs_of(operator, sets).energy_j)
    with jax.enable_x64(False):
        program = quick_jit(lambda sets: row_stationary_costs(operator, EYERISS, sets).energy_j)
        single = program(jax.tree.map(jnp.float32, sets))
    assert single.dtype == jnp.float32
    assert float(single) == pytest.approx(exact, rel=1e-5)
