"""What tests share: the programs they compile, also over workers and processes they start."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile

QUICK_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
)
# Most of the time of the tests is compiling. These are the options of `quick_jit`, here for every
# program, and one module a program: two workers keep two cores busy without splitting it.
if QUICK_FLAGS not in os.environ.get("XLA_FLAGS", ""):
    flags = f"{QUICK_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    # A jaxlib that does not know an option ends the process.
    if not subprocess.run(
        probe, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, check=False
    ).returncode:
        os.environ["XLA_FLAGS"] = flags

FOLDER = "JAX_COMPILATION_CACHE_DIR"
IS_MINE = FOLDER not in os.environ
if IS_MINE:
    # Workers and the processes that tests start inherit the folder of this run.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="hwdse_programs_")
# Where each operation was written is left out of the programs: a tenth of tracing.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Small ones too: what runs operation by operation compiles some hundred of them.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Workers of xdist get the width of the terminal, which tables of commands would take.
os.environ.pop("COLUMNS", None)

import jax  # noqa: E402  # reads the environment
from support.json_outputs import outputs_meet_their_schema  # noqa: E402, F401

jax.config.update("jax_compilation_cache_dir", os.environ[FOLDER])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


LONGEST = (
    "test_sweep_workers.py",
    "test_commands.py",
    "test_reference_job.py",
    "test_core_search.py",
    "test_reference_job_box.py",
    "test_power_cap.py",
    "test_evaluation.py",
    "test_core_evaluation.py",
    "test_resource_balance.py",
)
"""Files of half a minute and more. They come first: a worker takes whole files, and one of these
at the end would leave the other worker idle."""


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


def pytest_collection_finish():
    """Tracing makes many small objects that live; looking through all of them again and again
    for garbage took a quarter of its time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_unconfigure():
    gc.unfreeze()  # else libraries report what was frozen as leaked
    if IS_MINE:
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
