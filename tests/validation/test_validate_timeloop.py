"""Agreement with Timeloop on the reference mappings, and errors of bad files."""

import csv
import io
from pathlib import Path

import jax
import numpy as np
import pytest
from support.mapping_examples import CORE

from hwdse.models.memory.memory_level_costs import access_energy_j_per_byte
from hwdse.validation.simulators import timeloop
from hwdse.validation.simulators.timeloop import validate

FILE = Path(__file__).parents[1] / "data" / "timeloop_gemmini_public.csv"
QUANTITIES = ("cycles", "energy_uj", "edp_uj_cycles")


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def test_all_rows_are_scored(report):
    assert report.rows_scored == 3000
    assert report.rows_skipped == {}
    assert set(report.metrics) == set(QUANTITIES)
    by_mesh = [
        table["cycles"]["num_rows"] for n, table in report.groups.items() if n[:5] == "mesh_"
    ]
    assert sum(by_mesh) == 3000


def test_cycles_equal_timeloop(report):
    """Difference of at most one cycle, from an integer quotient of floats rounded up."""
    assert report.metrics["cycles"]["mismatches"] == 0
    assert report.metrics["cycles"]["mape"] < 1e-7


def test_energies_agree_in_all_digits(report):
    assert report.metrics["energy_uj"]["mape"] < 1e-6
    assert report.metrics["energy_uj"]["max_ape"] < 1e-5
    # One large energy is printed with six digits and a zero.
    assert report.metrics["energy_uj"]["mismatches"] <= 1


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_targets(report, quantity):
    """Errors of DOSA's model: cycles 0.010 %, energy 0.23 % on average; at most 10.7 %."""
    assert report.metrics[quantity]["mape"] < 0.0005
    assert report.metrics[quantity]["max_ape"] < 0.12
    assert report.metrics[quantity]["spearman"] > 0.999999


@pytest.mark.parametrize(
    ("name", "capacity_bytes", "published"),
    # DOSA's regressions, dataset/dse/energy_model.py, in pJ per byte.
    [
        ("L0", 1.0, 0.48746172),
        ("L1", 2048.0, (1.94 + 0.1005 * 2.0) / 4.0),
        ("L1", 524288.0, (1.94 + 0.1005 * 512.0) / 4.0),
        ("L2", 131072.0, 0.49 + 0.02513 * 128.0),
        ("L2", 2097152.0, 0.49 + 0.02513 * 2048.0),
    ],
)
def test_energy_per_byte_matches_the_published_regressions(name, capacity_bytes, published):
    level = timeloop._level(name, capacity_bytes, 1.0, "one")
    read_j, write_j = access_energy_j_per_byte(level, CORE)
    assert read_j == write_j == pytest.approx(1e-12 * published, rel=0.006)


def _rows(edit, rows=slice(0, 3)):
    """Header and rows of the reference with cells changed by `edit`."""
    lines = [x for x in FILE.read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
    found = list(csv.DictReader(lines))[rows]
    for row in found:
        row.update(edit(row))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]))
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _file(tmp_path, text):
    path = tmp_path / "edited.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_with_other_tiers_are_scored(tmp_path):
    """Without registers, weights are read from the scratchpad for every MAC."""
    rows = iter([False, True, False])
    text = _rows(
        lambda row: {
            "mapping": row["mapping"].replace("L0[W]", "L0[]") if next(rows) else row["mapping"]
        }
    )
    report = validate(_file(tmp_path, text))
    assert report.rows_scored == 3
    energy = report.metrics["energy_uj"]
    assert energy["mismatches"] == 1
    assert energy["max_ape"] == pytest.approx(3.0 * energy["bias"], rel=1e-3)
    assert energy["bias"] > 0.01


def test_wrong_row_is_a_mismatch(tmp_path):
    text = _rows(lambda row: {"cycles": str(int(row["cycles"]) + 2)})
    report = validate(_file(tmp_path, text))
    assert report.metrics["cycles"]["mismatches"] == 3
    assert report.metrics["energy_uj"]["mismatches"] == 0


def test_rows_of_a_partial_file_have_the_same_scores(tmp_path, report):
    part = validate(_file(tmp_path, _rows(lambda row: {}, slice(100, 103))))
    assert part.rows_scored == 3
    assert part.metrics["energy_uj"]["max_ape"] <= report.metrics["energy_uj"]["max_ape"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"mapping": "L3[WIO] C2"}, "expected loops that multiply to R3 S3 P56"),
        ({"mapping": "L3[WIO] C2 C"}, r"expected a loop nest \(mapping"),
        ({"mapping": "L5[WIO] C2"}, "expected memories of L3, L2, L1, L0"),
        ({"mapping": "L3[WI] C2"}, "expected an outermost tier that keeps W, I and O"),
        ({"cycles": "none"}, "column 'cycles': got 'none'"),
        ({"energy_uj": "0"}, "column 'energy_uj': got '0'"),
        ({"mesh_x": "0"}, "column 'mesh_x': got '0'"),
        ({"P": "1.5"}, "column 'P': got '1.5', expected a whole number"),
        ({"Wstride": "-1"}, "column 'Wstride': got '-1'"),
    ],
)
def test_error_of_one_line_names_a_broken_row(tmp_path, edit, expected):
    with pytest.raises(ValueError, match=expected) as error:
        validate(_file(tmp_path, _rows(lambda row: edit)))
    assert "edited.csv, line 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_error_names_a_missing_column(tmp_path):
    text = _rows(lambda row: {}).replace("scratchpad_entries", "scratchpad_rows")
    with pytest.raises(ValueError, match="no column 'scratchpad_entries'"):
        validate(_file(tmp_path, text))


def test_caller_settings_are_unchanged(tmp_path):
    before = jax.numpy.asarray(1.0).dtype
    validate(_file(tmp_path, _rows(lambda row: {})))
    assert jax.numpy.asarray(1.0).dtype == before == np.float32
