"""Compiled programs kept between processes: the second search of a kind starts at once.

Compiling takes most of a short search. jax keeps a program under a hash of its code, compiler
options and versions, so a kept program gives the very numbers of a new one.
"""

import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "HWDSE_CACHE"
"""A folder, or `off`; by default `hwdse` in the user's cache folder."""
JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
LARGEST_BYTES = 256 * 2**20


def keep_programs(environ: MutableMapping[str, str] = os.environ) -> None:
    """Lets jax, which must not be imported yet, keep what took over a second to compile.

    Does nothing where the user has chosen a folder for jax already, or none can be made.
    """
    place = environ.get(VARIABLE, "")
    if place == "off" or JAX_VARIABLE in environ:
        return
    default = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwdse"
    # Programs hold instructions of this processor, and home folders are shared.
    folder = Path(place or default) / platform.node()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        prune(folder.parent, LARGEST_BYTES)
    except OSError:
        return
    environ[JAX_VARIABLE] = str(folder)


def prune(folder: Path, largest_bytes: int) -> None:
    """Removes the files of jax that were not used for longest, until the others fit."""
    found = [(path.stat(), path) for path in folder.glob("*/jit_*-cache")]
    total_violation = sum(status.st_size for status, _ in found) - largest_bytes
    for status, path in sorted(found, key=lambda pair: pair[0].st_mtime):
        if total_violation <= 0:
            return
        path.unlink(missing_ok=True)
        total_violation -= status.st_size
