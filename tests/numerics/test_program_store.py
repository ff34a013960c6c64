"""Stored programs: the same bits as new ones, and never a program of something else."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from hwdse.models.compute import systolic
from hwdse.numerics import program_store
from hwdse.numerics.factored_program import Columns, FactoredProgram
from hwdse.numerics.jit_compile import quick_jit, search_jit, thorough_jit
from hwdse.numerics.relaxation import num_tiles, smooth
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

SIZES = np.array([[4096.0, 500.0], [64.0, 1000.0], [130.0, 1.0]])
GEMMS = Gemms(*SIZES, *np.ones((4, 2)), *np.zeros((2, 2)))
ARRAY = SystolicArray(128.0, 100.0, 8.0, 1e9, dataflow="weight_stationary_overlapped")


@pytest.fixture(autouse=True)
def _without_cache_of_jax():
    """The tests share JAX's own cache, whose executables cannot be stored again."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()


@pytest.fixture
def store(tmp_path):
    yield opened(tmp_path)
    program_store.close_store()


def opened(folder):
    """Store as a new process opens it."""
    program_store.open_store(folder)
    return program_store.active_store()


@pytest.fixture
def without_compiler(monkeypatch):
    """Function after whose call nothing can be traced for compilation."""

    def refuse(*_, **__):
        raise AssertionError("compiled again")

    return lambda: monkeypatch.setattr(jax, "jit", refuse)


def finish(store):
    """Wait until all programs are written."""
    store._writer.submit(int).result()


def files(store):
    return sorted(store.folder.iterdir())


def cycles():
    """Cycles by a function that no process has called before."""
    with jax.enable_x64(True):
        return np.asarray(quick_jit(systolic.cycles_of)(GEMMS, ARRAY))


def test_a_second_process_neither_traces_nor_compiles(store, without_compiler):
    with jax.enable_x64(True):
        want = np.asarray(jax.jit(systolic.cycles_of)(GEMMS, ARRAY))
    first = cycles()
    finish(store)
    without_compiler()
    assert first.tobytes() == cycles().tobytes() == want.tobytes()


def test_expected_programs_are_loaded_before_they_are_asked_for(tmp_path, without_compiler):
    first, names = cycles_of_a_process(tmp_path, [])
    without_compiler()
    program_store.open_store(tmp_path)
    store = program_store.active_store()
    store.expect(names)
    [future.result() for future in store._expected.values()]
    for path in files(store):
        path.rename(path.with_suffix(".away"))  # it is not read again
    second = cycles()
    program_store.close_store()
    assert first.tobytes() == second.tobytes()


def test_wrong_expectations_change_nothing(tmp_path):
    first, names = cycles_of_a_process(tmp_path, ["absent.program"])
    (tmp_path / "broken.program").write_bytes(b"x")
    second, again = cycles_of_a_process(tmp_path, ["broken.program", "absent.program"])
    assert names == again
    assert first.tobytes() == second.tobytes()


def cycles_of_a_process(folder, expected):
    """Cycles, and names of the programs that a process with these expectations has used."""
    store = opened(folder)
    store.expect(expected)
    found = cycles()
    finish(store)
    program_store.close_store()
    return found, store.used_names


def test_results_keep_structure_and_types(store, without_compiler):
    def results():
        folds = quick_jit(systolic.folds_of)(GEMMS, ARRAY)
        return folds, quick_jit(jax.value_and_grad(num_tiles))(5.0, np.float32(2.0))

    first = results()
    finish(store)
    without_compiler()
    second = results()
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert (one.dtype, one.weak_type) == (other.dtype, other.weak_type)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


CALLS = (
    lambda: quick_jit(systolic.cycles_of)(GEMMS, ARRAY),
    lambda: quick_jit(systolic.cycles_of)(GEMMS, ARRAY.replace(dataflow="output_stationary")),
    lambda: quick_jit(systolic.cycles_of)(GEMMS, array=ARRAY),
    lambda: thorough_jit(systolic.cycles_of)(GEMMS, ARRAY),
    lambda: quick_jit(systolic.cycles_of)(GEMMS, ARRAY, smooth(0.5)),
    lambda: quick_jit(functools.partial(systolic.cycles_of, relaxation=smooth(0.5)))(GEMMS, ARRAY),
    lambda: quick_jit(functools.partial(systolic.cycles_of, relaxation=smooth(0.2)))(GEMMS, ARRAY),
    lambda: quick_jit(num_tiles, static_argnames="source")(5.0, 2.0, source="rows"),
    lambda: quick_jit(num_tiles, static_argnames="source")(5.0, 2.0, source="cols"),
    lambda: quick_jit(num_tiles)(np.float64(5.0), 2.0),
    lambda: quick_jit(num_tiles)(jnp.asarray(5.0), 2.0),
    lambda: quick_jit(num_tiles)(5, 2.0),
    lambda: quick_jit(jax.vmap(num_tiles, in_axes=(0, None)))(np.arange(3.0), 2.0),
    lambda: quick_jit(jax.vmap(num_tiles, in_axes=(0, None)))(np.arange(4.0), 2.0),
    lambda: quick_jit(jax.vmap(num_tiles, in_axes=(None, 0)))(2.0, np.arange(4.0)),
)
"""Calls that differ in their function, options, static arguments or types of arguments."""


def test_each_kind_of_call_has_a_program_of_its_own(store):
    stored = 0
    for call in CALLS:
        for is_double in (False, True):
            with jax.enable_x64(is_double):
                got = np.asarray(call())
                finish(store)
                stored += 1
                assert len(files(store)) == stored
                assert got.dtype == (np.float64 if is_double else np.float32)


@pytest.mark.parametrize("call", CALLS)
def test_stored_programs_return_what_jax_jit_returns(store, call):
    with jax.enable_x64(True):
        first, second = (np.asarray(call()) for _ in range(2))
        program_store.close_store()
        want = np.asarray(call())
    assert first.tobytes() == second.tobytes() == want.tobytes()


def test_values_of_arguments_are_no_part_of_a_program(store, without_compiler):
    cycles()
    finish(store)
    without_compiler()
    with jax.enable_x64(True):
        other = ARRAY.replace(rows=64.0)
        got = np.asarray(quick_jit(systolic.cycles_of)(GEMMS, other))
        np.testing.assert_array_equal(got, np.asarray(systolic.cycles_of(GEMMS, other)))


def test_static_arguments_may_be_given_by_position(store):
    count = quick_jit(num_tiles, static_argnames=("relaxation", "source"))
    rough = smooth(1.0)
    assert float(count(5.0, 2.0, rough, "rows")) == 2.5
    assert float(count(5.0, 2.0, relaxation=rough, source="rows")) == 2.5
    assert float(count(extent=5.0, tile=2.0)) == 3.0


def test_compiled_functions_are_differentiated_and_mapped(store):
    count = thorough_jit(num_tiles)
    assert float(jax.grad(count)(5.0, 2.0)) == 0.5
    np.testing.assert_array_equal(
        jax.vmap(count, (0, None))(jnp.arange(1.0, 5.0), 2.0), [1, 1, 2, 2]
    )
    assert files(store) == []


def _times(factor, x):
    return factor * x


def test_functions_without_a_key_are_compiled_and_not_stored(store):
    for factor in (2.0, 3.0):
        assert float(quick_jit(functools.partial(_times, factor))(2.0)) == 2.0 * factor
    finish(store)
    assert files(store) == []


def test_a_search_program_is_compiled_for_how_long_it_runs(store):
    class Long:
        runs_long = True

    jax.tree_util.register_pytree_node(Long, lambda _: ((), None), lambda *_: Long())
    count = search_jit(num_tiles)
    assert float(count(5.0, 2.0)) == float(count(5.0, 2.0, is_brief=False)) == 3.0
    finish(store)
    assert len(files(store)) == 2


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-10],
    "flipped": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "foreign": lambda data: b"not a program",
    "other content": lambda data: program_store.sealed(zlib.compress(b"not a pickle")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_ignored_and_replaced(store, damage):
    want = cycles()
    finish(store)
    (path,) = files(store)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cycles().tobytes() == want.tobytes()
    finish(store)
    assert files(store) == [path]
    assert program_store.unsealed(path.read_bytes())


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    store = opened(tmp_path / "missing")
    try:
        want = cycles()
        finish(store)
        assert cycles().tobytes() == want.tobytes()
    finally:
        program_store.close_store()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Folder that stands for the source code."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.py").write_text("a = 1")
    monkeypatch.setattr(program_store, "_source_folders", lambda: [folder])
    return folder


def test_a_change_of_the_source_makes_programs_unknown(tmp_path, source, without_compiler):
    folder = tmp_path / "programs"
    folder.mkdir()
    try:
        finish_after_cycles(folder)
        (source / "model.py").write_text("a = 2")
        finish_after_cycles(folder)
        assert len(list(folder.iterdir())) == 2
        (source / "model.py").write_text("a = 1")
        without_compiler()
        finish_after_cycles(folder)
    finally:
        program_store.close_store()


def finish_after_cycles(folder):
    store = opened(folder)
    cycles()
    finish(store)


def test_a_program_is_not_kept_if_the_source_changed_meanwhile(tmp_path, source):
    folder = tmp_path / "programs"
    folder.mkdir()
    store = opened(folder)
    try:
        (source / "new.toml").write_text("b = 1")
        cycles()
        finish(store)
        assert files(store) == []
    finally:
        program_store.close_store()


def test_executables_of_the_cache_of_jax_are_not_stored(store, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    compilation_cache.reset_cache()
    cycles()
    finish(store)
    assert [path for path in files(store) if path.suffix == program_store.SUFFIX] == []


def test_a_program_that_does_not_run_here_is_compiled_again(store, monkeypatch):
    want = cycles()
    finish(store)

    def fail(*_):
        raise jax.errors.JaxRuntimeError("NOT_FOUND: Function divide_kernel not found")

    load = program_store.ProgramStore.load
    monkeypatch.setattr(
        program_store.ProgramStore, "load", lambda own, key: (fail, load(own, key)[1])
    )
    assert cycles().tobytes() == want.tobytes()


def test_settings_of_xla_are_part_of_the_key(store, monkeypatch):
    cycles()
    finish(store)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    program_store.platform_digest.cache_clear()
    try:
        assert store.load(b"key") is None
        cycles()
        finish(store)
        assert len(files(store)) == 2
    finally:
        program_store.platform_digest.cache_clear()


def test_factored_programs_are_stored(store, without_compiler):
    generator = np.random.default_rng(0)
    columns = Columns.of({"a": generator.integers(1, 50, 300), "b": generator.integers(1, 9, 300),
                          "c": np.full(300, 3.0)})  # fmt: skip
    quarters = functools.partial(jax.tree.map, functools.partial(num_tiles, tile=4.0))

    def run():
        with jax.enable_x64(True):
            return FactoredProgram(quarters, columns).run()

    first = run()
    finish(store)
    without_compiler()
    second = run()
    for name in "abc":
        np.testing.assert_array_equal(first[name], np.ceil(columns[name] / 4.0))
        np.testing.assert_array_equal(first[name], second[name])
