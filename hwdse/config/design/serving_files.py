"""Serving tasks and engines: what requests ask, and the constants of an inference stack."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import create_model

from hwdse.config.files.errors import ConfigError, ConfigLocation, MissingFileError
from hwdse.config.files.toml_files import find_file, read_toml
from hwdse.config.hardware.load_specs import COMMON, NamedIn, Preset, open_file
from hwdse.config.schema.schema import STRICT, check, number_field, spec_fields, to_spec
from hwdse.specs.serving.engine import ServingEngine
from hwdse.specs.serving.requests import Requests

REQUEST_FIELDS = tuple(field.name for field in fields(Requests))
"""Fields of a serving task."""
MARK = "input_tokens"
"""Key that only a serving task has."""
_VALUES: Any = {name: number_field(name, is_optional=True) for name in REQUEST_FIELDS}
SERVING_TASK_TABLES = create_model("ServingTaskTables", __config__=STRICT, **COMMON, **_VALUES)
ENGINE_TABLES = create_model(
    "ServingEngineTables", __config__=STRICT, **COMMON, **spec_fields(ServingEngine)
)


@dataclass(frozen=True)
class ServingTaskFile(Preset):
    """A serving task with the metadata of its file."""

    values: Mapping[str, float]
    """Fields of the requests by name."""


@dataclass(frozen=True)
class EngineFile(Preset):
    """A serving engine with the metadata of its file."""

    engine: ServingEngine


def is_serving_task(name: Any, folder: Path) -> bool:
    """True if a preset or file is a serving task; false for no file, which others report."""
    try:
        tables = read_toml(find_file("requests", name, folder)).tables
    except (MissingFileError, ConfigError):
        return False
    return MARK in tables


def load_serving_task_file(
    name_or_path: str | Path, named_in: NamedIn | None = None
) -> ServingTaskFile:
    """Load a serving task from a preset (`chat`) or a TOML file."""
    file = open_file("requests", name_or_path, named_in)
    checked = check(SERVING_TASK_TABLES, file.tables, ConfigLocation(file.label))
    values = given_requests(checked)
    return ServingTaskFile(checked.name, values, tuple(checked.sources), (file,), values)


def given_requests(checked: Any) -> dict[str, float]:
    """Fields of requests that a checked table has."""
    found = {name: getattr(checked, name) for name in REQUEST_FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def load_engine_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> EngineFile:
    """Load a serving engine from a preset (`vllm`) or a TOML file."""
    file = open_file("serving_engines", name_or_path, named_in)
    checked = check(ENGINE_TABLES, file.tables, ConfigLocation(file.label))
    engine = to_spec(ServingEngine, checked)
    own = {field.name: getattr(engine, field.name) for field in fields(engine)}
    return EngineFile(checked.name, own, tuple(checked.sources), (file,), engine)
