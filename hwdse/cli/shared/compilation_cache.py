"""Persistent cache of compiled programs in the cache folder of the user.

Compilation takes most of the time of a short search. JAX stores a program under a hash of its
code, compiler options and versions, so a cached program returns the same bits as a new one.
"""

import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "HWDSE_CACHE"
"""Environment variable: a folder or `off`. Default: `hwdse` in the cache folder of the user."""
JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
MAX_BYTES = 256 * 2**20
"""Largest size of the cache."""


def enable_compilation_cache(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the cache folder of JAX, which must not be imported yet.

    JAX stores programs that took over a second to compile. Without effect if the user has set a
    folder for JAX or if the folder cannot be created.
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
    except OSError:
        return
    environ[JAX_VARIABLE] = str(folder)


def prune(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used files of JAX until the others fit."""
    found = [(path.stat(), path) for path in folder.glob("*/jit_*-cache")]
    excess_bytes = sum(status.st_size for status, _ in found) - max_bytes
    for status, path in sorted(found, key=lambda pair: pair[0].st_mtime):
        if excess_bytes <= 0:
            return
        path.unlink(missing_ok=True)
        excess_bytes -= status.st_size
