"""A sweep has the same result in one process, local workers, shards or a cluster, killed or not."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from support.small_search import SEARCH, files_of

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.sweep import front_tables
from hwdse.config import load_search
from hwdse.runs import local_workers
from hwdse.runs.run_errors import StoppedRunError
from hwdse.runs.run_folder import Run, create_run, open_run
from hwdse.runs.sweep_job import chunk_columns, job_of, read_chunk
from hwdse.search.sweeps.sweep_plan import plan_sweep

SIZE = ["--points", "640", "--chunk", "64"]


@pytest.fixture(scope="module", autouse=True)
def _presets_once():
    """Evaluate the presets beside a front once for all sweeps of this process."""
    once, known = front_tables.evaluate_exact, {}

    def kept(design, workload):
        key = jax.tree.structure(design), tuple(jax.tree.leaves(design))
        if key not in known:
            known[key] = once(design, workload)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_tables, "evaluate_exact", kept)
        yield


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "small.toml"
    path.write_text(SEARCH)
    return path


@pytest.fixture(scope="module")
def whole(search, tmp_path_factory):
    """Files of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(["sweep", str(search), *SIZE, "--out", str(folder)]) == Exit.OK
    return files_of(folder)


@pytest.fixture(scope="module")
def job(search):
    loaded = load_search(search)
    return job_of(loaded, plan_sweep(loaded.space, num_points=640, chunk_points=64))


def test_a_chunk_is_read_back_bit_for_bit(job):
    chunk = job.runner().run(3)
    notes = {name: getattr(chunk, name) for name in ("num_points", "num_feasible")}
    notes |= {"num_not_finite": 0, "num_reclassified": chunk.num_reclassified}
    again = read_chunk(job, chunk_columns(job, chunk), notes, 3)
    for part in ("front", "least_violated"):
        before, after = getattr(chunk, part), getattr(again, part)
        order = np.argsort(before.sequence_indices)
        for name in before.__dataclass_fields__:
            values = getattr(before, name)[order]
            np.testing.assert_array_equal(values, getattr(after, name))


def test_shards_in_one_folder_equal_one_sweep(search, whole, tmp_path, capsys):
    arguments = ["sweep", str(search), *SIZE, "--out", str(tmp_path / "run")]
    assert run([*arguments, "--shard", "3/3"]) == Exit.OK
    assert "when all shards are done" in capsys.readouterr().out
    assert not (tmp_path / "run" / "front.csv").exists()
    # Shards in folders of their own can be merged as fronts.
    assert run(["pareto", str(tmp_path / "run"), "--out", str(tmp_path / "both")]) == Exit.OK
    names = (tmp_path / "both" / "front.csv").read_text().splitlines()[0]
    assert names == whole["front.csv"].decode().splitlines()[0] + ",run"
    assert run([*arguments, "--shard", "1/3"]) == Exit.OK
    assert run([*arguments, "--shard", "2/3"]) == Exit.OK
    assert files_of(tmp_path / "run") == whole


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_wrong_shards_are_refused(search, text, capsys):
    assert run(["sweep", str(search), "--shard", text]) == Exit.USER_ERROR
    assert "expected a share from 1/N to N/N" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_the_chunk_of_a_dead_worker_is_repeated(job, monkeypatch):
    started = []
    start = local_workers._start

    def noted(packed, slot, num_workers):
        worker = start(packed, slot, num_workers)
        started.append(worker.process)
        if len(started) == 1:  # dies before its first result
            os.kill(worker.process.pid, signal.SIGKILL)
        return worker

    monkeypatch.setattr(local_workers, "_start", noted)
    found = {index: (c, n) for index, c, n in local_workers.run_chunks(job.pack(), [0, 4, 7], 1)}
    assert len(started) == 2
    assert set(found) == {0, 4, 7}
    runner = job.runner()
    for index, (columns, _) in found.items():
        expected = chunk_columns(job, runner.run(index))
        assert list(columns) == list(expected)
        for name, values in columns.items():
            np.testing.assert_array_equal(values, expected[name])
    assert not any(process.is_alive() for process in started)


def test_three_dead_workers_of_one_chunk_stop_the_sweep(job, monkeypatch):
    start = local_workers._start

    def doomed(packed, slot, num_workers):
        worker = start(packed, slot, num_workers)
        worker.process.kill()
        return worker

    monkeypatch.setattr(local_workers, "_start", doomed)
    with pytest.raises(StoppedRunError, match="chunk 5: 3 workers died"):
        list(local_workers.run_chunks(job.pack(), [5], 1))


def test_a_full_disk_is_one_line_and_earlier_chunks_remain(
    search, whole, tmp_path, capsys, monkeypatch
):
    arguments = ["sweep", str(search), *SIZE, "--out", str(tmp_path / "run")]
    write = Run.write_part

    def fills_up(self, index, columns, notes):
        if index == 4:
            raise OSError(28, "No space left on device")
        return write(self, index, columns, notes)

    monkeypatch.setattr(Run, "write_part", fills_up)
    assert run(arguments) == Exit.USER_ERROR
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "part-00004.parquet: cannot be written: No space left on device" in line
    assert "continue with --resume" in line
    monkeypatch.undo()
    assert open_run(tmp_path / "run").finished_parts() == {0, 1, 2, 3}
    assert run([*arguments, "--resume"]) == Exit.OK
    assert files_of(tmp_path / "run") == whole


@pytest.mark.skipif(os.name != "posix", reason="limits as on POSIX")
def test_a_file_over_the_size_limit_leaves_no_trace(tmp_path):
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from hwdse.runs.run_folder import create_run
        record = create_run(Path(sys.argv[1]), {}, "", seed=0)
        record.write_part(0, {"x": np.zeros(10)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            record.write_part(1, {"x": np.random.default_rng(0).random(100_000)})
        except OSError as error:
            print(type(error).__name__, str(error).count(chr(10)))
    """)
    folder = tmp_path / "run"
    command = [sys.executable, "-c", script, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split()[0] == "OSError"
    assert open_run(folder).finished_parts() == {0}
    assert [path.name for path in (folder / "points").iterdir()] == ["part-00000.parquet"]


def test_a_run_killed_before_its_record_was_written_can_start_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.elsewhere.123.tmp").write_text("{")
    assert create_run(folder, {}, "", seed=0).finished_parts() == set()


@pytest.mark.parametrize("verb", ["sweep", "optimize"])
def test_a_folder_that_cannot_be_written_is_one_line(verb, search, capsys, monkeypatch):
    def read_only(*_args, **_kwargs):
        raise OSError(30, "Read-only file system", "runs/x")

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert run([verb, str(search), "--out", "runs/x"]) == Exit.USER_ERROR
    err = capsys.readouterr().err
    assert err.splitlines() == ["hwdse: runs/x: Read-only file system"]


def test_a_cluster_equals_one_process_if_a_worker_dies(search, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    script = textwrap.dedent("""
        import os, signal, sys, threading, time, warnings
        from pathlib import Path
        import distributed
        from hwdse.cli.main import run
        folder = Path(sys.argv[3])
        def kill_one(cluster):
            while len(list(folder.glob("points/*.parquet"))) < 2:
                time.sleep(0.02)
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        if __name__ == "__main__":
            options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
            with distributed.LocalCluster(**options) as cluster:
                threading.Thread(target=kill_one, args=(cluster,), daemon=True).start()
                code = run([*sys.argv[4:], "--scheduler", cluster.scheduler_address])
            sys.exit(code)
    """)
    path = tmp_path / "drive.py"
    path.write_text(script)
    folder = tmp_path / "run"
    arguments = ["sweep", str(search), *SIZE, "--out", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", path, distributed.__version__, "-", folder, *arguments],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ended.returncode == Exit.OK, ended.stderr[-2000:]
    assert files_of(folder) == whole


def test_no_scheduler_is_one_line(search, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("hwdse.runs.dask_workers.TIMEOUT_S", 0.2)
    out = ["--out", str(tmp_path / "run"), "--scheduler", "tcp://127.0.0.1:9"]
    assert run(["sweep", str(search), *SIZE, *out]) == Exit.USER_ERROR
    assert "--scheduler tcp://127.0.0.1:9: no response" in capsys.readouterr().err


ZYGOTE = """
import os, random, signal, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import jax, matplotlib.pyplot, pyarrow.parquet, scipy.stats
from hwdse.cli.main import run
from hwdse.cli.optimize import optimize_front
from hwdse.report import evaluation_plots
from hwdse.cli.sweep import front_tables
from hwdse.runs import run_chunks
from hwdse.search import minimize

def killed_at(step):
    # Kill this process at a step of its writing, before or after the rename.
    count = [0]
    replace = os.replace
    def counted(*args):
        count[0] += 1
        if count[0] == (step + 1) // 2 and step % 2: os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
        if count[0] == step // 2 and not step % 2: os.kill(os.getpid(), signal.SIGKILL)
    os.replace = counted

def start(arguments, step):
    pid = os.fork()
    if pid: return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    if step: killed_at(step)
    code = 99
    try: code = run(arguments)
    finally: os._exit(code)

arguments, num_kills, most_s = sys.argv[3:], int(sys.argv[1]), float(sys.argv[2])
draw = random.Random(0)
deaths = 0
for number in range(num_kills):
    step = draw.randrange(2, 9) if number % 2 else 0
    pid = start(arguments, step)
    if not step:
        time.sleep(draw.uniform(0.05, most_s))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    deaths += os.WIFSIGNALED(status)
_, status = os.waitpid(start(arguments, 0), 0)
print(deaths, os.waitstatus_to_exitcode(status))
"""


NUM_KILLS = int(os.environ.get("HWDSE_TEST_KILLS", "4"))
"""Kills per command, some CPU seconds each; HWDSE_TEST_KILLS=20 for a release."""


def kill_and_rerun(arguments, num_kills, most_s):
    """Deaths and last exit code of a command killed `num_kills` times."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ZYGOTE, str(num_kills), str(most_s), *arguments],
        capture_output=True, text=True, timeout=280, check=True,
    )  # fmt: skip
    return tuple(int(word) for word in ended.stdout.split())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_sweep_killed_at_random_equals_an_uninterrupted_one(search, whole, tmp_path):
    arguments = ["sweep", str(search), *SIZE, "--out", str(tmp_path / "run"), "--resume"]
    deaths, code = kill_and_rerun(arguments, NUM_KILLS, 0.8)
    assert code == Exit.OK
    assert deaths >= 2
    assert files_of(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_an_optimization_killed_at_random_equals_an_uninterrupted_one(search, tmp_path):
    options = [
        "optimize",
        str(search),
        "--evaluations",
        "60",
        "--neighbors",
        "0",
        "--resume",
        "--out",
    ]
    assert run([*options, str(tmp_path / "whole")]) == Exit.OK
    deaths, code = kill_and_rerun([*options, str(tmp_path / "killed")], NUM_KILLS, 0.8)
    assert code == Exit.OK
    assert deaths >= 2
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
