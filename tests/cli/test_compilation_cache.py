"""Cache of compiled programs in the cache folder of the user: size limit and opt-out."""

import json
import os
import subprocess
import sys

import pytest

from hwdse.cli.shared.compilation_cache import (
    JAX_VARIABLE,
    MAX_RECENT,
    RECENT,
    VARIABLE,
    enable_compilation_cache,
    expected_programs,
    prune,
)
from hwdse.numerics import program_store


@pytest.fixture(autouse=True)
def _closed():
    yield
    program_store.close_store()


def test_the_default_is_the_cache_folder_of_the_user(tmp_path):
    enable_compilation_cache({"XDG_CACHE_HOME": str(tmp_path)})
    folder = program_store.active_store().folder
    assert folder.parent == tmp_path / "hwdse"
    assert os.path.isdir(folder)


def test_a_variable_sets_another_folder(tmp_path):
    enable_compilation_cache({"XDG_CACHE_HOME": str(tmp_path / "a"), VARIABLE: str(tmp_path / "b")})
    assert program_store.active_store().folder.parent == tmp_path / "b"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("chosen", [{VARIABLE: "off"}, {JAX_VARIABLE: "mine"}])
def test_no_cache_if_off_or_set_for_jax(tmp_path, chosen):
    enable_compilation_cache({"XDG_CACHE_HOME": str(tmp_path), **chosen})
    assert program_store.active_store() is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_no_error(tmp_path):
    (tmp_path / "hwdse").write_text("a file")
    enable_compilation_cache({"XDG_CACHE_HOME": str(tmp_path)})
    assert program_store.active_store() is None


def test_the_least_recently_used_program_is_removed_first(tmp_path):
    (tmp_path / "node").mkdir()
    names = ["old.program", "older.program", "new.program", "notes.txt"]
    for age, name in zip((2, 3, 1, 9), names, strict=True):
        path = tmp_path / "node" / name
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    prune(tmp_path, max_bytes=20)
    assert {path.name for path in (tmp_path / "node").iterdir()} == set(names) - {names[1]}
    prune(tmp_path, max_bytes=20)
    assert len(list((tmp_path / "node").iterdir())) == 3


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Open store that records the names of expected programs in `expected`."""
    program_store.open_store(tmp_path)
    store = program_store.active_store()
    store.expected = []
    monkeypatch.setattr(store, "expect", store.expected.append)
    return store


def call(store, line, *used):
    """Names that are expected for a command line, which then uses programs."""
    store.used_names[:] = []
    with expected_programs(line.split()):
        store.used_names += used
    return store.expected[-1]


def test_a_command_expects_the_programs_of_its_last_run(store):
    for name in ("a.program", "b.program"):
        (store.folder / name).write_bytes(b"")
    assert call(store, "evaluate x", "a.program", "gone.program") == []
    assert call(store, "sweep x", "b.program") == []
    assert call(store, "evaluate x") == ["a.program"]
    assert call(store, "evaluate x --json") == ["a.program"]  # a new line: those of the last one
    assert call(store, "evaluate y", "b.program") == ["a.program"]
    assert call(store, "evaluate z") == ["b.program"]
    assert call(store, "show x") == []


def test_the_record_of_recent_lines_stays_short(store):
    for number in range(MAX_RECENT + 5):
        call(store, f"evaluate {number}", "a.program")
    assert len(json.loads((store.folder / RECENT).read_text())) == MAX_RECENT


DAMAGED = ("", "[]", "{", '{"evaluate x": 3}', '{"evaluate x": [3]}', "\x00", "[" * 100_000)


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_ignored_and_replaced(store, text):
    (store.folder / RECENT).write_text(text)
    assert call(store, "evaluate x", "a.program") == []
    assert json.loads((store.folder / RECENT).read_text()) == {"evaluate x": ["a.program"]}


def test_only_files_of_the_store_are_expected(store):
    (store.folder.parent / "b.program").write_bytes(b"")
    (store.folder / RECENT).write_text('{"evaluate x": ["../b.program"]}')
    assert call(store, "evaluate x") == []


def evaluated(folder):
    """Standard output and programs of a new process."""
    environ = {name: value for name, value in os.environ.items() if name != JAX_VARIABLE}
    code = (
        "import sys, logging\n"
        "from hwdse.cli.main import main\n"
        "from jax import monitoring\n"
        "lowered = []\n"
        "monitoring.register_event_duration_secs_listener(\n"
        "    lambda name, _, **__: 'jaxpr_to_mlir' in name and lowered.append(name))\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(f'lowered {len(lowered)}\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "trn2_llama3_70b", "--json"],
        env={**environ, VARIABLE: str(folder)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr, list(folder.rglob("*"))


def test_the_second_process_compiles_nothing_and_prints_the_same(tmp_path):
    first, stderr, _ = evaluated(tmp_path)
    assert not stderr.endswith("lowered 0\n")
    second, stderr, programs = evaluated(tmp_path)
    assert stderr.endswith("lowered 0\n")
    assert second == first
    # The ranking of strategies and the evaluation of the best.
    stored = {path for path in programs if path.suffix == program_store.SUFFIX}
    assert len(stored) == 2
    (recent,) = (path for path in programs if path.name == RECENT)
    names = json.loads(recent.read_text())["evaluate trn2_llama3_70b --json"]
    assert {recent.with_name(name) for name in names} == stored
