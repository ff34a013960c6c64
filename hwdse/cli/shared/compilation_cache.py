"""Persistent cache of compiled programs in the cache folder of the user.

Tracing and compilation take most of the time of a short command. The program store finds a program
by the contents of its function, without tracing it, and loads the executable of the first process:
the same bits.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hwdse.numerics.program_store import SUFFIX, active_store, open_store, replacing

VARIABLE = "HWDSE_CACHE"
"""Environment variable: a folder or `off`. Default: `hwdse` in the cache folder of the user."""
JAX_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
PATTERNS = (f"*{SUFFIX}*", "jit_*-cache")
"""Names of programs, of unfinished files of killed processes, and of programs of version 0.2."""
MAX_BYTES = 256 * 2**20
"""Largest size of the cache."""

RECENT = "recent.json"
"""File with the programs that recent command lines have used."""
MAX_RECENT = 64
"""Largest number of command lines in it."""
MAX_EXPECTED = 12
"""Largest number of programs that are loaded before they are asked for."""


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


@contextlib.contextmanager
def expected_programs(arguments: Sequence[str]) -> Iterator[None]:
    """Load the programs that this command line used last time while its modules are imported.

    A command line that is new loads those of the last one of the same command: with other values of
    the same parameters, these are its programs too.
    """
    store = active_store()
    if store is None or not arguments:
        yield
        return
    path = store.folder / RECENT
    recent, line = _recent(path), " ".join(arguments)
    alike = [known for known in recent if known.partition(" ")[0] == arguments[0]]
    names = recent.get(line, recent[alike[-1]] if alike else [])
    store.expect([Path(name).name for name in names if (store.folder / Path(name).name).is_file()])
    try:
        yield
    finally:
        used = store.used_names[:MAX_EXPECTED]
        if used and (recent.pop(line, None) != used or line != alike[-1]):
            kept = [*recent.items(), (line, used)][-MAX_RECENT:]
            with contextlib.suppress(OSError), replacing(path) as temporary:
                temporary.write_text(json.dumps(dict(kept)))


def _recent(path: Path) -> dict[str, list[str]]:
    """Names of programs by command line, oldest first; empty if the file is not as written."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    is_valid = isinstance(found, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in found.values()
    )
    return found if is_valid else {}


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
