"""Mapper on the preset core: optimal against brute force, monotone in resources, finite gradients
from the smallest to the largest GEMMs."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.config import load_accelerator
from hwdse.core.mapper.mapper import best_mapping
from hwdse.models.memory.memory_level_costs import access_energy_j_per_byte
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.workload.loops.operators import gemm_operators

GEMMINI = load_accelerator("gemmini")
SIZES = [(24.0, 40.0, 36.0), (7.0, 50.0, 33.0), (64.0, 16.0, 64.0), (1.0, 64.0, 48.0)]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def matrix_products(sizes):
    m, k, n = np.array(sizes).T
    return gemm_operators(m, k, n, np.ones(len(sizes)))


PROGRAM = quick_jit(lambda operators, core: best_mapping(operators, core))


def costs_of(sizes, core):
    return jax.tree.map(np.asarray, PROGRAM(matrix_products(sizes), as_arrays(core))).costs


def as_arrays(core):
    return jax.tree.map(lambda x: jnp.asarray(x, float), core)


def small_core(rows=4.0, cols=8.0, scratchpad=1500.0, accumulator=400.0):
    core = set_path(set_path(GEMMINI, "rows", rows), "cols", cols)
    core = set_path(core, "scratchpad.capacity_bytes", scratchpad)
    return set_path(core, "accumulator.capacity_bytes", accumulator)


def least_by_trying(m, k, n, core):
    """Lowest energy-delay product over all tiles m_t x n_t and five residencies, by brute force."""
    rows, cols = core.rows, core.cols
    _, pad, acc, _ = core.levels
    prices = [tuple(map(float, access_energy_j_per_byte(level, core))) for level in core.levels]
    sums = math.ceil(k / rows)
    best = math.inf
    for mt, nt in itertools.product(range(1, int(m) + 1), range(1, int(n) + 1)):
        if mt * nt * 4 > acc.capacity_bytes:
            continue
        strips, bands = math.ceil(m / mt), math.ceil(n / nt)
        last = n - (bands - 1) * nt
        passes = (bands - 1) * math.ceil(nt / cols) + math.ceil(last / cols)
        few_k, few_n = math.ceil(k / sums), math.ceil(nt / math.ceil(nt / cols))
        held = {  # bytes of weights and inputs, then how often each comes from DRAM
            "stream": (few_k * few_n + mt * few_k, strips, bands),
            "inputs": (few_k * few_n + mt * k, strips, 1),
            "weights": (k * nt + mt * few_k, 1, bands),
            "inputs, all weights": (k * n + mt * k, 1, 1),
            "weights, all inputs": (k * nt + m * k, 1, 1),
        }
        for kept, of_weights, of_inputs in held.values():
            if kept > pad.capacity_bytes:
                continue
            weights, inputs = k * n * of_weights, m * k * of_inputs
            loaded = k * n * strips
            moved = (  # bytes read, bytes written
                (weights + inputs, m * n),
                (loaded + m * k * passes, weights + inputs),
                (4 * m * n * sums, 4 * m * n * sums),
                (m * k * n, loaded),
            )
            ports = (1.0, rows, cols, rows * cols)
            busy = [m * sums * passes / core.clock_hz]
            joules = m * k * n * core.mac_energy_j
            for level, (read, written), price, count in zip(
                core.levels, moved, prices, ports, strict=True
            ):
                busy.append((read + written) / (count * level.read_bandwidth_bytes_per_s))
                joules += read * price[0] + written * price[1]
            best = min(best, max(busy) * joules)
    return best


@pytest.mark.parametrize("core", [small_core(), small_core(8.0, 4.0, 700.0, 256.0)])
@pytest.mark.parametrize("size", SIZES)
def test_brute_force_finds_no_better_tile(size, core):
    found = costs_of([size], core)
    assert max(float(np.max(ratio)) for ratio in found.used_ratio[1:3]) <= 1.0 + 1e-5
    product = float(found.time_s[0] * found.energy_j[0])
    assert product <= least_by_trying(*size, core) * (1.0 + 1e-9)


MORE = {
    "scratchpad.capacity_bytes": (300.0, 1e4),
    "accumulator.capacity_bytes": (64.0, 4e3),
    "dram.read_bandwidth_bytes_per_s": (1e8, 1e11),
    "scratchpad.read_bandwidth_bytes_per_s": (1e8, 1e11),
    "accumulator.read_bandwidth_bytes_per_s": (1e8, 1e11),
}


@settings(max_examples=30, deadline=None)
@given(
    path=st.sampled_from(sorted(MORE)),
    place=st.floats(0.0, 1.0),
    factor=st.floats(1.01, 8.0),
    size=st.tuples(*[st.integers(1, 90)] * 3),
)
def test_energy_delay_product_never_rises_with_any_resource(path, place, factor, size):
    low, high = MORE[path]
    core = small_core()
    for level in ("scratchpad", "accumulator"):  # equal energy of an access
        core = set_path(core, f"{level}.energy_slope", 0.0)
    value = low * (high / low) ** place
    size = tuple(map(float, size))
    with jax.enable_x64(True):
        less, more = (costs_of([size], set_path(core, path, x)) for x in (value, factor * value))
    assert more.time_s[0] * more.energy_j[0] <= less.time_s[0] * less.energy_j[0] * (1 + 1e-9)


PATHS = (
    "rows",
    "cols",
    "clock_hz",
    *MORE,
    "scratchpad.word_bytes.weights",
    "scratchpad.word_bytes.inputs",
    "accumulator.word_bytes.outputs",
    "dram.word_bytes.inputs",
)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.5)], ids=["exact", "smooth"])
def test_gradients_are_finite_from_the_smallest_to_the_largest_gemm(relaxation):
    sizes = [(1.0, 1.0, 1.0), (5.0, 3.0, 2.0), *SIZES, (1e5, 2e4, 3e4)]

    def logs(values):
        pairs = zip(PATHS, values, strict=True)
        core = functools.reduce(lambda core, pair: set_path(core, *pair), pairs, GEMMINI)
        costs = best_mapping(matrix_products(sizes), core, relaxation).costs
        return jnp.sum(jnp.log(costs.time_s) + jnp.log(costs.energy_j))

    values = [jnp.asarray(float(get_path(GEMMINI, path))) for path in PATHS]
    value, slopes = quick_jit(jax.value_and_grad(logs))(values)
    assert np.isfinite(value)
    assert all(np.isfinite(slope) for slope in slopes)
    assert slopes[PATHS.index("scratchpad.capacity_bytes")] != 0.0
    assert slopes[PATHS.index("dram.read_bandwidth_bytes_per_s")] <= 0.0
