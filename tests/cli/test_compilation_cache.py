"""Cache of compiled programs in the cache folder of the user: size limit and opt-out."""

import os

import pytest

from hwdse.cli.shared.compilation_cache import (
    JAX_VARIABLE,
    VARIABLE,
    enable_compilation_cache,
    prune,
)


def test_the_default_is_the_cache_folder_of_the_user(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    enable_compilation_cache(environ)
    assert environ[JAX_VARIABLE].startswith(str(tmp_path / "hwdse"))
    assert os.path.isdir(environ[JAX_VARIABLE])


def test_a_variable_sets_another_folder(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path / "a"), VARIABLE: str(tmp_path / "b")}
    enable_compilation_cache(environ)
    assert environ[JAX_VARIABLE].startswith(str(tmp_path / "b"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("chosen", [{VARIABLE: "off"}, {JAX_VARIABLE: "mine"}])
def test_no_cache_if_off_or_set_for_jax(tmp_path, chosen):
    environ = {"XDG_CACHE_HOME": str(tmp_path), **chosen}
    enable_compilation_cache(environ)
    assert environ.get(JAX_VARIABLE) == chosen.get(JAX_VARIABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_no_error(tmp_path):
    (tmp_path / "hwdse").write_text("a file")
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    enable_compilation_cache(environ)
    assert JAX_VARIABLE not in environ


def test_the_least_recently_used_program_is_removed_first(tmp_path):
    (tmp_path / "node").mkdir()
    names = ["jit_old-cache", "jit_older-cache", "jit_new-cache", "notes.txt"]
    for age, name in zip((2, 3, 1, 9), names, strict=True):
        path = tmp_path / "node" / name
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    prune(tmp_path, max_bytes=20)
    assert {path.name for path in (tmp_path / "node").iterdir()} == set(names) - {names[1]}
    prune(tmp_path, max_bytes=20)
    assert len(list((tmp_path / "node").iterdir())) == 3
