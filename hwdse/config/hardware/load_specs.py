"""Chips, systems and workloads from TOML files and presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictStr, create_model

from hwdse.config.files.errors import ConfigError, ConfigLocation, MissingFileError, one_line
from hwdse.config.files.toml_files import TomlFile, find_file, read_toml
from hwdse.config.schema.consistency_checks import check_chip, check_cluster, check_training
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
from hwdse.specs.software import Software
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining, with_kinds

_CHIP_FIGURES = (
    "bf16_flop_per_s fp8_flop_per_s fp4_flop_per_s fp32_flop_per_s fp64_flop_per_s "
    "hbm_capacity_bytes hbm_bandwidth_bytes_per_s link_bandwidth_bytes_per_s tdp_w die_area_mm2 "
    "year"
)
_SYSTEM_FIGURES = (
    "bf16_flop_per_s fp8_flop_per_s fp32_flop_per_s hbm_capacity_bytes "
    "hbm_bandwidth_bytes_per_s network_bandwidth_bytes_per_s price_usd_per_s year"
)
Published = Mapping[str, float]
"""Figures that a vendor prints, in base units; beside the model, not part of it."""


@dataclass(frozen=True)
class NamedIn:
    """The key of a file that names another file."""

    folder: Path
    where: ConfigLocation
    key: str


@dataclass(frozen=True)
class Preset:
    """What a file says about itself, and every file that was read for it."""

    name: str
    published: Published
    sources: tuple[str, ...]
    files: tuple[TomlFile, ...]


@dataclass(frozen=True)
class ChipFile(Preset):
    """A chip with what its file says about it."""

    chip: Chip


@dataclass(frozen=True)
class System(Preset):
    """A server or scale-up system: one kind of chip, and the cluster of one such system."""

    chip: Chip
    cluster: Cluster
    chip_name: str
    chip_published: Published


@dataclass(frozen=True)
class WorkloadFile(Preset):
    """A workload with what its file says about it."""

    workload: TransformerTraining | LayerList


@dataclass(frozen=True)
class SoftwareFile(Preset):
    """A training stack with what its file says about it."""

    software: Software


@dataclass(frozen=True)
class BaseParts:
    """What a `[design]` table stands for."""

    roots: dict[str, Any]
    """Specs by the first word of a path, the workload among them."""
    mapping: str
    """Where mappings come from."""
    labels: dict[str, str]
    """Names for people: `system`, `chip`, `workload`."""
    files: tuple[tuple[str, TomlFile], ...]
    """Every file that was read, by its kind."""
    published: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class DesignKind:
    """What a search file may be about: how its `[design]` table becomes a design."""

    table: type[BaseModel]
    load: Callable[[Any, Path, ConfigLocation], BaseParts]
    """From the checked table, the folder of its file, and where it stands."""
    design_of: Callable[[dict[str, Any], str], Any]
    """A design from its specs by name, and from where its mappings come."""
    check: Callable[[Any, Any, ConfigLocation], None]
    """Raises `ConfigError` for a design that cannot be, with its workload."""
    check_variant: Callable[[Any, ConfigLocation], None]
    file_keys: Mapping[str, str]
    """Keys that name other files, and the folder of their presets."""
    no_objectives: tuple[str, ...]
    """Objectives that this kind has no figures for."""


def figures_field(names: str) -> Any:
    """The optional table `[published]` of a file, with these fields."""
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
    **spec_fields(Chip),
    published=figures_field(_CHIP_FIGURES),
)
PROCESS_TABLES = create_model("ProcessTables", __config__=STRICT, **COMMON, **spec_fields(Process))
SYSTEM_TABLES = create_model(
    "SystemTables",
    __config__=STRICT,
    **COMMON,
    chip=(StrictStr, Field()),
    cluster=(spec_model(Cluster), Field()),
    overrides=(dict[str, Any] | None, Field(None)),
    published=figures_field(_SYSTEM_FIGURES),
)
WORKLOAD_TABLES = create_model(
    "WorkloadTables",
    __config__=STRICT,
    **COMMON,
    **spec_fields(TransformerTraining),
    published=figures_field("num_parameters num_active_parameters num_training_tokens year"),
)
SOFTWARE_TABLES = create_model(
    "SoftwareTables", __config__=STRICT, **COMMON, **spec_fields(Software)
)


def published_of(checked: Any) -> Published:
    """The figures that stand in the table `[published]` of a checked file."""
    figures = checked.published.model_dump() if checked.published is not None else {}
    return MappingProxyType({key: value for key, value in figures.items() if value is not None})


def open_file(folder: str, name_or_path: str | Path, named_in: NamedIn | None) -> TomlFile:
    """The file of a preset's name or a path; a mistake names the file and key that refer to it."""
    path = locate(folder, name_or_path, named_in)
    return read_toml(path, str(name_or_path) if path.suffix else None)


def locate(folder: str, name_or_path: str | Path, named_in: NamedIn | None) -> Path:
    """Like `find_file`, with mistakes put down to the key that holds the name."""
    try:
        return find_file(folder, name_or_path, named_in.folder if named_in else None)
    except MissingFileError as error:
        if named_in is None:
            raise
        raise named_in.where.error(named_in.key, name_or_path, error.expected) from None


def with_process(tables: dict[str, Any], file: TomlFile) -> tuple[dict, tuple[TomlFile, ...]]:
    """The tables with the process preset spread out below the user's own process values."""
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


def load_chip_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> ChipFile:
    """A chip from a preset's name or a TOML file, with its published figures and sources."""
    file = open_file("chips", name_or_path, named_in)
    tables, files = with_process(file.tables, file)
    checked = check(CHIP_TABLES, tables, ConfigLocation(file.label))
    chip = to_spec(Chip, checked)
    check_chip(chip, ConfigLocation(file.label))
    sources = tuple(checked.sources)
    return ChipFile(checked.name, published_of(checked), sources, (file, *files), chip)


def load_chip(name_or_path: str | Path) -> Chip:
    """A chip from a preset's name (`trainium2`) or a TOML file; SI base units."""
    return load_chip_file(name_or_path).chip


def load_system(name_or_path: str | Path, named_in: NamedIn | None = None) -> System:
    """A system from a preset's name (`trn2_ultraserver`) or a TOML file."""
    file = open_file("clusters", name_or_path, named_in)
    where = ConfigLocation(file.label)
    checked = check(SYSTEM_TABLES, file.tables, where)
    chip_file = load_chip_file(checked.chip, NamedIn(file.path.parent, where, "chip"))
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
        cluster=roots["cluster"],
        chip_name=chip_file.name,
        chip_published=chip_file.published,
    )


def load_software_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> SoftwareFile:
    """A training stack from a preset's name (`megatron_lm`) or a TOML file."""
    file = open_file("software", name_or_path, named_in)
    checked = check(SOFTWARE_TABLES, file.tables, ConfigLocation(file.label))
    software = to_spec(Software, checked)
    own = {field.name: getattr(software, field.name) for field in fields(software)}
    return SoftwareFile(
        checked.name, MappingProxyType(own), tuple(checked.sources), (file,), software
    )


def load_software(name_or_path: str | Path) -> Software:
    """A training stack from a preset's name or a TOML file; SI base units."""
    return load_software_file(name_or_path).software


def load_workload_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> WorkloadFile:
    """A workload with its published figures; a `.csv` path is a SCALE-Sim topology."""
    if str(name_or_path).lower().endswith(".csv"):
        from hwdse.workload.loops.scalesim_topology import load_topology

        path = locate("workloads", name_or_path, named_in)
        try:
            layers = load_topology(path)
        except ValueError as error:
            raise ConfigError(one_line(str(error))) from None
        return WorkloadFile(path.stem, MappingProxyType({}), (), (), layers)
    file = open_file("workloads", name_or_path, named_in)
    checked = check(WORKLOAD_TABLES, file.tables, ConfigLocation(file.label))
    training = with_kinds(to_spec(TransformerTraining, checked))
    check_training(training, ConfigLocation(file.label))
    sources = tuple(checked.sources)
    return WorkloadFile(checked.name, published_of(checked), sources, (file,), training)


def load_workload(name_or_path: str | Path) -> TransformerTraining | LayerList:
    """A workload from a preset's name, a TOML file, or a SCALE-Sim topology CSV."""
    return load_workload_file(name_or_path).workload
