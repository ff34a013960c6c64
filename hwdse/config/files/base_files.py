"""Files that name a base: `base = "trainium2"` and the keys that differ.

The base is a preset of the same kind or a file. Its tables are read first; keys of the file
replace theirs, table by table, whether they are written with or without the unit. Lists are
replaced as a whole. `name`, `title` and `[published]` are not inherited, since they describe the
base. A `preset` of `[process]` replaces the whole table of the base.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwdse.config.files.errors import ConfigLocation, MissingFileError
from hwdse.config.files.toml_files import FOLDERS, TomlFile, find_file, preset_names, read_toml
from hwdse.units.parse_units import split_field

BASE = "base"
"""Key that names the base of a file."""
MAX_DEPTH = 8
"""Largest number of files in a chain of bases."""
_NOT_INHERITED = ("name", "title", "published", BASE)
_FILE_KEYS = frozenset(
    {
        "system",
        "chip",
        "model",
        "task",
        "layers",
        "workload",
        "accelerator",
        "software",
        "reliability",
        "preset",
    }
)
"""Keys whose text can be the path of another file."""


def read_with_base(folder: str, path: Path, label: str | None = None) -> TomlFile:
    """Read a TOML file with the values of its base, and of the base's base.

    `folder` is the folder of presets of this kind. The bases that were read are in `bases`, the
    nearest first. Raises `ConfigError` for a base that does not exist or leads back to the file.
    """
    return _read(folder, path, label, ())


def _read(folder: str, path: Path, label: str | None, chain: tuple[Path, ...]) -> TomlFile:
    file = read_toml(path, label)
    if BASE not in file.tables:
        return file
    named, where = file.tables[BASE], ConfigLocation(file.label)
    if not isinstance(named, str):
        raise where.error(BASE, named, "the name of a preset or a path")
    try:
        found = find_file(folder, named, path.parent)
    except MissingFileError as error:
        raise where.error(BASE, named, _other_kind(folder, named) or error.expected) from None
    chain = (*chain, path.resolve())
    if found.resolve() in chain or len(chain) >= MAX_DEPTH:
        raise where.error(BASE, named, f"a file that does not lead back, at most {MAX_DEPTH} deep")
    base = _read(folder, found, named, chain)
    inherited = {k: v for k, v in base.tables.items() if k not in _NOT_INHERITED}
    own = {k: v for k, v in file.tables.items() if k != BASE}
    tables = merge_tables(_with_absolute_paths(inherited, found.parent), own)
    constants = {
        path: text
        for path, text in base.uncertain_constants.items()
        if not _is_set(own, path.split("."))
    }
    if folder != "searches":
        tables = {"name": path.stem, **tables}
    return replace(
        file,
        tables=tables,
        uncertain_constants={**constants, **file.uncertain_constants},
        bases=(base, *base.bases),
    )


def _other_kind(folder: str, named: str) -> str:
    """Expected base of a file of `folder` whose base is a preset of another kind; else empty."""
    others = [other for other in FOLDERS if other != folder]
    found = [other for other in others if named in preset_names(other)]
    if not found:
        return ""
    return f"a preset of {folder}, which the file is read as; {named!r} is a preset of {found[0]}"


def merge_tables(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of `base` with the keys of `own` in place of theirs, with or without a unit."""
    written = {split_field(key)[0]: key for key in base}
    merged = dict(base)
    for key, value in own.items():
        old_key = written.get(split_field(key)[0])
        old = merged.get(old_key) if old_key is not None else None
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            is_other_process = key == "process" and "preset" in value
            value = value if is_other_process else merge_tables(old, value)
        if old_key is not None and old_key != key:
            del merged[old_key]
        merged[key] = value
    return merged


def _with_absolute_paths(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The tables with absolute paths of the files beside them that they name."""
    done: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            done[key] = _with_absolute_paths(value, folder)
        elif key in _FILE_KEYS and isinstance(value, str) and Path(value).suffix:
            beside = folder / value
            done[key] = str(beside.resolve()) if beside.is_file() else value
        else:
            done[key] = value
    return done


def _is_set(tables: Mapping[str, Any], words: list[str]) -> bool:
    """True if the tables contain a value at the path, with or without its unit."""
    head, *rest = words
    for key, value in tables.items():
        if split_field(key)[0] == split_field(head)[0]:
            return not rest or (isinstance(value, Mapping) and _is_set(value, rest))
    return False
