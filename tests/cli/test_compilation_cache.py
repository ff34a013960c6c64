"""Compiled programs stay in the user's cache folder, within a limit, unless that is not wanted."""

import os

import pytest

from hwdse.cli.shared.compilation_cache import JAX_VARIABLE, VARIABLE, enable_compilation_cache, prune


def test_jax_keeps_programs_in_the_users_cache_folder(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    enable_compilation_cache(environ)
    assert environ[JAX_VARIABLE].startswith(str(tmp_path / "hwdse"))
    assert os.path.isdir(environ[JAX_VARIABLE])


def test_another_folder_can_be_named(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path / "a"), VARIABLE: str(tmp_path / "b")}
    enable_compilation_cache(environ)
    assert environ[JAX_VARIABLE].startswith(str(tmp_path / "b"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("chosen", [{VARIABLE: "off"}, {JAX_VARIABLE: "mine"}])
def test_nothing_is_kept_where_that_is_off_or_the_user_keeps_it_elsewhere(tmp_path, chosen):
    environ = {"XDG_CACHE_HOME": str(tmp_path), **chosen}
    enable_compilation_cache(environ)
    assert environ.get(JAX_VARIABLE) == chosen.get(JAX_VARIABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_no_mistake(tmp_path):
    (tmp_path / "hwdse").write_text("a file")
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    enable_compilation_cache(environ)
    assert JAX_VARIABLE not in environ


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    (tmp_path / "node").mkdir()
    names = ["jit_old-cache", "jit_older-cache", "jit_new-cache", "notes.txt"]
    for age, name in zip((2, 3, 1, 9), names, strict=True):
        path = tmp_path / "node" / name
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    prune(tmp_path, largest_bytes=20)
    assert {path.name for path in (tmp_path / "node").iterdir()} == set(names) - {names[1]}
    prune(tmp_path, largest_bytes=20)
    assert len(list((tmp_path / "node").iterdir())) == 3
