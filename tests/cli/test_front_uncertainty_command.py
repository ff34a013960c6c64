"""Robust sweeps and fronts, and percentiles of their designs, from the command line."""

import json
import shutil

import jax
import numpy as np
import pytest
from support.small_search import SEARCH, files_of

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import load_search
from hwdse.config.search.search_file_objectives import front_objectives_fn
from hwdse.numerics.relaxation import EXACT
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.runs.sweep_job import chunk_columns, chunk_notes, job_of, read_chunk
from hwdse.search.sweeps.sweep_plan import plan_sweep

UNCERTAIN = """
[uncertain]
chip.hbm.energy = "40 %"
chip.process.mac_energy = "20 %"
"""
SETS = ["--set", "objective.robust=mean", "--set", "objective.robust_samples=4"]
SIZE = ["--points", "96", "--chunk", "32", "--keep", "all"]


@pytest.fixture(scope="module", autouse=True)
def _no_other_systems():
    """Leave out preset systems, each of which needs a program of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwdse.cli.sweep.front_tables._other_systems", lambda *_: iter(()))
        yield


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "small.toml"
    path.write_text(SEARCH + UNCERTAIN)
    return path


@pytest.fixture(scope="module")
def robust_run(search, tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust") / "run"
    assert run(["sweep", str(search), *SIZE, *SETS, "--out", str(folder)]) == Exit.OK
    return folder


def printed(capsys, *arguments):
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_robust_sweep_in_shards_equals_one_sweep_and_counts_its_samples(
    search, robust_run, tmp_path, capsys
):
    arguments = ["sweep", search, *SIZE, *SETS, "--out", tmp_path / "run"]
    assert run([*map(str, arguments), "--shard", "2/2"]) == Exit.OK
    capsys.readouterr()
    code, found = printed(capsys, *arguments, "--resume")
    assert code == Exit.OK
    assert (found["robust"], found["samples"]) == ("mean", 4)
    assert (found["num_points"], found["sample_evaluations"]) == (96, 4 * 96)
    assert files_of(tmp_path / "run") == files_of(robust_run)
    # The base design in the plot is evaluated like the others.
    (marker,) = json.loads((robust_run / "run.json").read_text())["summary"]["markers"]
    loaded = load_search(search, SETS[1::2])
    with jax.enable_x64(True):
        expected = np.exp(np.asarray(front_objectives_fn(loaded)(loaded.base, EXACT)[0]))
    np.testing.assert_allclose(marker["objectives"], expected, rtol=1e-9)


def test_a_robust_chunk_keeps_nominal_and_robust_metrics_and_is_read_back_exactly(search):
    loaded = load_search(search, SETS[1::2])
    job = job_of(loaded, plan_sweep(loaded.space, num_points=96, chunk_points=32), keep="all")
    chunk = job.runner().run(1)
    columns = chunk_columns(job, chunk)
    again = read_chunk(job, columns, chunk_notes(chunk), 1)
    order = np.argsort(chunk.front.sequence_indices)
    np.testing.assert_array_equal(chunk.front.log_objectives[order], again.front.log_objectives)
    nominal, robust = columns["energy_per_token_j"], columns["robust_energy_per_token_j"]
    assert (np.abs(robust / nominal - 1.0) > 1e-9).all()
    np.testing.assert_array_equal(robust, np.exp(columns["log.energy_per_token"]))


def test_percentiles_of_a_robust_front(search, robust_run, tmp_path, capsys):
    arguments = ["uncertainty", search, "--samples", 50, "--front", robust_run]
    code, found = printed(capsys, *arguments, *SETS, "--out", tmp_path / "found")
    assert code == Exit.OK
    columns = read_csv_columns((robust_run / "front.csv").read_text())
    front = {name: np.array(values) for name, values in found["front"].items()}
    np.testing.assert_array_equal(
        front["chip.array.clock_hz"], columns["chip.array.clock_hz"]
    )  # fmt: skip
    energy = [front[f"energy_per_token_j{end}"] for end in (".p5", ".p50", ".p95")]
    assert (energy[0] < energy[1]).all()
    assert (energy[1] < energy[2]).all()
    assert (energy[0] < columns["robust_energy_per_token_j"]).all()
    # Energies change the time of designs at the power limit of the chip only: the fastest ones.
    time, least, most = (front[f"time_per_token_s{end}"] for end in ("", ".p5", ".p95"))
    is_free = most <= least * (1.0 + 1e-12)
    assert time[~is_free].max() < time[is_free].min()
    np.testing.assert_allclose(least[is_free], time[is_free], rtol=1e-12)
    assert (least <= time * (1.0 + 1e-12)).all()
    assert (time <= most * (1.0 + 1e-12)).all()
    assert (front["meets_limits_fraction"] == 1.0).all()
    assert (front["on_front_fraction"] <= 1.0).all()
    written = read_csv_columns((tmp_path / "found" / "uncertainty.csv").read_text())
    np.testing.assert_array_equal(written["energy_per_token_j.p95"], energy[2])
    assert (tmp_path / "found" / "plots" / "uncertainty.svg").stat().st_size > 1000
    # The file has robust objectives: with nominal objectives this is another problem.
    assert run([*map(str, arguments), "--out", str(tmp_path / "other")]) == Exit.USER_ERROR
    err = capsys.readouterr().err.splitlines()[-1]
    assert "expected the --set options of the run" in err


def test_robust_fronts_merge_with_fronts_of_the_same_sample_only(robust_run, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(robust_run, other)
    arguments = ["pareto", str(robust_run), str(other), "--out", str(tmp_path / "both")]
    assert run(arguments) == Exit.OK
    record = json.loads((other / "run.json").read_text())
    rule = record["config"].pop("robust")
    (other / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(arguments) == Exit.USER_ERROR
    err = capsys.readouterr().err
    assert "front of nominal values, expected mean values" in err
    assert err.count("\n") == 1
    record["config"] |= {"robust": rule, "seed": 5}  # another sample
    (other / "run.json").write_text(json.dumps(record))
    assert run(arguments) == Exit.USER_ERROR
    assert "of the same sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--front", "nowhere.csv"], "expected an existing file"),
        (["--front", "nowhere.csv", "--metric", "step_time"], "--metric step_time"),
        (["--out", "there"], "only with --front"),
    ],
)
def test_mistakes_are_one_line(search, options, named, capsys):
    assert run(["uncertainty", str(search), *options]) == Exit.USER_ERROR
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1


def test_a_run_folder_of_another_format_is_refused(search, tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(
        '{"config": {}, "config_hash": "", "seed": 0, "versions": {}}'
    )
    (tmp_path / "old" / "front.csv").write_text("time_per_token\n1.0\n")
    assert run(["uncertainty", str(search), "--front", str(tmp_path / "old")]) == Exit.USER_ERROR
    assert "expected format 2" in capsys.readouterr().err
