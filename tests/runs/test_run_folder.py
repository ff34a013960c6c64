"""Run folders: finished parts survive the death of their writer; unfinished ones leave no trace."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hwdse.runs.atomic_files import csv_text, read_csv_columns
from hwdse.runs.run_errors import RunError
from hwdse.runs.run_folder import RUN_FORMAT, Run, create_run, open_run

CONFIG = {"chip": {"array": {"rows": 128.0}}, "points": 1000, "method": "sobol"}


def make_run(folder: Path, **changes) -> Run:
    return create_run(folder, CONFIG | changes, "hwdse sweep a.toml", seed=7, resume=True)


def columns_of(index: int) -> dict[str, np.ndarray]:
    return {
        "point": np.arange(5) + 5 * index,
        "cost": np.linspace(0.1, 1.0, 5) / (index + 1.0),
        "dataflow": np.array(["weight_stationary"] * 5),
    }


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_parts_are_read_in_the_order_of_their_chunks(tmp_path):
    run = make_run(tmp_path / "run")
    for index in (2, 0, 1):
        run.write_part(index, columns_of(index))
    points = open_run(tmp_path / "run").read_points()
    assert list(points) == ["point", "cost", "dataflow"]
    np.testing.assert_array_equal(points["point"], np.arange(15))
    np.testing.assert_array_equal(points["cost"][5:10], columns_of(1)["cost"])
    assert set(points["dataflow"]) == {"weight_stationary"}


def test_a_part_keeps_its_notes_even_without_rows(tmp_path):
    run = make_run(tmp_path / "run")
    run.write_part(3, {"cost": np.zeros(0)}, {"num_points": 512, "share": 0.25})
    columns, notes = open_run(run.folder).read_part(3)
    assert columns["cost"].shape == (0,)
    assert notes == {"num_points": 512, "share": 0.25}


def test_a_run_without_parts_has_no_points(tmp_path):
    run = make_run(tmp_path / "run")
    assert run.finished_parts() == set()
    assert run.read_points() == {}


def test_the_record_holds_config_seed_versions_and_status(tmp_path):
    make_run(tmp_path / "run").finish("finished", best=np.float64(1.5))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"] == CONFIG
    assert record["seed"] == 7
    assert record["status"] == "finished"
    assert record["summary"] == {"best": 1.5}
    assert set(record["versions"]) == {"hwdse", "jax", "numpy"}
    assert record["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("kept_fraction", [0.0, 0.3, 0.99])
def test_truncated_parts_are_detected_and_replaced(tmp_path, kept_fraction):
    run = make_run(tmp_path / "run")
    for index in range(3):
        run.write_part(index, columns_of(index))
    path = run.part_path(1)
    path.write_bytes(path.read_bytes()[: int(kept_fraction * path.stat().st_size)])
    assert run.finished_parts() == {0, 2}
    assert len(run.read_points()["point"]) == 10
    run.write_part(1, columns_of(1))
    assert run.finished_parts() == {0, 1, 2}


def test_parts_of_another_run_or_another_index_do_not_count(tmp_path):
    run = make_run(tmp_path / "run")
    other = make_run(tmp_path / "other", points=2000)
    run.write_part(0, columns_of(0))
    other.write_part(1, columns_of(1))
    os.replace(other.part_path(1), run.part_path(1))
    run.part_path(2).write_bytes(run.part_path(0).read_bytes())
    (run.folder / "points" / "notes.txt").write_text("mine")
    assert run.finished_parts() == {0}


def test_damage_inside_a_part_raises_an_error(tmp_path):
    run = make_run(tmp_path / "run")
    path = run.write_part(0, {"cost": np.random.default_rng(0).random(1000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"part-00000.parquet: damaged"):
        run.read_points()


@pytest.mark.parametrize(
    ("changes", "seed", "named"),
    [
        ({"points": 2000}, 7, "points is 1000 in the folder, 2000 now"),
        (
            {"chip": {"array": {"rows": 64.0}}},
            7,
            "chip.array.rows is 128.0 in the folder, 64.0 now",
        ),
        ({}, 8, "seed is 7 in the folder, 8 now"),
    ],
)
def test_another_config_is_refused_in_one_line(tmp_path, changes, seed, named):
    make_run(tmp_path / "run")
    with pytest.raises(RunError, match=named) as caught:
        create_run(tmp_path / "run", CONFIG | changes, "", seed=seed, resume=True)
    assert "\n" not in str(caught.value)


def test_an_equal_config_of_other_types_is_resumed(tmp_path):
    create_run(tmp_path / "run", {"a": (1.0, 2.0), "b": Path("x")}, "first", seed=0)
    run = create_run(
        tmp_path / "run", {"b": "x", "a": np.array([1.0, 2.0])}, "again", seed=0, resume=True
    )
    assert run.record["command"] == "first"


def test_a_folder_with_other_files_is_refused(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(RunError, match="already a run folder"):
        create_run(tmp_path / "run", CONFIG, "", seed=7)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="neither empty nor a run folder"):
        create_run(tmp_path / "mine", CONFIG, "", seed=7, resume=True)


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", '{"config": 1'])
def test_a_folder_without_a_valid_record_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("config", 5), ("versions", [1]), ("summary", [1]), ("seed", "x")]
)
def test_values_of_a_wrong_kind_in_a_record_are_refused_in_one_line(tmp_path, key, value):
    make_run(tmp_path / "run").finish("finished")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(RunError, match=f"wrong kind of value: {key}"):
        open_run(tmp_path / "run")
    path.write_text("[" * 100_000)
    with pytest.raises(RunError, match="cannot be read"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("found", [None, 1, 3])
def test_a_run_of_another_format_is_refused_in_one_line(tmp_path, found):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    assert record["format"] == RUN_FORMAT == 2
    if found is None:  # as hwdse 0.1 wrote it
        del record["format"]
    else:
        record["format"] = found
    path.write_text(json.dumps(record))
    for use in (lambda: open_run(tmp_path / "run"), lambda: make_run(tmp_path / "run")):
        with pytest.raises(RunError, match=f"run format {found or 1} of hwdse") as caught:
            use()
        assert "expected format 2" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_name_is_outside_of_the_folder(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("../out.csv", str(tmp_path / "out.csv")):
        with pytest.raises(RunError, match="outside"):
            run.write_text(name, "x")
    assert not (tmp_path / "out.csv").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    run.write_part(0, columns_of(0))
    before = all_files(run.folder)

    def no_space(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    for write in (
        lambda: run.write_part(0, columns_of(3)),
        lambda: run.write_part(1, columns_of(1)),
        lambda: run.write_text("front.csv", "x"),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
    monkeypatch.undo()
    assert all_files(run.folder) == before
    np.testing.assert_array_equal(run.read_points()["point"], columns_of(0)["point"])


def test_columns_of_different_length_are_refused(tmp_path):
    with pytest.raises(RunError, match="differ in length"):
        make_run(tmp_path / "run").write_part(0, {"a": np.zeros(2), "b": np.zeros(3)})


def test_a_killed_writer_loses_no_finished_part_and_leaves_no_litter(tmp_path):
    script = textwrap.dedent("""
        import itertools, sys
        from pathlib import Path
        import numpy as np
        from hwdse.runs.run_folder import create_run
        run = create_run(Path(sys.argv[1]), {"points": 1}, "", seed=0)
        for index in itertools.count():
            run.write_part(index, {"x": np.random.default_rng(index).random(50_000)})
            print(index, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "run"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run = create_run(tmp_path / "run", {"points": 1}, "", seed=0, resume=True)
    finished = run.finished_parts()
    assert finished.issuperset(range(6))
    assert len(run.read_points()["x"]) == 50_000 * len(finished)
    names = {f"points/part-{index:05d}.parquet" for index in finished}
    assert all_files(run.folder) == names | {"run.json"}


def test_csv_keeps_every_digit_and_escapes_formulas():
    columns = {
        "time_s": np.array([0.1 + 0.2, -1e-300, 5e300]),
        "strategy": np.array(["=1+1", "TP 4, PP 2", "@x"], dtype=object),
        "-count": np.array([1, 2, 3]),
    }
    text = csv_text(columns)
    lines = text.splitlines()
    assert lines[0] == "time_s,strategy,'-count"
    assert lines[1] == "0.30000000000000004,'=1+1,1"
    assert lines[2].startswith("-1e-300,")
    back = read_csv_columns(text)
    assert list(back) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(back[name], values)


def test_a_ragged_csv_is_an_error_that_names_the_line():
    with pytest.raises(ValueError, match="line 3: expected 2 cells, found 1"):
        read_csv_columns("a,b\n1,2\n3\n")
