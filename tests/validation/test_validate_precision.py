"""Closed form and gradient search agree with worked splits and with each other."""

from pathlib import Path

import jax
import pytest

from hwdse.config import load_chip
from hwdse.models.precision.precision_mix import best_fp64_per_fp16_ratio, fp64_fraction_for_ratio
from hwdse.validation.published.fp64_fp16_split import search_fp64_per_fp16_ratio, validate
from hwdse.validation.shared.reference_table import read_table

FILE = Path(__file__).parents[1] / "data" / "precision_split_worked.csv"
CHIPS = FILE.with_name("fp64_fp16_published.csv")
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
    assert metrics["max_ape"] < 1e-6


def test_closed_form_agrees_in_the_printed_digits(report):
    assert all(report.metrics[f"closed_{name}"]["max_ape"] < 1e-7 for name in QUANTITIES)


def test_no_row_is_skipped_and_groups_contain_all_rows(report):
    assert report.rows_skipped == {}
    by_power = [g["closed_T_min"]["num_rows"] for n, g in report.groups.items() if n[:2] == "p="]
    assert by_power == [27, 27, 27]


@pytest.mark.parametrize("area_ratio", [8.6, 16.0, 23.2142, 27.04])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_search_finds_1_to_100_where_the_closed_form_does(area_ratio, power):
    with jax.enable_x64(True):
        share = float(fp64_fraction_for_ratio(0.01, area_ratio, power))
        if power == 1.0:
            assert share == pytest.approx(area_ratio / (area_ratio + 1e4), rel=1e-12)
        ratio = search_fp64_per_fp16_ratio(share, area_ratio, power)
        assert ratio == pytest.approx(0.01, rel=1e-6)


def test_search_leaves_1_to_100_for_another_fp64_share():
    with jax.enable_x64(True):
        ratio = search_fp64_per_fp16_ratio(0.1, 23.2142, 1.0)
        assert ratio > 0.05
        assert ratio == pytest.approx(float(best_fp64_per_fp16_ratio(0.1, 23.2142, 1.0)), rel=1e-6)


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    """File with the first eleven cases, one of them edited."""
    text = "".join(FILE.read_text(encoding="utf-8").splitlines(keepends=True)[:14])
    assert old in text
    path = tmp_path / "edited.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_wrong_row_is_a_mismatch_of_both_methods(tmp_path):
    report = validate(_edited(tmp_path, ",0.5,0.25,4,0.8,12.5", ",0.5,0.25,4,0.8,12.50002"))
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
def test_error_of_one_line_names_a_broken_file(tmp_path, old, new, expected):
    with pytest.raises(ValueError, match=r"edited\.csv") as error:
        validate(_edited(tmp_path, old, new))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_jobs_of_one_format_are_skipped(tmp_path):
    report = validate(_edited(tmp_path, "16.0,1.0,1e-05,0.00079057337", "16.0,1.0,0,0"))
    assert report.rows_scored == 10
    assert report.rows_skipped == {"all or none of the work is fp64": 1}


@pytest.fixture(scope="module")
def chips():
    return validate(CHIPS)


class TestChips:
    """Published FP64:FP16 ratios."""

    def test_printed_ratios_follow_from_the_published_rates(self, chips):
        assert chips.rows_scored == 13
        assert chips.rows_skipped == {"no fp64 units": 2}
        assert chips.metrics["one_to"]["mismatches"] == 0

    @pytest.mark.parametrize("method", ["closed", "searched"])
    def test_each_ratio_is_optimal_for_its_share(self, chips, method):
        metrics = chips.metrics[f"{method}_best_ratio"]
        assert metrics["num_rows"] == 13
        assert metrics["max_ape"] < 1e-6

    @pytest.mark.parametrize(
        ("preset", "row"),
        [("a100", "A100 tensor"), ("h100", "H100/H200 tensor"), ("b200", "B200")],
    )
    def test_presets_contain_the_published_ratios(self, preset, row):
        table = read_table(CHIPS)
        cells = next(cells for cells in table.rows if cells["chip"] == row)
        ratio = float(cells["fp64_tflops"]) / float(cells["fp16_dense_tflops"])
        assert load_chip(preset).fp64_per_fp16_ratio == pytest.approx(ratio, rel=1e-3)

    @pytest.mark.parametrize(
        ("one_to", "percent"), [(4.0, 59.2), (14.76, 9.63), (60.0, 0.64), (1800.0, 0.00072)]
    )
    def test_shares_for_which_published_ratios_are_optimal(self, one_to, percent):
        """A64FX, H100, B200, B300: f = kappa / (kappa + N^2)."""
        share = fp64_fraction_for_ratio(1.0 / one_to, (53 / 11) ** 2, 1.0)
        assert 100.0 * share == pytest.approx(percent, rel=0.01)

    def test_file_without_a_printed_ratio_is_scored_in_other_quantities(self, tmp_path):
        path = tmp_path / "chips.csv"
        path.write_text("chip,fp64_tflops,fp16_dense_tflops,ratio_note\nX,1,,none\nY,1,50,none\n")
        report = validate(path)
        assert report.rows_scored == 1
        assert report.rows_skipped == {"no 16-bit figure": 1}
        assert "one_to" not in report.metrics
