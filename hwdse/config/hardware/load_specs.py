"""Chips, systems and training stacks from TOML files and presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictStr, create_model

from hwdse.config.files.base_files import read_with_base
from hwdse.config.files.errors import ConfigLocation, MissingFileError
from hwdse.config.files.toml_files import TomlFile, find_file
from hwdse.config.hardware.kernel_library import ANY, kernels_of
from hwdse.config.schema.consistency_checks import check_chip, check_cluster
from hwdse.config.schema.overrides import apply_overrides, flatten
from hwdse.config.schema.schema import (
    STRICT,
    check,
    number_field,
    overlay,
    spec_fields,
    spec_model,
    to_spec,
)
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.hardware.kernel_costs import KernelCosts
from hwdse.specs.software import Software

_CHIP_PUBLISHED = (
    "bf16_flop_per_s fp8_flop_per_s fp4_flop_per_s fp32_flop_per_s fp64_flop_per_s "
    "hbm_capacity_bytes hbm_bandwidth_bytes_per_s link_bandwidth_bytes_per_s tdp_w die_area_mm2 "
    "year"
)
_SYSTEM_PUBLISHED = (
    "bf16_flop_per_s fp8_flop_per_s fp32_flop_per_s hbm_capacity_bytes "
    "hbm_bandwidth_bytes_per_s network_bandwidth_bytes_per_s price_usd_per_s year"
)
Published = Mapping[str, float]
"""Published values of a vendor in base units, not part of the model."""


@dataclass(frozen=True)
class NamedIn:
    """Key of a file that names another file."""

    folder: Path
    where: ConfigLocation
    key: str


@dataclass(frozen=True)
class Preset:
    """Metadata of a file, and all files that were read for it."""

    name: str
    published: Published
    sources: tuple[str, ...]
    files: tuple[TomlFile, ...]


@dataclass(frozen=True)
class ChipFile(Preset):
    """A chip with the metadata of its file."""

    chip: Chip
    kernels: KernelCosts
    """Constants of its kernels, for services."""


@dataclass(frozen=True)
class System(Preset):
    """A server or scale-up system: its chip, and the cluster of one system."""

    chip: Chip
    kernels: KernelCosts
    cluster: Cluster
    chip_name: str
    chip_published: Published


@dataclass(frozen=True)
class SoftwareFile(Preset):
    """A training stack with the metadata of its file."""

    software: Software


@dataclass(frozen=True)
class BaseParts:
    """Specs and metadata of a `[design]` table."""

    roots: dict[str, Any]
    """Specs by the first word of a path, the workload among them."""
    mapping: str
    """Mapping policy or HBM traffic model."""
    labels: dict[str, str]
    """Titles of `system`, `chip` and `workload`."""
    files: tuple[tuple[str, TomlFile], ...]
    """All files that were read, with their kinds."""
    published: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()
    """Parts of imported files that are not modeled."""


@dataclass(frozen=True, eq=False)
class DesignKind:
    """Kind of search file: conversion of its `[design]` table into a design."""

    table: type[BaseModel]
    load: Callable[[Any, Path, ConfigLocation], BaseParts]
    """Function of the checked table, the folder of its file, and the location of the table."""
    design_of: Callable[[dict[str, Any], str], Any]
    """Function of the specs by name and the mapping."""
    with_strategy: Callable[..., dict[str, Any]]
    """Specs by name with the strategy of the `[design]` table: `"best"`, a text, or as they are."""
    check: Callable[[Any, Any, ConfigLocation], None]
    """Check of a design with its workload. Raises `ConfigError`."""
    check_variant: Callable[[Any, ConfigLocation], None]
    file_keys: Mapping[str, str]
    """Keys that name other files, with the folders of their presets."""
    no_objectives: tuple[str, ...]
    """Objectives without a value for this kind."""


def published_field(names: str) -> Any:
    """Field definition of the optional table `[published]` with these fields."""
    fields = {name: number_field(name, is_optional=True) for name in names.split()}
    return (create_model("PublishedTable", __config__=STRICT, **fields) | None, Field(None))


COMMON: dict[str, Any] = {
    "name": (StrictStr, Field()),
    "sources": (Annotated[list[StrictStr], Field(max_length=40)], Field([])),
}
CHIP_TABLES = create_model(
    "ChipTables",
    __config__=STRICT,
    **COMMON,
    kernels=(StrictStr, Field(ANY)),
    **spec_fields(Chip),
    published=published_field(_CHIP_PUBLISHED),
)
PROCESS_TABLES = create_model("ProcessTables", __config__=STRICT, **COMMON, **spec_fields(Process))
CLASS_FIELDS = (
    "matrix_efficiency_fraction",
    "attention_efficiency_fraction",
    "hbm_efficiency_fraction",
)
"""Constants of a chip that its class gives if the chip does not."""
DEFAULT_CLASS = "own"
"""Class of a chip that names none."""
_BANDS: dict[str, Any] = {
    name: (Annotated[list[float], Field(min_length=2, max_length=2)], Field())
    for name in CLASS_FIELDS
}
_CLASS_VALUES: dict[str, Any] = {name: number_field(name) for name in CLASS_FIELDS}
CLASS_TABLES = create_model(
    "ClassTables",
    __config__=STRICT,
    **COMMON,
    **_CLASS_VALUES,
    bands=(create_model("BandsTable", __config__=STRICT, **_BANDS), Field()),
)
SYSTEM_TABLES = create_model(
    "SystemTables",
    __config__=STRICT,
    **COMMON,
    chip=(StrictStr, Field()),
    cluster=(spec_model(Cluster), Field()),
    overrides=(dict[str, Any] | None, Field(None)),
    published=published_field(_SYSTEM_PUBLISHED),
)
SOFTWARE_TABLES = create_model(
    "SoftwareTables", __config__=STRICT, **COMMON, **spec_fields(Software)
)


def published_of(checked: Any) -> Published:
    """Values of the table `[published]` of a checked file."""
    values = checked.published.model_dump() if checked.published is not None else {}
    return MappingProxyType({key: value for key, value in values.items() if value is not None})


def open_file(folder: str, name_or_path: str | Path, named_in: NamedIn | None) -> TomlFile:
    """Read the file of a preset or a path; errors contain the file and key that name it."""
    path = locate(folder, name_or_path, named_in)
    return read_with_base(folder, path, str(name_or_path) if path.suffix else None)


def locate(folder: str, name_or_path: str | Path, named_in: NamedIn | None) -> Path:
    """Path of a preset or file as in `find_file`; errors contain the key that names it."""
    try:
        return find_file(folder, name_or_path, named_in.folder if named_in else None)
    except MissingFileError as error:
        if named_in is None:
            raise
        raise named_in.where.error(named_in.key, name_or_path, error.expected) from None


def with_process(tables: dict[str, Any], file: TomlFile) -> tuple[dict, tuple[TomlFile, ...]]:
    """The tables with the values of the process preset, overridden by the process values given."""
    own = tables.get("process")
    if not isinstance(own, dict) or "preset" not in own:
        return tables, ()
    name = own["preset"]
    if not isinstance(name, str):
        raise ConfigLocation(file.label, "process").error("preset", name, "the name of a process")
    where = ConfigLocation(file.label, "process")
    base = open_file("processes", name, NamedIn(file.path.parent, where, "preset"))
    check(PROCESS_TABLES, base.tables, ConfigLocation(base.label))
    values = {k: v for k, v in base.tables.items() if k not in COMMON}
    own = {key: value for key, value in own.items() if key != "preset"}
    return {**tables, "process": overlay(values, own, Process)}, (base,)


def with_class(tables: dict[str, Any], file: TomlFile) -> tuple[dict[str, Any], TomlFile]:
    """The tables with the constants of the class of the chip that they do not give, and its file.

    No chip has an efficiency of 1 for want of a fit: a class is the spread of the fitted chips.
    """
    named, where = tables.get("class", DEFAULT_CLASS), ConfigLocation(file.label)
    if not isinstance(named, str):
        raise where.error("class", named, "the name of a class")
    found = open_file("classes", named, NamedIn(file.path.parent, where, "class"))
    check(CLASS_TABLES, found.tables, ConfigLocation(found.label))
    values = {name: found.tables[name] for name in CLASS_FIELDS}
    return {**values, **{k: v for k, v in tables.items() if k != "class"}}, found


def load_chip_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> ChipFile:
    """Load a chip from a preset or a TOML file, with its published values and sources."""
    file = open_file("chips", name_or_path, named_in)
    tables, class_file = with_class(file.tables, file)
    tables, files = with_process(tables, file)
    checked = check(CHIP_TABLES, tables, ConfigLocation(file.label))
    chip = to_spec(Chip, checked)
    check_chip(chip, ConfigLocation(file.label))
    sources = tuple(checked.sources)
    kernels = kernels_of(checked.kernels, ConfigLocation(file.label))
    read = (file, class_file, *files)
    return ChipFile(checked.name, published_of(checked), sources, read, chip, kernels)


def load_chip(name_or_path: str | Path) -> Chip:
    """Load a chip from a preset (`trainium2`) or a TOML file; SI base units.

    >>> import hwdse
    >>> f"{hwdse.load_chip('h100').hbm.bandwidth_bytes_per_s / 1e12:.2f} TB/s"
    '3.35 TB/s'
    """
    return load_chip_file(name_or_path).chip


def load_system(
    name_or_path: str | Path, named_in: NamedIn | None = None, chip: ChipFile | None = None
) -> System:
    """Load a system from a preset (`trn2_ultraserver`) or a TOML file.

    `chip` replaces the chip of the system, which keeps its fabric, hosts and `[overrides]`.

    >>> import hwdse
    >>> system = hwdse.load_system("dgx_h100")
    >>> f"{system.cluster.num_chips:g} x {system.chip_name}"
    '8 x H100 SXM'
    """
    file = open_file("systems", name_or_path, named_in)
    where = ConfigLocation(file.label)
    checked = check(SYSTEM_TABLES, file.tables, where)
    chip_file = chip or load_chip_file(checked.chip, NamedIn(file.path.parent, where, "chip"))
    roots = {"chip": chip_file.chip, "cluster": to_spec(Cluster, checked.cluster)}
    changes = flatten(checked.overrides or {})
    roots = apply_overrides(roots, changes, where.table("overrides"))
    check_chip(roots["chip"], where)
    check_cluster(roots["cluster"], where.table("cluster"))
    return System(
        name=checked.name,
        published=published_of(checked),
        sources=tuple(checked.sources),
        files=(file, *chip_file.files),
        chip=roots["chip"],
        kernels=chip_file.kernels,
        cluster=roots["cluster"],
        chip_name=chip_file.name,
        chip_published=chip_file.published,
    )


def load_software_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> SoftwareFile:
    """Load a training stack from a preset (`megatron_lm`) or a TOML file."""
    file = open_file("software", name_or_path, named_in)
    checked = check(SOFTWARE_TABLES, file.tables, ConfigLocation(file.label))
    software = to_spec(Software, checked)
    own = {field.name: getattr(software, field.name) for field in fields(software)}
    return SoftwareFile(
        checked.name, MappingProxyType(own), tuple(checked.sources), (file,), software
    )


def load_software(name_or_path: str | Path) -> Software:
    """Load a training stack from a preset or a TOML file; SI base units."""
    return load_software_file(name_or_path).software
