"""Run folders on disk: config, designs and results of a search.

A run folder holds `run.json` (resolved config, versions, seed), `points/` (Parquet parts, one per
chunk) and result files such as `front.csv` or `best.toml`. A part is written under a temporary
name, then renamed; its metadata hold the hash of the config. The files therefore identify the
finished chunks, and a run killed at any moment can be resumed.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.runs.atomic_files import (
    clear_temporaries,
    is_temporary,
    parquet_columns,
    replacing,
    write_parquet,
)
from hwdse.runs.folder_lock import LOCK_NAME
from hwdse.runs.run_errors import RunError

RECORD_NAME = "run.json"
RUN_FORMAT = 2
"""Version of the keys and columns of a run folder; hwdse 0.1 wrote folders without it."""
POINTS_FOLDER = "points"
LOG = "log."
"""Prefix of the columns of ln(objective)."""
CONSTRAINT = "constraint."
"""Prefix of the columns of ln(value / limit)."""
HASH_KEY = b"hwdse.config_hash"
PART_KEY = b"hwdse.part"
NOTES_KEY = b"hwdse.notes"
VERSIONED_PACKAGES = ("hwdse", "jax", "numpy")
DESCRIPTIVE_KEYS = ("title", "labels", "published", "sources", "tables")
"""Entries of a config that do not change a result: names, and the files that values come from. A
file may have another path or another comment when a run is resumed."""
RESULT_FILES = (
    RECORD_NAME,
    "best.toml", "best_*.toml", "front.csv", "front.parquet", "top.csv", "top.parquet",
    "strategies.csv", "uncertainty.csv", "comparison.csv", "checkpoint.npz",
    f"{POINTS_FOLDER}/part-*.parquet", "plots/*.png", "plots/*.svg", "plots/*.pdf",
)  # fmt: skip
"""Patterns of the files that commands write to a run folder."""
_PART_PATTERN = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Run:
    """Open run folder; `record` is the content of `run.json` when the folder was opened."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def config_hash(self) -> str:
        """Hash of config, seed and version of hwdse; equal in all parts of a run."""
        return self.record["config_hash"]

    @property
    def config(self) -> dict[str, Any]:
        """Resolved config of the run."""
        return self.record["config"]

    @property
    def command(self) -> str:
        """Name of the command that wrote the run; empty if it is not recorded."""
        return str((self.config.get("options") or {}).get("command", ""))

    @property
    def status(self) -> str:
        """Status in the record."""
        return str(self.record.get("status", "running"))

    def part_path(self, index: int) -> Path:
        """File of chunk `index`."""
        return self.folder / POINTS_FOLDER / f"part-{index:05d}.parquet"

    def write_part(
        self,
        index: int,
        columns: Mapping[str, np.ndarray],
        notes: Mapping[str, int | float] = MappingProxyType({}),
    ) -> Path:
        """Write chunk `index`, replacing an existing file; columns must be of equal length.

        `notes` are totals of the chunk. The complete part is on disk when the call returns.
        """
        if index < 0:
            raise RunError(f"{self.folder}: part {index}: expected an index of 0 or more")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise RunError(f"{self.folder}: part {index}: columns differ in length: {lengths}")
        metadata = {
            HASH_KEY: self.config_hash.encode(),
            PART_KEY: str(index).encode(),
            NOTES_KEY: json.dumps(_plain(notes, self.folder)).encode(),
        }
        path = self.part_path(index)
        write_parquet(path, columns, metadata)
        return path

    def finished_parts(self) -> set[int]:
        """Indices of the complete chunks on disk with the config of this run.

        Truncated files have no readable footer, and files of another run have another hash. Both
        are left out; writing the chunk again replaces them.
        """
        found = (
            _PART_PATTERN.fullmatch(path.name) for path in (self.folder / POINTS_FOLDER).glob("*")
        )
        return {int(m[1]) for m in found if m is not None and self._is_complete(int(m[1]))}

    def read_part(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Columns and notes of a finished chunk."""
        table = self._read_table(index)
        notes = json.loads((table.schema.metadata or {}).get(NOTES_KEY, b"{}"))
        return parquet_columns(table), notes

    def part_notes(self, index: int) -> dict[str, Any]:
        """Notes of a finished chunk, without its columns."""
        import pyarrow.parquet

        metadata = pyarrow.parquet.read_metadata(self.part_path(index)).metadata or {}
        return json.loads(metadata.get(NOTES_KEY, b"{}"))

    def read_points(self) -> dict[str, np.ndarray]:
        """All designs of the finished parts, in the order of their chunks; `{}` without parts."""
        import pyarrow

        tables = [self._read_table(index) for index in sorted(self.finished_parts())]
        if not tables:
            return {}
        try:
            return parquet_columns(pyarrow.concat_tables(tables))
        except pyarrow.ArrowException as error:
            raise RunError(f"{self.folder}: parts differ in their columns") from error

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file of this run atomically; `name` must be inside the folder."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise RunError(f"{name}: is outside of the run folder {self.folder}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
        return path

    def write_table(self, name: str, columns: Mapping[str, np.ndarray]) -> Path:
        """Write columns of equal length as a Parquet file of this name in the run folder."""
        path = self.folder / name
        write_parquet(path, columns, {HASH_KEY: self.config_hash.encode()})
        return path

    def finish(self, status: str, **summary: Any) -> "Run":
        """Record the status ("finished", "interrupted", "stopped", "infeasible") and a summary."""
        record = {**self.record, "status": status, "ended": _now()}
        if summary:
            record["summary"] = _plain(summary, self.folder)
        return _write_record(self.folder, record)

    def _read_table(self, index: int) -> Any:
        import pyarrow
        import pyarrow.parquet

        path = self.part_path(index)
        try:
            return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True).read()
        except (pyarrow.ArrowException, OSError) as error:
            raise RunError(f"{path}: damaged ({_first_line(error)}); delete it") from error

    def _is_complete(self, index: int) -> bool:
        import pyarrow
        import pyarrow.parquet

        try:
            metadata = pyarrow.parquet.read_metadata(self.part_path(index)).metadata or {}
        except (pyarrow.ArrowException, OSError):
            return False
        expected = (self.config_hash.encode(), str(index).encode())
        return (metadata.get(HASH_KEY), metadata.get(PART_KEY)) == expected


def create_run(
    folder: Path,
    config: Mapping[str, Any],
    command: str,
    seed: int,
    *,
    resume: bool = False,
    overwrite: bool = False,
    call: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Start a run in a new or empty folder; with `resume`, continue the run in the folder.

    With `overwrite`, the files of a run in the folder are removed first, and other files remain.

    A folder with another config, seed or version of hwdse is refused: its parts belong to another
    problem. `command` and `call` (arguments and working folder) are informative and may differ.
    """
    folder = Path(folder)
    is_replaced = overwrite and is_run_folder(folder)
    if is_replaced:
        clear_run(folder)
    elif is_run_folder(folder):
        if not resume:
            raise RunError(f"{folder}: already a run folder; add --resume or choose another folder")
        run = _matching_run(folder, config, seed)
        return _write_record(folder, {**run.record, "status": "running"})
    if folder.exists() and not is_replaced and not _is_free(folder):
        raise RunError(f"{folder}: neither empty nor a run folder")
    folder.mkdir(parents=True, exist_ok=True)
    return _write_record(
        folder,
        {
            "format": RUN_FORMAT,
            "status": "running",
            "command": command,
            "call": _plain(call, folder),
            "created": _now(),
            "seed": seed,
            "versions": _versions(),
            "config_hash": run_hash(config, seed),
            "config": _plain(config, folder),
        },
    )


def is_run_folder(folder: Path) -> bool:
    """True if a folder contains the record of a run."""
    return (Path(folder) / RECORD_NAME).is_file()


def clear_run(folder: Path) -> None:
    """Remove the files of the run in a folder, the record last; other files remain.

    Raises `RunError` if the folder is no run folder.
    """
    open_run(folder)
    for pattern in reversed(RESULT_FILES):
        for path in Path(folder).glob(pattern):
            path.unlink(missing_ok=True)
    for inner in {Path(pattern).parent for pattern in RESULT_FILES} - {Path()}:
        with contextlib.suppress(OSError):  # absent, or with files of the user
            (folder / inner).rmdir()


def _is_free(folder: Path) -> bool:
    """True if a folder is empty apart from temporary files and the lock of a run that has just
    started."""
    return folder.is_dir() and all(
        is_temporary(path) or path.name == LOCK_NAME for path in folder.iterdir()
    )


_KINDS = {"config": dict, "versions": dict, "summary": dict, "seed": int, "config_hash": str}
"""Kinds of values of a run record that are read without further checks."""


def open_run(folder: Path) -> Run:
    """Open a run folder and remove temporary files of killed writers.

    Raises `RunError` if the folder is no run folder or was written in another format.
    """
    folder = Path(folder)
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder}: not a run folder ({RECORD_NAME} not found)") from None
    except (ValueError, RecursionError, OSError) as error:
        raise RunError(f"{path}: cannot be read: {_first_line(error)}") from error
    missing = {"config", "config_hash", "seed", "versions"}.difference(
        record if isinstance(record, dict) else ()
    )
    if missing:
        raise RunError(f"{path}: not a run record; missing: {', '.join(sorted(missing))}")
    for name, kind in _KINDS.items():
        if not isinstance(record.get(name, kind()), kind):
            raise RunError(f"{path}: not a run record; wrong kind of value: {name}")
    if (found := record.get("format", 1)) != RUN_FORMAT:
        writer = record["versions"].get("hwdse", "unknown")
        raise RunError(
            f"{folder}: run format {found} of hwdse {writer}, expected format {RUN_FORMAT}; "
            "repeat the run in another folder"
        )
    clear_temporaries(folder)
    return Run(folder, record)


def run_hash(config: Mapping[str, Any], seed: int) -> str:
    """SHA-256 of the canonical JSON of config, seed and version of hwdse.

    Entries that only describe (`DESCRIPTIVE_KEYS`) are left out.
    """
    text = json.dumps(_problem(config, seed, "config"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _problem(config: Mapping[str, Any], seed: int, where: Path | str) -> dict[str, Any]:
    """Everything that determines a result, in JSON types."""
    plain = _plain(config, where)
    return {
        "config": {key: plain[key] for key in plain if key not in DESCRIPTIVE_KEYS},
        "seed": seed,
        "version of hwdse": _versions()["hwdse"],
    }


def _matching_run(folder: Path, config: Mapping[str, Any], seed: int) -> Run:
    """Run in a folder. Raises `RunError` if it is that of another problem."""
    run = open_run(folder)
    command = (config.get("options") or {}).get("command", "")
    if command and run.command and command != run.command:
        raise RunError(f"{folder}: run of {run.command}, expected a run of {command}; choose "
                       "another folder")  # fmt: skip
    requested = _problem(config, seed, folder)
    recorded = {
        **_problem(run.config, run.record["seed"], folder),
        "version of hwdse": run.record["versions"].get("hwdse"),
    }
    if requested == recorded:
        return run
    where = _first_difference(recorded, requested)
    raise RunError(f"{folder}: run with another config ({where}); choose another folder")


def _first_difference(recorded: Any, requested: Any, path: str = "") -> str | None:
    """Path and both values of the first entry in which two nested configs differ."""
    if isinstance(recorded, dict) and isinstance(requested, dict):
        for key in sorted(recorded.keys() | requested.keys()):
            inner = f"{path}.{key}" if path else str(key)
            found = _first_difference(recorded.get(key), requested.get(key), inner)
            if found:
                return found.removeprefix("config.")
        return None
    if recorded == requested:
        return None
    return f"{path} is {_short(recorded)} in the folder, {_short(requested)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _write_record(folder: Path, record: dict[str, Any]) -> Run:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / RECORD_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Run(folder, record)


def _plain(value: Any, where: Path | str) -> Any:
    """Value in JSON types, so that the value read back equals the value written."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, where) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, float) and not np.isfinite(value):
        raise RunError(f"{where}: cannot record the value {value}: expected a finite number")
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _versions() -> dict[str, str]:
    versions = {}
    for name in VERSIONED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
