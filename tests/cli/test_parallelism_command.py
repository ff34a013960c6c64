"""`hwdse parallelism`: ranking, restrictions, files and messages without a feasible strategy."""

import json

import numpy as np
import pytest
from support.strategy_metrics import PRESET, evaluated_strategies, known_metrics

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import load_search
from hwdse.evaluation import evaluate_exact
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.training.strategy_ranking import ranked

COMMAND = ("parallelism", PRESET)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr("hwdse.training.strategy_ranking.evaluate_strategies", known_metrics)


def told(capsys, *arguments, code=Exit.OK):
    """JSON of the command."""
    assert run([*COMMAND, *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def met(order, metrics):
    """Strategies of a ranking that meet the power limit of the preset."""
    power_w = load_search(PRESET).limits["chip_power"]
    return order[metrics.chip_power_w[order] <= power_w]


def test_strategies_are_sorted_and_counted(capsys):
    found = told(capsys, "--top", "7")
    _, _, listed, metrics = evaluated_strategies()
    order = met(ranked(metrics, "step_time"), metrics)
    assert found["num_evaluated"] == len(listed)
    assert found["num_feasible"] == len(order)
    assert [row["step_time_s"] for row in found["strategies"]] == metrics.step_time_s[
        order[:7]
    ].tolist()
    for row in found["strategies"]:
        assert row["tensor"] * row["pipeline"] * row["context"] * row["data"] == found["num_chips"]
        times = sum(value for name, value in row.items() if name.startswith("time."))
        assert times == pytest.approx(row["step_time_s"], rel=1e-9)
        assert row["hbm_used_ratio"] <= 1.0


def test_other_metrics_and_restrictions(capsys):
    found = told(
        capsys, "--sort-by", "memory", "--tensor", "8,16", "--recompute", "full", "--zero", "3"
    )
    rows = found["strategies"]
    used = [row["hbm_used_ratio"] for row in rows]
    assert used == sorted(used)
    assert {row["tensor"] for row in rows} <= {8.0, 16.0}
    assert {(row["recompute"], row["zero"]) for row in rows} == {("full", 3.0)}
    assert found["num_evaluated"] < len(evaluated_strategies()[2])


def test_the_table_has_one_row_per_strategy(capsys):
    assert run([*COMMAND, "--top", "3"]) == Exit.OK
    text = capsys.readouterr().out
    first, second = text.split("share of step time (%)")
    for part in (first, second):
        lines = [line.split()[0] for line in part.splitlines() if line[:1].isdigit()]
        assert lines[:3] == ["1", "2", "3"]
    assert f"{len(evaluated_strategies()[2]):,} strategies evaluated in" in text
    assert "efficiencies without a fit on Trainium2: chip.matrix_efficiency_fraction" in text
    assert "(class, " in text


def test_files_contain_all_strategies_that_fit_and_the_best_design(capsys, tmp_path):
    found = told(capsys, "--out", str(tmp_path / "run"))
    columns = read_csv_columns((tmp_path / "run" / "strategies.csv").read_text())
    assert len(columns["step_time_s"]) == found["num_feasible"]
    assert np.all(np.diff(columns["step_time_s"].astype(float)) >= 0.0)
    best = load_search(tmp_path / "run" / "best.toml")
    evaluation = evaluate_exact(best.base, best.workload)
    assert evaluation.step_time_s == pytest.approx(found["strategies"][0]["step_time_s"], rel=1e-12)
    for name in ("strategies.png", "strategies.svg"):
        assert (tmp_path / "run" / "plots" / name).stat().st_size > 10_000


def test_no_strategy_fits(capsys):
    small = ("--set", 'chip.hbm.capacity="1 GB"')
    found = told(capsys, *small, code=Exit.INFEASIBLE)
    assert found["num_feasible"] == 0
    assert found["strategies"] == []
    assert run([*COMMAND, *small]) == Exit.INFEASIBLE
    (line,) = capsys.readouterr().err.splitlines()
    _, _, listed, metrics = evaluated_strategies()
    over = (
        np.min(metrics.hbm_used_ratio) * evaluated_strategies()[0].chip.hbm.capacity_bytes / 1e9
        - 1.0
    )
    assert f"none of {len(listed):,} strategies fits: the smallest (TP" in line
    assert f", available 1 GB, excess {over:.4g} GB; largest part: " in line


def test_the_hbm_limit_of_the_config_is_applied(capsys):
    whole = told(capsys)["num_feasible"]
    assert 0 < told(capsys, "--set", "limits.hbm_used_ratio=0.5")["num_feasible"] < whole


def test_limits_exclude_strategies_and_say_so(capsys):
    fits = ranked(evaluated_strategies()[3], "step_time")
    within = told(capsys, "--top", "50")
    everything = told(capsys, "--ignore-limits", "--top", "50")
    limit_w = load_search(PRESET).limits["chip_power"]
    assert within["excluding_limits"] == {"chip_power": limit_w}
    assert all(row["chip_power_w"] <= limit_w for row in within["strategies"])
    assert within["num_feasible"] < within["num_fitting"] == len(fits)
    assert everything["num_feasible"] == len(fits)
    assert everything["strategies"][0]["step_time_s"] <= within["strategies"][0]["step_time_s"]
    assert run([*COMMAND, "--top", "1"]) == Exit.OK
    text = capsys.readouterr().out
    assert f"{within['num_feasible']:,} of these meet mean chip power <= {limit_w:.1f} W" in text


def test_a_limit_that_no_strategy_meets_is_named(capsys, tmp_path):
    arguments = [*COMMAND, "--set", "limits.chip_power=10 W", "--out", str(tmp_path / "run")]
    assert run(arguments) == Exit.INFEASIBLE
    line = capsys.readouterr().err.splitlines()[-1]
    assert "meets the limits; nearest: mean chip power" in line
    assert not (tmp_path / "run" / "best.toml").exists()


def test_a_limit_of_the_hardware_excludes_no_strategy(capsys):
    found = told(capsys, "--set", "limits.die_area=1 mm^2")
    assert found["num_feasible"] > 0
    (text,) = found["always_violated"]
    assert text == "die area per chip 602.0 mm², 602 times the limit of 1.0 mm²"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--sort-by", "speed"), "--sort-by speed: expected one of step_time, "),
        (("--tensor", "8,x"), "--tensor 8,x: expected positive integers, such as 1,2,4."),
        (("--zero", "4"), "--zero 4: expected some of 0,1,2,3."),
        (("--recompute", "half"), "--recompute half: expected some of none,selective,full."),
        (("--tensor", "7"), "64 heads, 80 layers and 1024 sequences per step allow none"),
    ],
)
def test_user_errors(capsys, arguments, line):
    assert run([*COMMAND, *arguments]) == Exit.USER_ERROR
    assert line in capsys.readouterr().err


def test_a_core_has_no_strategies(capsys):
    assert run(["parallelism", "gemmini_bert"]) == Exit.USER_ERROR
    assert "needs a training workload; 'BERT base" in capsys.readouterr().err
