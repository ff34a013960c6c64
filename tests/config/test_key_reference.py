"""Reference of TOML keys: complete for all presets and tables, with unit, range and meaning."""

import tomllib

import pytest

from hwdse.config import key_tables
from hwdse.config.files.toml_files import preset_root
from hwdse.config.key_reference import REQUIRED, field_docs
from hwdse.specs.hardware.chip import Chip

KINDS = {
    "accelerators": "accelerator",
    "chips": "chip",
    "classes": "class",
    "systems": "system",
    "engines": "engines",
    "processes": "process",
    "reliability": "reliability",
    "searches": "search",
    "simd": "simd",
    "software": "software",
    "models": "model",
    "tasks": "task",
    "requests": "requests",
    "serving_engines": "engine",
}
FREE = {("system", "overrides"), ("search", "overrides"), ("reliability", "cluster")}
"""Tables whose keys are paths."""
FILES = sorted(preset_root().rglob("*.toml"))


def keys_of(tables, prefix=""):
    """(table, key) of every key of a file that holds no table."""
    for key, value in tables.items():
        items = value if isinstance(value, list) else [value]
        if items and all(isinstance(item, dict) for item in items):
            for item in items:
                yield from keys_of(item, f"{prefix}{key}.")
        else:
            yield prefix.rstrip("."), key


def rows_of(kind):
    return {
        (table.name, name): row
        for table in key_tables()
        if table.kind == kind
        for row in table.rows
        for name in (row.key, row.field)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_key_of_a_preset_is_in_the_reference(file):
    kind = KINDS[file.parent.name]
    known = rows_of(kind)
    missing = [
        found
        for found in keys_of(tomllib.loads(file.read_text()))
        if found not in known and (kind, found[0].split(".")[0]) not in FREE
    ]
    assert not missing


def test_folders_of_toml_presets_are_those_of_the_reference():
    assert {file.parent.name for file in FILES} == set(KINDS)
    assert {table.kind for table in key_tables()} == set(KINDS.values())


@pytest.mark.parametrize("table", key_tables(), ids=lambda table: f"{table.kind}{table.heading}")
def test_every_key_has_values_default_and_meaning(table):
    keys = [row.key for row in table.rows]
    assert len(set(keys)) == len(keys)
    for row in table.rows:
        assert row.allowed
        assert row.default
        assert row.meaning.endswith((".", ")", "`")) or " " in row.meaning, row


def test_rows_hold_unit_range_and_default_of_the_checks():
    chip, model, search = (rows_of(kind) for kind in ("chip", "model", "search"))
    clock = chip["array", "clock_hz"]
    assert (clock.key, clock.unit, clock.allowed) == ("clock", "Hz", "> 0")
    assert clock.default == REQUIRED
    assert chip["", "bond_yield_fraction"].allowed == "> 0, <= 1"
    assert chip["", "fp64_per_fp16_ratio"].allowed == ">= 0"
    assert chip["", "power_limit"].default == "none"
    assert chip["", "package_carbon"].default == "150 g"
    assert model["model", "num_layers"].allowed == "whole number, >= 1"
    assert model["model", "num_layers"].is_whole
    assert "ring" in rows_of("system")["cluster", "topology"].allowed
    assert search["limits", "die_area"].unit == "mm^2"
    assert "energy_delay" in search["objective", "minimize"].allowed
    assert search["design.checkpointing", "scheme"].default == "blocking"


def test_meanings_are_the_docstrings_below_the_fields():
    docs = field_docs(Chip)
    assert set(docs) <= set(Chip.__dataclass_fields__)
    assert rows_of("chip")["", "launch_latency"].meaning == docs["launch_latency_s"]
