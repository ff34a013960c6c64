"""Mapper: best of all tiles, consistent with loop nests, monotone in memory capacity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tile_cores import KIB, convs, core, unified_core
from support.tile_cores import gemms as products_of

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.core.mapper.mapper import HARDWARE, best_mapping, operator_nest
from hwdse.models.memory.largest_tile import divisors_of
from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.models.memory.tile_traffic import tile_traffic
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.mappings.tiles import RESIDENCIES, Tile, roles

BEST = quick_jit(lambda op, accelerator: best_mapping(op, accelerator))
PRICED = quick_jit(lambda op, acc, price: best_mapping(op, acc, time_price_w=price).costs)
AS_NEST = quick_jit(lambda nest, op, acc: mapping_costs(nest_traffic(nest, op, acc, HARDWARE), acc))
PERFECT = quick_jit(lambda op, acc, divisors: best_mapping(op, acc, divisors=divisors))


EIGHT = 8
"""All calls have this number of operators, so that few programs are compiled."""


def eight(values):
    """Values, repeated from the start up to eight."""
    return np.resize(np.asarray(values), (EIGHT, *np.shape(values)[1:]))


def gemms(m, k, n):
    return products_of(*(eight(np.atleast_1d(np.asarray(x, float))) for x in (m, k, n)))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def edp(costs):
    return costs.energy_j * costs.time_s


def fullest(best, accelerator):
    """Largest footprint over on-chip capacity of each mapping."""
    part = roles(accelerator)
    return np.maximum(*(best.costs.used_ratio[i] for i in (part.scratchpad, part.accumulator)))


@quick_jit
def score(op, accelerator, some):
    costs = mapping_costs(tile_traffic(op, some, accelerator, HARDWARE), accelerator)
    part = roles(accelerator)
    used = jnp.maximum(costs.used_ratio[part.scratchpad], costs.used_ratio[part.accumulator])
    return jnp.where(used > 1.0 + 1e-9, jnp.inf, edp(costs))


NUM_TILES = 8192


def every_tile(name, m, k, n, rows, cols):
    """All tiles of a GEMM under one residency, including widths of passes."""
    held, found = RESIDENCIES[name], []
    widths = itertools.product(range(1, n + 1), range(1, min(cols, n) + 1))
    for (w, c), p in itertools.product(widths, range(1, m + 1)):
        has_row_tiles = held.inputs_once and held.whole_weights
        has_wide_blocks = held.weights_once and held.whole_inputs
        for block_p in range(p, m + 1) if has_row_tiles else (p,):
            for block_w in range(w, n + 1) if has_wide_blocks else (w,):
                if c <= w:
                    found.append((p, 1, 1, w, block_p, block_w, min(rows, k), c))
    return np.array(found, float).T


@pytest.mark.parametrize("make", [core, unified_core])
@pytest.mark.parametrize(
    ("m", "k", "n", "rows", "cols", "memory"),
    [(11, 7, 12, 2, 4, 160.0), (13, 12, 9, 4, 2, 96.0), (9, 10, 11, 3, 3, 400.0)],
)
def test_no_tile_is_better_than_the_best_mapping(make, m, k, n, rows, cols, memory):
    memories = (memory, memory) if make is core else (2.0 * memory,)
    accelerator, op = make(float(rows), float(cols), *memories), gemms(m, k, n)
    best = BEST(op, accelerator)
    assert np.all(fullest(best, accelerator) <= 1.0)
    lowest, one = jnp.inf, jax.tree.map(lambda x: x[:1], op)
    for name, residency in RESIDENCIES.items():
        columns = every_tile(name, m, k, n, rows, cols)
        some = Tile(*jnp.asarray(np.resize(columns.T, (NUM_TILES, 8)).T), residency=residency)
        assert columns.shape[1] <= NUM_TILES
        lowest = min(lowest, float(jnp.min(score(one, accelerator, some))))
    assert float(edp(best.costs)[0]) == pytest.approx(lowest, rel=1e-12)


RNG = np.random.default_rng(7)


def drawn(*choices, size=EIGHT):
    return (RNG.choice(some, size).astype(float) for some in choices)


def some_gemms():
    sizes = drawn([1, 8, 49, 197, 512, 1000, 8192], [8, 64, 147, 768, 4096], [1, 16, 77, 768, 1000])
    return gemms(*sizes)


def some_convs():
    names = ("r", "s", "p", "q", "c", "k", "n", "stride_p", "stride_q", "dilation_r", "dilation_s")
    few = [1, 1, 2]
    sizes = drawn(
        *([1, 3, 5], [1, 3], [1, 7, 14, 28, 57], [1, 7, 14, 28, 57], [1, 3, 16, 64, 100]),
        *([1, 10, 64, 333], [1, 1, 4, 7], few, few, few, few),
    )
    return convs(**dict(zip(names, sizes, strict=True)))


@pytest.mark.parametrize("make_operators", [some_gemms, some_convs])
@pytest.mark.parametrize("accelerator", [core(33.0, 16.0, 16 * KIB, 4 * KIB), unified_core(8.0)])
def test_loop_nest_model_gives_equal_costs(make_operators, accelerator):
    op = make_operators()
    best = BEST(op, accelerator)
    nests = [operator_nest(best, op, accelerator, index) for index in range(EIGHT)]
    for tiers in {nest.tiers for nest in nests}:
        rows = eight([index for index, nest in enumerate(nests) if nest.tiers == tiers])
        nest = jax.tree.map(lambda *x: np.stack(x), *(nests[index] for index in rows))
        sizes, found = jax.tree.map(
            lambda x, rows=rows: x[rows], (op.replace(names=()), best.costs)
        )
        costs = AS_NEST(nest, sizes, accelerator)
        for name in ("time_s", "energy_j", "used_ratio"):
            pairs = (jax.tree.leaves(getattr(x, name)) for x in (costs, found))
            for as_nest, as_tile in zip(*pairs, strict=True):
                assert np.asarray(as_nest) == pytest.approx(np.asarray(as_tile), rel=1e-9)


def test_fitting_convolution_transfers_every_word_once():
    # 3 x 3, stride 2: 28 x 28 outputs need 57 x 57 inputs; everything fits.
    op = convs(r=eight([3]), s=3, p=28, q=28, c=16, k=16, stride_p=2, stride_q=2)
    best = BEST(op, core(16.0, 16.0, 128 * KIB, 64 * KIB))
    dram = best.costs.traffic.levels[0]
    assert dram.reads.inputs[0] == 57 * 57 * 16
    assert dram.reads.weights[0] == 9 * 16 * 16
    assert dram.writes.outputs[0] == 28 * 28 * 16
    assert best.costs.traffic.compute_cycles[0] == 28 * 28 * 9


def test_input_rows_stream_if_not_all_fit():
    op = convs(r=eight([3]), s=3, p=56, q=56, c=16, k=16)
    best = BEST(op, core(16.0, 16.0, 24 * KIB, 16 * KIB))
    assert best.costs.traffic.levels[0].reads.inputs[0] == 58 * 58 * 16
    assert float(best.tile.p[0]) < 56.0
    assert np.all(fullest(best, core(16.0, 16.0, 24 * KIB, 16 * KIB)) <= 1.0)


@pytest.mark.parametrize("make", [core, unified_core])
def test_traffic_is_at_least_compulsory(make):
    op, accelerator = some_gemms(), make()
    costs = BEST(op, accelerator).costs
    dram = costs.traffic.levels[0]
    assert np.all(dram.reads.weights >= op.c * op.k)
    assert np.all(dram.reads.inputs >= op.p * op.c)
    assert np.array_equal(dram.writes.outputs, op.p * op.k)
    assert np.all(costs.time_s >= op.num_macs / (accelerator.rows * accelerator.cols) * 1e-9)
    assert np.all(costs.energy_j >= op.num_macs * accelerator.mac_energy_j)


SIZES = st.integers(1, 3000).map(float)
MORE = st.floats(1.0, 8.0)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES, MORE, MORE, MORE, st.sampled_from([core, unified_core]))
def test_energy_delay_product_never_rises_with_memory_or_bandwidth(
    m, k, n, more_1, more_2, faster, make
):
    memories = (8.0 * KIB, 2.0 * KIB) if make is core else (8.0 * KIB,)
    larger = [memory * more for memory, more in zip(memories, (more_1, more_2), strict=False)]
    op = gemms([m, 1, 64, 700], [k, 500, 64, 90], [n, 900, 33, 1])
    small, large = (make(12.0, 10.0, *sizes) for sizes in (memories, larger))
    fast = small.replace(levels=tuple(_faster(level, faster) for level in small.levels))
    before, *after = (BEST(op, accelerator).costs for accelerator in (small, large, fast))
    for costs in after:
        assert np.all(edp(costs) <= edp(before) * (1.0 + 1e-12))
    price = 0.3
    before, after = (PRICED(op, accelerator, price) for accelerator in (small, large))
    assert np.all(
        after.energy_j + price * after.time_s
        <= (before.energy_j + price * before.time_s) * (1 + 1e-12)
    )


def _faster(level, ratio):
    return level.replace(
        read_bandwidth_bytes_per_s=ratio * level.read_bandwidth_bytes_per_s,
        write_bandwidth_bytes_per_s=ratio * level.write_bandwidth_bytes_per_s,
    )


def test_price_of_time_trades_energy_for_time():
    op, accelerator = some_gemms(), core(8.0, 8.0, 8 * KIB, 2 * KIB)
    free, dear = (PRICED(op, accelerator, price) for price in (0.0, 1e6))
    middle = BEST(op, accelerator).costs
    for costs in (middle, dear):
        assert np.all(free.energy_j <= costs.energy_j * (1 + 1e-12))
    for costs in (middle, free):
        assert np.all(dear.time_s <= costs.time_s * (1 + 1e-6))
    for costs in (free, dear):
        assert np.all(edp(middle) <= edp(costs) * (1 + 1e-12))


def test_divisor_tiles_divide_their_extents():
    op, accelerator = (
        gemms([96, 35, 64], [60, 64, 77], [90, 128, 33]),
        core(7.0, 10.0, 2 * KIB, KIB),
    )
    perfect = PERFECT(op, accelerator, divisors_of(op))
    found = perfect.tile
    for extent, part in ((op.p, found.block_p), (op.k, found.block_k), (op.c, found.rows)):
        assert np.all(extent % part == 0.0)
    assert np.all(found.block_p % found.p == 0.0)
    assert np.all(found.block_k % found.k == 0.0)
    assert np.all(found.k % found.cols == 0.0)
    assert np.all(fullest(perfect, accelerator) <= 1.0)
    assert np.all(edp(BEST(op, accelerator).costs) <= edp(perfect.costs) * (1 + 1e-12))


def test_overflow_is_minimal_if_nothing_fits():
    op = gemms([512, 8], [768, 8], [768, 8])
    accelerator = core(16.0, 16.0, 10.0, 32 * KIB)
    best = BEST(op, accelerator)
    # A column of weights and a row of inputs, 16 words each; 8 for the small GEMM.
    assert fullest(best, accelerator)[:2].tolist() == [3.2, 1.6]
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(best.costs))


def test_results_are_independent_of_operator_order():
    op, accelerator = some_gemms(), core(8.0, 8.0, 8 * KIB, 2 * KIB)
    first, again = BEST(op, accelerator), BEST(op, accelerator)
    backwards = BEST(jax.tree.map(lambda x: x[::-1], op), accelerator)
    for a, b, c in zip(*(jax.tree.leaves(x) for x in (first, again, backwards)), strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c[::-1])


def test_batches_of_cores_broadcast_as_under_vmap():
    op = products_of([512, 100], [768, 64], [96, 333])
    rows, memories = jnp.asarray([8.0, 16.0, 20.0]), jnp.asarray([4.0, 16.0, 64.0]) * KIB

    @quick_jit
    @jax.vmap
    def by_core(rows, memory):
        return edp(best_mapping(op, core(rows, rows, memory)).costs)

    columns = jax.tree.map(lambda x: x[:, None], op)
    broadcast = np.asarray(edp(BEST(columns, core(rows, rows, memories)).costs))
    assert broadcast == pytest.approx(np.asarray(by_core(rows, memories)).T, rel=1e-12)


@pytest.mark.parametrize("make", [core, unified_core])
def test_smallest_and_largest_gemms_are_finite_in_float32(make):
    with jax.enable_x64(False):
        op = gemms([1, 2.0**21, 1], [1, 2.0**21, 2.0**20], [1, 2.0**21, 1])
        best = BEST(op, make())
        assert best.costs.energy_j.dtype == jnp.float32
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(best))
        assert np.all(fullest(best, make()) <= 1.0 + 1e-5)


def test_float32_agrees_with_float64():
    op, accelerator = some_gemms(), core()
    exact = np.asarray(edp(BEST(op, accelerator).costs))
    with jax.enable_x64(False):
        small = jax.tree.map(lambda x: x.astype(jnp.float32), op.replace(names=()))
        assert np.asarray(edp(BEST(small, accelerator).costs)) == pytest.approx(exact, rel=1e-4)


def test_other_memory_hierarchies_are_rejected():
    with pytest.raises(ValueError, match="no best mapping on rows of"):
        best_mapping(gemms(8, 8, 8), load_accelerator("eyeriss"))
