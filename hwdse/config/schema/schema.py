"""Pydantic models of TOML tables, generated from the specs that they fill."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    create_model,
)

from hwdse.config.files.errors import (
    ConfigError,
    ConfigLocation,
    Mistakes,
    did_you_mean,
    listed,
)
from hwdse.config.schema.allowed_names import VARIANTS, allowed_names
from hwdse.config.schema.field_rules import (
    field_of,
    likely_field,
    near_field,
    rule_of,
    short_names,
    with_units_of_keys,
)
from hwdse.units.parse_units import split_field

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


def number_field(name: str, *, is_optional: bool = False, default: Any = ...) -> Any:
    """Field definition of a quantity: type, range, and its key with or without unit.

    It is required unless it has a default.
    """
    kind: Any = Annotated[float, BeforeValidator(rule_of(name).check)]
    alias = AliasChoices(split_field(name)[0], name)
    if is_optional:
        return (kind | None, Field(None, validation_alias=alias))
    return (kind, Field(default, validation_alias=alias))


def _check_name(names: Callable[[], tuple[str, ...]], value: str) -> str:
    if value not in names():
        raise ValueError(f"one of {listed(names())}{did_you_mean(value, names())}")
    return value


def name_field(names: Callable[[], tuple[str, ...]], default: Any) -> Any:
    """Field definition of one of a few names, which are looked up at each check."""
    check = functools.partial(_check_name, names)
    return (Annotated[StrictStr, AfterValidator(check)], Field(default))


def _field_definition(field: dataclasses.Field, hint: Any) -> Any:
    if not field.metadata.get("pytree_node", True):
        default = ... if field.default is dataclasses.MISSING else field.default
        return name_field(functools.partial(allowed_names, field.name), default)
    if dataclasses.is_dataclass(hint):
        return (spec_model(typing.cast(type, hint)), Field())
    if typing.get_origin(hint) is tuple:
        item = Annotated[float, BeforeValidator(rule_of(field.name).check)]
        return (Annotated[list[item], Field(min_length=1, max_length=8)], Field())
    if field.default is not dataclasses.MISSING:
        return number_field(field.name, default=field.default)
    return number_field(field.name)


def spec_fields(spec: type) -> dict[str, Any]:
    """Field definitions of all fields of a spec."""
    hints = typing.get_type_hints(spec)
    return {field.name: _field_definition(field, hints[field.name]) for field in _in_files(spec)}


def _in_files(spec: type) -> list[dataclasses.Field]:
    """Fields that the table of a spec may set. Static fields with a default and without allowed
    names are filled in by code; lists that are empty by default have tables of their own."""
    return [
        field
        for field in dataclasses.fields(spec)
        if field.default != ()
        and field.metadata.get("in_files", True)
        and (
            field.metadata.get("pytree_node", True)
            or field.default is dataclasses.MISSING
            or field.name in VARIANTS
        )
    ]


@functools.cache
def spec_model(spec: type) -> type[BaseModel]:
    """Pydantic model of the table of a spec."""
    return create_model(f"{spec.__name__}Table", __config__=STRICT, **spec_fields(spec))


def to_spec(spec: type, checked: BaseModel) -> Any:
    """Spec with the checked values of its table."""
    hints = typing.get_type_hints(spec)
    values: dict[str, Any] = {}
    for name in (field.name for field in _in_files(spec)):
        hint, value = hints[name], getattr(checked, name)
        if dataclasses.is_dataclass(hint):
            value = to_spec(typing.cast(type, hint), value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return spec(**values)


def check(model: type[BaseModel], table: object, where: ConfigLocation) -> Any:
    """`table` checked by `model`. Raises `ConfigError` with all mistakes, one line each."""
    table = with_units_of_keys(table)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    mistakes = Mistakes()
    for entry in _without_echoes(model, found):
        mistakes.errors.append(_mistake(model, table, where, entry))
    mistakes.finish()
    raise AssertionError("a table with errors has a mistake")


def _without_echoes(model: type[BaseModel], found: list[Any]) -> list[Any]:
    """Mistakes, unknown keys first; without missing keys that an unknown one was meant to be.

    Pydantic reports a misspelled key as missing as well, and a list once per item.
    """
    unknown = [entry for entry in found if entry["type"] == "extra_forbidden"]
    meant = {_field_at(model, entry["loc"], likely_field) for entry in unknown}
    others = [
        entry
        for entry in found
        if entry["type"] != "extra_forbidden"
        and not (entry["type"] == "missing" and _field_at(model, entry["loc"], field_of) in meant)
    ]
    first_of: dict[tuple, Any] = {}
    for entry in (*unknown, *others):
        words = list(entry["loc"])
        while len(words) > 1 and isinstance(words[-1], int):
            words.pop()
        first_of.setdefault(tuple(words), entry)
    return list(first_of.values())


def _field_at(
    model: type[BaseModel], words: tuple, find: Callable[[str, list[str]], str | None]
) -> tuple:
    """Path of the field that `find` finds for the last word of a path."""
    *parents, key = words or ("",)
    for name in parents:
        if not isinstance(name, int):
            model = _inner_model(model, str(name))
    return (*parents, find(str(key), list(model.model_fields)))


def _mistake(model: type[BaseModel], table: Any, where: ConfigLocation, entry: Any) -> ConfigError:
    """Error of one entry of pydantic."""
    words = list(entry["loc"]) or [""]
    is_item = isinstance(words[-1], int)
    while len(words) > 1 and isinstance(
        words[-1], int
    ):  # an item of a list is reported by the list
        words.pop()
    *parents, last = words
    for name in parents:
        where, table = where.table(str(name)), table[name]
        model = _inner_model(model, str(name))
    key = str(last)
    names = list(model.model_fields)
    written = key if key in table else next((k for k in table if field_of(k, names) == key), key)
    value = table[written] if is_item else entry["input"]
    return _describe(model, where, str(written), value, entry, is_item)


REMOVED = {
    "power_overhead_ratio": "host_power, the constant watts of a chip's host, with "
    "supply_loss_fraction and pue_ratio in its place"
}
"""Keys of earlier versions, and what takes their place."""


def _inner_model(model: type[BaseModel], name: str) -> type[BaseModel]:
    inner = model.model_fields[name].annotation
    options = typing.get_args(inner) or (inner,)
    return next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))


def _describe(
    model: type[BaseModel], where: ConfigLocation, key: str, value: Any, entry: Any, is_item: bool
) -> ConfigError:
    names, kind = list(model.model_fields), entry["type"]
    if kind == "extra_forbidden":
        if (name := field_of(key, names)) is not None:
            other = split_field(name)[0] if key == name else name
            return where.error(key, value, f"the key once; it is also given as {other}")
        if (advice := REMOVED.get(key)) is not None:
            return where.error(key, value, advice)
        options = listed(short_names(names))
        return where.error(key, value, f"one of the keys {options}{near_field(key, names)}")
    if kind == "missing":
        return where.missing(key, _wanted(model, key))
    text = _KINDS.get(kind) or str(entry["msg"]).removeprefix("Value error, ")
    return where.error(key, value, f"a list, each item {text}" if is_item else text)


def _wanted(model: Any, key: str) -> str:
    name = field_of(key, list(model.model_fields)) or key
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a table [{key}]"
    if annotation is float:
        return rule_of(name).describe()
    if annotation is bool:
        return _KINDS["bool_type"]
    if "list" not in str(annotation):
        return "a text"
    return "a list of numbers" if "float" in str(annotation) else "a list"


_KINDS = {
    "bool_type": "true or false",
    "model_type": "a table",
    "dict_type": "a table",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "greater_than_equal": "a whole number from 0 to 4294967295",
    "less_than": "a whole number from 0 to 4294967295",
    "too_short": "a list that is not empty",
    "too_long": "a list of at most 8 items",
}


def overlay(base: dict[str, Any], over: dict[str, Any], spec: type) -> dict[str, Any]:
    """Tables of a preset with the keys of a user's table in place of its own, spec by spec."""
    hints = typing.get_type_hints(spec)
    names = list(hints)
    merged = {k: v for k, v in base.items() if field_of(k, names) not in _fields(over, names)}
    for key, value in over.items():
        inner, old = hints.get(key), base.get(key)
        if dataclasses.is_dataclass(inner) and isinstance(value, dict) and isinstance(old, dict):
            value = overlay(old, value, typing.cast(type, inner))
        merged[key] = value
    return merged


def _fields(table: dict[str, Any], names: list[str]) -> set[str]:
    return {name for key in table if (name := field_of(key, names)) is not None}
