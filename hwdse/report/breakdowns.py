"""Parts of time, energy, area and memory of an evaluation with their labels."""

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

from hwdse.report.metrics import CORE, SERVING, TRAINING, kind_of
from hwdse.report.number_texts import percent, spaced

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.results.evaluation_result import Evaluation

_TRAINING_BREAKDOWNS = (
    ("step time", "time", "s"),
    ("step energy", "energy", "J"),
    ("die area per chip", "area", "mm²"),
    ("peak HBM usage", "hbm", "B"),
)
"""Label, field of `Evaluation` that holds the parts, base unit of each part."""
_CORE_BREAKDOWNS = (
    ("time per pass", "time", "s"),
    ("energy per pass", "energy", "J"),
    ("die area", "area", "mm²"),
    ("DRAM footprint", "hbm", "B"),
)
"""The same for a core."""
_SERVING_BREAKDOWNS = (
    ("mean step time", "time", "s"),
    ("mean step energy", "energy", "J"),
    ("die area per chip", "area", "mm²"),
    ("HBM usage", "hbm", "B"),
)
"""The same for a service."""
BREAKDOWNS = MappingProxyType(
    {TRAINING: _TRAINING_BREAKDOWNS, CORE: _CORE_BREAKDOWNS, SERVING: _SERVING_BREAKDOWNS}
)
"""Breakdowns of a kind of jobs."""
BREAKDOWN_KEYS = {"time": "time_s", "energy": "energy_j", "area": "area_mm2", "hbm": "hbm_bytes"}
"""JSON key of each breakdown by its field of `Evaluation`."""
PART_LABELS = {
    "matrix": "matrix engines",
    "vector": "vector engines",
    "fp64": "FP64",
    "sram": "SRAM",
    "hbm": "HBM",
    "launch": "kernel launch",
    "host": "host",
    "tensor_comm": "exposed TP communication",
    "context_comm": "exposed CP communication",
    "expert_comm": "exposed EP communication",
    "pipeline_comm": "exposed PP communication",
    "data_comm": "exposed DP communication",
    "bubble": "pipeline bubble",
    "link": "scale-up fabric",
    "network": "scale-out network",
    "static": "static (leakage, idle clock)",
    "on_chip_network": "on-chip network",
    "hbm_phy": "HBM PHY",
    "link_phy": "scale-up PHY",
    "white_space": "white space",
    "base_dies": "base dies",
    "runtime": "runtime, communicators",
}
"""Labels of the parts of time, energy, area and memory; others are their own labels."""
OPTIMIZER_LABELS = {"time": "optimizer update", "hbm": "optimizer states"}
"""Label of the part `optimizer` by breakdown."""
_CORE_PARTS = {"matrix": "PE array", "sram": "on-chip memory", "hbm": "DRAM",
              "hbm_phy": "DRAM interface"}  # fmt: skip
"""Labels that differ for a core."""
_SERVING_PARTS = {"host": "host and sampling", "launch": "issue and layers beyond kernels",
                  "tensor_comm": "collectives"}  # fmt: skip
"""Labels that differ for a service."""
_OWN_PARTS = MappingProxyType({TRAINING: {}, CORE: _CORE_PARTS, SERVING: _SERVING_PARTS})
STEP_WORDS = MappingProxyType({TRAINING: "step", CORE: "pass", SERVING: "step"})
"""What the time of an evaluation belongs to."""


def parts_of(evaluation: "Evaluation", field: str) -> dict[str, float]:
    """A breakdown as names and values, largest first."""
    parts = getattr(evaluation, field)
    named = {f.name: float(getattr(parts, f.name)) for f in dataclasses.fields(parts)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def part_label(name: str, field: str, *, kind: str = TRAINING) -> str:
    """Label of one part of the breakdown in a field of `Evaluation`: `exposed TP communication`
    for `tensor_comm`."""
    if name == "optimizer":
        return OPTIMIZER_LABELS[field]
    labels = {**PART_LABELS, **_OWN_PARTS[kind]}
    return labels.get(name, spaced(name))


def bottlenecks(evaluation: "Evaluation", loaded: "LoadedSearch") -> str:
    """One line: the largest parts of the step time."""
    parts, kind = parts_of(evaluation, "time"), kind_of(loaded)
    whole = sum(parts.values())
    shares = [
        f"{part_label(name, 'time', kind=kind)} {percent(value / whole, 0)}"
        for name, value in list(parts.items())[:3]
        if value >= 0.005 * whole
    ]
    return f"bottlenecks (share of {STEP_WORDS[kind]} time): {', '.join(shares)}"
