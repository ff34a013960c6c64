"""Evaluation of a core: sums, mapping selection, gradients, limits, explicit tiles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.small_core import CORE, NETWORK

from hwdse.config.design.initial_tiles import first_tiles, tile_names
from hwdse.core.core_evaluation import at_clock_voltage, core_area_mm2, leakage_w
from hwdse.core.mapper.mapper import best_mapping
from hwdse.core.mapping_policies import network_sum, time_price_w
from hwdse.evaluation import evaluate
from hwdse.models.energy import voltage_and_leakage
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import smooth
from hwdse.objectives import CONSTRAINTS, OBJECTIVES
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.design import CoreDesign, TileExtents

LEAKY = set_path(CORE, "process.leakage_w_per_mm2", 0.05)
BASE = CoreDesign(LEAKY, (), "optimize")
SEARCHED = {  # low, high
    "rows": (4.0, 64.0),
    "cols": (4.0, 64.0),
    "clock_hz": (5e8, 1.3e9),
    "dram.read_bandwidth_bytes_per_s": (1e9, 3e10),
    "scratchpad.capacity_bytes": (2e4, 5e5),
    "scratchpad.read_bandwidth_bytes_per_s": (5e8, 8e9),
    "accumulator.capacity_bytes": (1e4, 2e5),
    "accumulator.read_bandwidth_bytes_per_s": (2e9, 1.6e10),
    "scratchpad.word_bytes.weights": (0.5, 2.0),
    "scratchpad.word_bytes.inputs": (0.5, 2.0),
    "accumulator.word_bytes.outputs": (2.0, 4.0),
    "dram.word_bytes.outputs": (1.0, 4.0),
}
LEAVES = tuple(SEARCHED)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def as_arrays(design):
    return jax.tree.map(lambda x: jnp.asarray(x, float), design)


@functools.cache
def program():
    return quick_jit(evaluate)


def run(design):
    return jax.tree.map(float, program()(as_arrays(design), NETWORK))


def changed(**values):
    core = LEAKY
    for path, value in values.items():
        core = set_path(core, path.replace("__", "."), value)
    return BASE.replace(accelerator=core)


@functools.cache
def random_cores(number=24):
    """Random cores, stacked; the first one is that of BASE."""
    generator = np.random.default_rng(3)
    batch = jax.tree.map(lambda x: jnp.full(number, x, float), LEAKY)
    for path, (low, high) in SEARCHED.items():
        values = np.exp(generator.uniform(np.log(low), np.log(high), number))
        values = np.round(values) if path in ("rows", "cols") else values
        values[0] = get_path(LEAKY, path)
        batch = set_path(batch, path, jnp.asarray(values))
    return batch


@functools.cache
def two_passes():
    """For random cores: costs of first and second pass, tiles of the second pass, leakage."""

    def both(core):
        core, static_w = at_clock_voltage(core), leakage_w(core)
        first = best_mapping(NETWORK, core).costs
        price = time_price_w(first, NETWORK, static_w)
        second = best_mapping(NETWORK, core, time_price_w=price)
        return first, second.costs, second.tile, static_w

    return jax.tree.map(np.asarray, quick_jit(jax.vmap(both))(random_cores()))


def test_totals_are_sums_over_operators_times_counts():
    result = run(BASE)
    _, costs, _, _ = two_passes()
    time_s, spent_j = (np.sum(x[0] * NETWORK.count) for x in (costs.time_s, costs.energy_j))
    static_j = float(leakage_w(LEAKY)) * time_s
    assert result.step_time_s == pytest.approx(time_s, rel=1e-12)
    assert result.step_energy_j == pytest.approx(spent_j + static_j, rel=1e-12)
    assert result.energy.static == pytest.approx(static_j, rel=1e-12)
    product = time_s * (spent_j + static_j)
    assert OBJECTIVES["energy_delay"](result) == pytest.approx(product, rel=1e-12)
    assert OBJECTIVES["time_per_token"](result) == result.step_time_s
    assert OBJECTIVES["energy_per_token"](result) == result.step_energy_j


def test_parts_sum_to_totals():
    result = run(BASE)
    for parts, total in ((result.time, result.step_time_s), (result.energy, result.step_energy_j),
                         (result.area, result.die_area_mm2)):  # fmt: skip
        assert sum(jax.tree.leaves(parts)) == pytest.approx(total, rel=1e-12)
    assert result.chip_power_w == pytest.approx(result.step_energy_j / result.step_time_s)
    macs = np.sum(NETWORK.num_macs * NETWORK.count)
    assert result.hardware_flop == 2.0 * macs
    assert result.energy.matrix == pytest.approx(macs * CORE.mac_energy_j, rel=1e-12)
    assert result.mfu_fraction <= 1.0
    assert result.step_time_s >= macs / (CORE.rows * CORE.cols * CORE.clock_hz)
    distinct = 128 * 768 + 768 * 512 + 128 * 512
    assert result.hbm_traffic_bytes >= 2 * distinct


def test_area_and_cost_match_hand_calculation():
    area = core_area_mm2(LEAKY)
    assert area.matrix == pytest.approx(256 * 434e-6)
    assert area.sram == pytest.approx(
        (128 + 32) / 1024 * 2.737
    )  # registers are part of the MAC area
    assert area.hbm_phy == pytest.approx(8.0 * 0.26466)
    result = run(BASE)
    assert result.chip_cost_usd > CORE.package_cost_usd + 2.4 * 2**30 / 1e9
    assert run(changed(dram__capacity_bytes=2.0**31)).chip_cost_usd - result.chip_cost_usd == (
        pytest.approx(2.4 * 2**30 / 1e9)
    )


def test_second_pass_is_never_worse_than_the_first():
    first, second, _, static_w = two_passes()
    used = [np.max(np.maximum(*x.used_ratio[1:3]), axis=1) for x in (first, second)]
    fits = np.maximum(*used) <= 1.0
    assert np.sum(fits) > 12

    def products(costs):
        time_s, spent_j = costs.time_s @ NETWORK.count, costs.energy_j @ NETWORK.count
        return (time_s * (spent_j + static_w * time_s))[fits]

    assert np.all(products(second) <= products(first) * (1.0 + 1e-12))


def test_price_of_time_is_the_marginal_energy_delay_product():
    """d(T (E + P T)) = T (dE + lambda dT)."""
    generator = np.random.default_rng(0)
    time_s, spent_j = generator.uniform(1.0, 2.0, 3), generator.uniform(1.0, 2.0, 3)
    power_w = 0.7

    def product(time_s, spent_j):
        total = network_sum(time_s, NETWORK)
        return total * (network_sum(spent_j, NETWORK) + power_w * total)

    by_time, by_energy = jax.grad(product, argnums=(0, 1))(
        jnp.asarray(time_s), jnp.asarray(spent_j)
    )
    costs = two_passes()[0].replace(time_s=time_s, energy_j=spent_j)
    price = float(time_price_w(costs, NETWORK, power_w))
    np.testing.assert_allclose(by_time / by_energy, price, rtol=1e-12)


def test_gradients_through_the_mapper_match_finite_differences():
    """Elasticities of the energy-delay product of two cores in the continuous relaxation."""
    cores = [jax.tree.map(lambda x, i=i: float(x[i]), random_cores()) for i in (3, 5)]
    points = jnp.log(jnp.asarray([[get_path(core, path) for path in LEAVES] for core in cores]))

    def log_product(logs):
        varied = LEAKY
        for path, log in zip(LEAVES, logs, strict=True):
            varied = set_path(varied, path, jnp.exp(log))
        result = evaluate(CoreDesign(varied, (), "optimize"), NETWORK, smooth(1.0))
        return jnp.log(OBJECTIVES["energy_delay"](result))

    step = 1e-6 * jnp.eye(len(LEAVES))
    shifted = jnp.concatenate([points, *(x + sign * step for x in points for sign in (1.0, -1.0))])
    values, slopes = quick_jit(jax.vmap(jax.value_and_grad(log_product)))(shifted)
    number = len(LEAVES)
    for i, slope in enumerate(np.asarray(slopes[:2])):
        up, down = np.asarray(values[2 + 2 * i * number :][: 2 * number]).reshape(2, number)
        np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-4, atol=1e-6)
        assert np.count_nonzero(np.abs(slope) > 1e-3) >= 6


def test_exact_gradients_are_finite_for_every_leaf():
    def total(core):
        result = evaluate(CoreDesign(core, (), "optimize"), NETWORK)
        return sum(jax.tree.leaves(result))

    slope = quick_jit(jax.vmap(jax.grad(total)))(random_cores())
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slope))
    for path in ("rows", "cols", "clock_hz", "dram.read_bandwidth_bytes_per_s",
                 "scratchpad.capacity_bytes", "accumulator.capacity_bytes",
                 "accumulator.word_bytes.outputs"):  # fmt: skip
        assert bool(jnp.any(get_path(slope, path) != 0.0)), path


@pytest.mark.parametrize(
    "path", ["dram.read_bandwidth_bytes_per_s", "accumulator.read_bandwidth_bytes_per_s"]
)
def test_energy_delay_product_never_rises_with_bandwidth(path):
    """Without leakage and at equal energies, since the additional area leaks."""
    values = get_path(CORE, path) * 2.0 ** np.arange(-3.0, 4.0)
    products = []
    for value in values:
        core = set_path(CORE, path, float(value))
        products.append(OBJECTIVES["energy_delay"](run(BASE.replace(accelerator=core))))
    assert np.all(np.diff(products) <= 1e-12 * products[0])
    assert products[-1] < products[0]


def test_clock_changes_on_chip_energies_but_not_dram_energies():
    ratio = float(voltage_and_leakage.dynamic_energy_ratio(1.2, CORE.process))
    fast = at_clock_voltage(CORE.replace(clock_hz=1.2e9))
    assert ratio > 1.0
    assert fast.mac_energy_j == pytest.approx(ratio * CORE.mac_energy_j)
    for before, after in zip(CORE.levels, fast.levels, strict=True):
        factor = ratio if before.follows_clock else 1.0
        assert after.read_energy_j_per_byte == pytest.approx(factor * before.read_energy_j_per_byte)
        assert after.energy_slope == pytest.approx(factor * before.energy_slope)
    assert run(changed(clock_hz=1.2e9)).step_time_s < run(BASE).step_time_s


def test_exceeded_memory_capacities_are_reported():
    fits = run(BASE)
    assert fits.hbm_used_ratio <= 1.0
    broken = run(changed(scratchpad__capacity_bytes=100.0))
    assert CONSTRAINTS["memory_used_ratio"](broken) > 1.0
    assert CONSTRAINTS["memory_used_ratio"](broken) == CONSTRAINTS["hbm_used_ratio"](broken)
    small = run(changed(dram__capacity_bytes=1e5))
    footprint = 128 * 768 + 768 * 512 + 128 * 512  # ffn, bytes
    assert small.hbm_used_ratio == pytest.approx(footprint / 1e5)
    assert sum(jax.tree.leaves(small.hbm)) == footprint


def test_explicit_tiles_of_the_best_mapping_have_equal_costs():
    tile = two_passes()[2]
    fields = ("p", "q", "n", "k", "block_p", "block_k", "rows", "cols")
    sizes = [np.broadcast_to(getattr(tile, name), (24, 3))[0] for name in fields]
    given = tuple(
        TileExtents(*(float(x[i]) for x in sizes), name=name)
        for i, name in enumerate(tile_names(NETWORK))
    )
    explicit = run(CoreDesign(LEAKY, given, "explicit"))
    optimal = run(BASE)
    assert explicit.step_time_s == pytest.approx(optimal.step_time_s, rel=1e-9)
    assert explicit.step_energy_j == pytest.approx(optimal.step_energy_j, rel=1e-9)
    assert explicit.hbm_used_ratio == pytest.approx(optimal.hbm_used_ratio, rel=1e-9)


def explicit_design(**changes):
    tiles = tuple(tile.replace(**changes) for tile in first_tiles(NETWORK, LEAKY))
    return CoreDesign(LEAKY, tiles, "explicit")


def test_no_explicit_tile_is_better_than_the_best_mapping():
    generator = np.random.default_rng(1)
    optimal = OBJECTIVES["energy_delay"](run(BASE))
    for _ in range(40):
        sizes = np.exp(generator.uniform(0.0, np.log(512.0), 4)).round()
        design = explicit_design(**dict(zip(("p", "k", "block_p", "block_k"), sizes, strict=True)))
        found = run(design)
        if found.hbm_used_ratio <= 1.0:
            assert OBJECTIVES["energy_delay"](found) >= optimal * (1.0 - 1e-3)


def test_initial_tiles_fit_and_overflow_of_larger_tiles_is_reported():
    assert run(explicit_design()).hbm_used_ratio <= 1.0
    large = run(explicit_design(p=1e6, k=1e6))  # clipped to the operator: 128 x 512 sums of 4 bytes
    assert large.hbm_used_ratio == pytest.approx(128 * 512 * 4 / 32768)


def test_gradients_of_explicit_tiles_are_finite():
    spent_j = quick_jit(jax.grad(lambda x: evaluate(x, NETWORK, smooth(0.5)).step_energy_j))
    slope = spent_j(as_arrays(explicit_design(p=3.0, k=24.0)))
    assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves(slope))
    assert slope.tiles[0].p < 0.0  # larger tiles read less
    assert slope.tiles[0].k < 0.0


def test_tile_names_are_valid_path_segments():
    names = ("a.b", "a b", "7", "", "a_b", "conv-1")
    operators = NETWORK.replace(names=names)
    found = tile_names(operators)
    assert found == ("a_b", "a_b_at_1", "7_at_2", "operator_at_3", "a_b_at_4", "conv-1")


def test_mismatched_design_and_workload_are_rejected():
    from hwdse.config import load_search

    cluster = load_search("trn2_llama3_70b")
    with pytest.raises(ValueError, match="CoreDesign cannot run a TransformerTraining"):
        evaluate(BASE, cluster.workload)
    with pytest.raises(ValueError, match="a Design cannot run a Operators"):
        evaluate(cluster.base, NETWORK)


def test_float32_agrees_with_float64():
    exact = OBJECTIVES["energy_delay"](run(BASE))
    with jax.enable_x64(False):
        single = program()(as_arrays(BASE), jax.tree.map(np.float32, NETWORK))
    assert float(single.step_time_s * single.step_energy_j) == pytest.approx(exact, rel=1e-3)
