"""Metrics of a mapping: reuse, lower bounds and roofline, for a published case."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mapping_examples import ACCOUNTING, CORE, GEMM, NEST, TRAFFIC, K, M, N, nest

from hwdse.core.mapping_analysis import distinct_words, mapping_metrics, ranked_resources
from hwdse.core.ordered_loops import Loop, is_gemm, operator_at, tier_loops
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.workload.loops.operators import DIMS, Operators, gemm_operators

COSTS = mapping_costs(TRAFFIC, CORE)
METRICS = mapping_metrics(COSTS, GEMM, CORE, ACCOUNTING)


def convolution(p, q, r, s, stride, dilation, c=3.0, k=5.0, n=2.0):
    return Operators(r, s, p, q, c, k, n, *stride, *dilation, 1.0, ("layer",))


def test_costs_are_those_of_the_reference():
    assert COSTS.time_s == pytest.approx(7.3727999e-05, rel=1e-6)
    assert COSTS.energy_j == pytest.approx(0.00056061165, rel=1e-6)


def test_full_array_has_full_utilization():
    assert METRICS.peak_macs_per_s == pytest.approx(4.096e12)
    assert METRICS.utilization_fraction == pytest.approx(1.0, rel=1e-6)
    assert METRICS.macs_per_s == pytest.approx(M * K * N / 73.728e-6)


def test_reuse_matches_hand_calculation():
    dram, scratchpad, accumulator, registers = METRICS.levels
    assert dram.accesses_per_distinct_ratio.inputs == pytest.approx(1.0)
    assert dram.macs_per_byte.weights == pytest.approx(M)
    # A is written once and read for each of the 12 tiles of n, B written and read once.
    assert scratchpad.accesses_per_distinct_ratio.inputs == pytest.approx(13.0)
    assert scratchpad.accesses_per_distinct_ratio.weights == pytest.approx(2.0)
    assert scratchpad.macs_per_byte.outputs == 0.0
    assert scratchpad.accesses_per_distinct_ratio.outputs == 0.0
    # C is written for each of 12 tiles of k, read for all but the first, and drained.
    assert accumulator.accesses_per_distinct_ratio.outputs == pytest.approx(24.0)
    assert registers.distinct_bytes.weights == pytest.approx(K * N)
    assert registers.accesses_per_distinct_ratio.weights == pytest.approx(M + 1.0)


def test_traffic_over_lower_bound_at_each_level():
    dram, scratchpad, accumulator, _ = METRICS.levels
    assert dram.lower_bound_bytes == pytest.approx(M * K + K * N + M * N)
    assert dram.traffic_over_bound_ratio == pytest.approx(1.0)
    assert scratchpad.lower_bound_bytes == pytest.approx(2.0 * (M * K + K * N))
    assert scratchpad.traffic_over_bound_ratio == pytest.approx(3.2)
    assert accumulator.lower_bound_bytes == pytest.approx(8.0 * M * N)
    assert accumulator.traffic_over_bound_ratio == pytest.approx(12.0)


def test_lower_bound_without_drain_is_one_access_less():
    lazy = mapping_metrics(COSTS, GEMM, CORE, type(ACCOUNTING)(False, True, False))
    assert lazy.levels[2].lower_bound_bytes == pytest.approx(4.0 * M * N)


def test_energy_shares_sum_to_one_and_slowest_time_fraction_is_one():
    energy = sum(level.energy_fraction for level in METRICS.levels) + COSTS.mac_j / COSTS.energy_j
    assert energy == pytest.approx(1.0)
    ranked = ranked_resources(COSTS, CORE)
    assert [name for name, _ in ranked] == [
        "array", "accumulator", "scratchpad", "DRAM", "registers",
    ]  # fmt: skip
    assert ranked[0][1] == pytest.approx(float(COSTS.time_s))
    assert [level.time_fraction for level in METRICS.levels] == pytest.approx(
        [43.008 / 73.728, 49.152 / 73.728, 1.0, (M * K * N + K * N) / 1e16 / 73.728e-6]
    )


@pytest.mark.parametrize("index", range(4))
def test_roofline_is_bandwidth_times_intensity_below_the_array_peak(index):
    level = METRICS.levels[index]
    assert level.bandwidth_bytes_per_s == pytest.approx(
        CORE.levels[index].read_bandwidth_bytes_per_s
    )
    slope = level.bandwidth_bytes_per_s * level.intensity_macs_per_byte
    assert level.attainable_macs_per_s == pytest.approx(min(slope, 4.096e12))
    assert level.attainable_macs_per_s >= METRICS.macs_per_s * (1.0 - 1e-9)


def test_idle_level_has_no_roofline_and_no_nan():
    still = jax.tree.map(lambda x: 0.0 * x, TRAFFIC.levels[2])
    traffic = TRAFFIC.replace(levels=(*TRAFFIC.levels[:2], still, TRAFFIC.levels[3]))
    metrics = mapping_metrics(mapping_costs(traffic, CORE), GEMM, CORE, ACCOUNTING)
    assert metrics.levels[2].attainable_macs_per_s == metrics.peak_macs_per_s
    assert metrics.levels[2].bandwidth_bytes_per_s == np.inf
    assert not any(np.isnan(x) for x in jax.tree.leaves(metrics))


def test_batch_equals_single_operators():
    pair = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x), 2.0 * x]), TRAFFIC)
    both = gemm_operators(*(jnp.array([x, x]) for x in (M, K, N, 1.0)), ("a", "b"))
    metrics = mapping_metrics(mapping_costs(pair, CORE), both, CORE, ACCOUNTING)
    first = jax.tree.map(lambda x: x if jnp.ndim(x) == 0 else x[0], metrics)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(METRICS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(metrics.levels[1].traffic_over_bound_ratio, [3.2, 6.4], rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_distinct_words_match_enumeration(outputs, taps, stride, dilation):
    sets = [
        {p * stride[i] + r * dilation[i] for p, r in
         itertools.product(range(outputs[i]), range(taps[i]))}
        for i in (0, 1)
    ]  # fmt: skip
    as_floats = [tuple(map(float, pair)) for pair in (stride, dilation)]
    layer = convolution(*map(float, (*outputs, *taps)), *as_floats)
    words = distinct_words(layer)
    assert words.inputs == len(sets[0]) * len(sets[1]) * 3.0 * 2.0
    assert words.weights == taps[0] * taps[1] * 3.0 * 5.0
    assert words.outputs == outputs[0] * outputs[1] * 5.0 * 2.0


def test_tiers_have_loops_in_order_with_their_tiles():
    tree = tier_loops(NEST, CORE)
    assert [tier.memory for tier in tree] == [
        "DRAM", "scratchpad", "scratchpad", "accumulator", "registers",
    ]  # fmt: skip
    assert tree[0].extents == {"P": M, "C": K, "K": N}
    assert tree[1].temporal == (Loop("K", 12, 64.0, 64.0),)
    assert tree[2].temporal == ()
    assert tree[2].extents == {"P": M, "C": K, "K": 64.0}
    assert tree[3].temporal == (Loop("C", 12, 64.0, 64.0),)
    assert tree[3].rows == (Loop("C", 64, 1.0, 1.0),)
    assert tree[3].cols == (Loop("K", 64, 1.0, 1.0),)
    assert tree[4].temporal == (Loop("P", 512, 1.0, 1.0),)
    assert tree[4].extents == {"P": M}


def test_loops_of_a_tier_are_sorted_by_position_and_have_last_tiles():
    loops = [(1, "C"), (1, "P"), (1, "K")]
    bounds = {(1, "K"): 2.0, (1, "C"): 3.5, (1, "P"): 4.0, (4, "P"): 8.0}
    tree = tier_loops(nest(bounds, {(3, "C"): 64.0}, loops), CORE)
    assert [loop.dim for loop in tree[1].temporal] == ["C", "P", "K"]
    assert tree[1].temporal[0] == Loop("C", 4, 64.0, 32.0)
    assert tree[1].temporal[1] == Loop("P", 4, 8.0, 8.0)
    assert tree[0].extents == {"C": 224.0, "P": 32.0, "K": 2.0}


def test_float32_quotient_bounds_are_integers():
    bound = float(np.float32(768.0) / np.float32(64.0 * (1.0 + 1e-7)))
    assert tier_loops(nest({(1, "K"): bound}), CORE)[1].temporal[0].steps == 12


def test_operator_at_index_and_gemm_check():
    both = gemm_operators(
        jnp.array([8.0, 9.0]), jnp.array(3.0), jnp.array([4.0, 5.0]), 1.0, ("a", "b")
    )
    second = operator_at(both, 1)
    assert (second.p, second.c, second.k, second.names) == (9.0, 3.0, 5.0, ("b",))
    assert is_gemm(second)
    assert not is_gemm(convolution(8.0, 8.0, 1.0, 1.0, (1.0, 1.0), (1.0, 1.0)))
    assert set(DIMS) >= set("PCK")
