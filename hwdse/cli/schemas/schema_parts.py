"""Building blocks of JSON Schemas: texts, numbers, objects with fixed keys, fields of results."""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Schema = dict[str, Any]
PARTS: dict[str, Callable[[], Schema]] = {}
"""Schemas that several outputs share, by name; `shared` adds to it."""
_UNITS = {"mm^2": "mm²", "1": "", "": ""}
"""Units whose text differs from that of the parser."""


def shared(build: Callable[[], Schema]) -> Callable[[], Schema]:
    """Function that returns a reference to the schema `build`, which becomes one of `PARTS`."""
    name = build.__name__
    PARTS[name] = build
    return lambda: {"$ref": f"#/$defs/{name}"}


def text(meaning: str = "", choices: Sequence[str] = ()) -> Schema:
    """A text, or one of some texts."""
    return _described({"type": "string", **({"enum": list(choices)} if choices else {})}, meaning)


def constant(value: str) -> Schema:
    """A fixed text."""
    return {"const": value}


def flag(meaning: str = "") -> Schema:
    """True or false."""
    return _described({"type": "boolean"}, meaning)


def count(meaning: str = "") -> Schema:
    """An integer of at least 0."""
    return _described({"type": "integer", "minimum": 0}, meaning)


def number(meaning: str = "", unit: str = "") -> Schema:
    """A number in base units; null if it is not finite."""
    return _described({"type": ["number", "null"]}, _with_unit(meaning, unit))


def leaf(meaning: str = "") -> Schema:
    """A number in base units or a name."""
    return _described({"type": ["number", "string", "null"]}, meaning)


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def items(schema: Schema, meaning: str = "") -> Schema:
    """A list."""
    return _described({"type": "array", "items": schema}, meaning)


def names(values: Schema, meaning: str = "") -> Schema:
    """An object with any names as keys and values of one kind."""
    return _described({"type": "object", "additionalProperties": values}, meaning)


def fixed(
    properties: Mapping[str, Schema], meaning: str = "", optional: Sequence[str] = ()
) -> Schema:
    """An object with exactly these keys; those of `optional` may be absent."""
    required = [name for name in properties if name not in optional]
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
    return _described(schema, meaning)


def either(*schemas: Schema) -> Schema:
    """One of some objects."""
    return {"anyOf": list(schemas)}


def fields_of(
    spec: type, skip: Sequence[str] = (), units: Mapping[str, str] | None = None
) -> dict[str, Schema]:
    """Properties of the fields of a result class, with their docstrings and units.

    A field that is a class becomes an object with fixed keys; `units` has the units of fields
    whose names have none.
    """
    from hwdse.config.key_reference import field_docs
    from hwdse.units.parse_units import split_field

    docs, found = field_docs(spec), {}
    kinds = typing.get_type_hints(spec)
    for field in dataclasses.fields(spec):
        if field.name in skip:
            continue
        meaning, kind = docs.get(field.name, ""), kinds[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found[field.name] = fixed(fields_of(kind), meaning)
        elif kind is bool:
            found[field.name] = flag(meaning)
        elif kind is str:
            found[field.name] = text(meaning)
        else:
            unit = (units or {}).get(field.name, split_field(field.name)[1])
            found[field.name] = number(meaning, unit)
    return found


def parts_of_field(spec: type, unit: str) -> Schema:
    """Object of the parts of a breakdown, all in one unit; keys are in the order of their size."""
    return fixed(fields_of(spec, units={field.name: unit for field in dataclasses.fields(spec)}))


def referenced(schema: Any) -> set[str]:
    """Names of `PARTS` that a schema refers to, also by way of other parts."""
    found: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                visit(PARTS[name]())
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(schema)
    return found


def _described(schema: Schema, meaning: str) -> Schema:
    return {**schema, "description": meaning} if meaning else schema


def _with_unit(meaning: str, unit: str) -> str:
    shown = _UNITS.get(unit, unit)
    return " ".join(part for part in (meaning, f"[{shown}]" if shown else "") if part)
