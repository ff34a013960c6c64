"""Run folders on disk: what was asked, every point found so far, and what came of it.

A run is a folder: `run.json` (the resolved config with versions and seed), `points/` (Parquet
parts, one a chunk), and whatever text the run ends with (`front.csv`, `best.toml`). A part is
written to a temporary name and renamed, and carries the hash of the config in its metadata, so
that the files themselves say which chunks are done: a run killed at any moment can go on.
"""

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
from hwdse.runs.run_errors import RunError

RECORD_NAME = "run.json"
POINTS_FOLDER = "points"
HASH_KEY = b"hwdse.config_hash"
PART_KEY = b"hwdse.part"
NOTES_KEY = b"hwdse.notes"
VERSIONED_PACKAGES = ("hwdse", "jax", "numpy")
_PART_PATTERN = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Run:
    """An open run folder; `record` is what its `run.json` held when it was opened."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def config_hash(self) -> str:
        """Hash of config, seed and version of hwdse: what all parts of a run have in common."""
        return self.record["config_hash"]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config that the run was made with."""
        return self.record["config"]

    def part_path(self, index: int) -> Path:
        """File of chunk `index`."""
        return self.folder / POINTS_FOLDER / f"part-{index:05d}.parquet"

    def write_part(
        self,
        index: int,
        columns: Mapping[str, np.ndarray],
        notes: Mapping[str, int | float] = MappingProxyType({}),
    ) -> Path:
        """Write chunk `index`, replacing what may be there; columns must be equally long.

        `notes` are figures of the chunk as a whole. After the call returns the part is on disk
        as a whole, whatever happens next.
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
        """Chunks that are on disk, whole, and made with this run's config.

        Truncated files have no readable footer and files of another run another hash; neither
        counts, and writing the chunk again replaces them.
        """
        found = (
            _PART_PATTERN.fullmatch(path.name) for path in (self.folder / POINTS_FOLDER).glob("*")
        )
        return {int(m[1]) for m in found if m is not None and self._is_whole(int(m[1]))}

    def read_part(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Columns and notes of a finished chunk."""
        table = self._read_table(index)
        notes = json.loads((table.schema.metadata or {}).get(NOTES_KEY, b"{}"))
        return parquet_columns(table), notes

    def read_points(self) -> dict[str, np.ndarray]:
        """Every point of the finished parts, in the order of their chunks; `{}` without any."""
        import pyarrow

        tables = [self._read_table(index) for index in sorted(self.finished_parts())]
        if not tables:
            return {}
        try:
            return parquet_columns(pyarrow.concat_tables(tables))
        except pyarrow.ArrowException as error:
            raise RunError(f"{self.folder}: parts differ in their columns") from error

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file of this run as a whole or not at all; `name` stays in the folder."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise RunError(f"{name}: lies outside of the run folder {self.folder}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
        return path

    def write_table(self, name: str, columns: Mapping[str, np.ndarray]) -> Path:
        """Write equally long columns as a Parquet file of this name beside the record."""
        path = self.folder / name
        write_parquet(path, columns, {HASH_KEY: self.config_hash.encode()})
        return path

    def finish(self, status: str, **summary: Any) -> "Run":
        """Record how the run ended ("finished", "interrupted", "infeasible") and figures of it."""
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

    def _is_whole(self, index: int) -> bool:
        import pyarrow
        import pyarrow.parquet

        try:
            metadata = pyarrow.parquet.read_metadata(self.part_path(index)).metadata or {}
        except (pyarrow.ArrowException, OSError):
            return False
        expected = (self.config_hash.encode(), str(index).encode())
        return (metadata.get(HASH_KEY), metadata.get(PART_KEY)) == expected


def create_run(
    folder: Path, config: Mapping[str, Any], command: str, seed: int, *, resume: bool = False
) -> Run:
    """Start a run in a new or empty folder, or with `resume` go on with the one in there.

    A folder whose config, seed or version of hwdse differs is refused: its parts would answer
    another question. `command` is kept for people and may differ.
    """
    folder = Path(folder)
    if (folder / RECORD_NAME).exists():
        if not resume:
            raise RunError(f"{folder}: holds a run already; add --resume, or choose another folder")
        run = _matching_run(folder, config, seed)
        return _write_record(folder, {**run.record, "status": "running"})
    if folder.exists() and not _is_free(folder):
        raise RunError(f"{folder}: not an empty folder, and no run of hwdse is in it")
    folder.mkdir(parents=True, exist_ok=True)
    return _write_record(
        folder,
        {
            "status": "running",
            "command": command,
            "created": _now(),
            "seed": seed,
            "versions": _versions(),
            "config_hash": run_hash(config, seed),
            "config": _plain(config, folder),
        },
    )


def _is_free(folder: Path) -> bool:
    """Whether nothing is in a folder but what a run that begins there at this moment, or was
    killed when it began, has not renamed yet."""
    return folder.is_dir() and all(is_temporary(path) for path in folder.iterdir())


def open_run(folder: Path) -> Run:
    """Open a run folder to read from it or to go on; clears what a killed writer left behind."""
    folder = Path(folder)
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder}: no run of hwdse is in it ({RECORD_NAME} is missing)") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path}: cannot be read: {_first_line(error)}") from error
    missing = {"config", "config_hash", "seed", "versions"}.difference(
        record if isinstance(record, dict) else ()
    )
    if missing:
        raise RunError(f"{path}: not a record of a run, lacks {', '.join(sorted(missing))}")
    clear_temporaries(folder)
    return Run(folder, record)


def run_hash(config: Mapping[str, Any], seed: int) -> str:
    """SHA-256 over the canonical JSON of all that decides what the points are."""
    content = {"config": _plain(config, "config"), "seed": seed, "hwdse": _versions()["hwdse"]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _matching_run(folder: Path, config: Mapping[str, Any], seed: int) -> Run:
    run = open_run(folder)
    if run_hash(config, seed) == run.config_hash:
        return run
    asked = {
        "config": _plain(config, folder),
        "seed": seed,
        "version of hwdse": _versions()["hwdse"],
    }
    held = {
        "config": run.config,
        "seed": run.record["seed"],
        "version of hwdse": run.record["versions"].get("hwdse"),
    }
    where = _first_difference(held, asked) or f"{RECORD_NAME} was edited"
    raise RunError(f"{folder}: holds a run of another config ({where}); choose another folder")


def _first_difference(held: Any, asked: Any, path: str = "") -> str | None:
    """Name of the first entry in which two nested configs differ, with both values."""
    if isinstance(held, dict) and isinstance(asked, dict):
        for key in sorted(held.keys() | asked.keys()):
            inner = f"{path}.{key}" if path else str(key)
            found = _first_difference(held.get(key), asked.get(key), inner)
            if found:
                return found.removeprefix("config.")
        return None
    return None if held == asked else f"{path} is {_short(held)} there and {_short(asked)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _write_record(folder: Path, record: dict[str, Any]) -> Run:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / RECORD_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Run(folder, record)


def _plain(value: Any, place: Path | str) -> Any:
    """Value in the types that JSON has, so that what is read back equals what was written."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, place) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, place) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), place)
    if isinstance(value, float) and not np.isfinite(value):
        raise RunError(f"{place}: cannot record the value {value}: expected a finite number")
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
