"""Models and tasks: the shape of a network, and what is done with it.

A model file has the table `[model]`, optionally tables `[[layers]]` for the kinds of layers that
it mixes, `[pretraining]` with the recipe of its source (`seq_len`, `global_batch`) and
`[published]`. A task file has the other keys of a training job.
Values are taken from the first of these that has them: the job itself (`[design]`), a task that
the job names, the recipe of the model, the task `pretraining`. Files of version 0.1, with the
keys of the task beside `[model]`, are read as a model with that recipe.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, create_model

from hwdse.config.design.operator_csv import load_operators_file
from hwdse.config.files.errors import ConfigLocation
from hwdse.config.files.toml_files import TomlFile
from hwdse.config.hardware.load_specs import (
    COMMON,
    NamedIn,
    Preset,
    locate,
    open_file,
    published_field,
    published_of,
)
from hwdse.config.schema.consistency_checks import check_training
from hwdse.config.schema.field_rules import field_of
from hwdse.config.schema.schema import STRICT, check, number_field, spec_model, to_spec
from hwdse.workload.gemms import LayerList
from hwdse.workload.loops.conv_shapes import layer_list
from hwdse.workload.transformer.model_config import (
    LayerOverrides,
    Transformer,
    TransformerTraining,
)

TASK_FIELDS = tuple(
    entry.name
    for entry in fields(TransformerTraining)
    if entry.metadata.get("pytree_node", True) and entry.name != "model"
)
"""Fields of a training job that belong to its task."""
REQUIRED_FIELDS = tuple(
    entry.name
    for entry in fields(TransformerTraining)
    if entry.name in TASK_FIELDS and entry.default is MISSING
)
"""Fields of a task without a default."""
DEFAULT_TASK = "pretraining"
"""Task of a job that names none."""
_TASK_VALUES: Any = {name: number_field(name, is_optional=True) for name in TASK_FIELDS}
RECIPE_TABLE = create_model("PretrainingTable", __config__=STRICT, **_TASK_VALUES)
TASK_TABLES = create_model("TaskTables", __config__=STRICT, **COMMON, **_TASK_VALUES)
MODEL_TABLES = create_model(
    "ModelTables",
    __config__=STRICT,
    **COMMON,
    model=(spec_model(Transformer), Field()),
    layers=(list[dict[str, Any]], Field([])),
    pretraining=(RECIPE_TABLE, Field(RECIPE_TABLE())),
    published=published_field("num_parameters num_active_parameters num_training_tokens year"),
)
LAYERS_TABLE = spec_model(LayerOverrides)
"""Table of one kind of layers, `[[layers]]`."""
_PLACES = "[design], --seq and --batch, the task or the table [pretraining] of the model"


@dataclass(frozen=True)
class ModelFile(Preset):
    """A model with the metadata of its file."""

    model: Transformer
    recipe: Mapping[str, float]
    """Fields of the task that the source of the model gives."""
    notes: tuple[str, ...] = ()
    """Parts of an imported model that are not modeled."""


@dataclass(frozen=True)
class TaskFile(Preset):
    """A task with the metadata of its file."""

    values: Mapping[str, float]
    """Fields of the task by name; others are those of the model."""


@dataclass(frozen=True)
class WorkloadFile(Preset):
    """A workload with the metadata of its files."""

    workload: TransformerTraining | LayerList
    kinds: tuple[tuple[str, TomlFile], ...] = field(default=())
    """The files with their kinds: model and task, or layers."""
    notes: tuple[str, ...] = ()


def load_model_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> ModelFile:
    """Load a model from a preset (`llama3_70b`), a TOML file or a `config.json` (Hugging Face)."""
    if str(name_or_path).lower().endswith(".json"):
        file, notes = _imported(name_or_path, named_in)
    else:
        file, notes = open_file("models", name_or_path, named_in), ()
    where = ConfigLocation(file.label)
    checked = check(MODEL_TABLES, _with_recipe_table(file.tables, where), where)
    recipe = _given(checked.pretraining)
    layers = tuple(
        to_spec(LayerOverrides, check(LAYERS_TABLE, table, where.table(f"layers {number}")))
        for number, table in enumerate(checked.layers, 1)
    )
    model = to_spec(Transformer, checked.model).replace(layers=layers)
    return ModelFile(
        name=checked.name,
        published=published_of(checked),
        sources=tuple(checked.sources),
        files=(file,),
        model=model,
        recipe=recipe,
        notes=notes,
    )


def load_task_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> TaskFile:
    """Load a task from a preset (`pretraining`) or a TOML file."""
    file = open_file("tasks", name_or_path, named_in)
    checked = check(TASK_TABLES, file.tables, ConfigLocation(file.label))
    values = _given(checked)
    return TaskFile(checked.name, values, tuple(checked.sources), (file,), values)


def training_file(
    model: ModelFile,
    task: TaskFile | None = None,
    own: Mapping[str, float] = MappingProxyType({}),
) -> WorkloadFile:
    """Pre-training job of a model.

    `own` has values that replace those of task and model. Raises `ConfigError` for a value that
    none of them has, or for an impossible model.
    """
    default = load_task_file(DEFAULT_TASK)
    order = (default.values, model.recipe) if task is None else (model.recipe, task.values)
    values = {**order[0], **order[1], **own}
    where = ConfigLocation(model.files[0].label)
    for name in REQUIRED_FIELDS:
        if name not in values:
            raise where.missing(name, f"a value in one of {_PLACES}")
    training = TransformerTraining(model=model.model, **values)
    check_training(training, where)
    done = task or default
    return WorkloadFile(
        name=f"{model.name} {done.name}",
        published=model.published,
        sources=model.sources,
        files=(*model.files, *done.files),
        workload=training,
        kinds=(("model", model.files[0]), ("task", done.files[0])),
        notes=model.notes,
    )


def load_layers_file(name_or_path: str | Path, named_in: NamedIn | None = None) -> WorkloadFile:
    """Load layers for the chips of a cluster: a preset of operators, a CSV of them or a SCALE-Sim
    topology."""
    file = load_operators_file(name_or_path, named_in)
    layers = layer_list(file.operators)
    kinds = (("layers", file.files[0]),)
    return WorkloadFile(file.name, file.published, file.sources, file.files, layers, kinds)


def load_workload(
    name_or_path: str | Path, task: str | Path | None = None
) -> TransformerTraining | LayerList:
    """Load a workload: a model (preset, TOML or `config.json`) in pre-training, or a CSV of layers.

    Without a task, the recipe of the model's source is used, completed by the task `pretraining`.

    >>> import hwdse
    >>> training = hwdse.load_workload("llama3_8b")
    >>> training.model.num_layers, training.seq_len
    (32.0, 8192.0)
    """
    if str(name_or_path).lower().endswith(".csv"):
        return load_layers_file(name_or_path).workload
    named = load_task_file(task) if task is not None else None
    return training_file(load_model_file(name_or_path), named).workload


def _given(checked: Any) -> Mapping[str, float]:
    """Fields of a task that a checked table has."""
    found = {name: getattr(checked, name) for name in TASK_FIELDS}
    return MappingProxyType({name: value for name, value in found.items() if value is not None})


def _with_recipe_table(tables: Mapping[str, Any], where: ConfigLocation) -> dict[str, Any]:
    """The tables of a model; keys of the task beside `[model]` move to `[pretraining]`."""
    names = list(TASK_FIELDS)
    loose = {key: value for key, value in tables.items() if field_of(key, names) is not None}
    if not loose:
        return dict(tables)
    recipe = tables.get("pretraining", {})
    if not isinstance(recipe, Mapping):
        raise where.error("pretraining", recipe, "a table")
    kept = {key: value for key, value in tables.items() if key not in loose}
    return {**kept, "pretraining": {**loose, **recipe}}


def _imported(
    name_or_path: str | Path, named_in: NamedIn | None
) -> tuple[TomlFile, tuple[str, ...]]:
    """Tables of a Hugging Face `config.json`, and the keys that they do not express."""
    from hwdse.config.importers.hugging_face import read_model_file

    return read_model_file(locate("models", name_or_path, named_in), str(name_or_path))
