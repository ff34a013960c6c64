"""`[design]` table of a job on a cluster: system, model and task or layers, strategy, software."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.design.model_and_task import (
    WorkloadFile,
    load_layers_file,
    load_model_file,
    load_task_file,
    training_file,
)
from hwdse.config.design.strategy import with_strategy
from hwdse.config.design.zero_stage import PARALLELISM_TABLE
from hwdse.config.files.errors import ConfigLocation, Mistakes
from hwdse.config.hardware.failure_rates import ReliabilityFile, load_reliability_file
from hwdse.config.hardware.load_specs import (
    BaseParts,
    DesignKind,
    NamedIn,
    System,
    load_chip_file,
    load_software_file,
    load_system,
)
from hwdse.config.schema.allowed_names import cluster_mappings
from hwdse.config.schema.consistency_checks import check_cluster, check_design
from hwdse.config.schema.schema import STRICT, name_field, number_field, spec_model, to_spec
from hwdse.config.schema.user_paths import Roots
from hwdse.specs.checkpointing import Checkpointing
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.number_formats import PrecisionMix

DEFAULT_INTERVAL_S = 3600.0
"""Checkpoint interval of a job that gives none. Assumed: once an hour."""
_MIX_TABLE: Any = create_model(
    "MixTable",
    __base__=spec_model(PrecisionMix),
    fp64_flop_fraction=number_field("fp64_flop_fraction", default=0.0),
    fp8_flop_fraction=number_field("fp8_flop_fraction", default=0.0),
)
_OWN_TASK_FIELDS = ("seq_len", "global_batch")
"""Fields of the task that a job can give itself."""
_OWN_TASK: Any = {name: number_field(name, is_optional=True) for name in _OWN_TASK_FIELDS}
_STRATEGY: Any = (PARALLELISM_TABLE | None, Field(None))
_TABLE = create_model(
    "DesignTable",
    __config__=STRICT,
    system=(StrictStr, Field()),
    chip=(StrictStr | None, Field(None)),
    num_systems=number_field("num_systems", default=1.0),
    model=(StrictStr | None, Field(None)),
    task=(StrictStr | None, Field(None)),
    layers=(StrictStr | None, Field(None)),
    software=(StrictStr, Field("compiled")),
    mapping=name_field(cluster_mappings, "closed_form"),
    checkpoint_interval_s=number_field("checkpoint_interval_s", default=DEFAULT_INTERVAL_S),
    checkpointing=(spec_model(Checkpointing), Field(spec_model(Checkpointing)())),
    reliability=(StrictStr | None, Field(None)),
    mix=(_MIX_TABLE, Field(_MIX_TABLE())),
    strategy=(StrictStr | None, Field(None)),
    parallelism=_STRATEGY,
    **_OWN_TASK,
)


def _load(table: Any, folder: Path, where: ConfigLocation) -> BaseParts:
    mistakes = Mistakes()
    system: Any = mistakes.run(_system, table, folder, where)
    job: Any = mistakes.run(_workload, table, folder, where)
    stack: Any = mistakes.run(
        load_software_file, table.software, NamedIn(folder, where, "software")
    )
    failures = mistakes.run(_failures, table, folder, where)
    mistakes.finish()
    cluster: Any = system.cluster if failures is None else failures.apply(system.cluster)
    strategy = table.parallelism or PARALLELISM_TABLE()
    roots: Roots = {
        "chip": system.chip,
        "cluster": cluster.replace(num_chips=cluster.num_chips * table.num_systems),
        "mix": to_spec(PrecisionMix, table.mix),
        "parallelism": to_spec(Parallelism, strategy),
        "checkpoint_interval_s": table.checkpoint_interval_s,
        "checkpointing": to_spec(Checkpointing, table.checkpointing),
        "software": stack.software,
        "workload": job.workload,
    }
    files = zip(("system", "chip", "class", "process"), system.files, strict=False)
    return BaseParts(
        roots=roots,
        mapping=table.mapping,
        labels={
            "system": system.name,
            "chip": system.chip_name,
            "workload": job.name,
            "software": stack.name,
        },
        files=(
            *files,
            *job.kinds,
            *(("software", file) for file in stack.files),
            *(("reliability", file) for file in (failures.files if failures else ())),
        ),
        published={
            "system": dict(system.published),
            "chip": dict(system.chip_published),
            "workload": dict(job.published),
        },
        notes=job.notes,
    )


def _system(table: Any, folder: Path, where: ConfigLocation) -> System:
    named = NamedIn(folder, where, "system")
    if table.chip is None:
        return load_system(table.system, named)
    chip = load_chip_file(table.chip, NamedIn(folder, where, "chip"))
    system = load_system(table.system, named, chip)
    # The published values of the system are those of its own chip.
    return replace(system, name=f"{system.name} with {chip.name}", published={})


def _workload(table: Any, folder: Path, where: ConfigLocation) -> WorkloadFile:
    """Model in its task, or layers."""
    if (table.model is None) == (table.layers is None):
        if table.model is None:
            raise where.missing("model", "the name of a model, or layers = a CSV of layers")
        raise where.error("layers", table.layers, "either model or layers")
    if table.layers is not None:
        return load_layers_file(table.layers, NamedIn(folder, where, "layers"))
    model = load_model_file(table.model, NamedIn(folder, where, "model"))
    task = None
    if table.task is not None:
        task = load_task_file(table.task, NamedIn(folder, where, "task"))
    own = {name: getattr(table, name) for name in _OWN_TASK_FIELDS}
    given = {name: value for name, value in own.items() if value is not None}
    return training_file(model, task, given)


def _failures(table: Any, folder: Path, where: ConfigLocation) -> ReliabilityFile | None:
    """Failure rates that the table names, or None."""
    if table.reliability is None:
        return None
    return load_reliability_file(table.reliability, NamedIn(folder, where, "reliability"))


def _design_of(roots: Roots, mapping: str) -> Design:
    specs = {name: value for name, value in roots.items() if name != "workload"}
    return Design(**specs, mapping=mapping)


CLUSTER = DesignKind(
    table=_TABLE,
    load=_load,
    design_of=_design_of,
    with_strategy=with_strategy,
    check=check_design,
    check_variant=lambda design, where: check_cluster(design.cluster, where),
    file_keys=MappingProxyType(
        {
            "system": "systems",
            "chip": "chips",
            "model": "models",
            "task": "tasks",
            "layers": "operators",
            "software": "software",
            "reliability": "reliability",
        }
    ),
    no_objectives=(),
)
"""Chips of one kind in a cluster with one job."""
