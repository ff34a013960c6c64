"""Tile-by-tile execution: events counted by an unroller, limits, bounds, slopes."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from support.mapping_examples import CORE

from hwdse.models.compute.tile_overheads import (
    GEMMINI_COSTS,
    array_cycles,
    array_fill_cycles,
    dram_cycles,
    issue_cycles,
    tile_events,
    tiled_cycles,
)
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.mappings.loop_nest import LoopNest, NestTier
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.workload.loops.operators import DIMS, Operators, gemm_operators

CORE8 = replace(CORE, rows=8.0, cols=8.0)
CORE16 = replace(CORE, rows=16.0, cols=16.0)
TIERS = (NestTier("DRAM", ("weights", "inputs", "outputs")), NestTier("scratchpad", ("weights",)))
EVENTS = jax.jit(tile_events)
CYCLES = jax.jit(tiled_cycles)
NO_START = replace(GEMMINI_COSTS, start_cycles=0.0)


def conv(r, s, p, q, c, k, n=1.0, stride=1.0):
    return Operators(r, s, p, q, c, k, n, stride, stride, 1.0, 1.0, 1.0, ("conv",))


def outer(**bounds):
    """A nest with these bounds of the outermost loops; inner loops do not matter."""
    temporal = np.ones((2, len(DIMS)))
    for letter, bound in bounds.items():
        temporal[0, DIMS.index(letter)] = bound
    return LoopNest(temporal, np.zeros_like(temporal), np.ones_like(temporal), TIERS)


def unrolled(operator, steps, rows, cols):
    """Instructions issued by loops over tiles and blocks; every tile is full."""
    size = {d: int(getattr(operator, d.lower())) // steps.get(d, 1) for d in DIMS}
    counted = dict.fromkeys(("tiles", "read", "write", "preloads", "passes", "pixels", "fill"), 0)
    sums = steps.get("R", 1) * steps.get("S", 1) * steps.get("C", 1)
    stride = int(operator.stride_p)
    for tile in range(int(np.prod(list(steps.values())))):
        counted["tiles"] += 1
        height = (size["P"] - 1) * stride + size["R"]
        width = (size["Q"] - 1) * stride + size["S"]
        for _ in range(size["N"] * height * width):
            counted["read"] += len(range(0, size["C"], rows))
        for _ in range(size["R"] * size["S"] * size["C"]):
            counted["read"] += len(range(0, size["K"], cols))
        for _ in range(size["N"] * size["P"] * size["Q"] if tile % sums == 0 else 0):
            counted["write"] += len(range(0, size["K"], cols))
        for _ in range(size["R"] * size["S"]):
            for _ in range(0, size["C"], rows):
                for _ in range(0, size["K"], cols):
                    counted["preloads"] += 1
                    for _ in range(size["N"] * size["Q"]):
                        for first in range(0, size["P"], rows):
                            counted["passes"] += 1
                            counted["pixels"] += min(rows, size["P"] - first)
    return counted


def test_instructions_of_a_small_convolution_counted_by_hand():
    """3x1 filter, 20 to 10 channels, 6x4 outputs in two tiles of 6x2, 8x8 PEs."""
    operator = conv(3.0, 1.0, 6.0, 4.0, 20.0, 10.0)
    events = tile_events(outer(Q=2.0), operator, CORE8)
    assert events.num_tiles == 2
    assert events.read_rows == 8 * 2 * 3 + 3 * 20 * 2  # 8x2 pixels of 3 rows, 60 taps of 2
    assert events.write_rows == 6 * 2 * 2
    assert events.num_preloads == 3 * 3 * 2
    assert events.num_passes == 3 * 3 * 2 * 2
    assert events.pass_pixels == 6
    assert array_cycles(events, GEMMINI_COSTS) == 36 * 6
    assert array_fill_cycles(events, CORE8, GEMMINI_COSTS) == 18 * (8 - 6)


def test_the_host_issues_the_outermost_tier_of_a_nest_text():
    nest = parse_nest("L3[WIO] K5 C3 - L2[WI] N1 K16X - L1[O] C2 Q7 P7 C16X - L0[W] P2")
    operator = conv(1.0, 1.0, 14.0, 7.0, 96.0, 80.0)
    events = tile_events(nest, operator, CORE16)
    assert events.num_tiles == 15
    assert events.num_preloads == 2
    assert events.write_rows == pytest.approx(14 * 7 / 3)  # a third: once for each sum


DIVISORS = st.sampled_from([1, 2, 4])


@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 4, st.integers(1, 24), st.integers(1, 24)),
    steps=st.tuples(*[DIVISORS] * 6),
    array=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    stride=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_events_equal_those_of_an_unroller(sizes, steps, array, stride):
    letters = "RSPQCK"
    whole = [float(size * step) for size, step in zip(sizes, steps, strict=True)]
    operator = conv(*whole, stride=float(stride))
    bounds = dict(zip(letters, steps, strict=True))
    core = replace(CORE, rows=float(array[0]), cols=float(array[1]))
    with jax.enable_x64(True):
        events = EVENTS(outer(**bounds), operator, core)
    counted = unrolled(operator, bounds, *array)
    n = float(events.num_tiles)
    assert n == counted["tiles"]
    assert n * float(events.read_rows) == pytest.approx(counted["read"])
    assert n * float(events.write_rows) == pytest.approx(counted["write"])
    assert n * float(events.num_preloads) == pytest.approx(counted["preloads"])
    assert n * float(events.num_passes) == pytest.approx(counted["passes"])
    pixels = n * float(events.num_passes * events.pass_pixels)
    assert pixels == pytest.approx(counted["pixels"])


def test_partial_tiles_count_by_their_mean():
    """57 outputs in tiles of 56: two tiles, together the 57 pixels."""
    events = tile_events(outer(P=57.0 / 56.0), conv(1.0, 1.0, 57.0, 3.0, 16.0, 16.0), CORE16)
    assert events.num_tiles == 2
    assert 2.0 * events.write_rows == pytest.approx(57 * 3)


def test_one_large_tile_takes_the_roofline_time():
    """Overheads vanish relative to n^3 multiplications, in proportion to one over the size."""
    extra = []
    with jax.enable_x64(True):
        for size in (2.0**8, 2.0**12, 2.0**16, 2.0**20):
            operator = gemm_operators(size, size, size, 1.0)
            total = tiled_cycles(outer(), operator, CORE16, GEMMINI_COSTS).total_cycles
            extra.append(float(total * 256.0 / size**3 - 1.0))
    assert extra == sorted(extra, reverse=True)
    assert extra[-1] < 2e-4
    assert extra[-2] / extra[-1] == pytest.approx(16.0, rel=0.01)


def test_one_tile_has_no_overlap():
    costs, operator = GEMMINI_COSTS, conv(3.0, 3.0, 4.0, 4.0, 16.0, 16.0)
    with jax.enable_x64(True):
        cycles = tiled_cycles(outer(), operator, CORE16, costs)
        moved = float(jnp.maximum(cycles.read_cycles + cycles.write_cycles, cycles.dram_cycles))
        parts = costs.start_cycles + cycles.issue_cycles + cycles.array_cycles + cycles.fill_cycles
        assert float(cycles.total_cycles) == pytest.approx(float(parts) + moved)


def test_many_tiles_run_at_the_rate_of_the_slowest_engine():
    """With 1000 times the tiles, one more tile adds the cycles of the slowest engine only."""
    with jax.enable_x64(True):
        few, many = (
            tiled_cycles(outer(N=n), conv(3.0, 3.0, 8.0, 8.0, 32.0, 32.0, n), CORE16, NO_START)
            for n in (1000.0, 2000.0)
        )
        engines = (
            few.issue_cycles,
            few.read_cycles + few.write_cycles,
            few.array_cycles + few.fill_cycles,
        )
        step = float(many.total_cycles - few.total_cycles) / 1000.0
    assert step == pytest.approx(float(max(engines)) / 1000.0, rel=1e-3)


@example(sizes=[1.0, 1.0, 4.0, 1.0, 236.0, 293.0], bounds=[1.0, 1.0, 1.0, 1.0, 1.0, 18.0])
@given(
    sizes=st.tuples(*[st.floats(1.0, 300.0)] * 6),
    bounds=st.tuples(*[st.floats(1.0, 20.0)] * 6),
)
@settings(max_examples=60, deadline=None)
def test_total_lies_between_the_slowest_engine_and_no_overlap(sizes, bounds):
    sizes = [float(np.round(size)) for size in sizes]
    bounds = [min(bound, size) for bound, size in zip(bounds, sizes, strict=True)]
    nest = outer(**dict(zip("RSPQCK", bounds, strict=True)))
    with jax.enable_x64(True):
        cycles = CYCLES(nest, conv(*sizes), CORE16, GEMMINI_COSTS)
        moved = cycles.read_cycles + cycles.write_cycles
        multiplied = cycles.array_cycles + cycles.fill_cycles
        engines = (cycles.issue_cycles, moved, cycles.dram_cycles, multiplied)
        serial = GEMMINI_COSTS.start_cycles + sum(engines)
        assert float(cycles.total_cycles) >= float(max(engines)) * (1 - 1e-12)
        assert float(cycles.total_cycles) <= float(serial) * (1 + 1e-12)
        assert float(cycles.exposed_cycles) >= GEMMINI_COSTS.start_cycles
        num_macs = np.prod(sizes)
        # A tile that is not whole fits the 16 x 16 array up to half an element beyond its side.
        assert float(cycles.array_cycles) >= num_macs / 16.5**2


@pytest.mark.parametrize("name", [field.name for field in fields(GEMMINI_COSTS)])
@pytest.mark.parametrize("bounds", [{}, {"K": 8.0}, {"P": 14.0, "Q": 14.0, "C": 64.0}])
def test_cycles_rise_with_costs_and_fall_with_bandwidth(name, bounds):
    operator = conv(3.0, 3.0, 14.0, 14.0, 64.0, 64.0)
    costs = jax.tree.map(lambda value: jnp.full(40, value), GEMMINI_COSTS)
    costs = replace(costs, **{name: jnp.geomspace(0.1, 1e4, 40)})
    cycles = CYCLES(outer(**bounds), operator, CORE16, costs).total_cycles
    steps = jnp.diff(cycles)
    assert jnp.all(steps <= 0.0) if name == "dram_bytes_per_cycle" else jnp.all(steps >= 0.0)


def test_passes_as_long_as_the_array_rows_hide_the_weight_load():
    for pixels, fill in ((16.0, 0.0), (12.0, 4.0), (1.0, 12.0)):  # a pass of 1 takes 4 cycles
        events = tile_events(outer(), conv(1.0, 1.0, pixels, 9.0, 16.0, 16.0), CORE16)
        assert array_fill_cycles(events, CORE16, GEMMINI_COSTS) == fill


def test_gemms_are_issued_as_gemms():
    assert issue_cycles(gemm_operators(7.0, 7.0, 7.0, 1.0), GEMMINI_COSTS) == pytest.approx(129.0)
    assert issue_cycles(conv(1.0, 1.0, 7.0, 7.0, 7.0, 7.0), GEMMINI_COSTS) == pytest.approx(274.8)


def test_dram_transfers_each_operand_once():
    """3x3 filter over 5x5 inputs: 9 outputs; outputs with the width in DRAM."""
    operator = conv(3.0, 3.0, 3.0, 3.0, 2.0, 4.0)
    costs = replace(GEMMINI_COSTS, dram_bytes_per_cycle=2.0)
    assert dram_cycles(operator, CORE16, costs) == (72 + 50 + 36) / 2.0


ROWS = {"p": [13.0, 56.0, 1.0], "c": [20.0, 64.0, 3.0], "k": [10.0, 256.0, 64.0]}


def batch():
    """Three operators with separate nests."""
    one = np.ones(3)
    p, c, k = (np.array(ROWS[name]) for name in "pck")
    operators = Operators(one * 3, one * 3, p, p, c, k, one, one, one, one, one, one, ())
    temporal = np.stack([np.asarray(outer(Q=b, K=2.0).temporal) for b in (1.0, 8.0, 1.0)])
    return operators, LoopNest(temporal, np.zeros_like(temporal), np.ones_like(temporal), TIERS)


def test_operators_are_independent():
    operators, nest = batch()
    together = tiled_cycles(nest, operators, CORE16, GEMMINI_COSTS).total_cycles
    for row in range(3):
        alone = tiled_cycles(
            jax.tree.map(lambda x, row=row: x[row], nest),
            jax.tree.map(lambda x, row=row: float(x[row]), operators),
            CORE16,
            GEMMINI_COSTS,
        )
        assert float(together[row]) == pytest.approx(float(alone.total_cycles), rel=1e-6)


@pytest.mark.parametrize("is_double", [False, True])
def test_gradients_are_finite_everywhere(is_double):
    operators, nest = batch()

    def total(temporal, rows, cols, costs, relaxation):
        core = replace(CORE16, rows=rows, cols=cols)
        moved = replace(nest, temporal=temporal)
        return jnp.sum(tiled_cycles(moved, operators, core, costs, relaxation).total_cycles)

    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))
    with jax.enable_x64(is_double):
        for relaxation in (smooth(0.0), smooth(0.5), smooth(1.0), EXACT):
            leaves = slopes(jnp.asarray(nest.temporal), 16.0, 16.0, GEMMINI_COSTS, relaxation)
            assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(leaves))


def test_gradients_agree_with_finite_differences():
    operators, nest = batch()

    def total(costs, bandwidth):
        priced = replace(costs, dram_bytes_per_cycle=bandwidth)
        cycles = tiled_cycles(nest, operators, CORE16, priced, smooth(0.8))
        return jnp.log(cycles.total_cycles)

    with jax.enable_x64(True):
        check_grads(total, (GEMMINI_COSTS, 0.5), order=1, modes=("fwd", "rev"), rtol=1e-5)
