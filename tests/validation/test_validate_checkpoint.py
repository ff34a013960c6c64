"""Checkpoint models agree with the Monte-Carlo simulation; skipped rows have reasons."""

from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.models.reliability.single_level_checkpoint import ettr_fraction
from hwdse.validation.shared.reference_table import read_table
from hwdse.validation.simulators.checkpoint_monte_carlo import FAMILIES, FINAL_PERSIST, validate

FILE = Path(__file__).parents[1] / "data" / "checkpoint_mc_public.csv"


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def test_every_row_of_every_family_agrees(report):
    metrics = report.metrics["efficiency"]
    assert metrics["num_rows"] == report.rows_scored == 84
    assert metrics["mismatches"] == 0
    assert metrics["max_ape"] < 0.0015
    assert metrics["spearman"] > 0.999


def test_agreement_is_without_bias(report):
    """Mean deviation far below the tolerance of one row, since the simulation is unbiased."""
    assert abs(report.metrics["efficiency"]["bias"]) < 1e-4


def test_groups_are_families_and_their_regimes(report):
    assert report.rows_skipped == {}
    sizes = {name: table["efficiency"]["num_rows"] for name, table in report.groups.items()}
    assert [sizes[f"family={name}"] for name in FAMILIES] == [47, 22, 15]
    assert sum(sizes.values()) == 2 * 84
    assert sizes["regime=single breakdown"] == 5
    assert sizes["regime=two_level random"] == 15


def test_file_of_one_family_requires_its_columns_only(tmp_path):
    names = [name for name in read_table(FILE).columns if not name.startswith(("snap", "pers"))]
    rows = [row for row in read_table(FILE).rows if row["family"] == "two_level"]
    lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
    path = tmp_path / "two_level.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert validate(path).rows_scored == 22


def test_rows_undefined_by_the_process_are_skipped_with_a_reason(tmp_path):
    path = _edited(tmp_path, "0.02,300,,0,,1,0,", "0.02,300,,0,,1,1,")
    report = validate(path)
    assert report.rows_skipped == {FINAL_PERSIST: 1}
    assert report.rows_scored == 83


def test_long_job_formula_is_accurate_for_many_complete_intervals():
    """Formula used by searches; finite-job effects are up to 5 % in this file."""
    rows = [row for row in read_table(FILE).rows if row["family"] == "single"]
    rows = [r for r in rows if r["fail_in_restart"] == "1"]
    names = ("interval_s", "ckpt_s", "restart_s", "downtime_s", "mtbf_s")
    columns = [np.array([float(row[name]) for row in rows]) for name in names]
    with jax.enable_x64(True):
        model = np.asarray(jax.vmap(ettr_fraction)(*columns))
    error = np.abs(model / np.array([float(row["efficiency"]) for row in rows]) - 1.0)
    num_segments = np.array([float(r["work_s"]) / float(r["interval_s"]) for r in rows])
    has_final = np.array([row["final_ckpt"] == "1" for row in rows])
    is_complete = has_final & (np.abs(num_segments - np.round(num_segments)) < 1e-9)
    assert is_complete.sum() >= 10
    assert error[is_complete].max() < 0.0015
    assert error.max() < 0.05


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "edited.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_wrong_row_is_a_mismatch(tmp_path):
    path = _edited(tmp_path, ",0.896137,", ",0.906137,")
    assert validate(path).metrics["efficiency"]["mismatches"] == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("P001,single,", "P001,triple,", "column 'family': got 'triple'"),
        ("P001,single,daly2006-fig-params,86400", "P001,single,x,-5", "got '-5'"),
        (",interval_s,", ",interval,", "no column 'interval_s'"),
        (",72000,600,20,5,120,", ",72000,600,2.5,5,120,", "column 'l2_every': got '2.5'"),
        (",2,120,0.02,300,", ",2,120,1.5,300,", "column 'slowdown': got '1.5'"),
        (",2,120,0.02,300,", ",,120,0.02,300,", "column 'snapshot_s': got ''"),
    ],
)
def test_error_of_one_line_names_a_broken_file(tmp_path, old, new, expected):
    with pytest.raises(ValueError, match=r"edited\.csv") as error:
        validate(_edited(tmp_path, old, new))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
