"""Memory balance of a design: demand ratios, balanced bandwidths and SRAM, elasticities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import BASE, JOB, LAYERS, as_arrays, with_static_defaults

import hwdse
from hwdse.analysis.memory_level_balance import (
    CAPACITY_RANGE_BYTES,
    balanced_sram_bytes,
    level_elasticities,
    memory_balance,
    sustained_flop_per_s,
    workload_bound,
)
from hwdse.evaluation import evaluate
from hwdse.models.memory.io_lower_bound import gemm_traffic_bound
from hwdse.numerics.jit_compile import quick_jit
from hwdse.search.space.search_space import set_path
from hwdse.specs.results.balance_results import LEVELS
from hwdse.workload.transformer.sharding import shard

PATHS = {
    "sram": "chip.sram.bandwidth_bytes_per_s",
    "hbm": "chip.hbm.bandwidth_bytes_per_s",
    "link": "chip.link.bandwidth_bytes_per_s",
    "network": "chip.network.bandwidth_bytes_per_s",
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def _compiled():
    return quick_jit(lambda design: memory_balance(with_static_defaults(design), JOB))


def balance_of(design):
    return _compiled()(as_arrays(design))


@functools.cache
def main_balance():
    return balance_of(BASE)


def with_leaf(design, path, value):
    return set_path(design, path, jnp.asarray(value, float))


def test_demand_ratio_is_required_over_available_at_every_level():
    for name in LEVELS:
        level = getattr(main_balance(), name)
        ratio = level.required_bytes_per_flop / level.available_bytes_per_flop
        assert level.demand_ratio == pytest.approx(float(ratio))
        assert level.intensity_flop_per_byte == pytest.approx(
            float(1.0 / level.required_bytes_per_flop)
        )


def test_flop_rate_is_that_of_all_mac_units():
    array = BASE.chip.array
    peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
    sustained = BASE.chip.matrix_efficiency_fraction * peak
    assert main_balance().flop_per_s == pytest.approx(sustained)
    assert main_balance().gemm_bytes <= main_balance().hbm.step_bytes


def test_array_receives_two_operands_per_mac():
    """At full efficiency required and available are equal: 2 bytes per FLOP."""
    assert main_balance().array.required_bytes_per_flop == pytest.approx(2.0)
    sustained = BASE.chip.matrix_efficiency_fraction
    assert main_balance().array.demand_ratio == pytest.approx(sustained)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_demand_ratio_is_one_at_the_balanced_bandwidth(name):
    level = getattr(main_balance(), name)
    moved = with_leaf(BASE, PATHS[name], float(level.balanced_bandwidth_bytes_per_s))
    assert getattr(balance_of(moved), name).demand_ratio == pytest.approx(1.0, rel=1e-4)


def step_time_of(balance):
    """From storage traffic per step: checkpoint bytes per chip, spread over the interval."""
    saved = shard(JOB, BASE.parallelism, BASE.cluster.num_chips).checkpoint_bytes
    share = float(saved) / BASE.cluster.num_chips
    return float(balance.storage.step_bytes) * BASE.checkpoint_interval_s / share


def test_storage_affects_effective_tokens_but_not_the_step():
    balance = main_balance()
    assert balance.storage.step_time_elasticity == 0.0
    assert balance.storage.token_time_elasticity < 0.0
    busy_s = float(balance.flop / balance.flop_per_s)
    assert busy_s < step_time_of(balance) < 5.0 * busy_s


@pytest.mark.parametrize("name", ["hbm", "link", "network"])
def test_elasticities_match_finite_differences_of_the_step_time(name):
    step, old = 1e-4, getattr(BASE.chip, name).bandwidth_bytes_per_s
    times = [
        step_time_of(balance_of(with_leaf(BASE, PATHS[name], old * np.exp(sign * step))))
        for sign in (-1.0, 1.0)
    ]
    slope = np.log(times[1] / times[0]) / (2.0 * step)
    elasticity = float(getattr(main_balance(), name).step_time_elasticity)
    assert elasticity == pytest.approx(slope, rel=1e-3, abs=1e-7)
    assert elasticity < 0.0


def test_traffic_exceeds_both_bounds():
    balance = main_balance()
    assert 1.0 <= balance.traffic_over_private_bound_ratio <= balance.traffic_over_bound_ratio
    assert balance.bound_bytes <= balance.private_bound_bytes
    assert balance.bound.compulsory_bytes <= balance.bound_bytes


def test_one_shared_scratchpad_needs_no_copies():
    """Data that eight private scratchpads read twice is read once by a shared one."""
    shared = balance_of(with_leaf(BASE, "chip.num_scratchpads", 1.0))
    assert shared.traffic_over_bound_ratio < 0.6 * main_balance().traffic_over_bound_ratio
    assert shared.private_bound_bytes == shared.bound_bytes


class TestBandwidthBoundHbm:
    """HBM at which the current SRAM just suffices, and slower HBM."""

    def fed(self, sram_bytes, bandwidth):
        design = with_leaf(BASE, PATHS["hbm"], bandwidth)
        return balance_of(with_leaf(design, "chip.sram.capacity_bytes", sram_bytes))

    def test_demand_ratio_crosses_one_at_the_balanced_sram(self):
        bandwidth = 2.0 * float(main_balance().hbm.balanced_bandwidth_bytes_per_s)
        edge = float(self.fed(1e8, bandwidth).balanced_sram_bytes)
        assert CAPACITY_RANGE_BYTES[0] < edge < BASE.chip.sram.capacity_bytes
        assert self.fed(edge * (1.0 + 1e-9), bandwidth).hbm.demand_ratio <= 1.0
        assert self.fed(edge * (1.0 - 1e-6), bandwidth).hbm.demand_ratio > 1.0

    def test_balanced_sram_is_infinite_if_compulsory_traffic_is_too_high(self):
        bandwidth = 0.3 * float(main_balance().hbm.balanced_bandwidth_bytes_per_s)
        starved = self.fed(BASE.chip.sram.capacity_bytes, bandwidth)
        assert jnp.isinf(starved.balanced_sram_bytes)
        assert LEVELS[int(starved.bottleneck_level)] == "hbm"
        assert starved.demand_ratios[2] == starved.hbm.demand_ratio


def test_bound_of_a_workload_is_the_sum_over_operators():
    design = with_static_defaults(BASE)
    step = shard(LAYERS, design.parallelism, design.cluster.num_chips)
    summed, whole = workload_bound(step, 2.0**20, 2.0)
    each = gemm_traffic_bound(step.gemms, 2.0**20, 2.0).bytes
    assert whole >= jnp.maximum(summed.compulsory_bytes, summed.pebble_bytes)
    assert whole == pytest.approx(float(jnp.sum(each)))


def test_balanced_sram_is_the_range_end_for_slow_engines():
    """One MAC unit: any SRAM suffices, so the lower end of the range is returned."""
    slow = with_static_defaults(with_leaf(BASE, "chip.array.clock_hz", 1.0))
    edge = quick_jit(lambda design: balanced_sram_bytes(with_static_defaults(design), LAYERS))(
        as_arrays(slow)
    )
    assert edge == pytest.approx(CAPACITY_RANGE_BYTES[0])
    assert sustained_flop_per_s(slow) < 1e6


@pytest.mark.parametrize("system", ["oceanlight", "tpu_v4_pod"])
def test_compiled_elasticities_are_right_where_protocols_and_dimensions_tie(system):
    job = hwdse.job(system=system, model="gpt3_13b")
    design, step = as_arrays(job.design), 1e-4
    _, of_step, _ = quick_jit(lambda design: level_elasticities(design, job.workload))(design)
    step_time_s = quick_jit(lambda design: evaluate(design, job.workload).step_time_s)
    for name in ("hbm", "link", "network"):
        old = getattr(design.chip, name).bandwidth_bytes_per_s
        times = [
            float(step_time_s(with_leaf(design, PATHS[name], old * np.exp(sign * step))))
            for sign in (-1.0, 1.0)
        ]
        slope = np.log(times[1] / times[0]) / (2.0 * step)
        assert float(getattr(of_step, name)) == pytest.approx(slope, rel=1e-3, abs=1e-6)
