"""The checkpoint model agrees with the Monte-Carlo simulation, and says what it skipped."""

from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.models.reliability import useful_time_fraction
from hwdse.validation.checkpoint import validate
from hwdse.validation.table import read_table

FILE = Path(__file__).parent / "data" / "checkpoint_mc_public.csv"


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def test_every_single_level_row_agrees(report):
    metrics = report.metrics["efficiency"]
    assert metrics["num_rows"] == report.rows_scored == 47
    assert metrics["mismatches"] == 0
    assert metrics["max_ape"] < 0.0015
    assert metrics["spearman"] > 0.999


def test_agreement_is_without_bias(report):
    """The simulation is unbiased: mean deviation far below the tolerance of one row."""
    assert abs(report.metrics["efficiency"]["bias"]) < 1e-4


def test_skipped_rows_are_counted_with_a_reason(report):
    assert report.rows_skipped == {"two_level: no model yet": 22, "async: no model yet": 15}


def test_groups_are_the_regimes(report):
    assert "regime=breakdown" in report.groups
    assert sum(g["efficiency"]["num_rows"] for g in report.groups.values()) == 47


def test_long_job_formula_is_close_for_jobs_of_many_whole_intervals():
    """What the search uses; the finite-job details are worth up to 5 % in this file."""
    rows = [row for row in read_table(FILE).rows if row["family"] == "single"]
    rows = [r for r in rows if r["fail_in_restart"] == "1"]
    names = ("interval_s", "ckpt_s", "restart_s", "downtime_s", "mtbf_s")
    columns = [np.array([float(row[name]) for row in rows]) for name in names]
    with jax.enable_x64(True):
        model = np.asarray(jax.vmap(useful_time_fraction)(*columns))
    error = np.abs(model / np.array([float(row["efficiency"]) for row in rows]) - 1.0)
    num_segments = np.array([float(r["work_s"]) / float(r["interval_s"]) for r in rows])
    has_final = np.array([row["final_ckpt"] == "1" for row in rows])
    is_whole = has_final & (np.abs(num_segments - np.round(num_segments)) < 1e-9)
    assert is_whole.sum() >= 10
    assert error[is_whole].max() < 0.0015
    assert error.max() < 0.05


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "edited.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_a_wrong_row_is_found(tmp_path):
    path = _edited(tmp_path, ",0.896137,", ",0.906137,")
    assert validate(path).metrics["efficiency"]["mismatches"] == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("P001,single,", "P001,triple,", "column 'family': got 'triple'"),
        ("P001,single,daly2006-fig-params,86400", "P001,single,x,-5", "got '-5'"),
        (",interval_s,", ",interval,", "no column 'interval_s'"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, old, new, expected):
    with pytest.raises(ValueError, match=r"edited\.csv") as error:
        validate(_edited(tmp_path, old, new))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
