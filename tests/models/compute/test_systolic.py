"""Laws of the systolic cycle and word counts, over every dataflow of the mapping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwdse.models.compute.systolic import (
    DATAFLOWS,
    FOLDS,
    accumulator_words,
    cycles_of,
    folds_of,
    mapping_efficiency,
    operand_words,
    paper_cycles,
    scratchpad_words,
)
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

NAMES = sorted(DATAFLOWS)
OVERLAPPED_NAMES = [name for name in NAMES if name.endswith("_overlapped")]
PLAIN_NAMES = [name for name in NAMES if f"{name}_overlapped" in NAMES]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_gemms(m, k, n, count=1.0) -> Gemms:
    m, k, n, count = (np.asarray(x, dtype=np.float64) for x in (m, k, n, count))
    one, zero = np.ones_like(m), np.zeros_like(m)
    return Gemms(m, k, n, count * one, one, one, one, zero, zero)


def make_array(name, rows=16.0, cols=8.0, num_arrays=1.0) -> SystolicArray:
    return SystolicArray(rows, cols, num_arrays, 1e9, dataflow=name)


RAGGED = make_gemms([1.0, 5.0, 100.0, 4096.0], [1.0, 7.0, 33.0, 500.0], [1.0, 3.0, 65.0, 1000.0])


def base_of(name) -> str:
    """The stationary operand alone."""
    return name.removesuffix("_overlapped").removesuffix("_drained")


def integer_cycles(name, m, k, n, count, rows, cols, num_arrays) -> float:
    """The same counts in integers, from the table of the module docstring."""
    base = base_of(name)
    spatial_rows, spatial_cols, stream = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[base]
    folds = -(-spatial_rows // rows) * -(-spatial_cols // cols)
    rounds = -(-folds * count // num_arrays)
    loads = name != "output_stationary" and name != "output_stationary_overlapped"
    skew = rows + cols - 2
    if name not in OVERLAPPED_NAMES:
        return rounds * (rows * loads + stream + skew)
    swap = rows / 2 if loads else rows
    return (rounds - 1) * max(stream, swap) + (swap if loads else 0) + stream + skew


def test_four_by_four_takes_ten_cycles():
    """Four MACs at each of 16 PEs, and a skew of 4 + 4 - 2 cycles: the figure in the
    SCALE-Sim v2 paper (its tool reports 9, the index of the last cycle)."""
    cycles = DATAFLOWS["output_stationary"](
        make_gemms(4.0, 4.0, 4.0), make_array("output_stationary", 4.0, 4.0), EXACT
    )
    assert cycles == 10.0


def test_one_pe_takes_one_cycle_per_mac():
    cycles = DATAFLOWS["output_stationary"](
        make_gemms(3.0, 5.0, 7.0), make_array("output_stationary", 1.0, 1.0), EXACT
    )
    assert cycles == 3.0 * 5.0 * 7.0


def test_tensor_engine_issues_at_most_one_matmul_per_64_cycles():
    """128 x 128, moving tiles of 512 and of 1 row: AWS Neuron SDK, cost rules of the engine."""
    name = "weight_stationary_overlapped"
    array = make_array(name, 128.0, 128.0)
    for moving, interval in ((512.0, 512.0), (64.0, 64.0), (1.0, 64.0)):
        few, many = (
            DATAFLOWS[name](make_gemms(moving, 128.0, 128.0, count), array, EXACT)
            for count in (1.0, 101.0)
        )
        assert (many - few) / 100.0 == interval


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_arrays", [1.0, 3.0, 8.0])
def test_never_faster_than_all_pes_busy(name, num_arrays):
    array = make_array(name, num_arrays=num_arrays)
    for count in (1.0, 7.0):
        gemms = make_gemms(RAGGED.m, RAGGED.k, RAGGED.n, count)
        busy_cycles = gemms.num_macs / (array.rows * array.cols * num_arrays)
        assert jnp.all(DATAFLOWS[name](gemms, array, EXACT) >= busy_cycles)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_gemm_approaches_all_pes_busy(name):
    gemms = make_gemms(1e6, 1e6, 1e6)
    array = make_array(name, 10.0, 10.0)
    assert DATAFLOWS[name](gemms, array, EXACT) / 1e16 == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", PLAIN_NAMES)
@given(
    extents=st.tuples(*[st.integers(1, 5000)] * 3),
    count=st.integers(1, 50),
    sides=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    num_arrays=st.integers(1, 16),
)
@settings(max_examples=60, deadline=None)
def test_overlap_never_adds_cycles(name, extents, count, sides, num_arrays):
    gemms = make_gemms(*extents, count)
    array = make_array(name, float(sides[0]), float(sides[1]), float(num_arrays))
    overlapped = DATAFLOWS[f"{name}_overlapped"](gemms, array, EXACT)
    assert overlapped <= DATAFLOWS[name](gemms, array, EXACT)


@pytest.mark.parametrize("name", NAMES)
@given(
    extents=st.tuples(*[st.integers(1, 100_000)] * 3),
    count=st.integers(1, 1000),
    sides=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    num_arrays=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_equal_to_integer_arithmetic(name, extents, count, sides, num_arrays):
    gemms = make_gemms(*extents, count)
    array = make_array(name, float(sides[0]), float(sides[1]), float(num_arrays))
    expected = integer_cycles(name, *extents, count, *sides, num_arrays)
    # Half cycles of an odd load have no float64 from 2^52 on; counts are exact below 2^50.
    assume(expected < 2.0**50)
    assert DATAFLOWS[name](gemms, array, EXACT) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["m", "k", "n", "count"])
def test_more_work_never_takes_fewer_cycles(name, field):
    sizes = jnp.arange(1.0, 200.0)
    gemms = make_gemms(*(jnp.full_like(sizes, 40.0) for _ in range(3)), 2.0)
    gemms = gemms.replace(**{field: sizes})
    assert jnp.all(jnp.diff(DATAFLOWS[name](gemms, make_array(name), EXACT)) >= 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_more_arrays_never_take_more_cycles(name):
    gemms = make_gemms(100.0, 90.0, 80.0, 3.0)
    cycles = [
        float(DATAFLOWS[name](gemms, make_array(name, num_arrays=p), EXACT))
        for p in np.arange(1.0, 40.0)
    ]
    assert np.all(np.diff(cycles) <= 0.0)


def test_a_drain_adds_the_array_rows_once_per_fold():
    """Three by two folds of 16 x 8 on one array."""
    gemms = make_gemms(33.0, 40.0, 9.0)
    plain, drained = (
        DATAFLOWS[name](gemms, make_array(name), EXACT)
        for name in ("output_stationary", "output_stationary_drained")
    )
    assert drained - plain == 3 * 2 * 16


@pytest.mark.parametrize("name", [*PLAIN_NAMES, "output_stationary_drained"])
def test_paper_adds_a_drain_to_output_stationary_only(name):
    array = make_array(name)
    folds = FOLDS[name](RAGGED, array, EXACT)
    drains = folds.num_row_folds * folds.num_col_folds * array.rows
    expected = drains if name == "output_stationary" else jnp.zeros_like(drains)
    np.testing.assert_array_equal(
        paper_cycles(RAGGED, array) - DATAFLOWS[name](RAGGED, array, EXACT), expected
    )


@pytest.mark.parametrize("name", NAMES)
def test_mapping_efficiency_is_a_fraction_and_one_for_full_tiles(name):
    array = make_array(name)
    efficiency = mapping_efficiency(RAGGED, array)
    assert jnp.all((efficiency > 0.0) & (efficiency <= 1.0))
    assert mapping_efficiency(make_gemms(64.0, 32.0, 128.0), array) == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_every_operand_is_read_and_every_output_written_at_least_once(name):
    array = make_array(name)
    a_words, b_words = operand_words(RAGGED, array)
    assert jnp.all(a_words >= RAGGED.m * RAGGED.k)
    assert jnp.all(b_words >= RAGGED.k * RAGGED.n)
    np.testing.assert_array_equal(scratchpad_words(RAGGED, array), a_words + b_words)
    assert jnp.all(accumulator_words(RAGGED, array) >= RAGGED.m * RAGGED.n)


@pytest.mark.parametrize("name", NAMES)
def test_one_fold_moves_every_word_once(name):
    gemms, array = make_gemms(8.0, 8.0, 8.0, 5.0), make_array(name, 8.0, 8.0)
    assert scratchpad_words(gemms, array) == 5.0 * 2.0 * 64.0
    assert accumulator_words(gemms, array) == 5.0 * 64.0


def test_words_of_a_case_worked_by_hand():
    """m, k, n = 4, 6, 5 on 2 x 3: WS has 3 x 2 folds; A is read twice, B once; each of the 20
    outputs is written three times and read back twice."""
    gemms, array = make_gemms(4.0, 6.0, 5.0), make_array("weight_stationary", 2.0, 3.0)
    assert operand_words(gemms, array) == (2.0 * 24.0, 30.0)
    assert accumulator_words(gemms, array) == 5.0 * 20.0


@pytest.mark.parametrize("name", NAMES)
def test_stationary_operand_is_read_once(name):
    array = make_array(name)
    a_words, b_words = operand_words(RAGGED, array)
    if name.startswith("weight"):
        np.testing.assert_array_equal(b_words, RAGGED.k * RAGGED.n)
    elif name.startswith("input"):
        np.testing.assert_array_equal(a_words, RAGGED.m * RAGGED.k)
    else:
        np.testing.assert_array_equal(accumulator_words(RAGGED, array), RAGGED.m * RAGGED.n)


def cycles_of_leaves(name, leaves, relaxation=EXACT):
    m, k, n, count, rows, cols, num_arrays = leaves
    gemms = Gemms(m, k, n, count, 1.0, 1.0, 1.0, 0.0, 0.0)
    return DATAFLOWS[name](gemms, make_array(name, rows, cols, num_arrays), relaxation)


def relaxed_cycles(name, leaves):
    """The formula with quotients for tile counts, all above one tile."""
    m, k, n, count, rows, cols, num_arrays = leaves
    base = base_of(name)
    spatial_rows, spatial_cols, stream = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[base]
    rounds = spatial_rows / rows * spatial_cols / cols * count / num_arrays
    load = 0.0 if name in ("output_stationary", "output_stationary_overlapped") else rows
    if name not in OVERLAPPED_NAMES:
        return rounds * (load + stream + rows + cols - 2.0)
    swap = load / 2.0 or rows
    return (rounds - 1.0) * jnp.maximum(stream, swap) + load / 2.0 + stream + rows + cols - 2.0


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_that_of_the_formula_without_rounding(name):
    leaves = [jnp.float64(x) for x in (64.0, 96.0, 128.0, 6.0, 16.0, 8.0, 3.0)]
    exact = jax.grad(lambda x: cycles_of_leaves(name, x))(leaves)
    relaxed = jax.grad(lambda x: relaxed_cycles(name, x) + 0.0 * x[0])(leaves)
    np.testing.assert_allclose(exact, relaxed, rtol=1e-12)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(1.0), smooth(0.0)], ids=str)
@pytest.mark.parametrize("size", [1.0, 3.0, 1e9])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite(name, size, relaxation):
    for side in (1.0, 128.0, 4096.0):
        leaves = [jnp.float64(x) for x in (size, size, size, 2.0, side, side, 8.0)]
        value, slopes = jax.value_and_grad(lambda x: cycles_of_leaves(name, x, relaxation))(leaves)
        assert math.isfinite(value)
        assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize("name", NAMES)
def test_smooth_relaxation_converges_to_the_exact_model(name):
    leaves = [jnp.float64(x) for x in (50.0, 77.0, 90.0, 3.0, 16.0, 8.0, 2.0)]
    exact = float(cycles_of_leaves(name, leaves))
    assert cycles_of_leaves(name, leaves, smooth(0.0)) == pytest.approx(exact, rel=0.03)
    if name not in OVERLAPPED_NAMES:
        assert cycles_of_leaves(name, leaves, smooth(0.0)) == exact


@pytest.mark.parametrize("name", NAMES)
def test_float32_counts_are_the_same(name):
    with jax.enable_x64(False):
        sizes = [jnp.float32(x) for x in (300.0, 77.0, 90.0, 3.0, 16.0, 8.0, 2.0)]
        single = cycles_of_leaves(name, sizes)
        assert single.dtype == jnp.float32
    assert float(single) == integer_cycles(name, 300, 77, 90, 3, 16, 8, 2)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.5)], ids=["exact", "smooth"])
def test_an_index_selects_one_of_several_dataflows(relaxation):
    """Cycles, words and slopes of each dataflow, and one program for all of them."""

    def results(array):
        def total_cycles(rows):
            return jnp.sum(cycles_of(RAGGED, array.replace(rows=rows), relaxation))

        words = scratchpad_words(RAGGED, array, relaxation)
        folds = folds_of(RAGGED, array, relaxation)
        return cycles_of(RAGGED, array, relaxation), words, folds, jax.grad(total_cycles)(16.0)

    several = make_array("|".join(NAMES))
    traced = jax.jit(results)
    for index, name in enumerate(NAMES):
        want = results(make_array(name))
        for function in (results, traced):
            got = function(several.replace(dataflow_index=float(index)))
            for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(np.broadcast_to(other, np.shape(one)), one, rtol=1e-15)
    assert traced._cache_size() == 1
