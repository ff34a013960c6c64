"""Lookup and reading of TOML files, presets and user files alike."""

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwdse.config.files.errors import ConfigError, MissingFileError, did_you_mean, listed, one_line
from hwdse.config.files.uncertainty_suffix import split_uncertainties

FOLDERS = (
    "chips",
    "systems",
    "processes",
    "classes",
    "models",
    "tasks",
    "requests",
    "serving_engines",
    "accelerators",
    "operators",
    "reliability",
    "searches",
)
CSV_FOLDERS = ("operators",)
"""Folders with CSV files; all others contain TOML files."""
_MAX_BYTES = 4_000_000
MAX_DEPTH = 32
"""Largest depth of nested tables and lists."""
MAX_LISTED = 12
"""Number of preset names in one message."""


@dataclass(frozen=True)
class TomlFile:
    """A file that was read: path, label in messages, and tables (empty for CSV)."""

    path: Path
    label: str
    tables: dict[str, Any]
    sha256: str = field(repr=False)
    uncertain_constants: dict[str, str] = field(default_factory=dict)
    """Relative uncertainties by path, from values such as "0.9 pJ/bit +- 30 %"; `tables` holds
    the nominal values."""
    bases: tuple["TomlFile", ...] = ()
    """Files named by `base`, the nearest first; `tables` contains their values."""


def preset_root() -> Path:
    """Folder of the presets: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def preset_names(folder: str) -> tuple[str, ...]:
    """Names of all presets of one kind, sorted."""
    pattern = f"*{_suffix(folder)}"
    return tuple(sorted(path.stem for path in (preset_root() / folder).glob(pattern)))


def _suffix(folder: str) -> str:
    return ".csv" if folder in CSV_FOLDERS else ".toml"


def _is_name(text: str) -> bool:
    """True if the text is a preset name and not a path: no folder and no file extension."""
    return not any(mark in text for mark in "/\\") and not text.lower().endswith(
        (".toml", ".csv", ".json")
    )


def find_file(folder: str, name_or_path: str | Path, beside: Path | None = None) -> Path:
    """Path of a preset's file, or of a user file.

    A path is resolved relative to `beside`, the folder of the file that names it, then relative
    to the working directory. Raises `MissingFileError` with the nearest name.
    """
    text = str(name_or_path)
    if not text.isprintable() or not text:
        raise MissingFileError(text, "the name of a preset or a path")
    if _is_name(text) and not isinstance(name_or_path, Path):
        return _find_preset(folder, text)
    candidates = [Path(text)]
    if beside is not None:
        candidates.insert(0, beside / text)
    for path in candidates:
        if _exists(path):
            return path
    neighbors = _neighbors(candidates[0].parent)
    hint = did_you_mean(candidates[0].name, neighbors) or did_you_mean(
        candidates[0].stem, preset_names(folder)
    )
    raise MissingFileError(text, f"an existing file{hint}")


def _find_preset(folder: str, text: str) -> Path:
    names = preset_names(folder)
    key = text.lower().replace("-", "_").replace(".", "_").replace(" ", "_")
    if key in names:
        return preset_root() / folder / f"{key}{_suffix(folder)}"
    shown = listed(names[:MAX_LISTED])
    if len(names) > MAX_LISTED:
        shown += f" and {len(names) - MAX_LISTED} more (hwdse presets lists all)"
    allowed = f"a path ending in {_suffix(folder)} or a preset of {folder}: {shown}"
    raise MissingFileError(text, f"{allowed}{did_you_mean(key, names)}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # names that are too long
        return False


def _neighbors(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def read_bytes(path: Path, name: str, max_bytes: int = _MAX_BYTES) -> bytes:
    """Read a file of limited size. Raises `ConfigError` with one line that names it `name`.

    Nothing is read from folders, pipes and devices, and never more than `max_bytes` plus one.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{name}: expected a file, found a folder")
        if not path.is_file():
            kind = "a regular file" if path.exists() else "an existing file"
            raise ConfigError(f"{name}: expected {kind}")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{name}: expected a readable file ({error.strerror})") from None
    if len(data) > max_bytes:
        raise ConfigError(f"{name}: expected a file below {max_bytes // 10**6} MB")
    return data


def read_toml(path: Path, label: str | None = None) -> TomlFile:
    """Read and parse a TOML file. Raises `ConfigError` with one line for every error."""
    name = label or str(path)
    data = read_bytes(path, name)
    tables, uncertain_constants = split_uncertainties(parse_toml(data, name))
    return TomlFile(path, name, tables, hashlib.sha256(data).hexdigest(), uncertain_constants)


def _is_deep(tables: dict[str, Any]) -> bool:
    """True if tables and lists are nested deeper than `MAX_DEPTH`."""
    level: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        items = [item.values() if isinstance(item, dict) else item for item in level]
        level = [x for item in items for x in item if isinstance(x, dict | list)]
    return bool(level)


def parse_toml(data: bytes, label: str) -> dict[str, Any]:
    """Tables of a TOML text. Raises `ConfigError` with one line that names `label`."""
    try:
        tables = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
        if _is_deep(tables):
            raise RecursionError
        return tables
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{label} line {line}: expected UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{label}: expected valid TOML (nested too deeply)") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label}: expected valid TOML ({one_line(str(error))})") from None
    except ValueError:  # integers of more digits than Python converts
        raise ConfigError(f"{label}: expected valid TOML (a number is too long)") from None
