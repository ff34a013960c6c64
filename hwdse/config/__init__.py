"""TOML and CSV files to specs: presets, search files and all checks of user input.

Every error is a `ConfigError` with one line that names file, table, key, value and the expected
value. Public names:

- `load_chip`, `load_system`, `load_accelerator`: hardware of a preset or TOML file.
- `load_workload`, `load_operators`, `load_software`: workload, operators of a network (CSV),
  training stack.
- `load_search`: search file with `--set` overrides as a `LoadedSearch` (base design, workload,
  search space, objectives, limits).
- `to_toml`: search file of a design, which reads back to exactly that design.
- `list_presets`: a `PresetEntry` per preset, with published values and sources.
- `key_tables`: reference of all TOML keys as `KeyTable` and `KeyRow`.
- `System`: chip and cluster of one server or scale-up system.
- `format_value`: text of a parameter with its unit.

Imports all packages below `config`; imported by `runs`, `validation`, `calibration`, `plots` and
`cli`.
"""

from hwdse.config.design.model_and_task import load_workload
from hwdse.config.design.operator_csv import load_operators
from hwdse.config.files.errors import ConfigError
from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.config.hardware.load_specs import (
    System,
    load_chip,
    load_software,
    load_system,
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
