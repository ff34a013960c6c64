"""Persistent cache of compiled programs in the cache folder of the user.

Tracing and compilation take most of the time of a short command. The program store finds a program
by the contents of its function, without tracing it, and loads the executable of the first process:
the same bits.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from hwdse.numerics.program_store import SUFFIX, open_store

VARIABLE = "HWDSE_CACHE"
"""Environment variable: a folder or `off`. Default: `hwdse` in the cache folder of the user."""
JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
PATTERNS = (f"*{SUFFIX}*", "jit_*-cache")
"""Names of programs, of unfinished files of killed processes, and of programs of version 0.2."""
MAX_BYTES = 256 * 2**20
"""Largest size of the cache."""


def enable_compilation_cache(environ: Mapping[str, str] = os.environ) -> None:
    """Open the program store in the cache folder. Call it before other modules are imported.

    Without effect if the user has set a folder for JAX's own cache or if the folder cannot be
    created.
    """
    chosen = environ.get(VARIABLE, "")
    if chosen == "off" or JAX_VARIABLE in environ:
        return
    default = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwdse"
    # Programs contain instructions of this processor, and home folders are shared.
    folder = Path(chosen or default) / platform.node()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        prune(folder.parent, MAX_BYTES)
        open_store(folder)
    except OSError:
        return


def prune(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used programs until the others fit."""
    paths = {path for pattern in PATTERNS for path in folder.glob(f"*/{pattern}")}
    found = [(path.stat(), path) for path in paths]
    excess_bytes = sum(status.st_size for status, _ in found) - max_bytes
    for status, path in sorted(found, key=lambda pair: pair[0].st_mtime):
        if excess_bytes <= 0:
            return
        path.unlink(missing_ok=True)
        excess_bytes -= status.st_size
