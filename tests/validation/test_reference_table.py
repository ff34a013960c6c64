"""Reference files and error tables of all validations."""

import json
import os

import numpy as np
import pytest

from hwdse.validation.shared.reference_table import (
    Comparison,
    build_report,
    printed_resolution,
    read_table,
    score,
)


def test_equal_values_have_no_error():
    values = np.array([1.0, 2.0, 5.0])
    metrics = score(values, values)
    assert metrics["max_ape"] == metrics["bias"] == metrics["mismatches"] == 0
    assert metrics["spearman"] == pytest.approx(1.0)


def test_metrics_of_a_case_worked_by_hand():
    """Errors of +10 %, -20 %, 0 and +50 %."""
    metrics = score(np.array([10.0, 10.0, 20.0, 30.0]), np.array([11.0, 8.0, 20.0, 45.0]))
    assert metrics["mape"] == pytest.approx(0.2)
    assert metrics["median_ape"] == pytest.approx(0.15)
    assert metrics["max_ape"] == pytest.approx(0.5)
    assert metrics["bias"] == pytest.approx(0.1)
    assert metrics["mismatches"] == 3


def test_zero_reference_has_no_relative_error_but_can_mismatch():
    metrics = score(np.array([0.0, 0.0, 4.0]), np.array([0.0, 1.0, 4.0]))
    assert metrics["max_ape"] == 0.0
    assert metrics["mismatches"] == 1


def test_rank_correlation_depends_on_order_only_and_is_undefined_for_constants():
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    assert score(rising, np.exp(rising))["spearman"] == pytest.approx(1.0)
    assert score(rising, -rising)["spearman"] == pytest.approx(-1.0)
    assert score(rising, np.ones(4))["spearman"] is None


def test_agreement_is_to_half_a_unit_of_the_last_digit():
    resolution = printed_resolution(["3.10", "3.10", "7", "2e-3"])
    np.testing.assert_allclose(resolution, [0.01, 0.01, 1.0, 0.001])
    comparison = Comparison(
        np.array([3.10, 3.10, 7.0, 0.002]), np.array([3.1049, 3.1051, 7.4, 0.0026]), resolution
    )
    np.testing.assert_array_equal(comparison.differs, [False, True, False, True])


def test_without_printed_digits_one_ulp_is_a_mismatch():
    assert Comparison(np.array([1.0]), np.array([np.nextafter(1.0, 2.0)])).differs[0]


def test_report_contains_metrics_of_row_groups(tmp_path):
    comparisons = {
        "cycles": Comparison(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])),
        "words": Comparison(np.array([1.0, np.nan, 3.0]), np.array([1.0, 2.0, np.nan])),
    }
    report = build_report(
        "toy",
        tmp_path / "toy.csv",
        comparisons,
        rows_skipped={"no rule": 2, "never": 0},
        group_by={"kind": ["a", "b", "b"]},
    )
    assert report.rows_scored == 3
    assert report.rows_skipped == {"no rule": 2}
    assert report.metrics["words"]["num_rows"] == 1
    assert set(report.groups["kind=b"]) == {"cycles"}
    assert report.groups["kind=b"]["cycles"]["mismatches"] == 1
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["kind"] == "toy"


def test_comment_lines_and_blank_rows_are_skipped(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('# source, "quoted\n# licence\na,b\n1, x\n\n2,"y,z"\n')
    table = read_table(path, ["a"])
    np.testing.assert_array_equal(table.numbers("a"), [1.0, 2.0])
    assert table.text("b") == ["x", "y,z"]
    assert table.lines == (4, 6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "no column 'c'; the header has a, b"),
        ("a,c\n1,x\n", "line 2, column 'c': got 'x', expected a number of at least 0"),
        ("# s\na,c\n1,nan\n", "line 3, column 'c': got 'nan', expected a number of at least 0"),
        ("a,c\n1,-1\n", "line 2, column 'c': got '-1', expected a number of at least 0"),
        ("a,c\n1\n", "line 2: 1 cells, expected 2"),
        ("a,c\n", "no data rows"),
        ("# only\n", "no header row"),
        ('a,c\n"1,2\n', "line 2: expected cells separated by commas, with quotes closed"),
        (f"a,c\n1,{'2' * 140_000}\n", "line 2: expected cells of at most 131,072 characters"),
    ],
)
def test_broken_file_raises_an_error_of_one_line(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read_table(path, ["c"]).numbers("c", at_least=0.0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_error_names_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv: expected an existing file"):
        read_table(tmp_path / "none.csv")


def test_pipes_and_endless_files_are_not_read(tmp_path):
    """A pipe without a writer would block; the link has no end."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        with pytest.raises(ValueError, match=f"{name}: expected a regular file"):
            read_table(tmp_path / name)
    (tmp_path / "large.csv").touch()
    os.truncate(tmp_path / "large.csv", 10**10)
    with pytest.raises(ValueError, match=r"large\.csv: expected a file below 32 MB"):
        read_table(tmp_path / "large.csv")
