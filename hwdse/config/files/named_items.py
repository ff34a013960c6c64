"""Kind of the item that a name or a file stands for: job, chip, system, model and so on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdse.config.files.base_files import BASE
from hwdse.config.files.errors import ConfigError, MissingFileError, did_you_mean
from hwdse.config.files.toml_files import find_file, preset_names, preset_root, read_toml

FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "job": "searches",
        "system": "systems",
        "chip": "chips",
        "model": "models",
        "task": "tasks",
        "requests": "requests",
        "accelerator": "accelerators",
        "operators": "operators",
        "software": "software",
        "engine": "serving_engines",
        "process": "processes",
        "class": "classes",
        "reliability": "reliability",
    }
)
"""Folder of presets by kind, in the order in which a name is looked up."""
COUNTED = re.compile(r"(?P<name>.+):(?P<count>[^:/\\]*)")
"""System with its number: `trn2_ultraserver:16`."""
_MARKS = (
    ("job", "design"),
    ("system", "cluster"),
    ("chip", "array"),
    ("chip", "hbm"),
    ("model", "model"),
    ("accelerator", "levels"),
    ("task", "attention_fraction"),
    ("requests", "input_tokens"),
    ("engine", "token_budget"),
    *(
        ("software", key)
        for key in (
            "dispatch_time",
            "elementwise_traffic_ratio",
            "elementwise_overlap_fraction",
            "fused_attention_fraction",
            "num_elementwise_kernels",
            "step_overhead",
        )
    ),
    ("system", "chip"),
)
"""Keys that only one kind of file has."""
_HINTS: Mapping[str, str] = MappingProxyType(
    {
        "chip": "a system with this chip, such as --system NAME --chip {name}",
        "model": "--system NAME --model {name}",
        "system": "--system {name} --model NAME",
        "accelerator": "--core {name} --layers NAME",
        "task": "--task {name}",
        "software": "--software {name}",
        "requests": "--task {name} --engine NAME",
        "engine": "--engine {name}",
        "operators": "--layers {name}",
    }
)


@dataclass(frozen=True)
class Item:
    """A preset or a file, and its kind."""

    kind: str
    name: str
    """Name or path as given, without the number of systems."""

    @property
    def hint(self) -> str:
        """Flags with which a command takes the item."""
        return _HINTS.get(self.kind, "").format(name=self.name)


def find_item(text: str) -> Item:
    """The preset or file of a name. Raises `ConfigError` with the nearest name of any kind."""
    try:
        name, _ = system_and_count(text)
    except ValueError as error:
        raise ConfigError(f"{text}: expected {error}") from None
    if name.lower().endswith(".json"):
        return Item("model", name)
    if name.lower().endswith(".csv"):
        return Item("operators", name)
    known: list[str] = []
    for kind, folder in FOLDERS.items():
        names = preset_names(folder)
        known += names
        try:
            found = find_file(folder, name)
        except MissingFileError:
            continue
        if found.suffix == ".toml" and found.parent != preset_root() / folder:
            return Item(_kind_of(read_toml(found, name).tables, found), name)
        return Item(kind, name)
    hint = did_you_mean(name, known)
    raise MissingFileError(text, f"a preset (hwdse presets lists all) or an existing file{hint}")


def system_and_count(text: str) -> tuple[str, int | None]:
    """Name and number of `NAME:COUNT`; the number is None without one.

    Raises `ValueError` for a number that is not a whole number of at least 1.
    """
    match = COUNTED.fullmatch(text)
    if match is None or match["name"].endswith((".toml:", ":")) or len(match["name"]) == 1:
        return text, None
    if not match["count"].isascii() or not match["count"].isdecimal() or int(match["count"]) < 1:
        raise ValueError("NAME or NAME:COUNT with a whole number of at least 1, such as dgx_h100:8")
    return match["name"], int(match["count"])


def _kind_of(tables: Mapping[str, Any], path: Path) -> str:
    """Kind of a file by its keys, else by its base, else by its folder. Raises `ConfigError`."""
    for kind, key in _MARKS:
        if key in tables:
            return kind
    base = tables.get(BASE)
    if isinstance(base, str):
        if base.endswith(".toml"):
            return _kind_of(read_toml(find_file("", base, path.parent), base).tables, path)
        for kind, folder in FOLDERS.items():
            if base in preset_names(folder):
                return kind
    for kind, folder in FOLDERS.items():
        if path.parent.name == folder:
            return kind
    raise ConfigError(f"{path}: expected a file of a job, system, chip, model, task or core")


def systems_with(chip: str) -> list[str]:
    """Presets of systems with a chip preset."""
    tables = {
        name: read_toml(find_file("systems", name)).tables for name in preset_names("systems")
    }
    return [name for name, table in tables.items() if table.get("chip") == chip]
