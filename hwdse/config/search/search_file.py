"""Search files: base design, objectives, limits and search space from TOML."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.design.cluster_design_table import CLUSTER
from hwdse.config.design.core_design_table import CORE
from hwdse.config.design.serving_design_table import SERVING
from hwdse.config.design.serving_files import is_serving_task
from hwdse.config.design.zero_stage import with_shard_fractions
from hwdse.config.files.base_files import read_with_base
from hwdse.config.files.errors import (
    ConfigError,
    ConfigLocation,
    MissingFileError,
    Mistakes,
    did_you_mean,
    listed,
)
from hwdse.config.files.toml_files import TomlFile, find_file
from hwdse.config.files.uncertainty_suffix import split_uncertainty
from hwdse.config.hardware.load_specs import DesignKind
from hwdse.config.schema.allowed_names import limit_names, objective_names
from hwdse.config.schema.field_rules import field_of
from hwdse.config.schema.metric_fields import metric_field, objective_of
from hwdse.config.schema.overrides import apply_overrides, flatten, parse_override
from hwdse.config.schema.schema import STRICT, check, number_field
from hwdse.config.schema.user_paths import Roots
from hwdse.config.search.choices import make_choice
from hwdse.config.search.job_source import JobSource
from hwdse.config.search.job_tables import (
    hardware_labels,
    job_title,
    names_other_job,
    with_design_keys,
    with_explicit_strategy,
    with_new_job,
)
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.config.search.parallelism_choices import STRATEGY_KEYS
from hwdse.config.search.resolved_config import resolved_tables
from hwdse.config.search.uncertain_table import (
    file_entries,
    make_uncertain_constants,
    table_entries,
)
from hwdse.config.search.valid_combinations import DesignChecker, SearchTables, valid_space
from hwdse.config.search.variables import check_distinct, make_dimensions, make_variant
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.uncertainty.robust import DEFAULT_SAMPLES, Robust, parse_robust
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_enumeration import ZERO_FIELDS

BELOW_DESIGN = (
    "design.mix",
    "design.parallelism",
    "design.checkpoint_interval",
    "design.checkpointing",
)
"""Paths of `--set` below `[design]` that change specs and not the table."""
OBJECTIVE_TABLE = create_model(
    "ObjectiveTable",
    __config__=STRICT,
    minimize=(StrictStr, Field("energy_delay")),
    front=(list[StrictStr], Field([])),
    robust=(StrictStr | None, Field(None)),
    robust_samples=(int, Field(DEFAULT_SAMPLES, ge=2, le=4096)),
)
MEMORY_LIMITS = ("hbm_used_ratio", "memory_used_ratio")
"""Limits of the memory of chips in a cluster and of one core, at most 1 by default."""
OFF = "off"
"""Value of a memory limit that does not hold."""
_Tables = list[dict[str, Any]]
SEARCH_TABLES: Mapping[DesignKind, Any] = MappingProxyType(
    {
        kind: create_model(
            "SearchTables",
            __config__=STRICT,
            title=(StrictStr | None, Field(None)),
            seed=(int, Field(0, ge=0, lt=2**32)),
            design=(kind.table, Field()),
            objective=(OBJECTIVE_TABLE, Field(OBJECTIVE_TABLE())),
            limits=(dict[str, Any], Field({})),
            variables=(_Tables, Field([])),
            choices=(_Tables, Field([])),
            variants=(_Tables, Field([])),
            overrides=(dict[str, Any], Field({})),
            uncertain=(Any, Field([])),
        )
        for kind in (CLUSTER, CORE, SERVING)
    }
)
VARIABLE_TABLE = create_model(
    "VariableTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    low=(Any, Field()),
    high=(Any, Field()),
    step=(Any, Field(None)),
    scale=(StrictStr, Field("log")),
)
CHOICE_TABLE = create_model(
    "ChoiceTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    values=(Any, Field()),
    labels=(list[StrictStr] | None, Field(None)),
    micro_batch=(list[Any] | None, Field(None)),
    recompute_fraction=(list[Any] | None, Field(None)),
    **STRATEGY_KEYS,
)
VARIANT_TABLE = create_model(
    "VariantTable",
    __config__=STRICT,
    path=(StrictStr, Field()),
    values=(list[StrictStr], Field()),
)


def load_search(path: str | Path | JobSource, overrides: Sequence[str] = ()) -> LoadedSearch:
    """Load a job or a search from a TOML file or preset.

    `overrides` are `--set` texts such as `chip.hbm.bandwidth="4 TB/s"`,
    `design.num_systems=4`, `workload.seq_len=4096`. `[design]` names a system, or an accelerator
    for a search inside one core. Raises `ConfigError` with one line for every error.

    >>> import hwdse
    >>> search = hwdse.load_search("trn2_llama3_70b", ["design.num_systems=32"])
    >>> search.base.cluster.num_chips, search.objective
    (2048.0, 'energy_delay')
    """
    source = path if isinstance(path, JobSource) else JobSource(str(path))
    file, folder = _open(source.path)
    where = ConfigLocation(f"{file.label} with --set" if overrides and source.path else file.label)
    merged, changes = _given_tables(source, file, overrides, where)
    given, design = merged.get("uncertain", []), merged.get("design")
    kind = kind_of_table(design, folder)
    checked = check(SEARCH_TABLES[kind], _with_shard_fractions(merged, where), where)
    mistakes = Mistakes()
    limits = mistakes.run(_limits, checked.limits, kind, where.table("limits"))
    named = mistakes.run(_objectives, checked.objective, kind, where.table("objective"))
    parts = mistakes.run(kind.load, checked.design, folder, where.table("design"))
    mistakes.finish()
    objective, front = named
    roots = mistakes.run(_with_overrides, parts.roots, checked.overrides, changes, where)
    if roots is None:
        mistakes.run(_variables_and_variants, checked, parts.roots, where)
    mistakes.finish()
    fixed = _set_strategy_fields((*flatten(checked.overrides), *changes))
    roots = kind.with_strategy(roots, checked.design, fixed, limits, where.table("design"))
    base = kind.design_of(roots, parts.mapping)
    kind.check(base, roots["workload"], where)
    space = _space(checked, roots, base, kind, where)
    base = _with_searched(base, space)
    entries = [*file_entries(parts.files), *((where.table("uncertain"), item) for item in given)]
    uncertain_constants = make_uncertain_constants(entries, roots, base)
    design, plain = with_explicit_strategy(merged["design"], checked.design, roots, parts.roots)
    is_other_job = "design" in source.tables or any(names_other_job(text) for text in overrides)
    loaded = LoadedSearch(
        title=job_title(checked, parts.labels, is_other_job=is_other_job),
        seed=checked.seed,
        base=base,
        workload=roots["workload"],
        labels=MappingProxyType(hardware_labels(parts.labels, flatten(checked.overrides))),
        space=space,
        objective=objective,
        front_objectives=front,
        limits=MappingProxyType(limits),
        resolved={},
        tables=_absolute({**merged, "design": design}, kind, folder),
        plain=plain,
        uncertain_constants=uncertain_constants,
        robust=_robust(checked.objective, uncertain_constants, where.table("objective")),
        notes=parts.notes,
        files=(*((("search", file),) if source.path is not None else ()), *parts.files),
        overrides=tuple(overrides),
    )
    resolved = resolved_tables(loaded, loaded.files, parts.published)
    return dataclasses.replace(loaded, resolved=resolved)


def kind_of_table(design: Any, folder: Path) -> DesignKind:
    """Kind of design of a table: the key that only one kind has, or the kind of its task."""
    if not isinstance(design, dict):
        return CLUSTER
    if "accelerator" in design:
        return CORE
    is_served = "engine" in design or is_serving_task(design.get("task"), folder)
    return SERVING if is_served else CLUSTER


def _given_tables(
    source: JobSource, file: TomlFile, overrides: Sequence[str], where: ConfigLocation
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tables of a file with those of the command line, uncertain constants as [[uncertain]]; and
    the `--set` values of paths."""
    own = with_design_keys(file.tables)
    merged, changes, uncertainties = _merge_sets(
        with_new_job(own, with_design_keys(source.tables, file.tables)), overrides
    )
    given = table_entries(merged.get("uncertain", []), where)
    given += [
        _entry(path, text)
        for path, text in (*file.uncertain_constants.items(), *uncertainties.items())
    ]
    return ({**merged, "uncertain": given} if given else merged), changes


def _open(path: str | None) -> tuple[TomlFile, Path]:
    """The file of a job and its folder; an empty one for a job of flags only."""
    if path is None:
        return TomlFile(Path(), "the command line", {}, ""), Path()
    try:
        found = find_file("searches", path)
    except MissingFileError as error:
        raise _no_job(path, error) from None
    label = str(path) if Path(path).suffix else None
    return read_with_base("searches", found, label), found.parent


def _no_job(path: str, error: MissingFileError) -> ConfigError:
    """Error of a name that is no job: the item of another kind that it names, or the presets."""
    from hwdse.config.files.named_items import find_item

    try:
        item = find_item(path)
    except ConfigError:
        return error
    if item.kind == "job":
        return error
    return ConfigError(
        f"{path} is a {item.kind}: expected a job; {item.hint or 'hwdse presets lists all'}"
    )


def _with_overrides(
    roots: Roots, overrides: Mapping[str, Any], changes: Mapping[str, Any], where: ConfigLocation
) -> Roots:
    """Specs with the values of [overrides], then those of `--set`."""
    mistakes = Mistakes()
    for values, place in (
        (flatten(overrides), where.table("overrides")),
        (changes, ConfigLocation("--set")),
    ):
        given = mistakes.run(with_shard_fractions, values, place, "parallelism.")
        if given is not None:
            roots = mistakes.run(apply_overrides, roots, given, place) or roots
    mistakes.finish()
    return roots


def _set_strategy_fields(paths: Iterable[str]) -> list[str]:
    """Fields of `Parallelism` that overrides set."""
    names = [path.partition(".")[2] for path in paths if path.startswith("parallelism.")]
    zero = ZERO_FIELDS if "zero" in names else ()
    fields = list(Parallelism.__dataclass_fields__)
    return [*zero, *(name for text in names if (name := field_of(text, fields)) is not None)]


def _with_shard_fractions(tables: dict[str, Any], where: ConfigLocation) -> dict[str, Any]:
    """The tables with the shard fractions of `zero` in [design.parallelism]."""
    design = tables.get("design")
    if not isinstance(design, dict) or not isinstance(design.get("parallelism"), dict):
        return tables
    full = with_shard_fractions(design["parallelism"], where.table("design.parallelism"))
    return {**tables, "design": {**design, "parallelism": full}}


def _entry(path: str, relative: str) -> dict[str, Any]:
    """Entry of [[uncertain]] for a value of the search file with an uncertainty."""
    return {"path": path.removeprefix("overrides.").removeprefix("design."), "relative": relative}


def _robust(
    table: Any, uncertain_constants: tuple[UncertainConstant, ...], where: ConfigLocation
) -> Robust | None:
    if table.robust is None:
        return None
    if not uncertain_constants:
        raise where.error("robust", table.robust, "at least one uncertain constant in [uncertain]")
    try:
        return parse_robust(table.robust, table.robust_samples)
    except ValueError as error:
        raise where.error("robust", table.robust, str(error)) from None


def _merge_sets(
    tables: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Tables with the `--set` values that name one of them, other values by path, uncertainties."""
    merged, changes, uncertain_constants = dict(tables), {}, {}
    for text in overrides:
        path, value = parse_override(text)
        if path.startswith("uncertain."):
            uncertain_constants[path.removeprefix("uncertain.")] = value
            continue
        value, relative = split_uncertainty(value)
        if relative is not None:
            uncertain_constants[path] = relative
        if path.startswith(BELOW_DESIGN):
            path = path.removeprefix("design.")  # also after the file's [overrides]
        if path.split(".")[0] not in ("title", "seed", "design", "objective", "limits"):
            changes[path] = value
            continue
        nested = value
        for name in reversed(path.split(".")):
            nested = {name: nested}
        merged = with_new_job(merged, with_design_keys(nested, merged))
    return merged, changes, uncertain_constants


def _objectives(table: Any, kind: DesignKind, where: ConfigLocation) -> tuple[str, tuple[str, ...]]:
    names = tuple(name for name in objective_names() if name not in kind.no_objectives)
    for key, values in (("minimize", [table.minimize]), ("front", table.front)):
        for value in values:
            if objective_of(value, names) is None:
                hint = did_you_mean(value, names)
                raise where.error(key, value, f"one of {listed(names)}{hint}")
    minimize, *front = (str(objective_of(one, names)) for one in (table.minimize, *table.front))
    if len(set(front)) != len(front) or len(front) == 1:
        raise where.error("front", table.front, "two or more distinct objectives")
    return minimize, tuple(front) or (minimize,)


def _limits(table: Mapping[str, Any], kind: DesignKind, where: ConfigLocation) -> dict[str, float]:
    """Limits of the file; the memory must suffice unless its limit is set or "off"."""
    is_off = any(table.get(name) == OFF for name in MEMORY_LIMITS)
    table = {key: value for key, value in table.items() if value != OFF or key not in MEMORY_LIMITS}
    fields = {metric_field(name): name for name in limit_names()}
    definitions = {name: number_field(name, is_optional=True) for name in fields}
    checked = check(create_model("LimitsTable", __config__=STRICT, **definitions), table, where)
    values = {name: getattr(checked, name) for name in fields}
    limits = {fields[name]: value for name, value in values.items() if value is not None}
    if not is_off and not any(name in limits for name in MEMORY_LIMITS):
        limits[MEMORY_LIMITS[kind is CORE]] = 1.0
    return limits


def _made(
    name: str, model: Any, make: Callable, checked: Any, roots: Roots, where: ConfigLocation
) -> tuple:
    """Objects of the tables of one name. Raises `ConfigError` with all mistakes."""

    def one(table: Any, place: ConfigLocation) -> Any:
        return make(check(model, table, place), roots, place)

    mistakes = Mistakes()
    made = tuple(
        mistakes.run(one, table, where.table(f"{name} {number}"))
        for number, table in enumerate(getattr(checked, name), 1)
    )
    mistakes.finish()
    return made


def _variables_and_variants(
    checked: Any, roots: Roots, where: ConfigLocation
) -> tuple[tuple, tuple]:
    mistakes = Mistakes()
    rest = checked, roots, where
    dimensions = mistakes.run(_made, "variables", VARIABLE_TABLE, make_dimensions, *rest)
    variants = mistakes.run(_made, "variants", VARIANT_TABLE, make_variant, *rest)
    mistakes.finish()
    return dimensions, variants


def _space(
    checked: Any, roots: Roots, base: Any, kind: DesignKind, where: ConfigLocation
) -> SearchSpace:
    dimensions, variants = _variables_and_variants(checked, roots, where)
    choices = _made("choices", CHOICE_TABLE, make_choice, checked, roots, where)
    check_distinct(dimensions, choices, variants, where)
    space = SearchSpace(tuple(itertools.chain(*dimensions)), choices, variants)
    bases = space.variant_bases(base)
    for labels, design in bases:
        kind.check_variant(design, where.table("variants " + ", ".join(labels.values())))
    is_listed = tuple(isinstance(table.get("values"), list) for table in checked.choices)
    checker = DesignChecker([design for _, design in bases], roots["workload"], kind)
    return valid_space(SearchTables(dimensions, choices, is_listed), space, checker, where)


def _with_searched(base: Any, space: SearchSpace) -> Any:
    """The base with the upper end of the range of searched parameters that it lacks."""
    for dimension in space.dimensions:
        if get_path(base, dimension.path) is None:
            base = set_path(base, dimension.path, dimension.high)
    return base


def _absolute(tables: dict[str, Any], kind: DesignKind, folder: Path) -> dict[str, Any]:
    """The tables with absolute paths of other files, and without [overrides]."""
    design = dict(tables["design"])
    for key, presets in kind.file_keys.items():
        if str(design.get(key, "")).lower().endswith((".toml", ".csv", ".json")):
            design[key] = str(find_file(presets, design[key], folder).resolve())
    rest = {key: value for key, value in tables.items() if key != "overrides"}
    return {**rest, "design": design}
