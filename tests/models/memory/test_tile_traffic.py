"""Traffic of one tile: counts by hand, bounds, and the largest tile that fits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from support.mapping_examples import ACCOUNTING, CORE, GEMM, TRAFFIC
from support.tile_cores import convs, core, gemms, tile, unified_core

from hwdse.models.memory.largest_tile import (
    Grain,
    channels_that_fit,
    divisors_of,
    rows_beside_block,
    rows_that_fit,
)
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.models.memory.tile_traffic import even_width, loop_trips, nested_trips, tile_traffic
from hwdse.numerics.relaxation import smooth, total
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.specs.mappings.tiles import RESIDENCIES, roles

RELOADED = replace(ACCOUNTING, halo="reloaded")
SHARES = Accounting(fractional_edges=True, elides_first_read=True, drains_outputs=True)
CORES = {"two memories": core(), "one memory": unified_core()}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def moved(level):
    """Reads and writes of weights, inputs and outputs as floats."""
    return [
        [float(jnp.sum(x)) for x in jax.tree.leaves(kind)] for kind in (level.reads, level.writes)
    ]


def test_bytes_of_accelforge_for_its_mapping_of_a_bert_layer():
    block = tile("input_block", 512.0, 64.0, 64.0, 64.0)
    traffic = tile_traffic(GEMM, block, CORE, ACCOUNTING)
    for ours, theirs in zip(traffic.levels, TRAFFIC.levels, strict=True):
        assert moved(ours) == moved(theirs)
        # AccelForge keeps a column of weights during the full sum; the array needs one pass of it.
        assert (ours.used.inputs, ours.used.outputs) == (theirs.used.inputs, theirs.used.outputs)
    assert traffic.compute_cycles == TRAFFIC.compute_cycles
    assert traffic.num_macs == TRAFFIC.num_macs


@pytest.mark.parametrize(
    ("residency", "weights", "inputs"),
    [
        ("stream", 3, 2),
        ("input_block", 3, 1),
        ("weight_block", 1, 2),
        ("input_block_weight_blocks", 2, 1),
        ("weight_block_input_blocks", 1, 2),
    ],
)
def test_number_of_times_that_operands_are_read_from_dram(residency, weights, inputs):
    # C[10, 8] = A[10, 6] B[6, 8] in tiles of 4 x 4 (or 2 wide, in blocks of 4): three tiles down,
    # two blocks of channels across; blocks of inputs of 8 rows leave two of them.
    op = gemms(10, 6, 8)
    held = RESIDENCIES[residency]
    blocks = {"block_p": 8.0} if residency == "input_block_weight_blocks" else {}
    k = 2.0 if held.whole_inputs else 4.0
    block_k = k if held.inputs_once else 4.0
    some = tile(residency, 4.0, k, 3.0, 2.0, block_k=block_k, **blocks)
    (dram, scratchpad, accumulator, registers) = tile_traffic(op, some, core(), ACCOUNTING).levels
    assert moved(dram) == [[48 * weights, 60 * inputs, 0], [0, 0, 80]]
    # Four passes of two columns read each input; weights are loaded for each of three tiles.
    assert moved(scratchpad) == [[48 * 3, 60 * 4, 0], [48 * weights, 60 * inputs, 0]]
    # Two passes of three rows: two writes and (but for the first) a read, and one to drain.
    assert moved(accumulator) == [[0, 0, 80 * 2 * 4], [0, 0, 80 * 2 * 4]]
    assert moved(registers) == [[480, 0, 0], [48 * 3, 0, 0]]


def test_cycles_are_passes_of_the_array():
    op = gemms(10, 6, 8)
    some = tile("stream", 4.0, 4.0, 4.0, 2.0)
    assert tile_traffic(op, some, core(), ACCOUNTING).compute_cycles == 10 * 2 * 4
    assert tile_traffic(op, some, core(), SHARES).compute_cycles == 480 / 8


def test_weights_stay_if_one_pass_completes_each_sum():
    op = gemms(10, 3, 8)
    narrow = tile("weight_block", 4.0, 2.0, 3.0, 2.0)
    wide = tile("weight_block", 4.0, 4.0, 3.0, 2.0)
    assert loop_trips(op, narrow, ACCOUNTING).loads == 1
    assert loop_trips(op, wide, ACCOUNTING).loads == 3
    blocks = tile("input_block_weight_blocks", 4.0, 2.0, 3.0, 2.0, block_p=8.0)
    assert loop_trips(op, blocks, ACCOUNTING).loads == 2
    assert loop_trips(gemms(10, 4, 8), narrow, ACCOUNTING).loads == 3


def test_partial_last_block_takes_its_own_passes():
    assert nested_trips(1000.0, 192.0, 64.0, ACCOUNTING) == 5 * 3 + 1
    assert nested_trips(768.0, 77.0, 8.0, ACCOUNTING) == 9 * 10 + 10
    # AccelForge's row p049: ten tiles of 77 channels on 8 columns, 96.25 passes.
    assert nested_trips(768.0, 77.0, 8.0, SHARES) == pytest.approx(96.25)
    assert nested_trips(100.0, 100.0, 64.0, SHARES) == 2


def test_halo_is_read_again_unless_rows_are_consecutive():
    # 3 x 3 filter, stride 2: 8 rows of outputs need 17 of inputs, 2 rows need 5.
    op = convs(r=3, s=3, p=8, q=8, c=4, k=4, stride_p=2, stride_q=2)
    block = tile("input_block", 2.0, 4.0, 4.0, 4.0, q=4.0)
    dram = [tile_traffic(op, block, core(), rules).levels[0] for rules in (RELOADED, ACCOUNTING)]
    assert float(dram[0].reads.inputs[0]) == 4 * (4 * 5) * (2 * 9)
    assert float(dram[1].reads.inputs[0]) == 4 * 17 * (2 * 9)
    whole_height = tile("input_block", 8.0, 4.0, 4.0, 4.0, q=4.0)
    assert tile_traffic(op, whole_height, core(), ACCOUNTING).levels[0].reads.inputs == 4 * 17 * 17
    slices = tile("weight_block", 2.0, 4.0, 2.0, 4.0, q=4.0)
    for rules in (RELOADED, ACCOUNTING):
        assert tile_traffic(op, slices, core(), rules).levels[0].reads.inputs == 4 * 20 * 18


def test_capacity_used_by_a_tile_of_a_convolution():
    op = convs(r=3, s=3, p=8, q=8, c=4, k=6, n=2, stride_p=2, dilation_s=2)
    some = tile("weight_block_input_blocks", 2.0, 3.0, 4.0, 3.0, q=4.0, n=2.0, block_k=6.0)
    used = [level.used for level in tile_traffic(op, some, core(), ACCOUNTING).levels]
    assert used[1].weights == 9 * 4 * 6
    assert used[1].inputs == 4 * 2 * 5 * 8
    assert used[2].outputs == 4 * (2 * 4 * 2 * 3)
    assert used[0].inputs == 4 * 2 * 17 * 12


SIZES = st.integers(1, 60).map(float)
PARTS = st.integers(1, 12).map(float)


@settings(max_examples=15, deadline=None)
@given(SIZES, SIZES, SIZES, PARTS, PARTS, PARTS, PARTS, st.sampled_from(sorted(RESIDENCIES)))
def test_every_word_moves_and_no_pe_exceeds_one_mac_per_cycle(m, k, n, p, w, r, c, residency):
    op = gemms(m, k, n)
    cols = min(c, w, n)
    some = tile(residency, min(p, m), min(w, n), min(r, k), cols)
    traffic = tile_traffic(op, some, core(), ACCOUNTING)
    dram, scratchpad = traffic.levels[0], traffic.levels[1]
    assert dram.reads.weights >= k * n
    assert dram.reads.inputs >= m * k
    assert dram.writes.outputs == m * n
    assert total(dram.reads) == total(scratchpad.writes)
    assert scratchpad.reads.weights >= k * n
    assert traffic.compute_cycles >= m * k * n / (min(r, k) * cols) * (1.0 - 1e-12)


def largest_used_ratio(op, some, accelerator):
    """The largest fraction of a capacity that a tile uses."""
    used = mapping_costs(tile_traffic(op, some, accelerator, ACCOUNTING), accelerator).used_ratio
    part = roles(accelerator)
    return float(jnp.max(jnp.maximum(used[part.scratchpad], used[part.accumulator])))


CONVS = st.fixed_dictionaries(
    {
        "r": st.sampled_from([1.0, 3.0]),
        "s": st.sampled_from([1.0, 5.0]),
        "p": st.just(1e4),
        "q": st.sampled_from([1.0, 14.0]),
        "c": st.sampled_from([3.0, 64.0, 200.0]),
        "k": st.just(1e4),
        "stride_p": st.sampled_from([1.0, 2.0]),
        "dilation_r": st.sampled_from([1.0, 2.0]),
    }
)


@settings(max_examples=15, deadline=None)
@given(CONVS, st.sampled_from(sorted(RESIDENCIES)), st.sampled_from(sorted(CORES)))
def test_rows_that_fit_are_maximal(sizes, residency, memories):
    op, accelerator = convs(**sizes), CORES[memories]
    some = tile(residency, 1.0, 16.0, min(16.0, sizes["c"]), 16.0, q=sizes["q"])
    rows = Grain().largest(rows_that_fit(op, some, accelerator), op.p, "p")
    assert largest_used_ratio(op, some.replace(p=rows, block_p=rows), accelerator) <= 1.0
    assert largest_used_ratio(op, some.replace(p=rows + 1, block_p=rows + 1), accelerator) > 1.0
    tiles = rows_that_fit(op, some, accelerator, 3.0)
    assert largest_used_ratio(
        op, some.replace(p=tiles, block_p=3.0 * tiles), accelerator
    ) == pytest.approx(1.0)


@settings(max_examples=15, deadline=None)
@given(CONVS, st.sampled_from(["stream", "weight_block"]), st.sampled_from(sorted(CORES)))
def test_channels_that_fit_fill_a_memory(sizes, residency, memories):
    op, accelerator = convs(**sizes), CORES[memories]
    some = tile(residency, 2.0, 16.0, min(16.0, sizes["c"]), 16.0, q=sizes["q"])
    k = channels_that_fit(op, some, accelerator)
    assert largest_used_ratio(op, some.replace(k=k, block_k=k), accelerator) == pytest.approx(1.0)


@pytest.mark.parametrize("memories", sorted(CORES))
def test_channels_beside_blocks_of_inputs(memories):
    op, accelerator = gemms(1e4, 200, 1e4), CORES[memories]
    some = tile("weight_block_input_blocks", 50.0, 16.0, 16.0, 16.0)
    k = channels_that_fit(op, some, accelerator)
    assert largest_used_ratio(op, some.replace(block_k=k), accelerator) == pytest.approx(1.0)
    full = tile("input_block_weight_blocks", 1.0, 16.0, 16.0, 16.0, block_p=500.0)
    p = rows_beside_block(op, full, accelerator)
    assert largest_used_ratio(op, full.replace(p=p), accelerator) == pytest.approx(1.0)
    huge = full.replace(block_p=jnp.asarray(1e4))
    assert rows_beside_block(op, huge, accelerator) <= 0.0


def test_rows_grow_with_the_capacity_as_in_the_formula():
    op, some = gemms(1e4, 512, 1e4), tile("input_block", 1.0, 16.0, 16.0, 16.0)

    def rows(capacities):
        accelerator = core(scratchpad=capacities[0], accumulator=capacities[1])
        return rows_that_fit(op, some, accelerator)[0]

    for capacities in ((131072.0, 65536.0), (1048576.0, 65536.0)):
        check_grads(rows, (jnp.asarray(capacities),), order=1, modes=("rev",), rtol=1e-6)
    slope = jax.grad(rows)(jnp.asarray((131072.0, 65536.0)))
    assert slope == pytest.approx([1 / 512, 0.0])

    def integer_rows(capacity):
        return Grain().largest(rows((capacity, 65536.0)), 1e4, "p")

    assert integer_rows(131072.0) == 255.0
    assert jax.grad(integer_rows)(131072.0) == pytest.approx(1 / 512)


def test_smooth_sizes_are_between_integers_and_fractions():
    assert Grain(smooth(1.0)).largest(7.6, 100.0, "p") == pytest.approx(7.6)
    assert Grain(smooth(0.5)).largest(7.6, 100.0, "p") == pytest.approx(7.3)
    assert Grain().largest(7.6, 100.0, "p") == 7.0
    assert Grain().largest(0.2, 100.0, "p") == 1.0
    assert Grain().largest(jnp.float32(3.0) * (1 - 1e-7), jnp.float32(9.0), "p") == 3.0


def test_even_widths():
    assert even_width(100.0, 64.0) == 50.0
    assert even_width(147.0, 32.0) == 30.0
    assert even_width(12.0, 64.0) == 12.0


def test_divisors():
    op = gemms([12, 7], 64, [30, 1])
    divisors = divisors_of(op)
    grain = Grain(divisors=divisors)
    assert grain.largest(jnp.asarray([5.0, 5.0]), op.p, "p").tolist() == [4.0, 1.0]
    assert grain.largest(jnp.asarray([[6.0], [29.0]]), op.k, "k").tolist() == [
        [6.0, 1.0],
        [15.0, 1.0],
    ]
    assert grain.part(op.k, 4.0, "k").tolist() == [6.0, 1.0]
    assert grain.even(op.c, 48.0, "c").tolist() == [32.0, 32.0]
    with pytest.raises(ValueError, match="integer sizes, got p"):
        divisors_of(gemms(2.5, 4, 4))
    with pytest.raises(ValueError, match="concrete sizes"):
        jax.jit(divisors_of)(op)


def test_unsupported_hierarchies_give_an_error_of_one_line():
    base = core()
    assert roles(base).accumulator == 2
    assert roles(base.replace(levels=(*base.levels[:1], *base.levels[2:0:-1], base.levels[3]))) == (
        roles(base).__class__(0, 2, 1, 3)
    )
    assert roles(unified_core()).is_unified
    for wrong in (base.replace(rows_dims="P"), base.replace(levels=base.levels[:3])):
        with pytest.raises(ValueError, match="no best mapping on rows of") as error:
            roles(wrong)
        assert "\n" not in str(error.value)
