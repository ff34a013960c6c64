"""TOML to specs: every check of user input, with one line for every mistake."""

from hwdse.config.accelerators import load_accelerator
from hwdse.config.catalog import PresetEntry, list_presets
from hwdse.config.dump import to_toml
from hwdse.config.errors import ConfigError
from hwdse.config.leaf_paths import format_value
from hwdse.config.load import System, load_chip, load_software, load_system, load_workload
from hwdse.config.operators_file import load_operators
from hwdse.config.search_file import LoadedSearch, load_search

__all__ = [
    "ConfigError",
    "LoadedSearch",
    "PresetEntry",
    "System",
    "format_value",
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
