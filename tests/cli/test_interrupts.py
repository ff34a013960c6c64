"""Ctrl-C and SIGTERM: handled in the main thread, with the best so far on disk; runs continue."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.small_search import SEARCH, files_of

from hwdse.cli.main import run
from hwdse.cli.optimize.stopped_search import SearchKeeper
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.shared.interrupts import (
    is_interrupted,
    on_interrupt,
    run_interruptible,
    uninterrupted,
)
from hwdse.runs.abandonable import abandonable
from hwdse.runs.folder_lock import LOCK_NAME
from hwdse.runs.run_folder import create_run, open_run
from hwdse.runs.search_checkpoint import CHECKPOINT_NAME, SearchCheckpoint
from hwdse.search.evaluation.search_log import SearchLog

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
SMALL = ["--evaluations", "90", "--neighbors", "0"]


@pytest.fixture
def search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    return path


class StopNow(Exception):  # noqa: N818  # stands for the end of the process
    pass


def stopped_after(monkeypatch, num_batches):
    """Let the next optimizations write what a signal makes them write, and end there."""

    def save_if_due(self):
        if len(self.log.batches()) >= num_batches:
            raise StopNow(self.stop())

    monkeypatch.setattr(SearchKeeper, "save_if_due", save_if_due)


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_ends_by_itself_is_waited_for(number):
    told = threading.Event()
    before = signal.getsignal(number)

    def work():
        with on_interrupt(told.set):  # returns None: the command ends by itself
            os.kill(os.getpid(), number)
            assert told.wait(20.0)
        assert is_interrupted()
        return 5

    assert run_interruptible(work) == 5
    assert signal.getsignal(number) is before


@POSIX
def test_signals_wait_for_files_that_are_being_written():
    order = []

    def work():
        with on_interrupt(lambda: order.append("told")):
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)
                order.append("written")
            while "told" not in order:
                time.sleep(0.01)
        return 0

    run_interruptible(work)
    assert order == ["written", "told"]


def test_errors_of_a_command_are_those_of_its_thread():
    def work():
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_interruptible(work)


@POSIX
@pytest.mark.parametrize("body", ["time.sleep(60)", "all(x == 0 for x in iter(int, 1))"])
def test_a_command_without_a_run_ends_at_once_with_one_line(body):
    script = textwrap.dedent(f"""
        import time
        from hwdse.cli.shared.interrupts import run_interruptible
        run_interruptible(lambda: print("ready", flush=True) or {body})
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.ABORTED
    assert err == "hwdse: stopped; nothing was written\n"


@pytest.mark.parametrize("num_batches", [1, 3, 4])
def test_a_stopped_optimization_keeps_its_best_design_and_continues(
    search, tmp_path, capsys, monkeypatch, num_batches
):
    whole, part = tmp_path / "whole", tmp_path / "part"
    command = ["optimize", str(search), *SMALL, "--out"]
    assert run([*command, str(whole)]) == Exit.OK
    with monkeypatch.context() as patch:
        stopped_after(patch, num_batches)
        with pytest.raises(StopNow) as stopped:
            run([*command, str(part)])
    assert f"continue with: hwdse optimize --resume {part}" in str(stopped.value)
    record = open_run(part).record
    assert record["status"] == "stopped"
    assert 0 < record["summary"]["evaluations"] <= 90
    assert (part / CHECKPOINT_NAME).exists()
    assert not (part / LOCK_NAME).exists()
    capsys.readouterr()
    assert run(["evaluate", str(part / "best.toml"), "--json"]) == Exit.OK
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    value = metrics["time_per_token_s"] * metrics["energy_per_token_j"]
    assert value == pytest.approx(record["summary"]["objective"], rel=1e-9)
    # Without a word a stopped run is neither continued nor replaced.
    assert run([*command, str(part)]) == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert "stopped run of optimize" in error
    assert "--resume" in error
    assert error.count("\n") == 1
    assert run(["optimize", "--resume", str(part)]) == Exit.OK
    assert files_of(part) == files_of(whole)


def test_a_front_that_is_stopped_keeps_its_front_and_continues(
    search, tmp_path, capsys, monkeypatch
):
    from hwdse.cli.optimize.optimize_front import FrontKeeper

    monkeypatch.setattr("hwdse.cli.sweep.front_tables.preset_markers", lambda *_: [])
    whole, part = tmp_path / "whole", tmp_path / "part"
    command = ["optimize", str(search), "--front", "--evaluations", "80", "--out"]
    assert run([*command, str(whole)]) == Exit.OK
    add = FrontKeeper.add

    def add_and_stop(self, rows, spent):
        add(self, rows, spent)
        if spent > 40:
            raise StopNow(self.stop())
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(FrontKeeper, "add", add_and_stop)
        with pytest.raises(StopNow, match="front so far"):
            run([*command, str(part)])
    assert open_run(part).status == "stopped"
    assert (part / "front.csv").exists()
    capsys.readouterr()
    assert run(["pareto", str(part), str(whole), "--out", str(tmp_path / "both")]) == Exit.OK
    assert f"{part}: partial run (stopped, " in capsys.readouterr().err
    assert run(["optimize", "--resume", str(part)]) == Exit.OK
    assert files_of(part) == files_of(whole)


@POSIX
def test_ctrl_c_while_compiling_ends_without_a_crash(search, tmp_path):
    folder = tmp_path / "run"
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heed}from hwdse.cli import main; main()", "optimize",
         str(search), *SMALL, "--out", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HWDSE_CACHE": "off"},
    )  # fmt: skip
    deadline = time.monotonic() + 240.0
    while not (folder / "run.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # tracing or compiling
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, err = process.communicate(timeout=60.0)
    assert time.monotonic() - begin < 20.0
    assert process.returncode == Exit.ABORTED
    assert "Traceback" not in err
    assert f"continue with: hwdse optimize --resume {folder}" in err.splitlines()[-1]
    assert open_run(folder).status == "stopped"


def test_resume_names_what_is_in_the_folder(search, tmp_path, capsys):
    sweep = create_run(tmp_path / "sweep", {"options": {"command": "sweep"}}, "", seed=0)
    for arguments, named in (
        (["optimize", "--resume", str(sweep.folder)], "run of sweep, expected a run of optimize"),
        (["optimize", str(sweep.folder)], "a run folder, expected a config"),
        (["optimize", str(search), "--resume", "--out", str(sweep.folder)],
         "run of sweep, expected a run of optimize"),
    ):  # fmt: skip
        assert run(arguments) == Exit.USER_ERROR
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_ignored(tmp_path):
    first, second = (create_run(tmp_path / n, {"n": n}, "", seed=0) for n in "ab")
    log = SearchLog()
    log.keep("x", np.arange(3.0), lambda: (np.arange(2), np.zeros((3, 0))))
    SearchCheckpoint(first).save(log, 12.5)
    batches, elapsed_s = SearchCheckpoint(first).load()
    assert elapsed_s == 12.5
    assert list(batches) == ["0.x"]
    for kept, expected in zip(batches["0.x"], log.batches()["0.x"], strict=True):
        np.testing.assert_array_equal(kept, expected)
        assert kept.shape == expected.shape
    path = first.folder / CHECKPOINT_NAME
    (second.folder / CHECKPOINT_NAME).write_bytes(path.read_bytes())
    assert SearchCheckpoint(second).load() == ({}, 0.0)
    content = path.read_bytes()
    for damaged in (b"", b"PK", content[: len(content) // 2]):
        path.write_bytes(damaged)
        assert SearchCheckpoint(first).load() == ({}, 0.0)
    SearchCheckpoint(first).remove()
    assert SearchCheckpoint(first).load() == ({}, 0.0)


def test_an_iteration_is_left_while_the_next_item_is_computed():
    left, computing = threading.Event(), threading.Event()

    def items():
        yield 1
        computing.set()
        left.wait(60.0)
        yield 2

    found = []
    for item in abandonable(items(), lambda: computing.is_set() and bool(found)):
        found.append(item)
    assert found == [1]
    left.set()
    assert list(abandonable(iter(range(5)), lambda: False)) == list(range(5))
    assert list(abandonable(iter(range(5)), None)) == list(range(5))

    def broken():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(abandonable(broken(), lambda: False))


def test_every_path_of_the_same_file_resumes(search, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    command = [*SMALL, "--resume", "--out", str(folder)]
    assert run(["optimize", str(search), *command]) == Exit.OK
    before = open_run(folder).record
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    text = search.read_text().replace('title = "small"', 'title = "another title"  # comment')
    (copy / "renamed.toml").write_text(text)
    monkeypatch.chdir(copy)
    assert run(["optimize", "renamed.toml", *command]) == Exit.OK
    assert open_run(folder).record["config_hash"] == before["config_hash"]
    assert run(["optimize", str(Path("..") / "small.toml"), *command]) == Exit.OK
