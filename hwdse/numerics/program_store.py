"""Compiled programs on disk, for processes that run the same program again.

JAX's own cache is keyed by the lowered program, so a process must trace and lower before it can
look up: half of the time of a short command. A stored program is keyed by what it is traced from,
and loads in a tenth of that time. It is the executable of the first process: the same bits.

The folder must be private to the user, because loading an executable runs it. Files are written
atomically, carry a checksum, and are ignored if anything about them is wrong.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

SUFFIX = ".program"
INHERITED = "HWDSE_PROGRAM_STORE"
"""Environment variable with the source digest and the folder, for child processes."""
_CHECKSUM_BYTES = 32
_SOURCE_SUFFIXES = (".py", ".toml", ".csv")
_PACKAGE = Path(__file__).parents[1]

_FileState = tuple[str, int, int]
"""Path, time of change in ns, size in bytes."""


class ProgramStore:
    """Programs of one version of the source in a folder, by the content key of their function."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = _source_files()
        self.source = _source_digest(self._files)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="program-store")
        self._expected: dict[str, Future[tuple[Any, Any]]] = {}
        self.used_names: list[str] = []
        """Names of the files that this process has loaded or written, in this order."""

    def expect(self, names: Sequence[str]) -> None:
        """Load programs in the background, while the process imports what it needs to ask for them.

        Most of the time of a load is spent outside the interpreter.
        """
        if not names:
            return
        # Here, since two threads must not import the modules of JAX at the same time.
        import jax.experimental.serialize_executable  # noqa: F401

        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="program-store-reader")
        self._expected = {name: reader.submit(_read, self.folder / name) for name in names}
        reader.shutdown(wait=False)

    def load(self, key: bytes) -> tuple[Any, Any] | None:
        """Compiled function of flat arguments and the structure of its results; `None` if it is
        not stored or does not load."""
        path = self._path(key)
        self.used_names.append(path.name)
        expected = self._expected.pop(path.name, None)
        try:
            program = _read(path) if expected is None else expected.result()
        except FileNotFoundError:
            return None
        except Exception:  # of pickle, XLA or the file system: compile again
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used programs are removed first
        return program

    def save(self, key: bytes, compiled: Any, num_arguments: int, structure: Any) -> Future[None]:
        """Write a program in the background; the process waits for it at its end."""
        return self._writer.submit(self._write, key, compiled, num_arguments, structure)

    def _write(self, key: bytes, compiled: Any, num_arguments: int, structure: Any) -> None:
        import jax
        from jax.experimental.serialize_executable import serialize

        if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
            return  # executables from JAX's own cache lack functions if they are stored again
        with contextlib.suppress(Exception):  # a program that cannot be stored is no error
            if _source_files() != self._files:
                return  # edited since the start of the process: of which version is the program?
            executable, _, _ = serialize(compiled)
            # A structure cannot be pickled, a value of that structure can.
            skeleton = jax.tree.unflatten(structure, range(structure.num_leaves))
            body = zlib.compress(pickle.dumps((executable, num_arguments, skeleton)), 1)
            with replacing(self._path(key)) as temporary:
                temporary.write_bytes(sealed(body))

    def _path(self, key: bytes) -> Path:
        digest = hashlib.sha256(b"\0".join((key, self.source, platform_digest())))
        return self.folder / f"{digest.hexdigest()[:40]}{SUFFIX}"


_active: list[ProgramStore] = []


def open_store(folder: Path) -> None:
    """Store and load the programs of this process and of its children in a folder from now on.

    Call it before modules are imported: programs are kept under the source files of that moment.
    """
    _active[:] = [ProgramStore(folder)]
    os.environ[INHERITED] = f"{_active[0].source.hex()} {folder}"


def close_store() -> None:
    """Neither store nor load programs from now on."""
    _active.clear()
    os.environ.pop(INHERITED, None)


def active_store() -> ProgramStore | None:
    """Store of this process or of its parent; `None` without one."""
    if not _active and INHERITED in os.environ:
        source, _, folder = os.environ[INHERITED].partition(" ")
        store = ProgramStore(Path(folder))
        if store.source.hex() != source:  # edited since the start of the parent
            del os.environ[INHERITED]
            return None
        _active.append(store)
    return _active[0] if _active else None


def sealed(body: bytes) -> bytes:
    """Contents of a file: a checksum, and the body."""
    return hashlib.sha256(body).digest() + body


def unsealed(data: bytes) -> bytes:
    """Body of a file; raises `ValueError` if it is not as it was written."""
    body = data[_CHECKSUM_BYTES:]
    if sealed(body) != data:
        raise ValueError("wrong checksum")
    return body


def _read(path: Path) -> tuple[Any, Any]:
    return _loaded(*pickle.loads(zlib.decompress(unsealed(path.read_bytes()))))


def _loaded(executable: bytes, num_arguments: int, skeleton: Any) -> tuple[Any, Any]:
    import jax
    from jax.experimental.serialize_executable import deserialize_and_load

    structure = jax.tree.structure(skeleton)
    in_tree = jax.tree.structure(((0,) * num_arguments, {}))
    out_tree = jax.tree.structure([0] * structure.num_leaves)
    return deserialize_and_load(executable, in_tree, out_tree), structure


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Temporary file beside `path` that takes its place at the end of the block."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _source_folders() -> list[Path]:
    """Folders of source code and presets."""
    inside = _PACKAGE / "configs"
    return [_PACKAGE, inside if inside.is_dir() else _PACKAGE.parent / "configs"]


def _source_files() -> list[_FileState]:
    """State of the files that programs can depend on."""
    found, folders = [], _source_folders()
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders += [Path(entry.path)] if entry.name != "__pycache__" else []
            elif entry.name.endswith(_SOURCE_SUFFIXES):
                status = entry.stat()
                found.append((entry.path, status.st_mtime_ns, status.st_size))
    return sorted(set(found))


def _source_digest(files: list[_FileState]) -> bytes:
    """Digest of names and contents."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        data = Path(path).read_bytes()
        digest.update(f"{os.path.relpath(path, _PACKAGE.parent)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.digest()


@functools.cache
def platform_digest() -> bytes:
    """Digest of versions, processor and settings: an executable is only valid for them."""
    import jax
    import jaxlib

    settings = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(("JAX_", "XLA_")) and "CACHE" not in name
    )
    parts = (
        sys.version, jax.__version__, jaxlib.version.__version__, jax.default_backend(),
        jax.devices()[0].device_kind, platform.machine(), _processor(), *settings,
    )  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _processor() -> str:
    """Model and instruction sets of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Feat")))
    return platform.processor()
