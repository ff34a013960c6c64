"""Uncertain constants of a search: `[uncertain]`, `[[uncertain]]`, texts such as "5 W +- 30 %"."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.files.errors import ConfigLocation, Mistakes, did_you_mean, listed
from hwdse.config.files.toml_files import TomlFile
from hwdse.config.files.uncertainty_suffix import relative_fraction
from hwdse.config.schema.field_rules import LARGEST, in_unit_of_key, rule_of
from hwdse.config.schema.schema import STRICT, check
from hwdse.config.schema.user_paths import (
    Roots,
    field_name,
    format_value,
    get_value,
    is_static,
    leaf_paths,
    resolve,
)
from hwdse.search.uncertainty.uncertain_constants import (
    DISTRIBUTIONS,
    UncertainConstant,
    relative_uncertainty,
)

UNCERTAIN_TABLE = create_model(
    "UncertainTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    relative=(Any, Field(None)),
    low=(Any, Field(None)),
    high=(Any, Field(None)),
    distribution=(StrictStr | None, Field(None)),
)
_KEYS = {"relative", "low", "high", "distribution"}
_PREFIXES = {"chip": "chip.", "accelerator": "accelerator.", "software": "software.", "system": ""}
"""Path prefix in a design of the keys of each kind of file. A process belongs to the chip or to the
accelerator of the design."""


def file_entries(
    files: Sequence[tuple[str, TomlFile]],
) -> list[tuple[ConfigLocation, dict[str, Any]]]:
    """Entries of values with an uncertainty in the files of a design."""
    found = []
    owner = "accelerator" if any(kind == "accelerator" for kind, _ in files) else "chip"
    prefixes = {**_PREFIXES, "process": f"{owner}.process."}
    for kind, file in files:
        for key, relative in file.uncertain_constants.items():
            path = prefixes.get(kind, "") + key.removeprefix("overrides.")
            found.append((ConfigLocation(file.label), {"path": path, "relative": relative}))
    return found


def table_entries(tables: Any, where: ConfigLocation) -> list[dict[str, Any]]:
    """Entries of `[[uncertain]]`, or of `[uncertain]` with paths as keys."""
    if isinstance(tables, list):
        return list(tables)
    if not isinstance(tables, Mapping):
        raise where.error("uncertain", tables, "a table of paths, or a list of tables")
    return list(_flat(tables, ""))


def _flat(table: Mapping[str, Any], prefix: str) -> Iterable[dict[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and not (value and set(value) <= _KEYS):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            inner = value if isinstance(value, Mapping) else {"relative": value}
            yield {"path": f"{prefix}{key}", **inner}


def make_uncertain_constants(
    entries: Iterable[tuple[ConfigLocation, Any]], roots: Roots, base: Any
) -> tuple[UncertainConstant, ...]:
    """Uncertain constants of the entries; the last entry of a path applies.

    `base` is the design with the nominal values. Raises `ConfigError` with a line for each entry
    that is wrong.
    """
    found: dict[str, UncertainConstant] = {}

    def add(where: ConfigLocation, entry: Any) -> None:
        checked = check(UNCERTAIN_TABLE, entry, where)
        path = _design_path(checked.path, roots, where)
        found.pop(path, None)
        found[path] = _uncertain_constant(path, checked, float(get_value(roots, path)), where)

    mistakes = Mistakes()
    for where, entry in entries:
        mistakes.run(add, where, entry)
    mistakes.finish()
    return tuple(found.values())


def _design_path(text: str, roots: Roots, where: ConfigLocation) -> str:
    design = {name: value for name, value in roots.items() if name != "workload"}
    try:
        path = resolve(design, text)
        if path not in leaf_paths(design) or is_static(design, path):
            raise ValueError("a path that ends in a number")
        if not float(get_value(design, path)) > 0.0:
            raise ValueError("a number above 0, since uncertainties are relative")
    except ValueError as error:
        raise where.error("path", text, str(error)) from None
    return path


def _uncertain_constant(
    path: str, entry: Any, nominal: float, where: ConfigLocation
) -> UncertainConstant:
    rule = rule_of(field_name(path))
    ends = (rule.high if rule.high < LARGEST else float("inf"), rule.low)
    name = entry.distribution or ("lognormal" if entry.relative is not None else "uniform")
    if name not in DISTRIBUTIONS:
        hint = did_you_mean(name, DISTRIBUTIONS)
        raise where.error("distribution", name, f"one of {listed(DISTRIBUTIONS)}{hint}")
    is_relative = entry.relative is not None
    if is_relative == (entry.low is not None or entry.high is not None):
        raise where.error("path", path, 'relative = "30 %", or low and high')
    try:
        if is_relative:
            return relative_uncertainty(path, relative_fraction(entry.relative), name, *ends)
        if entry.low is None or entry.high is None:
            raise ValueError("both low and high")
        written = field_name(entry.path)
        low, high = (
            rule.check(in_unit_of_key(written, value)) for value in (entry.low, entry.high)
        )
        if not low <= nominal <= high or low == high:
            text = format_value(path, nominal)
            raise ValueError(f"low <= {text} <= high, the nominal value, and low < high")
        return UncertainConstant(path, low / nominal, high / nominal, name, *ends)
    except ValueError as error:
        key, value = ("relative", entry.relative) if is_relative else ("low", entry.low)
        raise where.error(key, value, str(error).removeprefix(f"{path}: expected ")) from None
