"""Reporting conventions of SCALE-Sim, and equality with its runs."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.models.compute.systolic import mapping_efficiency
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.validation.simulators import scalesim_counts
from hwdse.validation.simulators.scalesim import validate
from hwdse.validation.simulators.scalesim_dram import (
    DEMAND_ORDERS,
    Layer,
    distinct_ifmap_words,
    dram_filter_words,
    dram_ifmap_words,
    dram_ofmap_words,
    half_buffer_words,
    ifmap_addresses,
    replayed_words,
    striped_words,
    swept_words,
)
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.conv_shapes import ConvShape, gemm_as_conv

REFERENCE = Path(__file__).parents[1] / "data" / "scalesim_public.csv"
DATAFLOW_NAMES = sorted(DEMAND_ORDERS)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_gemms(m, k, n) -> Gemms:
    return Gemms(m, k, n, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)


def make_layer(shape, dataflow="output_stationary", sides=(4, 4), sram_kib=1) -> Layer:
    return Layer(shape, dataflow, *sides, sram_kib, sram_kib, sram_kib)


def emptied_when_full(addresses, buffer_words) -> int:
    """DRAM words by the rule of the buffer, word by word."""
    words, held = 0, set()
    for address in addresses:
        if address not in held:
            words += 1
            held.add(address)
            if len(held) == buffer_words:
                held.clear()
    return words


def test_4x4_gemm_reports_9_of_10_cycles():
    array = SystolicArray(4.0, 4.0, 1.0, 1e9, dataflow="output_stationary")
    assert scalesim_counts.total_cycles(make_gemms(4.0, 4.0, 4.0), array) == 9.0
    assert scalesim_counts.overall_utilization(make_gemms(4.0, 4.0, 4.0), array) == 64.0 / (
        16.0 * 9.0
    )


@pytest.mark.parametrize("dataflow", DATAFLOW_NAMES)
def test_utilizations_are_ordered(dataflow):
    """Compute utilization is below mapping efficiency, since a fold is longer than its stream."""
    array = SystolicArray(8.0, 16.0, 1.0, 1e9, dataflow=dataflow)
    gemms = make_gemms(100.0, 77.0, 30.0)
    computing = scalesim_counts.compute_utilization(gemms, array)
    assert computing > 0.0
    assert computing < mapping_efficiency(gemms, array)


def test_stalls_lower_the_overall_utilization():
    array = SystolicArray(8.0, 8.0, 1.0, 1e9, dataflow="weight_stationary")
    gemms = make_gemms(50.0, 50.0, 50.0)
    ideal = scalesim_counts.overall_utilization(gemms, array)
    cycles = scalesim_counts.total_cycles(gemms, array)
    assert scalesim_counts.overall_utilization(gemms, array, cycles) == pytest.approx(
        float(ideal) / 2.0
    )


def test_half_of_one_kib_is_500_words():
    """100 blocks of 10 words, half of them active; 24 of 1024 words are lost."""
    assert half_buffer_words(1) == 500


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=300),
    st.integers(1, 3),
    st.integers(1, 40),
)
@settings(max_examples=300, deadline=None)
def test_replay_equals_the_rule_word_by_word(addresses, num_sweeps, buffer_words):
    replayed = replayed_words(np.array(addresses), num_sweeps, buffer_words)
    assert replayed == emptied_when_full(addresses * num_sweeps, buffer_words)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_stripes_equal_the_rule_word_by_word(stripes, num_sweeps, buffer_words):
    addresses = [
        (stripe, word)
        for stripe, size in enumerate(stripes)
        for _ in range(num_sweeps)
        for word in range(size)
    ]
    words = striped_words(iter(stripes), num_sweeps, buffer_words)
    assert words == emptied_when_full(addresses, buffer_words)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 40))
def test_sweeps_equal_the_rule_word_by_word(num_distinct, num_sweeps, buffer_words):
    addresses = list(range(num_distinct)) * num_sweeps
    assert swept_words(num_distinct, num_sweeps, buffer_words) == emptied_when_full(
        addresses, buffer_words
    )


def shape_of(beyond_h, beyond_w, window_h, window_w, channels, stride_h, stride_w) -> ConvShape:
    height, width = window_h + beyond_h, window_w + beyond_w
    return ConvShape(height, width, window_h, window_w, channels, 5, stride_h, stride_w)


SHAPES = st.builds(
    shape_of,
    *(st.integers(0, 8), st.integers(0, 8)),
    *(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    *(st.integers(1, 5), st.integers(1, 5)),
)


def test_window_beyond_the_edge_adds_no_words():
    """Two rows, 1 x 1 windows, stride 3: rounding up adds a window that starts at row 3."""
    shape = ConvShape(2, 1, 1, 1, 1, 1, 3, 1)
    assert shape.output_size("ceil") == (2, 1)
    assert distinct_ifmap_words(shape) == 1


@given(SHAPES)
@settings(max_examples=300, deadline=None)
def test_distinct_words_are_the_addresses_covered_by_windows(shape):
    addresses = ifmap_addresses(shape)
    assert addresses.shape == shape.gemm_size("ceil")[:2]
    assert distinct_ifmap_words(shape) == len(np.unique(addresses[addresses >= 0]))


@pytest.mark.parametrize("dataflow", DATAFLOW_NAMES)
@given(shape=SHAPES, sides=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=50, deadline=None)
def test_one_sweep_requests_the_full_image_once(dataflow, shape, sides):
    addresses = ifmap_addresses(shape)
    demand = np.concatenate(list(DEMAND_ORDERS[dataflow](addresses, *sides)))
    expected = addresses[addresses >= 0]
    np.testing.assert_array_equal(np.sort(demand[demand >= 0]), np.sort(expected.ravel()))


@pytest.mark.parametrize("dataflow", DATAFLOW_NAMES)
def test_fitting_operand_is_read_once_and_spilling_reads_at_least_as_much(dataflow):
    shape = ConvShape(12, 12, 3, 3, 16, 20, 1, 1)
    m, k, n = shape.gemm_size("ceil")
    fitting = make_layer(shape, dataflow, sram_kib=64)
    spilling = make_layer(shape, dataflow, sram_kib=1)
    assert dram_ifmap_words(fitting) == 12 * 12 * 16
    assert dram_filter_words(fitting) == k * n
    assert dram_ifmap_words(spilling) >= dram_ifmap_words(fitting)
    assert dram_filter_words(spilling) >= dram_filter_words(fitting)
    assert dram_ofmap_words(spilling) >= m * n


@pytest.mark.parametrize("dataflow", DATAFLOW_NAMES)
@given(shape=SHAPES, sides=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=60, deadline=None)
def test_spilled_image_equals_the_rule_word_by_word(dataflow, shape, sides):
    """Many channels, so that images reach the 500 words of half a KiB; 1 to 5 sweeps."""
    shape = ConvShape(**(vars(shape) | {"channels": 8 * shape.channels}))
    layer = make_layer(shape, dataflow, sides)
    order = DEMAND_ORDERS[dataflow](ifmap_addresses(shape), *sides)
    sweep = [address for fold in order for address in fold.tolist() if address >= 0]
    num_sweeps = 1 if dataflow == "input_stationary" else math.ceil(5 / sides[1])
    assert dram_ifmap_words(layer) == emptied_when_full(sweep * num_sweeps, 500)


def test_gemm_is_a_convolution_without_overlap():
    layer = make_layer(gemm_as_conv(60, 50, 40), "weight_stationary")
    assert dram_ifmap_words(layer) == math.ceil(40 / 4) * 60 * 50


def test_every_quantity_equals_the_simulator():
    """315 runs without a mismatch; all quantities of CALC rows are scored."""
    report = validate(REFERENCE)
    assert report.rows_scored == 315
    assert report.rows_skipped == {}
    assert list(report.rows_partly_scored.values()) == [95]
    assert len(report.metrics) == 13
    assert not any(metrics["mismatches"] for metrics in report.metrics.values())
    assert report.metrics["total_cycles"]["num_rows"] == 315
    assert report.metrics["total_cycles"]["max_ape"] == 0.0
    assert report.metrics["dram_ifmap_words"]["num_rows"] == 220
    assert {label.split("=")[0] for label in report.groups} == {"dataflow", "kind", "bw_mode"}
    json.dumps(report.as_dict(), allow_nan=False)


def small_copy(tmp_path, changes=None, drop=None) -> Path:
    """Header and first data row of the reference, with replaced cells or a missing column."""
    lines = [line for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    cells = dict(zip(lines[0].split(","), lines[1].split(","), strict=True)) | (changes or {})
    cells.pop(drop, None)
    path = tmp_path / "runs.csv"
    path.write_text(
        "# made for a test\n" + ",".join(cells) + "\n" + ",".join(cells.values()) + "\n"
    )
    return path


def test_wrong_reference_is_a_mismatch(tmp_path):
    report = validate(small_copy(tmp_path, {"total_cycles": "5628", "mapping_eff_pct": "35.5"}))
    wrong = {name for name, metrics in report.metrics.items() if metrics["mismatches"]}
    assert wrong == {"total_cycles", "mapping_eff_pct"}


@pytest.mark.parametrize(
    ("changes", "drop", "said"),
    [
        (
            {"M": "abc"},
            None,
            "line 3, column 'M': got 'abc', expected a whole number of at least 1",
        ),
        ({"K": "0"}, None, "line 3, column 'K': got '0', expected a whole number of at least 1"),
        ({"dataflow": "rs"}, None, "column 'dataflow': got 'rs', expected one of is, os, ws"),
        ({"array_rows": "8.5"}, None, "'array_rows': got '8.5', expected a whole number of at"),
        ({"stride": ""}, None, "column 'stride': got '', expected a whole number of at least 1"),
        ({"M": "120"}, None, "column 'M': got '120', expected M, K, N = (121, 2304, 384)"),
        ({}, "total_cycles", "no column 'total_cycles'; the header has"),
    ],
)
def test_broken_file_raises_an_error_of_one_line(tmp_path, changes, drop, said):
    with pytest.raises(ValueError, match=r"runs\.csv") as caught:
        validate(small_copy(tmp_path, changes, drop))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
