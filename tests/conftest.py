"""What tests share: the programs they compile, also over workers and processes they start."""

import gc
import os
import shutil
import tempfile

import jax

FOLDER = "JAX_COMPILATION_CACHE_DIR"
IS_MINE = FOLDER not in os.environ
if IS_MINE:
    # Workers and the processes that tests start inherit the folder of this run.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="hwdse_programs_")
jax.config.update("jax_compilation_cache_dir", os.environ[FOLDER])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_collection_finish():
    """Tracing makes many small objects that live; looking through all of them again and again
    for garbage took a quarter of its time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_unconfigure():
    if IS_MINE:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
