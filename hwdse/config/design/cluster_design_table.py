"""`[design]` table of a search for chips in a cluster: system, workload, parallelism."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.design.zero_stage import PARALLELISM_TABLE
from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.failure_rates import ReliabilityFile, load_reliability_file
from hwdse.config.hardware.load_specs import (
    BaseParts,
    DesignKind,
    NamedIn,
    load_software_file,
    load_system,
    load_workload_file,
)
from hwdse.config.schema.allowed_names import cluster_mappings
from hwdse.config.schema.consistency_checks import check_cluster, check_design
from hwdse.config.schema.schema import STRICT, name_field, number_field, spec_model, to_spec
from hwdse.config.schema.user_paths import Roots
from hwdse.specs.checkpointing import Checkpointing
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.number_formats import PrecisionMix

_TABLE = create_model(
    "DesignTable",
    __config__=STRICT,
    system=(StrictStr, Field()),
    num_systems=number_field("num_systems"),
    workload=(StrictStr, Field()),
    software=(StrictStr, Field("compiled")),
    mapping=name_field(cluster_mappings, "closed_form"),
    checkpoint_interval_s=number_field("checkpoint_interval_s"),
    checkpointing=(spec_model(Checkpointing), Field(spec_model(Checkpointing)())),
    reliability=(StrictStr | None, Field(None)),
    mix=(spec_model(PrecisionMix), Field()),
    parallelism=(PARALLELISM_TABLE, Field()),
)


def _load(table: Any, folder: Path, where: ConfigLocation) -> BaseParts:
    system = load_system(table.system, NamedIn(folder, where, "system"))
    job = load_workload_file(table.workload, NamedIn(folder, where, "workload"))
    stack = load_software_file(table.software, NamedIn(folder, where, "software"))
    failures = _failures(table, folder, where)
    cluster: Any = system.cluster if failures is None else failures.apply(system.cluster)
    roots: Roots = {
        "chip": system.chip,
        "cluster": cluster.replace(num_chips=cluster.num_chips * table.num_systems),
        "mix": to_spec(PrecisionMix, table.mix),
        "parallelism": to_spec(Parallelism, table.parallelism),
        "checkpoint_interval_s": table.checkpoint_interval_s,
        "checkpointing": to_spec(Checkpointing, table.checkpointing),
        "software": stack.software,
        "workload": job.workload,
    }
    files = zip(("system", "chip", "process"), system.files, strict=False)
    return BaseParts(
        roots=roots,
        mapping=table.mapping,
        labels={"system": system.name, "chip": system.chip_name, "workload": job.name},
        files=(
            *files,
            *(("workload", file) for file in job.files),
            *(("software", file) for file in stack.files),
            *(("reliability", file) for file in (failures.files if failures else ())),
        ),
        published={
            "system": dict(system.published),
            "chip": dict(system.chip_published),
            "workload": dict(job.published),
        },
    )


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
    check=check_design,
    check_variant=lambda design, where: check_cluster(design.cluster, where),
    file_keys=MappingProxyType(
        {
            "system": "clusters",
            "workload": "workloads",
            "software": "software",
            "reliability": "reliability",
        }
    ),
    no_objectives=(),
)
"""Chips of one kind in a cluster with one job."""
