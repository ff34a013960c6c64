"""What tests share: compiled programs, and where pytest-xdist has several workers, the workers."""

import os
import shutil
import tempfile

import jax
import pytest

SCATTERED = ("test_cli", "test_config", "test_core_search", "test_readme")
"""Files whose tests share nothing and fill the workers' time at the end. All tests of any other
file run on one worker, since they share what they compile and what module fixtures find."""
FOLDER = "JAX_COMPILATION_CACHE_DIR"
IS_MINE = FOLDER not in os.environ
if IS_MINE:
    # Workers and the processes that tests start inherit the folder of this run.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="hwdse_programs_")
jax.config.update("jax_compilation_cache_dir", os.environ[FOLDER])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem not in SCATTERED:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_unconfigure():
    if IS_MINE:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
