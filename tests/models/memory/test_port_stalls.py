"""Laws of one memory port: stalls of the array, first loads and last stores."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.models.memory.port_stalls import (
    burst_cycles,
    exposed_cycles,
    idle_cycles,
    load_cycles,
    loop_order,
    port_stall_cycles,
    spare_capacity_fractions,
    tile_replacements,
    window_cycles,
)
from hwdse.numerics.relaxation import smooth
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.specs.mappings.port_traffic import Stream

RUN = 73728.0
quietly = settings(deadline=None, max_examples=60)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def stream(period, burst, window=None, run=RUN) -> Stream:
    return Stream(run / period, period, period if window is None else window, burst)


def random_streams(draw, run):
    """One to four streams with periods nested like loops."""
    streams, period = [], 1.0
    for _ in range(draw(st.integers(1, 4))):
        period *= draw(st.sampled_from([1.0, 2.0, 4.0, 16.0]))
        # A stream without bursts has no windows to share: none, or some.
        burst = draw(st.just(0.0) | st.floats(1e-6, 3.0)) * period
        streams.append(stream(period, burst, period / draw(st.sampled_from([1.0, 2.0, 8.0])), run))
    return streams


@st.composite
def ports(draw):
    run = 16.0**4 * draw(st.integers(1, 3))
    return random_streams(draw, run), run


def test_bert_query_projection_by_hand():
    """Row p000: the scratchpad's port reads 64 bytes of inputs per cycle, loads 64 x 64 weights
    (32 cycles of 128 bytes) every 512 cycles and fills 768 x 64 of them (384) every 6144."""
    inputs = stream(1.0, 1.0)
    weights, fills = stream(512.0, 32.0, 1.0), stream(6144.0, 384.0)
    own = (32 - 1) * 143
    together = 73727 + 1 * 143 + 384 * 11 - 73728
    assert float(port_stall_cycles([inputs, weights, fills], RUN)) == own + together
    assert RUN + own + together == 82527  # ZigZag 3.9.1


@quietly
@given(ports())
def test_bursts_that_fit_between_accesses_cause_no_stall(port):
    streams, run = port
    calm = [
        s.replace(burst_cycles=s.period_cycles / len(streams), window_cycles=s.period_cycles)
        for s in streams
    ]
    assert float(port_stall_cycles(calm, run)) == pytest.approx(0.0, abs=1e-9 * run)


def test_one_slow_stream_stalls_for_the_excess_over_its_window():
    assert float(port_stall_cycles([stream(512.0, 40.0, 10.0)], RUN)) == 30 * 143
    assert float(port_stall_cycles([stream(512.0, 10.0, 10.0)], RUN)) == 0.0


def test_a_single_burst_causes_no_conflict():
    once = stream(RUN, 1e6, 1.0)
    assert float(port_stall_cycles([stream(1.0, 1.0), once], RUN)) == 0.0


@quietly
@given(ports())
def test_a_port_is_never_busy_for_longer_than_the_run(port):
    streams, run = port
    busy = sum(float(s.burst_cycles * (s.num_bursts - 1.0)) for s in streams)
    stall = float(port_stall_cycles(streams, run))
    assert run + stall >= busy * (1.0 - 1e-12)
    assert stall >= 0.0


@quietly
@given(ports(), st.floats(0.01, 1.0), st.integers(0, 3))
def test_shorter_bursts_and_longer_windows_never_add_stalls(port, share, which):
    streams, run = port
    which %= len(streams)
    old, before = streams[which], float(port_stall_cycles(streams, run))
    longer = old.window_cycles + share * (old.period_cycles - old.window_cycles)
    for new in (
        old.replace(burst_cycles=old.burst_cycles * share),
        old.replace(window_cycles=longer),
    ):
        changed = [*streams[:which], new, *streams[which + 1 :]]
        assert float(port_stall_cycles(changed, run)) <= before * (1.0 + 1e-9) + 1e-6


@pytest.mark.parametrize("windows", [(1, 8), (4, 8), (3, 16), (2, 64)])
def test_time_in_any_window_equals_a_count_of_cycles(windows):
    """Two streams whose bursts fill their windows: the overlap of the windows does not fit."""
    periods, run = (8.0, 64.0), 4096
    marked = np.zeros(run, dtype=bool)
    for window, period in zip(windows, periods, strict=True):
        marked |= np.arange(run) % period < window
    streams = [stream(p, float(w), float(w), run) for w, p in zip(windows, periods, strict=True)]
    demand = sum(w * (run / p - 1) for w, p in zip(windows, periods, strict=True))
    expected = max(0.0, demand - marked.sum())
    assert float(port_stall_cycles(streams, run)) == pytest.approx(expected)


def test_gradient_of_a_stall_agrees_with_differences():
    def stall(burst, window):
        other = stream(512.0, burst, window)
        return port_stall_cycles([stream(1.0, 0.9), other, stream(6144.0, 700.0)], RUN)

    assert float(stall(jnp.asarray(90.0), jnp.asarray(40.0))) > 0.0
    check_grads(stall, (90.0, 40.0), order=1, modes=["rev"], atol=1e-3, rtol=1e-5)
    check_grads(stall, (20.0, 40.0), order=1, modes=["rev"], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("burst", [0.0, 40.0, 512.0])
def test_gradients_are_finite_at_kinks(burst):
    def stall(values):
        return port_stall_cycles([Stream(values[3], *values[:3]), stream(1.0, 1.0)], RUN)

    for number in (1.0, 144.0):
        at = jnp.array([RUN / number, 40.0, burst, number])
        assert jnp.all(jnp.isfinite(jax.grad(stall)(at)))


@quietly
@given(st.integers(1, 10**7), st.integers(1, 64), st.floats(0.5, 512.0), st.floats(1.0, 4.0))
def test_a_burst_takes_integer_cycles_and_fewer_on_a_wider_port(size, num, width, factor):
    total = float(size * num)
    cycles = float(burst_cycles(total, float(num), width))
    assert cycles % 1.0 == 0.0
    assert max(1.0, size / width * (1.0 - 1e-14)) <= cycles <= size / width + 1.0
    assert float(burst_cycles(total, float(num), factor * width)) <= cycles


def test_no_data_takes_no_time():
    assert float(burst_cycles(0.0, 4.0, 16.0)) == 0.0
    gradient = jax.grad(lambda width: burst_cycles(0.0, 4.0, width))(16.0)
    assert float(gradient) == 0.0


def test_spare_capacity_for_a_second_tile():
    whole = [float(share) for share in spare_capacity_fractions([30.0, 20.0], 100.0)]
    assert whole == [1.0, 1.0]
    assert [float(share) for share in spare_capacity_fractions([40.0, 20.0], 100.0)] == [1.0, 0.0]
    assert [float(share) for share in spare_capacity_fractions([50.0, 20.0], 100.0)] == [0.0, 1.0]
    assert [float(share) for share in spare_capacity_fractions([80.0, 40.0], 100.0)] == [0.0, 0.0]


def test_spare_capacity_in_a_relaxation_is_the_fitting_fraction():
    part = spare_capacity_fractions([40.0], 60.0, smooth(1.0))[0]
    assert float(part) == pytest.approx(0.5)
    gradient = jax.grad(lambda size: spare_capacity_fractions([40.0], size)[0])(60.0)
    assert float(gradient) == pytest.approx(1.0 / 40.0)
    assert jnp.isfinite(jax.grad(lambda tile: spare_capacity_fractions([tile], 60.0)[0])(0.0))


@quietly
@given(st.floats(1.0, 1e6), st.floats(1.0, 64.0), st.floats(0.0, 1.0))
def test_a_window_is_between_the_last_sweep_and_the_period(period, sweeps, share):
    window = float(window_cycles(period, sweeps, share))
    assert period / sweeps * (1.0 - 1e-12) <= window <= period * (1.0 + 1e-12)
    assert float(window_cycles(period, sweeps, 1.0)) == pytest.approx(period)
    assert float(window_cycles(period, sweeps, 0.0)) == period / sweeps


amounts = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.booleans()), max_size=4)


@quietly
@given(amounts, st.integers(0, 2500))
def test_hidden_bursts_fit_into_idle_cycles(loads, idle):
    bursts = [float(burst) for burst, _, _ in loads]
    urgent = [float(need) for _, need, _ in loads]
    is_only = [jnp.asarray(only) for _, _, only in loads]
    exposed = [float(x) for x in exposed_cycles(bursts, urgent, is_only, float(idle))]
    deferrable = [
        max(burst - need, 0.0) if only else 0.0
        for burst, need, only in zip(bursts, urgent, is_only, strict=True)
    ]
    hidden = [burst - rest for burst, rest in zip(bursts, exposed, strict=True)]
    assert all(0.0 <= part <= limit for part, limit in zip(hidden, deferrable, strict=True))
    assert sum(hidden) == min(sum(deferrable), idle)


def test_the_limiting_port_is_never_idle():
    full = [stream(1.0, 1.0), stream(512.0, 32.0)]
    assert float(idle_cycles(full, RUN + 4000.0)) == 0.0
    assert float(idle_cycles([stream(4.0, 1.0)], RUN)) == 0.75 * RUN
    assert float(idle_cycles([stream(RUN, 1e9)], RUN)) == RUN


@quietly
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=2))
def test_load_time_is_the_minimum_over_orders(jobs):
    def makespan(order):
        port, end = 0, 0
        for shared, own in order:
            port += shared
            end = max(end, port + own)
        return end

    shared, own = zip(*[(float(a), float(b)) for a, b in jobs], strict=True)
    expected = min(makespan(order) for order in itertools.permutations(jobs))
    assert float(load_cycles(shared, own)) == expected


NEST = "DRAM[WIO] K2 - SP[I] N1 - ACC[O] C3 - SP[W] C4 P3 - REG[W] P8"


@pytest.mark.parametrize(
    ("operand", "place", "after", "expected"),
    [
        ("weights", 3, 4, (6, 1, 4)),  # a tile of K2 C3: its four slices go to the registers
        ("weights", 4, None, (24, 24, 1)),  # each stays for P3 and P8
        ("weights", 5, None, (24, 24, 1)),
        ("inputs", 1, None, (1, 2, 1)),  # only K2 outside, which reuses the inputs
        ("inputs", 5, None, (576, 1, 1)),
        ("outputs", 2, None, (2, 12, 1)),  # summed over C3 and C4 before P replaces any
        ("outputs", 5, None, (576, 1, 1)),
    ],
)
def test_tile_replacements_by_hand(operand, place, after, expected):
    found = tile_replacements(loop_order(parse_nest(NEST)), operand, place, after)
    assert (float(found.num), float(found.sweeps), float(found.slices)) == expected
