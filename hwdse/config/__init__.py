"""TOML to specs: every check of user input, with one line for every mistake."""

from hwdse.config.catalog import PresetEntry, list_presets
from hwdse.config.dump import to_toml
from hwdse.config.errors import ConfigError
from hwdse.config.load import System, load_chip, load_system, load_workload
from hwdse.config.search_file import LoadedSearch, load_search

__all__ = [
    "ConfigError",
    "LoadedSearch",
    "PresetEntry",
    "System",
    "list_presets",
    "load_chip",
    "load_search",
    "load_system",
    "load_workload",
    "to_toml",
]
