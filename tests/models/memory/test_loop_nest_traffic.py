"""Loop nests: worked by hand, simulated step by step, and general laws."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.mapping_examples import ACCOUNTING, CORE, GEMM, NEST, TRAFFIC, level
from support.nest_walk import Walk

from hwdse.models.memory.loop_nest_traffic import TIMELOOP, nest_traffic
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, NestTier
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.workload.loops.operators import DIMS, Operators

KEPT = Accounting(False, True, True, halo="kept")
RELOADED = Accounting(False, True, True, halo="reloaded")


traffic_of = quick_jit(nest_traffic, static_argnames="accounting")
"""Compiled once per choice of tiers and accounting."""


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def core(nest):
    """A core with the memories named in a nest, one byte per word."""
    names = dict.fromkeys(tier.memory for tier in nest.tiers)
    levels = tuple(level(name, OPERANDS, 1e6, 1e9, 1e-12) for name in names)
    return CORE.replace(levels=levels)


def operator_of(nest, strides=(1.0, 1.0), dilations=(1.0, 1.0)):
    """The operator covered by a nest."""
    sizes = np.prod(np.asarray(nest.temporal) * np.asarray(nest.spatial), axis=-2)
    sizes = {letter.lower(): sizes[..., i] for i, letter in enumerate(DIMS)}
    return Operators(
        **sizes,
        stride_p=strides[0],
        stride_q=strides[1],
        dilation_r=dilations[0],
        dilation_s=dilations[1],
        count=1.0,
        names=(),
    )


def words_of(text, accounting=KEPT, **steps):
    """{(memory, kind, operand): words} of a nest in text, zeros left out."""
    nest = parse_nest(text) if isinstance(text, str) else text
    traffic = traffic_of(nest, operator_of(nest, **steps), core(nest), accounting)
    return {
        (level.name, kind, operand): float(getattr(getattr(moved, kind), operand))
        for level, moved in zip(core(nest).levels, traffic.levels, strict=True)
        for kind in ("reads", "writes", "used")
        for operand in OPERANDS
        if float(getattr(getattr(moved, kind), operand)) != 0.0
    }


def test_gemm_of_the_accelforge_reference():
    """Uneven residency in one memory, bypass, multicast and reduction, 4-byte sums."""
    traffic = traffic_of(NEST, GEMM, CORE, ACCOUNTING)
    for moved, expected in zip(traffic.levels, TRAFFIC.levels, strict=True):
        assert jax.tree.map(float, moved) == expected
    assert traffic.compute_cycles == TRAFFIC.compute_cycles
    assert traffic.num_macs == TRAFFIC.num_macs


def test_gemm_worked_by_hand():
    """P4 C6 K6: 2 x 3 x 3 tiles of 2 x 2 x 2, sums outside; DRAM loops P, C, K."""
    words = words_of("D[WIO] P2 C3 K3 - B[WIO] P2 C2 K2")
    assert words["D", "reads", "weights"] == 2 * 36  # once per P
    assert words["D", "reads", "inputs"] == 24  # K reuses them
    assert words["D", "writes", "outputs"] == 3 * 24  # one stay per C
    assert words["D", "reads", "outputs"] == 2 * 24  # all but the first return
    assert words["B", "writes", "outputs"] == 144 + 2 * 24  # sums, and returning sums
    assert words["B", "reads", "outputs"] == 144 - 24 + 3 * 24  # first elided; drained
    assert words["B", "reads", "weights"] == words["B", "reads", "inputs"] == 144
    assert words["B", "used", "inputs"] == words["B", "used", "weights"] == 4


@pytest.mark.parametrize(
    ("halo", "rows"),
    # Tiles of 2 outputs take 2 * 2 + 3 - 2 = 5 rows, 4 of 9 tiles one row more.
    [("kept", 4 * 4 + 1), ("reloaded", 4 * 5)],
)
def test_halo_with_stride(halo, rows):
    accounting = Accounting(False, True, True, halo=halo)
    words = words_of("D[WIO] K3 P4 - B[WIO] P2 R3", accounting, strides=(2.0, 1.0))
    assert words["D", "reads", "inputs"] == 3 * rows
    assert words["B", "used", "inputs"] == 5
    assert words["B", "reads", "inputs"] == 3 * 8 * 3  # the array takes one per MAC


def test_halo_is_lost_if_another_loop_is_innermost():
    assert words_of("D[WIO] P4 K3 - B[WIO] P2 R3")["D", "reads", "inputs"] == 4 * 4
    assert words_of("D[WIO] P4 C3 - B[WIO] P2 R3")["D", "reads", "inputs"] == 4 * 3 * 4


def test_dilated_window():
    words = words_of("D[WIO] P4 - B[WIO] P2 R3", dilations=(2.0, 1.0))
    assert words["B", "used", "inputs"] == 1 + 2 * 2 + 1
    assert words["D", "reads", "inputs"] == 7 + 2 * 2 + 1  # all inputs, once


def test_timeloop_counts_inner_loops_from_their_second_pass():
    """P moves by 2, R by 1: Timeloop counts 2 - 1 = 1, as in R; the true value is 2 - 2."""
    text = "D[WIO] P4 R3 - B[WIO] P2"
    counted = words_of(text, TIMELOOP)["D", "reads", "inputs"]
    assert counted == pytest.approx(4 * (2 + 1 + 1) - 3 * 1)
    assert words_of(text, KEPT)["D", "reads", "inputs"] == 4 * (2 + 1 + 1)


def test_neighbors_share_one_read():
    """Filter rows and output rows in parallel, as in Eyeriss: 3 x 4 PEs take 6 rows."""
    words = words_of("D[WIO] Q5 - B[WIO] K1 P4X R3X")
    assert words["D", "reads", "inputs"] == 5 * 6
    assert words_of("D[WIO] Q5 - B[WIO] P4X R3X", strides=(3.0, 1.0))["D", "reads", "inputs"] == 60


def test_spatial_multicast_and_reduction():
    one = words_of("D[WIO] P4 - R[W] C1")
    wide = words_of("D[WIO] P4 C8X K16X - R[W] C1")
    assert wide["D", "reads", "inputs"] == 8 * one["D", "reads", "inputs"]  # not 16 times
    assert wide["D", "writes", "outputs"] == 16 * one["D", "writes", "outputs"]  # not 8 times
    assert wide["R", "writes", "weights"] == wide["D", "reads", "weights"] == 128
    copies = words_of("D[WIO] P4 C8X K16X - R[WI] C1")
    assert copies["R", "writes", "inputs"] == 16 * copies["D", "reads", "inputs"]


W, I, O = (name for name in OPERANDS)  # noqa: E741
HIERARCHIES = (
    (("A", OPERANDS), ("B", ()), ("C", OPERANDS)),
    (("A", OPERANDS), ("B", (W, I)), ("C", (O,)), ("D", (W,))),  # Gemmini
    (("A", OPERANDS), ("B", (I,)), ("B", (W,)), ("C", (O,))),  # uneven residency
    (("A", OPERANDS), ("B", (I, O)), ("C", (W,)), ("C", (I,)), ("C", (O,))),  # Eyeriss
)


@st.composite
def nest_arrays(draw, num_tiers):
    """Bounds and orders of small nests."""
    shape = (num_tiers, len(DIMS))
    temporal, spatial = np.ones(shape), np.ones(shape)
    for tier in range(num_tiers):
        for letter in draw(st.lists(st.sampled_from("RSPQCKN"), max_size=3, unique=True)):
            temporal[tier, DIMS.index(letter)] = draw(st.sampled_from([1, 2, 2, 3]))
        for letter in draw(st.lists(st.sampled_from("PCK"), max_size=1)):
            spatial[tier, DIMS.index(letter)] = 2
    assume(np.prod(temporal * spatial) <= 250)
    order = [draw(st.permutations(range(len(DIMS)))) for _ in range(num_tiers)]
    return temporal, np.array(order, float), spatial


@pytest.mark.parametrize(
    ("tiers", "accounting"), [*((tiers, KEPT) for tiers in HIERARCHIES), (HIERARCHIES[1], RELOADED)]
)
@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 2))
def test_equal_to_a_step_by_step_simulation(tiers, accounting, data, stride, dilation):
    arrays = data.draw(nest_arrays(len(tiers)))
    nest = LoopNest(*arrays, tuple(NestTier(*tier) for tier in tiers))
    walk = Walk(nest, (stride, 1), (1, dilation), accounting.halo)
    steps = {"strides": (float(stride), 1.0), "dilations": (1.0, float(dilation))}
    expected = {key: float(count) for key, count in walk.counts.items() if count}
    found = words_of(nest, accounting, **steps)
    assert found == pytest.approx(expected, rel=1e-12)


def test_partial_last_tiles_count_by_their_size_and_passes_as_full():
    """P10 in tiles of 4, 4 and 2: 6 + 6 + 4 rows, 2 + 2 of them already present."""
    text = "D[WIO] K2 P2.5 - B[WIO] P4 R3"
    assert words_of(text, RELOADED)["D", "reads", "inputs"] == pytest.approx(2 * 16)
    assert words_of(text, KEPT)["D", "reads", "inputs"] == pytest.approx(2 * 12)
    assert words_of(text)["D", "reads", "weights"] == 2 * 3  # P reuses them
    assert words_of("D[WIO] P2.5 K2 - B[WIO] P4 R3")["D", "reads", "weights"] == 3 * 2 * 3
    assert words_of(text)["D", "writes", "outputs"] == 2 * 10


@pytest.mark.parametrize(("fractional", "cycles"), [(False, 7 * 2.0), (True, 7 * 1.5625)])
def test_partial_pass_of_the_array(fractional, cycles):
    """100 output channels on 64 columns."""
    accounting = Accounting(fractional, elides_first_read=True, drains_outputs=True)
    nest = parse_nest("D[WIO] P7 K1.5625 - R[W] K64X")
    traffic = traffic_of(nest, operator_of(nest), core(nest), accounting)
    assert traffic.compute_cycles == cycles
    assert traffic.levels[0].reads.inputs == 7 * 2  # the outermost loop is always rounded
    assert traffic.levels[0].reads.weights == pytest.approx(7 * 100)


def test_partial_sums_by_accounting():
    """P4 K2 with 3 stays of 2 products each: 8 outputs, 48 products, 24 words out."""
    text = "D[WIO] C3 P2 K2 - A[O] P2 C2"

    def outputs(accounting):
        words = words_of(text, accounting)
        keys = [(m, kind, "outputs") for m in "DA" for kind in ("reads", "writes")]
        return [words.get(key, 0.0) for key in keys]

    assert outputs(Accounting(False, True, True)) == [16.0, 24.0, 40.0 + 24.0, 48.0 + 16.0]
    assert outputs(Accounting(False, True, False)) == [16.0, 24.0, 40.0, 48.0 + 16.0]
    assert outputs(Accounting(False, False, False)) == [24.0, 24.0, 48.0, 48.0 + 24.0]
    assert outputs(TIMELOOP) == [16.0, 24.0, 40.0 + 24.0, 48.0]


def test_spilled_sums_have_the_width_of_each_level():
    nest = parse_nest("DRAM[WIO] C3 P4 - accumulator[O] K2 - registers[W] C2")
    moved = traffic_of(nest, operator_of(nest), CORE, KEPT).levels
    assert moved[0].writes.outputs == 3 * 8 * 1.0
    assert moved[2].used.outputs == 2 * 4.0
    assert moved[2].writes.outputs == (48 + 16) * 4.0


def test_loops_that_do_not_index_an_operand_may_be_swapped():
    first, other = ("D[WIO] P3 Q2 N2 C2 K2 - B[WI] P2 C2 - R[W] K2", "D[WIO] N2 P3 Q2 C2 K2 - ")
    other += "B[WI] P2 C2 - R[W] K2"
    assert words_of(first)["D", "reads", "weights"] == words_of(other)["D", "reads", "weights"]
    inner = words_of(first.replace("K2 - B", "K2 P1 - B"))  # a bound of one is not a loop
    assert inner == words_of(first)


def dram_bytes(nest, stride):
    traffic = traffic_of(nest, operator_of(nest, strides=(float(stride), 1.0)), core(nest), KEPT)
    return sum(
        float(x) for x in jax.tree.leaves((traffic.levels[0].reads, traffic.levels[0].writes))
    )


@settings(max_examples=25, deadline=None)
@given(
    st.permutations("PQCK"),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.sampled_from("PQCK"),
    st.integers(1, 3),
)
def test_a_larger_tile_never_adds_traffic(order, outer, inner, letter, stride):
    """A factor moves from DRAM's loop into the tile; the filter leaves no gaps in it."""
    place = order.index(letter)
    larger = (list(outer), list(inner))
    larger[0][place], larger[1][place] = 1, outer[place] * inner[place]

    def nest(outer, inner):
        outside, inside = (
            " ".join(f"{d}{b}" for d, b in zip(order, bounds, strict=True))
            for bounds in (outer, inner)
        )
        return parse_nest(f"D[WIO] {outside} - B[WIO] {inside} R3 S3")

    before, after = dram_bytes(nest(outer, inner), stride), dram_bytes(nest(*larger), stride)
    assert after <= before * (1.0 + 1e-12)
    size = dict.fromkeys("PQCK", 1) | {
        d: a * b for d, a, b in zip(order, outer, inner, strict=True)
    }
    rows = (size["P"] - 1) * stride + 3
    distinct = size["C"] * size["K"] * 9 + rows * (size["Q"] + 2) * size["C"]
    assert after >= (distinct + size["P"] * size["Q"] * size["K"]) * (1.0 - 1e-12)


def test_batch_equals_single_nests():
    texts = ["D[WIO] P2 C3 K3 - B[WIO] P2", "D[WIO] K3 P4 C1 - B[WIO] R3", "D[WIO] N1 - B[WIO] C8X"]
    nests = [parse_nest(text) for text in texts]
    batch = jax.tree.map(lambda *x: np.stack(x), *nests)
    found = traffic_of(batch, operator_of(batch), core(batch), KEPT)
    for row, nest in enumerate(nests):
        single = traffic_of(nest, operator_of(nest), core(nest), KEPT)
        jax.tree.map(lambda x, y, row=row: np.testing.assert_array_equal(x[row], y), found, single)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D[WIO] C2 - X[W] P2", "tier X: expected one of the levels D"),
        ("D[WI] C2", "no tier keeps outputs"),
    ],
)
def test_bad_nests(text, expected):
    nest = parse_nest(text)
    with pytest.raises(ValueError, match=expected):
        nest_traffic(nest, operator_of(nest), core(parse_nest("D[WIO] C2")), KEPT)


def test_bad_shapes_and_rules():
    nest = parse_nest("D[WIO] C2 - B[W] P2")
    with pytest.raises(ValueError, match=r"spatial of a nest has shape \(7,\); expected \(2, 7\)"):
        nest_traffic(nest.replace(spatial=np.ones(7)), operator_of(nest), core(nest), KEPT)
    with pytest.raises(ValueError, match="halo lost: expected one of reloaded, kept"):
        nest_traffic(nest, operator_of(nest), core(nest), Accounting(False, True, True, "lost"))
