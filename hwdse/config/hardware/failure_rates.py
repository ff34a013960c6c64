"""Failure rates of fleets from TOML files and presets."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.load_specs import (
    COMMON,
    NamedIn,
    Preset,
    open_file,
    published_field,
    published_of,
)
from hwdse.config.schema.overrides import apply_overrides, flatten
from hwdse.config.schema.schema import STRICT, check, number_field
from hwdse.config.schema.user_paths import Roots
from hwdse.models.reliability.single_level_checkpoint import chip_mtbf_s
from hwdse.specs.hardware.cluster import Cluster

_PUBLISHED = "failures_per_1000_node_days chips_per_node chip_mtbf_s"
RELIABILITY_TABLES = create_model(
    "ReliabilityTables",
    __config__=STRICT,
    **COMMON,
    failures_per_1000_node_days=number_field("failures_per_1000_node_days"),
    chips_per_node=number_field("chips_per_node"),
    cluster=(dict[str, Any], Field({})),
    published=published_field(_PUBLISHED),
)


@dataclass(frozen=True)
class ReliabilityFile(Preset):
    """A failure rate with the metadata of its file."""

    chip_mtbf_s: float
    label: str
    changes: dict[str, Any]
    """Further values of `[cluster]`, such as `restart_time`."""

    def apply(self, cluster: Cluster) -> Cluster:
        """The cluster with these failures. Raises `ConfigError` for unknown keys."""
        roots: Roots = {"cluster": dataclasses.replace(cluster, chip_mtbf_s=self.chip_mtbf_s)}
        changes = flatten({"cluster": self.changes}) if self.changes else {}
        return apply_overrides(roots, changes, ConfigLocation(self.label))["cluster"]


def load_reliability_file(
    name_or_path: str | Path, named_in: NamedIn | None = None
) -> ReliabilityFile:
    """Load failure rates from a preset (`llama3`) or a TOML file.

    Rates are failures per 1,000 node days. Each chip of a node has an equal part of its rate.
    """
    file = open_file("reliability", name_or_path, named_in)
    checked = check(RELIABILITY_TABLES, file.tables, ConfigLocation(file.label))
    rate, chips = checked.failures_per_1000_node_days, checked.chips_per_node
    mtbf_s = float(chip_mtbf_s(rate, chips))
    published = {
        "failures_per_1000_node_days": rate,
        "chips_per_node": chips,
        "chip_mtbf_s": mtbf_s,
    }
    return ReliabilityFile(
        name=checked.name,
        published={**published, **published_of(checked)},
        sources=tuple(checked.sources),
        files=(file,),
        chip_mtbf_s=mtbf_s,
        label=file.label,
        changes=checked.cluster,
    )
