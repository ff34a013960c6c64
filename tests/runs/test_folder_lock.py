"""A run folder has one writer, or several shards; the lock of an ended process is no lock."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest
from support.small_search import SEARCH

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.runs import folder_lock
from hwdse.runs.folder_lock import LOCK_NAME, lock_folder
from hwdse.runs.run_errors import RunError
from hwdse.runs.run_folder import clear_run, create_run, open_run

KERNEL = pytest.mark.skipif(folder_lock.fcntl is None, reason="needs flock")


@pytest.fixture(params=["kernel", "content"])
def kind(request, monkeypatch):
    """Locks of the kernel, and those of a file system or machine without them."""
    if request.param == "content":
        monkeypatch.setattr(folder_lock, "fcntl", None)
    elif folder_lock.fcntl is None:
        pytest.skip("needs flock")
    return request.param


def holder(folder, **changes):
    """Write the lock file of another process."""
    content = {"process": 1, "machine": socket.gethostname(), "since": "2026-01-01", **changes}
    (folder / LOCK_NAME).write_text(json.dumps(content))


@KERNEL
def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path):
    first = lock_folder(tmp_path)
    with pytest.raises(RunError, match=rf"in use by process {os.getpid()} on ") as caught:
        lock_folder(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    first.release()
    first.release()
    assert list(tmp_path.iterdir()) == []
    lock_folder(tmp_path).release()


@KERNEL
def test_shards_share_a_lock_and_exclude_all_others(tmp_path):
    first, second = (lock_folder(tmp_path, is_shared=True) for _ in range(2))
    for _ in range(2):
        with pytest.raises(RunError, match="in use"):
            lock_folder(tmp_path)
        first.release()
    second.release()
    assert list(tmp_path.iterdir()) == []
    alone = lock_folder(tmp_path)
    with pytest.raises(RunError, match="in use"):
        lock_folder(tmp_path, is_shared=True)
    alone.release()


def test_the_file_of_an_ended_process_is_no_lock(tmp_path, kind):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder(tmp_path, process=ended.pid)
    lock = lock_folder(tmp_path)
    assert json.loads((tmp_path / LOCK_NAME).read_text())["process"] == os.getpid()
    lock.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 4000])
def test_a_damaged_file_is_no_lock(tmp_path, kind, text):
    (tmp_path / LOCK_NAME).write_text(text)
    lock_folder(tmp_path).release()


@pytest.mark.parametrize("changes", [{"process": os.getppid()}, {"machine": "elsewhere"}])
def test_without_locks_of_the_kernel_the_file_decides(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(folder_lock, "fcntl", None)
    holder(tmp_path, **changes)
    with pytest.raises(RunError, match="in use by process"):
        lock_folder(tmp_path)


@KERNEL
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from hwdse.runs.folder_lock import lock_folder
        lock_folder(Path(sys.argv[1]))
        print("locked", flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(RunError, match=f"process {process.pid} on {socket.gethostname()} since 2"):
        lock_folder(tmp_path)
    process.kill()
    process.communicate()
    lock_folder(tmp_path).release()


@KERNEL
@pytest.mark.parametrize(
    "command",
    [["optimize"], ["optimize", "--front"], ["sweep"], ["sweep", "--shard", "1/2"],
     ["compare-search", "--methods", "sobol"],
     ["solve", "--target", "chip_power <= 500 W", "--free", "chip.array.clock"]],
)  # fmt: skip
def test_every_command_refuses_a_folder_in_use_in_one_line(tmp_path, capsys, command):
    (tmp_path / "small.toml").write_text(SEARCH)
    folder = tmp_path / "run"
    folder.mkdir()
    lock = lock_folder(folder)
    name, *options = command
    code = run([name, str(tmp_path / "small.toml"), *options, "--out", str(folder)])
    assert code == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert f"{folder}: in use by process {os.getpid()}" in error
    assert error.count("\n") == 1
    lock.release()


def test_clearing_a_run_leaves_files_of_others(tmp_path):
    record = create_run(tmp_path / "run", {}, "", seed=0)
    for name in ("best.toml", "front.csv", "plots/pareto.png", "notes.txt", "mine.csv"):
        record.write_text(name, "x")
    record.write_part(0, {})
    clear_run(record.folder)
    left = {str(p.relative_to(record.folder)) for p in record.folder.rglob("*") if p.is_file()}
    assert left == {"notes.txt", "mine.csv"}
    with pytest.raises(RunError, match="not a run folder"):
        clear_run(record.folder)


def test_a_run_with_pictures_and_files_of_others_is_replaced(tmp_path):
    record = create_run(tmp_path / "run", {"a": 1}, "", seed=0)
    for name in ("best.toml", "plots/pareto.png", "notes.txt"):
        record.write_text(name, "x")
    replaced = create_run(record.folder, {"a": 2}, "", seed=1, overwrite=True)
    assert replaced.record["seed"] == 1
    assert {path.name for path in record.folder.iterdir()} == {"notes.txt", "run.json"}


def test_an_ended_run_is_replaced_on_request_only(tmp_path, capsys):
    (tmp_path / "small.toml").write_text(SEARCH)
    folder = tmp_path / "run"
    record = create_run(folder, {"options": {"command": "sweep"}}, "", seed=0)
    record.write_text("front.csv", "old")
    record.finish("finished")
    command = ["optimize", str(tmp_path / "small.toml"), "--evaluations", "1", "--neighbors", "0",
               "--out", str(folder)]  # fmt: skip
    assert run(command) == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds a finished run of sweep" in error
    assert "--overwrite" in error
    assert (folder / "front.csv").read_text() == "old"
    assert run([*command, "--overwrite"]) in (Exit.OK, Exit.INFEASIBLE)
    assert open_run(folder).command == "optimize"
    assert not (folder / "front.csv").exists()
