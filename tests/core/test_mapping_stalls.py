"""Port stalls of mappings: hand calculations and properties over cores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.config import load_chip
from hwdse.core.ports.mapping_stalls import latency_s, port_waits
from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.models.memory.port_stalls import holders, loop_order, tile_replacements
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.workload.loops.operators import gemm_operators

ACCOUNTING = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
CLOCK = 1e9
ROOMY = 1e6
GEMM = gemm_operators(16.0, 8.0, 8.0, 1.0)
NEST = parse_nest("DRAM[WIO] K2 - SP[I] N1 - ACC[O] C2 - SP[W] C4X K4X - REG[W] P16")
MANY_NESTS = (
    NEST,
    parse_nest("DRAM[WIO] P4 - SP[W] N1 - ACC[O] K2 - SP[I] C2 C4X K4X - REG[W] P4"),
    parse_nest("DRAM[WIO] C2 K2 - ACC[O] P2 - SP[I] N1 - SP[W] C4X K4X - REG[W] P8"),
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def level(name, keeps, bytes_per_cycle, sums=4.0, **others):
    fields = {"ports": "one", "banks": "one", "shares_port": True, "follows_clock": True}
    return Level(
        capacity_bytes=ROOMY,
        read_bandwidth_bytes_per_s=bytes_per_cycle * CLOCK,
        write_bandwidth_bytes_per_s=bytes_per_cycle * CLOCK,
        read_energy_j_per_byte=1e-12,
        write_energy_j_per_byte=1e-12,
        energy_slope=0.0,
        energy_exponent=1.0,
        word_bytes=Operands(1.0, 1.0, sums),
        name=name,
        keeps=keeps,
        **{**fields, **others},
    )


def make_core(rates=(2.0, 8.0, 4.0, 1.0), sp_shares=True) -> Accelerator:
    """Weight-stationary 4 x 4 array with one weight per register."""
    dram, scratchpad, column, element = rates
    registers = level("REG", ("weights",), element, ports="pes", banks="pes")
    return Accelerator(
        rows=4.0,
        cols=4.0,
        clock_hz=CLOCK,
        nominal_clock_hz=CLOCK,
        mac_energy_j=1e-12,
        levels=(
            level("DRAM", OPERANDS, dram, sums=1.0, follows_clock=False),
            level("SP", ("weights", "inputs"), scratchpad, shares_port=sp_shares),
            level("ACC", ("outputs",), column, ports="cols", banks="cols", shares_port=False),
            registers.replace(capacity_bytes=16.0, shares_port=False),
        ),
        process=load_chip("trainium2").process,
        fixed_area_mm2=1.0,
        package_cost_usd=1.0,
        dram_cost_usd_per_byte=1e-9,
        rows_dims="C",
        cols_dims="K",
    )


traffic_of = quick_jit(lambda nest, gemm, core: nest_traffic(nest, gemm, core, ACCOUNTING))


@quick_jit
def waits_and_costs(nest, traffic, core):
    waits = port_waits(nest, traffic, core, ACCOUNTING)
    return waits, mapping_costs(traffic, core)


def waits_of(core, nest, gemm):
    return waits_and_costs(nest, traffic_of(nest, gemm, core), core)


def with_rates(core, factors, capacities=(1.0, 1.0, 1.0, 1.0)):
    """Core with port widths and memory capacities scaled."""
    levels = [
        level.replace(
            read_bandwidth_bytes_per_s=level.read_bandwidth_bytes_per_s * factor,
            write_bandwidth_bytes_per_s=level.write_bandwidth_bytes_per_s * factor,
            capacity_bytes=level.capacity_bytes * size,
        )
        for level, factor, size in zip(core.levels, factors, capacities, strict=True)
    ]
    return core.replace(levels=tuple(levels))


@quick_jit
def cycles_of(factors, capacities, traffics):
    """Roofline, with stalls, with all terms, for some nests on cores scaled level by level."""
    core = with_rates(make_core(), factors, capacities)
    rows = []
    for nest, traffic in zip(MANY_NESTS[:2], traffics, strict=True):
        waits = port_waits(nest, traffic, core, ACCOUNTING)
        costs = mapping_costs(traffic, core)
        stalled = latency_s(costs, waits, with_loading=False)
        rows.append(jnp.stack([costs.time_s, stalled, latency_s(costs, waits), waits.stall_s]))
    return CLOCK * jnp.stack(rows)


@pytest.fixture(scope="module")
def traffics():
    with jax.enable_x64(True):
        return [traffic_of(nest, GEMM, make_core()) for nest in MANY_NESTS[:2]]


def test_small_mapping_matches_hand_calculation():
    waits, costs = waits_of(make_core(), NEST, GEMM)
    stalls = [CLOCK * float(wait) for wait in waits.level_stall_s]
    # SP: 63 reads of inputs, 3 of weights that take two cycles one of them free, 3 fills of
    # two; ACC: 63 reads of sums and 16 of results in 64 cycles.
    assert stalls == pytest.approx([0.0, (2 - 1) * 3 + 63 + 3 + 6 - 64, 63 + 16 - 64, 0.0])
    assert CLOCK * float(waits.stall_s) == pytest.approx(15.0)
    # DRAM sends 16 weights in 8 cycles, then 128 inputs in 64 while weights go on to the array.
    assert CLOCK * float(waits.load_s) == pytest.approx(8 + 64)
    assert CLOCK * float(waits.unload_s) == pytest.approx(16 * 4 / 2)
    assert CLOCK * float(latency_s(costs, waits)) == pytest.approx(64 + 15 + 72 + 32)


def test_terms_can_be_disabled_separately():
    waits, costs = waits_of(make_core(), NEST, GEMM)
    compute_s = 64 / CLOCK
    plain = latency_s(costs, waits, with_stalls=False, with_loading=False)
    assert float(plain) == float(costs.time_s)
    loading = latency_s(costs, waits, with_stalls=False)
    assert float(loading) == pytest.approx(compute_s + float(waits.load_s + waits.unload_s))
    stalls = latency_s(costs, waits, with_loading=False)
    assert float(stalls) == max(float(costs.time_s), compute_s + float(waits.stall_s))


factors = st.tuples(*[st.sampled_from([0.25, 0.6, 1.0, 1.7, 8.0, 1e4])] * 4)


@settings(deadline=None, max_examples=60)
@given(factors, st.integers(0, 3), st.sampled_from([1.1, 2.0, 64.0]))
def test_latency_never_rises_with_bandwidth_or_capacity(traffics, rates, which, more):
    sizes = (1.0, 2e-4, 1e-4, 1.0)
    wider = [rate * (more if place == which else 1.0) for place, rate in enumerate(rates)]
    larger = [size * (more if place == which else 1.0) for place, size in enumerate(sizes)]
    base = np.asarray(cycles_of(np.array(rates), np.array(sizes), traffics))
    for better in (
        cycles_of(np.array(wider), np.array(sizes), traffics),
        cycles_of(np.array(rates), np.array(larger), traffics),
    ):
        assert np.all(np.asarray(better) <= base * (1.0 + 1e-9) + 1e-6)
    roofline, stalled, whole, _ = base.T
    assert np.all(stalled >= roofline)
    assert np.all(whole >= stalled)


def test_unlimited_bandwidth_leaves_one_cycle_per_access(traffics):
    """Each weight tile still occupies the port of the inputs for one cycle."""
    *_, stall = np.asarray(cycles_of(np.full(4, 1e9), np.ones(4), traffics))[0]
    assert stall == pytest.approx(63 + 3 + 3 - 64)


def test_latency_never_rises_with_separate_read_and_write_ports():
    shared, _ = waits_of(make_core(), NEST, GEMM)
    split, _ = waits_of(make_core(sp_shares=False), NEST, GEMM)
    # Reads only: inputs and weights. Fills have their own port.
    assert CLOCK * float(split.level_stall_s[1]) == pytest.approx((2 - 1) * 3 + 63 + 3 - 64)
    assert float(split.stall_s) <= float(shared.stall_s)


@pytest.mark.parametrize(("free_bytes", "stall"), [(31.0, (11 - 8) * 3), (32.0, 0)])
def test_next_tile_loads_in_the_last_sweep_without_double_buffer(free_bytes, stall):
    """16 x 8 inputs are resident; 32 weights (11 DRAM cycles) are read four times in 32 cycles.

    Without room for the next they may come in the last 8. DRAM takes 16 results every 8 cycles.
    """
    nest = parse_nest("DRAM[WIO] N1 - SP[I] K4 - SP[W] P4 - ACC[O] C2 C4X K4X - REG[W] P4")
    room = np.array([1.0, (128.0 + 32.0 + free_bytes) / ROOMY, 1.0, 1.0])
    core = with_rates(make_core((3.0, 8.0, 4.0, 1.0)), np.ones(4), room)
    waits, _ = waits_of(core, nest, gemm_operators(16.0, 8.0, 16.0, 1.0))
    assert CLOCK * float(waits.level_stall_s[0]) == pytest.approx(stall)


def test_returning_partial_sums_occupy_their_ports():
    """The same loops with C outermost: sums go to DRAM and return."""
    kept, _ = waits_of(make_core(), NEST, GEMM)
    spilled, _ = waits_of(make_core(), MANY_NESTS[2], GEMM)
    assert float(spilled.level_stall_s[0]) > float(kept.level_stall_s[0])


def test_batch_equals_single_evaluations():
    sizes = [gemm_operators(16.0 * x, 8.0, 8.0, 1.0) for x in (1.0, 3.0)]
    nests = [NEST, parse_nest("DRAM[WIO] K2 - SP[I] N1 - ACC[O] C2 - SP[W] C4X K4X - REG[W] P48")]
    batch = jax.tree.map(lambda *x: np.stack(x), *nests)
    gemms = jax.tree.map(lambda *x: np.stack(x), *sizes)
    together, costs = waits_of(make_core(), batch, gemms)
    for row, (nest, gemm) in enumerate(zip(nests, sizes, strict=True)):
        alone, own_costs = waits_of(make_core(), nest, gemm)
        for many, one in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert float(np.broadcast_to(many, 2)[row]) == pytest.approx(float(one))
        assert float(latency_s(costs, together)[row]) == pytest.approx(
            float(latency_s(own_costs, alone))
        )


def test_float32_agrees_with_float64():
    exact, _ = waits_of(make_core(), NEST, GEMM)
    with jax.enable_x64(False):
        single, _ = waits_of(make_core(), jax.tree.map(np.float32, NEST), GEMM)
    assert single.stall_s.dtype == np.float32
    for ours, theirs in zip(jax.tree.leaves(single), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-15)


def slope_in(relaxation):
    """Cycles of the small mapping and their derivatives to rates and capacities."""

    def cycles(rates, sizes, traffic):
        core = with_rates(make_core(), rates, sizes)
        waits = port_waits(NEST, traffic, core, ACCOUNTING, relaxation)
        return CLOCK * latency_s(mapping_costs(traffic, core, relaxation), waits, relaxation)

    return quick_jit(jax.value_and_grad(cycles, argnums=(0, 1)))


@pytest.fixture(scope="module")
def smooth_slope():
    return slope_in(smooth(1.0))


def test_gradients_are_finite_with_the_right_sign(smooth_slope, traffics):
    rates, sizes = np.full(4, 0.9), np.array([1.0, 1.7e-4, 3e-4, 1.0])
    for slope in (smooth_slope, slope_in(EXACT)):
        _, (by_rate, by_size) = slope(rates, sizes, traffics[0])
        for part in (np.asarray(by_rate), np.asarray(by_size)):
            assert np.all(np.isfinite(part))
            assert np.all(part <= 1e-9)
        assert by_rate[0] < -1.0


def test_smooth_relaxation_matches_finite_differences(smooth_slope, traffics):
    at, sizes, step = np.array([0.71, 0.43, 0.87, 1.13]), np.ones(4), 1e-5
    _, (slope, _) = smooth_slope(at, sizes, traffics[0])
    for place in range(4):
        move = step * np.eye(4)[place]
        above, below = (smooth_slope(x, sizes, traffics[0])[0] for x in (at + move, at - move))
        expected = float(above - below) / (2.0 * step)
        assert float(slope[place]) == pytest.approx(expected, rel=1e-4, abs=1e-3)


@quick_jit
def tiles_and_traffic(nest, gemm, core):
    """Tiles times replacements, and traffic of `nest_traffic`, for three memories."""
    traffic, loops = nest_traffic(nest, gemm, core, ACCOUNTING), loop_order(nest)
    pairs = []
    for operand, number, holder in (("weights", 1, 1), ("inputs", 1, 1), ("weights", 3, 2)):
        tile = getattr(traffic.levels[number].used, operand)
        changes = tile_replacements(loops, operand, holders(nest, operand)[holder])
        pairs.append((tile * changes.num, getattr(traffic.levels[number].writes, operand)))
    return pairs


bounds = st.lists(st.sampled_from([1, 2, 3]), min_size=9, max_size=9)


@settings(deadline=None, max_examples=40)
@given(bounds)
def test_traffic_is_tile_size_times_replacements(b):
    """A memory receives its tile once per replacement."""
    text = f"DRAM[WIO] C{b[0]} K{b[1]} P{b[2]} - SP[WI] P{b[3]} C{b[4]} K{b[5]} - "
    nest = parse_nest(text + f"REG[W] K{b[6]} P{b[7]} C{b[8]} - ACC[O] N1")
    m, k, n = b[2] * b[3] * b[7], b[0] * b[4] * b[8], b[1] * b[5] * b[6]
    gemm = gemm_operators(float(m), float(k), float(n), 1.0)
    for expected, sent in tiles_and_traffic(nest, gemm, make_core()):
        assert float(sent) == pytest.approx(float(expected))
