"""`hwdse parallelism`: ranks, restricts, writes, and says what stands in the way."""

import json

import numpy as np
import pytest
from support.strategy_scores import PRESET, evaluated_points, known_scores

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.shared.metric_tables import evaluate_exact
from hwdse.config import load_search
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.training.strategy_ranking import ranked

LAYOUT = ("layout", PRESET)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr("hwdse.training.strategy_ranking.evaluate_strategies", known_scores)


def told(capsys, *arguments, code=Exit.OK):
    """JSON of the command."""
    assert run([*LAYOUT, *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_best_come_first_and_all_are_counted(capsys):
    found = told(capsys, "--top", "7")
    _, _, listed, scores = evaluated_points()
    order = ranked(scores, "step_time")
    assert found["scored"] == len(listed)
    assert found["fit"] == len(order)
    assert [row["step_time_s"] for row in found["layouts"]] == scores.step_time_s[
        order[:7]
    ].tolist()
    for row in found["layouts"]:
        assert row["tensor"] * row["pipeline"] * row["context"] * row["data"] == found["num_chips"]
        times = sum(value for name, value in row.items() if name.startswith("time."))
        assert times == pytest.approx(row["step_time_s"], rel=1e-9)
        assert row["hbm_used_ratio"] <= 1.0


def test_other_rankings_and_restrictions(capsys):
    found = told(capsys, "--by", "memory", "--tensor", "8,16", "--recompute", "full", "--zero", "3")
    rows = found["layouts"]
    used = [row["hbm_used_ratio"] for row in rows]
    assert used == sorted(used)
    assert {row["tensor"] for row in rows} <= {8.0, 16.0}
    assert {(row["recompute"], row["zero"]) for row in rows} == {("full", 3.0)}
    assert found["scored"] < len(evaluated_points()[2])


def test_the_table_has_a_row_for_each_layout(capsys):
    assert run([*LAYOUT, "--top", "3"]) == Exit.OK
    text = capsys.readouterr().out
    first, second = text.split("where the step time goes")
    for part in (first, second):
        lines = [line.split()[0] for line in part.splitlines() if line[:1].isdigit()]
        assert lines[:3] == ["1", "2", "3"]
    assert f"{len(evaluated_points()[2]):,} layouts scored in" in text


def test_files_hold_every_layout_that_fits_and_the_best_design(capsys, tmp_path):
    found = told(capsys, "--out", str(tmp_path / "run"))
    columns = read_csv_columns((tmp_path / "run" / "layouts.csv").read_text())
    assert len(columns["step_time_s"]) == found["fit"]
    assert np.all(np.diff(columns["step_time_s"].astype(float)) >= 0.0)
    best = load_search(tmp_path / "run" / "best.toml")
    evaluation = evaluate_exact(best.base, best.workload)
    assert evaluation.step_time_s == pytest.approx(found["layouts"][0]["step_time_s"], rel=1e-12)
    for name in ("layouts.png", "layouts.svg"):
        assert (tmp_path / "run" / "plots" / name).stat().st_size > 10_000


def test_nothing_fits(capsys):
    small = ("--set", 'chip.hbm.capacity="1 GB"')
    found = told(capsys, *small, code=Exit.INFEASIBLE)
    assert found["fit"] == 0
    assert found["layouts"] == []
    assert run([*LAYOUT, *small]) == Exit.INFEASIBLE
    (line,) = capsys.readouterr().err.splitlines()
    _, _, listed, scores = evaluated_points()
    over = np.min(scores.hbm_used_ratio) * evaluated_points()[0].chip.hbm.capacity_bytes / 1e9 - 1.0
    assert f"none of {len(listed):,} layouts fits: the smallest (TP" in line
    assert f" of 1 GB, {over:.4g} GB too much; largest part: " in line


def test_the_limit_of_the_search_file_counts(capsys):
    whole = told(capsys)["fit"]
    assert 0 < told(capsys, "--set", "limits.hbm_used_ratio=0.5")["fit"] < whole


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--by", "speed"), "--by speed: expected one of step_time, "),
        (("--tensor", "8,x"), "--tensor 8,x: expected whole numbers, such as 1,2,4."),
        (("--zero", "4"), "--zero 4: expected some of 0,1,2,3."),
        (("--recompute", "half"), "--recompute half: expected some of none,selective,full."),
        (("--tensor", "7"), "64 heads, 80 layers and 1024 sequences allow none"),
    ],
)
def test_mistakes(capsys, arguments, line):
    assert run([*LAYOUT, *arguments]) == Exit.USER_ERROR
    assert line in capsys.readouterr().err


def test_a_core_has_no_layouts(capsys):
    assert run(["layout", "gemmini_bert"]) == Exit.USER_ERROR
    assert "layouts are about training jobs" in capsys.readouterr().err
