"""Port stalls and best mappings agree with runs of ZigZag; bad files raise one-line errors."""

import math
from pathlib import Path

import numpy as np
import pytest

from hwdse.specs.mappings.loop_nest import NestTier
from hwdse.validation.simulators.zigzag import validate
from hwdse.validation.simulators.zigzag_loops import loop_nest, parse_loops
from hwdse.workload.loops.operators import DIMS

FILE = Path(__file__).parents[1] / "data" / "zigzag_public.csv"
TEXT = (
    "{O: [[(D0, 16), (D0, 2), (D2, 4)], [(D1, 3), (D2, 5)]], "
    "I: [[(D0, 16), (D0, 2), (D2, 4), (D1, 3), (D2, 5)], []], "
    "W: [[(D0, 16), (D0, 2)], [(D2, 4), (D1, 3), (D2, 5)], []]}"
)
P, C, K = (DIMS.index(letter) for letter in "PCK")


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def test_every_row_is_scored(report):
    assert report.rows_scored == 30
    assert report.rows_skipped == {}
    assert all(metrics["num_rows"] == 30 for metrics in report.metrics.values())


def test_best_mappings_have_similar_or_lower_energy(report):
    """Target: 5 %."""
    assert report.metrics["best_energy_above_pj"]["max_ape"] < 0.01
    assert report.metrics["best_energy_pj"]["bias"] < 0.0


def test_latency_of_best_mappings_with_port_terms(report):
    """Target: median of 10 %, not reached by a roofline."""
    metrics = report.metrics["best_latency_total_cycles"]
    assert metrics["median_ape"] < 0.05
    assert metrics["spearman"] > 0.99
    assert report.metrics["best_latency_roofline_cycles"]["median_ape"] > 0.10


def test_port_stalls_of_given_mappings_agree_with_zigzag(report):
    even = report.groups["passes=even"]
    assert even["latency_compute_stall_cycles"]["num_rows"] == 28
    assert even["latency_compute_stall_cycles"]["mismatches"] == 0
    assert even["latency_compute_stall_cycles"]["max_ape"] < 1e-7
    assert report.metrics["latency_compute_stall_cycles"]["max_ape"] < 0.01
    assert report.metrics["latency_total_cycles"]["median_ape"] < 1e-6
    assert report.metrics["latency_total_cycles"]["max_ape"] < 0.02
    assert report.metrics["latency_roofline_cycles"]["median_ape"] > 0.10


def test_load_cycles_of_given_mappings(report):
    load, unload = (report.metrics[f"latency_{way}load_cycles"] for way in ("on", "off"))
    assert load["median_ape"] < 1e-6
    assert load["spearman"] > 0.95
    assert unload["max_ape"] < 0.02  # the rest of totals printed with eight digits
    assert unload["spearman"] > 0.99


def test_energy_of_given_mappings_by_memory_and_operand(report):
    even = report.groups["passes=even"]
    assert even["energy_pj"]["max_ape"] < 1e-5  # integer accesses to packed results
    assert all(m["max_ape"] < 2e-4 for name, m in even.items() if name.startswith("e_"))
    assert report.metrics["energy_pj"]["max_ape"] < 0.003


def test_mapping_text_worked_by_hand():
    mapping = parse_loops(TEXT)
    assert mapping.loops == (("D0", 16), ("D0", 2), ("D2", 4), ("D1", 3), ("D2", 5))
    assert mapping.boundaries == {
        ("accumulator", "O"): 3,
        ("scratchpad", "I"): 5,
        ("registers", "W"): 2,
        ("scratchpad", "W"): 5,
    }
    assert [mapping.trips(dim) for dim in ("D0", "D1", "D2")] == [32, 3, 20]


def test_loop_nest_of_a_mapping_worked_by_hand():
    nest = loop_nest(parse_loops(TEXT), 8.0, 2.5)
    assert nest.tiers == (
        NestTier("DRAM", ("weights", "inputs", "outputs")),
        NestTier("scratchpad", ("inputs",)),
        NestTier("scratchpad", ("weights",)),
        NestTier("accumulator", ("outputs",)),
        NestTier("registers", ("weights",)),
    )
    temporal, position = np.asarray(nest.temporal), np.asarray(nest.position)
    assert temporal.prod(axis=1).tolist() == [1.0, 1.0, 15.0, 4.0, 32.0]
    assert (temporal[2, C], temporal[2, K], temporal[3, C], temporal[4, P]) == (5, 3, 4, 32)
    assert position[2, C] < position[2, K]  # D2 is the outer one
    assert (nest.spatial[3, C], nest.spatial[3, K]) == (8.0, 2.5)


def test_second_loop_over_a_dimension_begins_a_tier_that_keeps_nothing():
    text = TEXT.replace("(D1, 3), (D2, 5)", "(D2, 5), (D1, 3), (D2, 2)")
    nest = loop_nest(parse_loops(text), 8.0, 2.0)
    assert nest.tiers[3] == NestTier("scratchpad", ())
    assert math.prod(np.ravel(nest.temporal).tolist()) == 32 * 3 * 40


def line_of(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("loops", "{O: [[(D0, 16)]]}", "expected {O: [[(D0, 16), ...], [...]]"),
        ("loops", "16 x 32", "expected {O: [["),
        ("loops", TEXT.replace("I: [[(D0, 16), (D0, 2)", "I: [[(D0, 2), (D0, 16)"), "same order"),
        ("loops", TEXT, "loops over D0 that make M = 512"),
        ("loops", TEXT.replace("(D0, 2)", "(D0, 32)"), "loops over D1 that leave at most 64 of N"),
        ("sram_bytes", "0", "a number above 0"),
        ("dram_bw_bytes_per_cycle", "fast", "a number of at least 0"),
        ("M", "0.5", "a whole number of at least 1"),
    ],
)
def test_errors_name_bad_cells(tmp_path, column, cell, expected):
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")][:2]
    names = lines[0].split(",")
    cells = lines[1].split(",", len(names) - 1)
    cells[names.index(column)] = f'"{cell}"'
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([lines[0], ",".join(cells)]))
    with pytest.raises(ValueError, match=r"bad\.csv, line 2") as error:
        validate(bad)
    assert f"column '{column}'" in line_of(error)
    assert expected in line_of(error)


def test_errors_name_missing_columns(tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("id,M,K,N\np000,1,1,1\n")
    with pytest.raises(ValueError, match="no column 'rows'") as error:
        validate(bad)
    line_of(error)
