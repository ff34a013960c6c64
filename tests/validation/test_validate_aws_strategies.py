"""Parallelism strategies of AWS are among the fastest of the enumeration."""

import csv
from pathlib import Path

import pytest

from hwdse.validation.aws import aws_strategies
from hwdse.validation.aws.aws_training import measured_runs
from hwdse.validation.aws.neuron_jobs import degree

FILE = Path(__file__).parents[1] / "data" / "aws_training_public.csv"


def rows_like(model, parallelism):
    return [
        row
        for row, _ in measured_runs(FILE)
        if row["model"].startswith(model) and row["parallelism"] == parallelism
    ]


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """File with the 175 B and the 7 B job, the second with two releases."""
    rows = rows_like("GPT3-175B", "TP=32 PP=8 DP=4")[:1]
    rows += 2 * rows_like("Llama2-7B", "TP=8 PP=1 DP=64")[:1]
    path = tmp_path_factory.mktemp("strategies") / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_strategies_of_aws_are_among_the_five_fastest(small_file):
    report = aws_strategies.validate(small_file).as_dict()
    assert report["rows_scored"] == 2
    assert report["metrics"]["time_over_best"]["mismatches"] == 0
    ranks = sorted(group for group in report["groups"] if group.startswith("rank="))
    assert ranks == ["rank=1", "rank=2"]  # one of each job


def test_strategy_slower_than_the_fifth_is_a_mismatch():
    answer = aws_strategies.Recommendation("m", "TP1 PP1", 6, 1.6, (1.0, 1.1, 1.2, 1.3, 1.4, 1.6))
    assert answer.own_time_s > answer.last_best_s == 1.4
    few = aws_strategies.Recommendation("m", "TP1 PP1", 2, 1.1, (1.0, 1.1))
    assert few.last_best_s == few.own_time_s


def test_file_without_such_jobs_raises_an_error(tmp_path):
    rows = [row for row, _ in measured_runs(FILE) if degree(row, "TP") == 1.0][:1]
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(ValueError, match="TP above 1 on Trainium1"):
        aws_strategies.validate(path)
