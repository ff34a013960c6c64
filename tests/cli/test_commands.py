"""Command line: fast help, one-line user errors, resumable sweeps."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.small_search import SEARCH

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.shared.table_output import print_json, print_table, safe_text
from hwdse.cli.sweep import front_tables
from hwdse.config import load_search
from hwdse.evaluation import evaluate_exact
from hwdse.report.evaluation_json import limit_rows
from hwdse.report.number_texts import human_count, number_cells
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.runs.run_folder import open_run

COMMANDS = (
    "presets",
    "evaluate",
    "sensitivity",
    "mapping",
    "optimize",
    "sweep",
    "pareto",
    "validate",
)
HEAVY = ("jax", "matplotlib", "pydantic", "pyarrow", "numpy", "optax", "flax", "scipy")


ALL_SYSTEMS = front_tables._other_systems


@pytest.fixture
def search(tmp_path, monkeypatch) -> Path:
    """A small search; a front is compared with two presets only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        front_tables, "_other_systems", lambda *asked: itertools.islice(ALL_SYSTEMS(*asked), 2)
    )
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    return path


def command(*arguments: str) -> list[str]:
    code = "from hwdse.cli import main; main()"
    return [sys.executable, "-c", code, *arguments]


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"}


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, time\nstart = time.process_time()\nfrom hwdse.cli.main import run\n"
        "assert run(['--help']) == 0\nspent = time.process_time() - start\n"
        f"print([name for name in {HEAVY} if name in sys.modules], spent, file=sys.stderr)"
    )
    outcomes = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(),
            check=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    modules, _, spent = outcomes[-1].stderr.strip().rpartition(" ")
    assert modules == "[]"
    assert float(spent) < 0.5
    for name in COMMANDS:
        assert f"  {name}" in outcomes[-1].stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_shows_two_examples(name, capsys):
    assert run([name, "--help"]) == Exit.OK
    assert capsys.readouterr().out.count(f"    hwdse {name}") == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "nonsense"),
        (["evaluate"], "CONFIG"),
        (["evaluate", "missing.toml"], "missing.toml"),
        (["evaluate", "small.toml", "--set", "chip.hbm.bandwith=1"], "chip.hbm.bandwidth"),
        (["evaluate", "small.toml", "--set", "chip.hbm.bandwidth=4 TB"], "TB/s"),
        (["evaluate", "small.toml", "--set", "limits.die_area=-4"], "die_area"),
        (["sensitivity", "small.toml", "--metric", "energy_pr_token"], "energy_per_token"),
        (["sweep", "small.toml", "--points", "1.5"], "1e6"),
        (["sweep", "small.toml", "--method", "sobel"], "sobol, grid, random"),
        (["presets", "chips"], "chip, system, model"),
        (["pareto", "nowhere"], "run.json"),
        (["validate", "weather", "a.csv"], "scalesim"),
        (["validate", "scalesim", "missing.csv"], "missing.csv"),
    ],
)
def test_user_errors_are_one_line_with_exit_code_2(arguments, named, search, capsys):
    assert run(arguments) == Exit.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hwdse: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err


def test_presets_are_printed_as_table_and_as_json(capsys):
    assert run(["presets", "system", "--json"]) == Exit.OK
    presets = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["presets"]}
    assert presets["trn2_ultraserver"]["published"]["fp8_flop_per_s"] == pytest.approx(83.2e15)
    assert run(["presets"]) == Exit.OK
    text = capsys.readouterr().out
    assert "FP8 (PFLOP/s)" in text
    assert "83.2" in text
    assert "llama3_70b" in text


def test_evaluate_prints_the_values_of_the_library(search, capsys, tmp_path):
    arguments = ["evaluate", str(search), "--plots", str(tmp_path / "plots")]
    assert run([*arguments, "--json"]) == Exit.OK
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    parts = told["breakdowns"]["time_s"]
    assert sum(parts.values()) == pytest.approx(told["metrics"]["step_time_s"])
    assert told["limits"][0]["value"] == pytest.approx(told["metrics"]["die_area_mm2"])
    for name in ("breakdown.png", "breakdown.svg", "roofline.png", "roofline.svg"):
        assert (tmp_path / "plots" / name).stat().st_size > 1000
        assert name in captured.err
    assert run(["evaluate", str(search)]) == Exit.OK
    text = capsys.readouterr().out
    assert f"strategy: {told['strategy']}\n" in text
    assert "bottlenecks (share of step time):" in text
    assert "share (%)" in text
    assert "100.0" in text
    assert "\x1b" not in text


def test_elasticities_predict_a_small_change(search, capsys):
    outputs = {}
    for clock in (2.4e9, 2.4e9 * 1.001):
        change = f"chip.array.clock_hz={clock!r}"
        arguments = ["sensitivity", str(search), "--json", "--set", change]
        assert run([*arguments, "--metric", "step_time"]) == Exit.OK
        outputs[clock] = json.loads(capsys.readouterr().out)
    slope = outputs[2.4e9]["elasticities"]["chip.array.clock_hz"]
    low, high = (output["value"] for output in outputs.values())
    assert np.log(high / low) / np.log(1.001) == pytest.approx(slope, rel=1e-3)
    assert -1.0 <= slope < 0.0


def test_optimize_writes_a_design_that_evaluate_reads(search, capsys):
    arguments = ["optimize", str(search), "--evaluations", "200", "--json"]
    assert run(arguments) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["is_feasible"]
    assert told["design"]["chip.array.rows"] % 32 == 0
    best = Path(told["folder"]) / "best.toml"
    assert run(["evaluate", str(best), "--json"]) == Exit.OK
    again = json.loads(capsys.readouterr().out)["metrics"]
    assert again == told["after"]["metrics"]
    product = again["time_per_token_s"] * again["energy_per_token_j"]
    assert product == pytest.approx(told["value"], rel=1e-12)
    before = told["before"]["metrics"]
    assert product < before["time_per_token_s"] * before["energy_per_token_j"]


def test_infeasible_limits_exit_with_code_3(search, capsys):
    limit = ["--set", 'limits.die_area="300 mm^2"']
    for verb in (
        ["optimize", "--evaluations", "100"],
        ["sweep", "--points", "256", "--chunk", "128"],
    ):
        assert run([verb[0], str(search), *verb[1:], *limit]) == Exit.INFEASIBLE
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("hwdse: no design meets the constraints")
        assert "die_area" in line
        assert "above its limit of 300 mm²" in line


def sweep_into(folder: Path, search: Path, *more: str) -> list[str]:
    return [
        "sweep", str(search), "--points", "1024", "--chunk", "128", "--out", str(folder), *more
    ]  # fmt: skip


def test_a_stopped_sweep_resumes(search, tmp_path, capsys):
    part = tmp_path / "part"
    assert run(sweep_into(part, search)) == Exit.OK
    capsys.readouterr()
    whole = (part / "front.csv").read_bytes()
    kept = open_run(part).part_path(0).stat().st_mtime_ns
    for index in (3, 5):
        open_run(part).part_path(index).unlink()
    open_run(part).part_path(7).write_bytes(b"PAR1")
    (part / "front.csv").unlink()
    assert run(sweep_into(part, search)) == Exit.USER_ERROR
    assert "--resume" in capsys.readouterr().err
    assert run(sweep_into(part, search, "--resume")) == Exit.OK
    assert open_run(part).part_path(0).stat().st_mtime_ns == kept
    assert open_run(part).finished_parts() == set(range(8))
    assert (part / "front.csv").read_bytes() == whole
    assert open_run(part).record["summary"]["num_points"] == 1024
    assert run(sweep_into(part, search, "--resume", "--seed", "1")) == Exit.USER_ERROR
    assert "seed is 0 in the folder, 1 now" in capsys.readouterr().err


def test_the_merged_front_has_the_largest_hypervolume(search, tmp_path, capsys):
    for name, points in (("small", "128"), ("large", "512")):
        # The chunk of the sweep above: one program serves them all.
        out = ["--chunk", "128", "--out", str(tmp_path / name)]
        assert run(["sweep", str(search), "--points", points, *out]) == Exit.OK
    capsys.readouterr()
    folders = [str(tmp_path / "small"), str(tmp_path / "large")]
    assert run(["pareto", *folders, "--out", str(tmp_path / "both"), "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert all(0.0 < row["share"] <= 1.0 + 1e-12 for row in told["runs"])
    merged = read_csv_columns((tmp_path / "both" / "front.csv").read_text())
    times, energies = merged["time_per_token_s"], merged["energy_per_token_j"]
    assert np.all(np.diff(times) > 0.0)
    assert np.all(np.diff(energies) < 0.0)
    assert set(merged["run"]) <= set(folders)
    assert (tmp_path / "both" / "pareto.png").stat().st_size > 1000


def test_presets_of_a_front_equal_evaluate(search, monkeypatch):
    """Each preset once; the base design as in `evaluate`."""
    monkeypatch.setattr(front_tables, "_other_systems", ALL_SYSTEMS)
    loaded = load_search(search)
    base, *others = front_tables.preset_markers(loaded, str(search), ())
    names = [base.label, *(marker.label for marker in others)]
    assert len(set(names)) == len(names) > 10
    assert [base.role, *{marker.role for marker in others}] == ["baseline", "preset"]
    exact = evaluate_exact(loaded.base, loaded.workload)
    assert base.objectives == (exact.time_per_token_s, exact.energy_per_token_j)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_keeps_finished_chunks(search, tmp_path):
    folder = tmp_path / "run"
    arguments = ["sweep", str(search), "--points", "1e9", "--chunk", "4096", "--out", str(folder)]
    # Shells start background jobs with SIGINT ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heed}from hwdse.cli import main; main()", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + 240.0
    while len(list(folder.glob("points/part-*.parquet"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240.0)
    assert process.returncode == Exit.INTERRUPTED
    assert "continue with --resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert open_run(folder).record["status"] == "interrupted"
    assert len(open_run(folder).finished_parts()) >= 3
    assert (folder / "front.csv").exists()


def test_validate_prints_the_same_as_json_and_table(tmp_path, capsys):
    data = Path(__file__).parents[1] / "data" / "checkpoint_mc_public.csv"
    assert run(["validate", "checkpoint", str(data), "--json"]) == Exit.OK
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "checkpoint"
    assert report["rows_scored"] > 0
    assert run(["validate", "checkpoint", str(data)]) == Exit.OK
    assert f"{report['rows_scored']} rows compared" in capsys.readouterr().out


def test_names_are_never_printed_as_markup_or_control_codes(capsys):
    print_table("[bold]t[/bold]", ["a", "b"], [["[red]x[/red]", "\x1b[31my\n"], [":smile:", "="]])
    text = capsys.readouterr().out
    for piece in ("[bold]t[/bold]", "[red]x[/red]", "\\x1b[31my\\n", ":smile:"):
        assert piece in text
    assert "\x1b" not in text
    assert safe_text("plain µs") == "plain µs"


def test_json_has_no_nan(capsys):
    print_json({"a": float("nan"), "b": np.array([1.0, np.inf]), "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": "x"}


@pytest.mark.parametrize(("value", "text"), [(1.23e7, "12.3M"), (999.0, "999"), (5e11, "500G")])
def test_rounded_counts(value, text):
    assert human_count(value) == text


def test_every_public_name_exists():
    import hwdse

    assert len(hwdse.__all__) <= 21
    for name in hwdse.__all__:
        assert getattr(hwdse, name) is not None
    with pytest.raises(AttributeError, match="evalute"):
        _ = hwdse.evalute


def test_a_design_on_its_limit_meets_it_up_to_rounding():
    loaded = load_search("trn2_llama3_70b")
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    area = evaluation.die_area_mm2
    for share, is_met in ((1.0, True), (1.0 - 1e-13, True), (1.0 - 1e-6, False)):
        rows = limit_rows(
            dataclasses.replace(loaded, limits={"die_area": share * area}), evaluation
        )
        assert rows[0]["is_met"] is is_met


def test_numbers_that_round_to_zero_have_no_sign():
    assert number_cells([-3.3e-16, 1.5], 3, 0) == ["0.000", "1.500"]
    assert number_cells([-12345.6, -0.04], 1, 0) == ["-12,345.6", "0.0"]
