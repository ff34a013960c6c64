"""Best mappings reach the optima of AccelForge, and their costs are those of loop nests."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.core.mapper.mapper import best_mapping
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.validation.simulators.accelforge import ACCELFORGE, accelerators, validate
from hwdse.workload.loops.operators import gemm_operators

BEST = quick_jit(lambda op, core: best_mapping(op, core, accounting=ACCELFORGE))
FILE = Path(__file__).parents[1] / "data" / "accelforge_public.csv"


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def case_rows(wanted):
    """Header and chosen rows of the file, as lists of cells."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    table = list(csv.reader(lines))
    return [table[0], *(row for row in table[1:] if row[0] in wanted)]


def written(tmp_path, table):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)
    return path


def test_no_row_exceeds_the_optimum(report):
    assert report.rows_scored == 62
    assert report.rows_skipped == {}
    assert not any("above" in name for name in report.groups)


def test_most_rows_are_equal_and_the_others_lower(report):
    equal = report.groups["edp=equal within 1 %"]["edp_js"]
    lower = report.groups["edp=below by more than 1 %"]["edp_js"]
    assert equal["num_rows"] >= 0.85 * report.rows_scored
    assert equal["num_rows"] + lower["num_rows"] == report.rows_scored
    assert equal["median_ape"] < 1e-6
    assert report.groups["edp=equal within 1 %"]["latency_s"]["max_ape"] < 0.01
    assert report.groups["edp=equal within 1 %"]["energy_j"]["max_ape"] < 0.01
    assert report.groups["imperfect=False"]["edp_js"]["max_ape"] < 1e-6


def test_every_mapping_has_equal_cost_as_a_loop_nest(report):
    assert report.metrics["edp_as_nest"]["mismatches"] == 0
    assert report.metrics["edp_as_nest"]["max_ape"] < 1e-9


def test_bytes_by_level_agree_for_equal_mappings():
    # p049: tiles of 99 x 77 on 8 columns, not divisible. p047: 30 of 32 rows used.
    header, *rows = case_rows({"p047", "p049"})
    cells = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    numbers = {name: np.array(x, float) for name, x in cells.items() if _is_number(x[0])}
    with jax.enable_x64(True):
        core = accelerators(numbers, has_accumulator=False, shares_port=False)
        op = gemm_operators(numbers["M"], numbers["K"], numbers["N"], np.ones(2))
        found = BEST(op, core)
        dram, sram, _ = found.costs.traffic.levels
    assert found.tile.k.tolist() == [64.0, 77.0]
    pairs = {
        "dram_read_A_bytes": dram.reads.inputs,
        "dram_read_B_bytes": dram.reads.weights,
        "dram_write_C_bytes": dram.writes.outputs,
        "sram_read_A_bytes": sram.reads.inputs,
        "sram_read_B_bytes": sram.reads.weights,
        "sram_read_C_bytes": sram.reads.outputs,
        "sram_write_C_bytes": sram.writes.outputs,
    }
    for name, ours in pairs.items():
        assert np.asarray(ours) == pytest.approx(numbers[name], rel=1e-6), name
    assert found.costs.compute_s.tolist() == pytest.approx(numbers["lat_mac_s"].tolist(), rel=1e-6)
    registers_j = np.asarray(found.costs.level_j[-1])
    assert registers_j == pytest.approx(numbers["e_reg_j"], abs=1e-20, rel=1e-6)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_register_reads_of_full_outermost_tiles():
    # p004: 25 tiles of 502 rows count 12550 instead of 12544 rows, in register energy only.
    header, row = case_rows({"p004"})
    numbers = {
        name: np.array([float(x)]) for name, x in zip(header, row, strict=True) if _is_number(x)
    }
    with jax.enable_x64(True):
        op = gemm_operators(numbers["M"], numbers["K"], numbers["N"], np.ones(1))
        found = BEST(op, accelerators(numbers))
    assert float(found.tile.p[0]) == 502.0
    assert float(found.costs.level_j[-1][0]) == pytest.approx(
        float(numbers["e_reg_j"][0]), rel=1e-6
    )
    assert float(found.costs.mac_j[0]) == pytest.approx(float(numbers["e_mac_j"][0]), rel=1e-6)


def test_wrong_reference_is_a_mismatch(tmp_path):
    header, row = case_rows({"p000"})
    place = header.index("energy_j")
    row[place] = str(0.9 * float(row[place]))
    report = validate(written(tmp_path, [header, row]))
    assert report.metrics["edp_js"]["mismatches"] == 1
    assert "edp=above by more than 1 %" in report.groups


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("M", "0", "column 'M': got '0', expected a whole number of at least 1"),
        ("sram_ports", "two", "got 'two', expected one of separate, shared"),
        ("imperfect_factors", "yes", "got 'yes', expected one of False, True"),
        ("acc_bw_bytes_per_s", "0", "a bandwidth above 0"),
        ("dram_bw_bytes_per_s", "0", "column 'dram_bw_bytes_per_s': got '0'"),
    ],
)
def test_error_of_one_line_names_a_broken_cell(tmp_path, column, cell, expected):
    header, row = case_rows({"p000"})
    row[header.index(column)] = cell
    with pytest.raises(ValueError, match=r"rows\.csv, line 2") as error:
        validate(written(tmp_path, [header, row]))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_counting_rules_are_those_of_the_file():
    assert Accounting(True, True, True) == ACCELFORGE
