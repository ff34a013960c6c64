"""TOML to specs: every check of user input, with one line for every mistake."""

from hwdse.config.design.operator_csv import load_operators
from hwdse.config.files.errors import ConfigError
from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.config.hardware.load_specs import (
    System,
    load_chip,
    load_software,
    load_system,
    load_workload,
)
from hwdse.config.key_reference import KeyRow, KeyTable, key_tables
from hwdse.config.preset_catalog import PresetEntry, list_presets
from hwdse.config.schema.user_paths import format_value
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.config.search.search_file import load_search
from hwdse.config.search.write_toml import to_toml

__all__ = [
    "ConfigError",
    "KeyRow",
    "KeyTable",
    "LoadedSearch",
    "PresetEntry",
    "System",
    "format_value",
    "key_tables",
    "list_presets",
    "load_accelerator",
    "load_chip",
    "load_operators",
    "load_search",
    "load_software",
    "load_system",
    "load_workload",
    "to_toml",
]
