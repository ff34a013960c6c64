"""Lock of a run folder: one process writes it at a time, or several shards of one sweep.

The lock is a file with the process, machine and time of its holder. On POSIX the kernel holds it
(`flock`) and releases it when the process ends, however it ends. Where a file system has no such
locks, and on Windows, the content decides: the lock of a process of this machine that has ended is
stale and replaced; that of another machine is respected.
"""

import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwdse.runs.atomic_files import is_process_alive
from hwdse.runs.run_errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = "run.lock"


@dataclass
class FolderLock:
    """Lock of this process; `release` gives it back."""

    path: Path
    descriptor: int | None

    def release(self) -> None:
        """Give the lock back, and remove the file unless another shard holds it; a second call has
        no effect."""
        if self.descriptor is None:
            return
        if not _has_other_holders(self.descriptor):
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        self.descriptor = None


def lock_folder(folder: Path, *, is_shared: bool = False) -> FolderLock:
    """Lock of a folder, which must exist. Several processes may hold a shared lock.

    Raises `RunError` that names the holder.
    """
    path = folder / LOCK_NAME
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _take(descriptor, is_shared=is_shared):
                _check_content(path, is_shared=is_shared)
            if _is_same_file(descriptor, path):
                _write_holder(descriptor, is_shared=is_shared)
                return FolderLock(path, descriptor)
        except RunError as error:
            os.close(descriptor)
            raise RunError(f"{folder}: {error}") from None
        os.close(descriptor)  # its holder removed the file in between: lock the new one


def _take(descriptor: int, *, is_shared: bool) -> bool:
    """True if the kernel holds the lock, False if it cannot. Raises `RunError` if another process
    has it."""
    if fcntl is None:
        return False
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(_in_use(_holder(descriptor))) from None
    except OSError:  # a network file system without locks
        return False
    return True


def _has_other_holders(descriptor: int) -> bool:
    try:
        _take(descriptor, is_shared=False)
    except RunError:
        return True
    return False


def _check_content(path: Path, *, is_shared: bool) -> None:
    """Raise `RunError` if the file names a process that may still run."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(holder, dict) or holder.get("process") == os.getpid():
        return
    is_here = holder.get("machine") == socket.gethostname()
    has_ended = is_here and not is_process_alive(int(holder.get("process", 0)))
    if not has_ended and not (is_shared and holder.get("is_shared")):
        raise RunError(_in_use(holder))


def _holder(descriptor: int) -> dict[str, Any]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        found = json.loads(os.read(descriptor, 4096))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(holder: dict[str, Any]) -> str:
    since = f" since {holder['since']}" if "since" in holder else ""
    return (
        f"in use by process {holder.get('process', 'unknown')} on "
        f"{holder.get('machine', 'this machine')}{since}; wait for it, or choose another --out"
    )


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int, *, is_shared: bool) -> None:
    holder = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "is_shared": is_shared,
    }
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder).encode())
