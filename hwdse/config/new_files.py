"""Commented files to start from: all keys of a kind with units, typical values and meaning."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdse.config.files.base_files import read_with_base
from hwdse.config.files.errors import ConfigError, listed
from hwdse.config.files.toml_files import find_file
from hwdse.config.key_reference import REQUIRED, KeyRow, KeyTable, key_tables
from hwdse.config.schema.field_rules import field_of
from hwdse.config.search.search_file import kind_of_table
from hwdse.config.search.write_toml import toml_value

WIDTH = 100
"""Columns of a comment."""


@dataclass(frozen=True)
class FileKind:
    """Kind of a new file."""

    folder: str
    """Folder of its presets."""
    typical: str
    """Preset whose values are the typical ones."""
    tables: str
    """Kind of its tables in the key reference."""
    next_step: str
    """Command that takes the file."""


KINDS: Mapping[str, FileKind] = MappingProxyType(
    {
        "chip": FileKind("chips", "trainium2", "chip", "hwdse show {file}"),
        "system": FileKind("systems", "trn2_ultraserver", "system", "hwdse show {file}"),
        "model": FileKind("models", "llama3_8b", "model", "hwdse show {file}"),
        "task": FileKind(
            "tasks",
            "pretraining",
            "task",
            "hwdse evaluate dgx_h100 --model llama3_8b --task {file}",
        ),
        "core": FileKind(
            "accelerators",
            "gemmini",
            "accelerator",
            "hwdse mapping --core {file} --layers resnet50",
        ),
        "software": FileKind(
            "software", "neuron", "software", "hwdse evaluate trn2_llama3_70b --software {file}"
        ),
        "job": FileKind("searches", "trn2_llama3_70b", "search", "hwdse evaluate {file}"),
        "search": FileKind("searches", "trn2_llama3_70b", "search", "hwdse optimize {file}"),
    }
)
"""Kinds of `hwdse new` by name."""
_JOB = """\
title = "{name}"

[design]
system = "trn2_ultraserver"      # preset or file: hwdse presets system
num_systems = 4
model = "llama3_8b"              # preset, file or config.json: hwdse presets model
strategy = "best"                # or a text such as "TP8 PP4, ZeRO-1"
# software = "compiled"          # training stack: hwdse presets software
# seq_len = 8192                 # tokens per sequence, in place of the model's recipe
# global_batch = 1024            # sequences per step
# checkpoint_interval = "60 min"
"""
_SEARCH = """
[objective]
minimize = "energy_delay"        # {objectives}
front = ["time_per_token", "energy_per_token"]

[limits]                         # upper limits that the design must meet
# die_area = "470 mm^2"
# chip_power = "300 W"

[[variables]]                    # one table per parameter; any path of hwdse explain
path = "chip.array.rows"
low = 32
high = 512
step = 32
scale = "log"                    # or "linear"

[[variables]]
path = "chip.hbm.bandwidth"
low = "1 TB/s"
high = "8 TB/s"
step = "0.1 TB/s"

# [[choices]]                    # search the parallelism strategy as well
# path = "parallelism"
# values = "best"

# [[variants]]                   # names instead of numbers
# path = "chip.array.dataflow"
# values = ["weight_stationary_overlapped", "output_stationary_overlapped"]
"""


def new_file(kind: str, name: str, preset: str | None = None) -> str:
    """TOML text of a new file of a kind of `KINDS`, with comments.

    Without a preset all required keys have the values of a typical one. With a preset it is the
    `base`, and its values are comments. Raises `ConfigError` for an unknown kind or preset.
    """
    if kind not in KINDS:
        raise ConfigError(f"{kind}: expected one of {listed(KINDS)}")
    known = KINDS[kind]
    first = f"# {kind} of hwdse. Next: {known.next_step.format(file=f'{name}.toml')}"
    if kind in ("job", "search") and preset is None:
        own = _JOB.format(name=name) + (_search_part() if kind == "search" else "")
        return f"{first}\n{own}"
    path = find_file(known.folder, preset or known.typical)
    values = read_with_base(known.folder, path, preset or known.typical).tables
    every = (table for table in key_tables() if table.kind == known.tables)
    tables = [table for table in every if _is_for(table, values, path.parent)]
    lines = [first]
    is_search = known.tables == "search"
    lines.append(f"{'title' if is_search else 'name'} = {toml_value(name)}")
    if preset is not None:
        lines.append(f"base = {toml_value(preset)}")
        lines.append(
            "# Keys below have the values of the base. To change one, remove its # and that"
        )
        lines.append("# of the [table] above it.")
    for table in tables:
        lines += _table_lines(table, values, is_based=preset is not None)
    return "\n".join(lines).rstrip() + "\n"


def _is_for(table: KeyTable, values: Mapping[str, Any], folder: Path) -> bool:
    """False for a table of [design] that belongs to another kind of job: core, systems, service."""
    return table.job in (None, kind_of_table(values.get("design", {}), folder))


def _search_part() -> str:
    from hwdse.config.schema.allowed_names import objective_names

    return _SEARCH.format(objectives=", ".join(objective_names()))


def _table_lines(table: KeyTable, values: Mapping[str, Any], *, is_based: bool) -> Iterator[str]:
    """Lines of one table: heading, meaning and keys."""
    if table.name.startswith("published"):
        return
    for number, own in enumerate(_tables_at(values, table)):
        yield ""
        if table.meaning and number == 0:
            yield from _comment(table.meaning)
        is_off = is_based or own is None
        if table.heading:
            yield f"# {table.heading}" if is_off else table.heading
        for row in table.rows:
            if not table.name and row.key in ("name", "title", "base", "sources"):
                continue
            yield from _key_lines(row, own or {}, is_off=is_off, is_again=number > 0)


def _tables_at(values: Mapping[str, Any], table: KeyTable) -> list[Mapping[str, Any] | None]:
    """Values of a table, one entry per repetition; None for a table that the preset lacks."""
    node: Any = values
    for word in table.name.split(".") if table.name else ():
        node = node.get(word) if isinstance(node, Mapping) else None
    if table.is_list:
        return list(node) if isinstance(node, list) and node else [None]
    return [node if isinstance(node, Mapping) else None]


def _key_lines(
    row: KeyRow, own: Mapping[str, Any], *, is_off: bool, is_again: bool
) -> Iterator[str]:
    """Comment and line of one key; a repeated table has its own keys only, without comments."""
    written = next((key for key in own if key == row.key or field_of(key, [row.field])), None)
    if not is_again:
        unit = f"{row.unit}, " if row.unit not in ("", "1") else ""
        default = "" if row.default in (REQUIRED, "none") else f", default {row.default}"
        yield from _comment(f"{row.meaning} [{unit}{row.allowed}{default}]")
    if written is not None:
        line = f"{row.key} = {toml_value(own[written])}"
        yield f"# {line}" if is_off else line
    elif not is_again:
        yield f"# {row.key} = {_default(row)}".rstrip()


def _default(row: KeyRow) -> str:
    """Default of a key in TOML notation; empty without one."""
    if row.default in (REQUIRED, "none") or row.default.startswith("value of"):
        return ""
    try:
        float(row.default)
    except ValueError:
        return row.default if row.default in ("true", "false") else toml_value(row.default)
    return row.default


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="#   "
    )
