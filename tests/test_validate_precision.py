"""Closed form and gradient search agree with the worked splits, and with each other."""

from pathlib import Path

import jax
import pytest

from hwdse.models.precision import (
    best_fp64_per_fp16_ratio,
    fp64_per_fp16_ratio_of_area,
    fp64_share_for_ratio,
)
from hwdse.validation.precision_split import search_fp64_area_fraction, validate

FILE = Path(__file__).parent / "data" / "precision_split_worked.csv"
QUANTITIES = ("opt_P64_over_P16", "opt_area_share_fp64", "T_min")


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("method", ["closed", "searched"])
def test_every_row_agrees(report, method, quantity):
    metrics = report.metrics[f"{method}_{quantity}"]
    assert metrics["num_rows"] == report.rows_scored == 81
    assert metrics["mismatches"] == 0
    assert metrics["max_ape"] < 1e-4


def test_closed_form_agrees_to_the_digits_printed(report):
    assert all(report.metrics[f"closed_{name}"]["max_ape"] < 1e-7 for name in QUANTITIES)


def test_nothing_is_skipped_and_groups_hold_all_rows(report):
    assert report.rows_skipped == {}
    by_power = [g["closed_T_min"]["num_rows"] for n, g in report.groups.items() if n[:2] == "p="]
    assert by_power == [27, 27, 27]


@pytest.mark.parametrize("area_ratio", [8.6, 16.0, 23.2142, 27.04])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_search_finds_one_to_a_hundred_where_the_closed_form_says(area_ratio, power):
    with jax.enable_x64(True):
        share = float(fp64_share_for_ratio(0.01, area_ratio, power))
        if power == 1.0:
            assert share == pytest.approx(area_ratio / (area_ratio + 1e4), rel=1e-12)
        area = search_fp64_area_fraction(share, area_ratio, power)
        assert fp64_per_fp16_ratio_of_area(area, area_ratio) == pytest.approx(0.01, rel=1e-4)


def test_search_moves_away_from_one_to_a_hundred_for_another_share():
    with jax.enable_x64(True):
        area = search_fp64_area_fraction(0.1, 23.2142, 1.0)
        ratio = fp64_per_fp16_ratio_of_area(area, 23.2142)
        assert ratio > 0.05
        assert ratio == pytest.approx(float(best_fp64_per_fp16_ratio(0.1, 23.2142, 1.0)), rel=1e-4)


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "edited.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_a_wrong_row_is_found_by_both(tmp_path):
    report = validate(_edited(tmp_path, ",0.5,0.25,4,0.8,12.5", ",0.5,0.25,4,0.8,12.6"))
    assert report.metrics["closed_T_min"]["mismatches"] == 1
    assert report.metrics["searched_T_min"]["mismatches"] == 1
    assert report.metrics["closed_opt_area_share_fp64"]["mismatches"] == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("16.0,1.0,1e-05", "16.0,1.0,1.5", "got '1.5', expected a share of at most 1"),
        ("16.0,1.0,1e-05", "16.0,0.5,1e-05", "column 'p': got '0.5'"),
        ("kappa,p,", "k,p,", "no column 'kappa'"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, old, new, expected):
    with pytest.raises(ValueError, match=r"edited\.csv") as error:
        validate(_edited(tmp_path, old, new))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
