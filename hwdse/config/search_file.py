"""Search files: what is the base design, what is minimized, what may change."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.errors import Where, did_you_mean, listed
from hwdse.config.files import TomlFile, find_file, read_toml
from hwdse.config.layouts import make_choice
from hwdse.config.leaf_paths import Roots
from hwdse.config.load import NamedIn, System, WorkloadFile, load_system, load_workload_file
from hwdse.config.overrides import apply_overrides, flatten, parse_override
from hwdse.config.physics import check_cluster, check_design
from hwdse.config.ranges import check_distinct, make_dimension, make_variant
from hwdse.config.resolved import resolved_tables
from hwdse.config.schema import STRICT, check, number_field, spec_model, to_spec
from hwdse.config.variants import limit_names, objective_names
from hwdse.search.space import SearchSpace
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.formats import PrecisionMix
from hwdse.units import split_field
from hwdse.workload.layers import LayerList
from hwdse.workload.transformer import TransformerTraining


@dataclass(frozen=True)
class LoadedSearch:
    """A checked search file: the base design, the workload, and what may change."""

    title: str
    seed: int
    base: Design
    workload: TransformerTraining | LayerList
    labels: Mapping[str, str]
    """Names for people: `system`, `chip`, `workload`."""
    space: SearchSpace
    objective: str
    front_objectives: tuple[str, ...]
    limits: Mapping[str, float]
    resolved: dict[str, Any]
    """Everything in SI base units, with the hashes of all files: JSON-able."""
    tables: dict[str, Any] = field(repr=False)
    """The file's tables after `--set`, without [overrides]; names of files made absolute."""
    plain: Roots = field(repr=False)
    """The specs as the tables give them, before [overrides]."""


LIMIT_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "die_area": "die_area_mm2",
        "chip_power": "chip_power_w",
        "hbm_used_ratio": "hbm_used_ratio",
        "chip_cost": "chip_cost_usd",
        "time_per_token": "time_per_token_s",
        "energy_per_token": "energy_per_token_j",
    }
)
"""Constraints by the name of a field whose last words give their unit."""

_DESIGN = create_model(
    "DesignTable",
    __config__=STRICT,
    system=(StrictStr, Field()),
    num_systems=number_field("num_systems"),
    workload=(StrictStr, Field()),
    checkpoint_interval_s=number_field("checkpoint_interval_s"),
    mix=(spec_model(PrecisionMix), Field()),
    parallelism=(spec_model(Parallelism), Field()),
)
_OBJECTIVE = create_model(
    "ObjectiveTable",
    __config__=STRICT,
    minimize=(StrictStr, Field()),
    front=(list[StrictStr], Field([])),
)
_Tables = list[dict[str, Any]]
_SEARCH = create_model(
    "SearchTables",
    __config__=STRICT,
    title=(StrictStr, Field()),
    seed=(int, Field(0, ge=0, lt=2**32)),
    design=(_DESIGN, Field()),
    objective=(_OBJECTIVE, Field()),
    limits=(dict[str, Any], Field({})),
    variables=(_Tables, Field([])),
    choices=(_Tables, Field([])),
    variants=(_Tables, Field([])),
    overrides=(dict[str, Any], Field({})),
)
_VARIABLE = create_model(
    "VariableTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    low=(Any, Field()),
    high=(Any, Field()),
    step=(Any, Field(None)),
    scale=(StrictStr, Field("log")),
)
_CHOICE = create_model(
    "ChoiceTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    values=(Any, Field()),
    labels=(list[StrictStr] | None, Field(None)),
    micro_batch=(list[Any] | None, Field(None)),
    recompute_fraction=(list[Any] | None, Field(None)),
)
_VARIANT = create_model(
    "VariantTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    values=(list[StrictStr], Field()),
)


def load_search(path: str | Path, overrides: Sequence[str] = ()) -> LoadedSearch:
    """A search from a TOML file (or a preset's name) and `--set` texts such as
    `chip.hbm.bandwidth="4 TB/s"`, `design.num_systems=4`, `workload.seq_len=4096`.

    Raises `ConfigError`, one line, for every mistake.
    """
    found = find_file("searches", path)
    file = read_toml(found, str(path) if Path(path).suffix else None)
    tables, changes = _merge_sets(file.tables, overrides)
    where = Where(f"{file.label} with --set" if overrides else file.label)
    checked = check(_SEARCH, tables, where)
    in_design = where.inside("design")
    system = load_system(checked.design.system, NamedIn(found.parent, in_design, "system"))
    job = load_workload_file(checked.design.workload, NamedIn(found.parent, in_design, "workload"))
    plain = _roots(checked.design, system, job)
    roots = apply_overrides(plain, flatten(checked.overrides), where.inside("overrides"))
    roots = apply_overrides(roots, changes, Where("--set"))
    base = design_of(roots)
    check_design(base, roots["workload"], where)
    space = _space(checked, roots, where)
    objective, front = _objectives(checked.objective, where.inside("objective"))
    limits = _limits(checked.limits, where.inside("limits"))
    labels = {"system": system.name, "chip": system.chip_name, "workload": job.name}
    loaded = LoadedSearch(
        title=checked.title,
        seed=checked.seed,
        base=base,
        workload=roots["workload"],
        labels=MappingProxyType(labels),
        space=space,
        objective=objective,
        front_objectives=front,
        limits=MappingProxyType(limits),
        resolved={},
        tables=_absolute(tables, found.parent),
        plain=plain,
    )
    presets = (("search", file), *_all_files(system, job))
    return dataclasses.replace(loaded, resolved=resolved_tables(loaded, presets, system, job))


def design_of(roots: Roots) -> Design:
    """A design from its specs by name."""
    return Design(**{name: value for name, value in roots.items() if name != "workload"})


def _roots(table: Any, system: System, job: WorkloadFile) -> Roots:
    cluster: Any = system.cluster
    return {
        "chip": system.chip,
        "cluster": cluster.replace(num_chips=cluster.num_chips * table.num_systems),
        "mix": to_spec(PrecisionMix, table.mix),
        "parallelism": to_spec(Parallelism, table.parallelism),
        "checkpoint_interval_s": table.checkpoint_interval_s,
        "workload": job.workload,
    }


def _all_files(system: System, job: WorkloadFile) -> tuple[tuple[str, TomlFile], ...]:
    kinds = ("system", "chip", "process")
    files = tuple(zip(kinds, system.files, strict=False))
    return (*files, *(("workload", file) for file in job.files))


def _merge_sets(
    tables: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables with every `--set` that names one of them, and the others by path."""
    merged, changes = copy.deepcopy(dict(tables)), {}
    for text in overrides:
        path, value = parse_override(text)
        if path.startswith(("design.mix", "design.parallelism", "design.checkpoint_interval")):
            path = path.removeprefix("design.")  # also after the file's [overrides]
        if path.split(".")[0] not in ("title", "seed", "design", "objective", "limits"):
            changes[path] = value
            continue
        node = merged
        *parents, last = path.split(".")
        for name in parents:
            child = node.get(name)
            node[name] = child if isinstance(child, dict) else {}
            node = node[name]
        for key in [key for key in node if split_field(key)[0] == split_field(last)[0]]:
            del node[key]
        node[last] = value
    return merged, changes


def _objectives(table: Any, where: Where) -> tuple[str, tuple[str, ...]]:
    names = objective_names()
    for key, values in (("minimize", [table.minimize]), ("front", table.front)):
        for value in values:
            if value not in names:
                hint = did_you_mean(value, names)
                raise where.error(key, value, f"one of {listed(names)}{hint}")
    if len(set(table.front)) != len(table.front) or len(table.front) == 1:
        raise where.error("front", table.front, "two or more different objectives")
    return table.minimize, tuple(table.front)


def _limits(table: Mapping[str, Any], where: Where) -> dict[str, float]:
    fields = {LIMIT_FIELDS.get(name, name): name for name in limit_names()}
    definitions = {name: number_field(name, is_optional=True) for name in fields}
    checked = check(create_model("LimitsTable", __config__=STRICT, **definitions), table, where)
    values = {name: getattr(checked, name) for name in fields}
    return {fields[name]: value for name, value in values.items() if value is not None}


def _space(checked: Any, roots: Roots, where: Where) -> SearchSpace:
    def made(name: str, model: Any, make: Callable) -> tuple:
        parts = []
        for number, table in enumerate(getattr(checked, name), 1):
            place = where.inside(f"{name} {number}")
            parts.append(make(check(model, table, place), roots, place))
        return tuple(parts)

    dimensions = made("variables", _VARIABLE, make_dimension)
    choices = made("choices", _CHOICE, make_choice)
    variants = made("variants", _VARIANT, make_variant)
    check_distinct(dimensions, choices, variants, where)
    space = SearchSpace(dimensions, choices, variants)
    for labels, design in space.variant_bases(design_of(roots)):
        place = where.inside("variants " + ", ".join(labels.values()))
        check_cluster(design.cluster, place)
    return space


def _absolute(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The tables with paths of other files made absolute, and without [overrides]."""
    design = dict(tables["design"])
    for key, kind in (("system", "clusters"), ("workload", "workloads")):
        if design[key].lower().endswith((".toml", ".csv")):
            design[key] = str(find_file(kind, design[key], folder).resolve())
    rest = {key: value for key, value in tables.items() if key != "overrides"}
    return {**rest, "design": design}
