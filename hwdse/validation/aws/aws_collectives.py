"""Collective models against published runs on AWS: nccl-tests and nccom-test.

Rows of domain "collective" of an AWS file. Inside one GPU server, the time is that of the fitted
NCCL (`configs/libraries`). Across servers and on Trainium, it is that of the hierarchical fabric
(`models/network/hierarchical_collectives.py`) of the cluster preset; `configs/chips` contains the
constants with sources. Benchmarks with a host launch per collective add `HOST_START_S`.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from hwdse.config.hardware.load_specs import load_chip, load_system
from hwdse.models.network.hierarchical_collectives import collective_time_s
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.validation.measured.collective_libraries import Rows, find_library, model_times
from hwdse.validation.measured.device_fabrics import find_fabric
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)

COLUMNS = (
    "domain",
    "model",
    "chip",
    "nodes",
    "parallelism",
    "size_bytes",
    "metric",
    "value",
    "unit",
    "source",
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Server preset, chip preset if different, and ranks per chip."""

    system: str
    ranks_per_chip: float = 1.0
    chip: str | None = None


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "A100-80GB": Machine("p4de_24xlarge"),
        "H100": Machine("p5_48xlarge"),
        "H200": Machine("p5_48xlarge", chip="h200"),
        "B200": Machine("p6_b200"),
        "Trainium1": Machine("trn1_32xlarge", ranks_per_chip=2.0),
        # A logical core is two physical cores.
        "Trainium2": Machine("trn2_48xlarge", ranks_per_chip=4.0),
    }
)
KINDS = MappingProxyType(
    {
        "all-reduce": "all_reduce",
        "all-gather": "all_gather",
        "reduce-scatter": "reduce_scatter",
        "alltoall": "all_to_all",
        "all-to-all": "all_to_all",
        "broadcast": "broadcast",
    }
)
UNITS: Mapping[str, float] = MappingProxyType(
    {"us": 1e-6, "ms": 1e-3, "s": 1.0, "GB/s": 1e9, "GiB/s": 2.0**30}
)
HOST_START_S: Mapping[str, float] = MappingProxyType(
    {"nccom-test": 90e-6, "ml-engineering": 28e-6, "nccom-tests": 90e-6}
)
"""Host launch time by a word of the source (s). nccom-test: 101 µs for 1 KiB on 64 ranks of
Trainium2, older releases 150 µs (its public rows). ml-engineering: all_reduce_bench.py of PyTorch,
39 µs for 32 KiB on 8 H200, compared with 12 µs by nccl-tests on H100."""


class UnmodeledCollectiveError(Exception):
    """A row outside the scope of the model; the message is the reason."""


def validate(path: Path) -> ValidationReport:
    """Error table of times and bus bandwidths, by chip, source and number of servers."""
    table = read_table(path, COLUMNS)
    if "collective" not in table.text("domain"):
        raise ValueError(f"{path}: no row of domain 'collective'; expected at least one")
    skipped: Counter[str] = Counter()
    model, scale = np.full(len(table), math.nan), np.ones(len(table))
    with jax.enable_x64(True):
        for index, row in enumerate(table.rows):
            try:
                model[index] = _model_value(row)
            except UnmodeledCollectiveError as error:
                skipped[str(error)] += 1
                continue
            if row["unit"] not in UNITS:
                raise table.error(index, "unit", "one of " + ", ".join(UNITS))
            scale[index] = UNITS[row["unit"]]
    comparisons = _comparisons(table, model, scale)
    if not comparisons:
        raise ValueError(f"{path}: no collective that the model covers; skipped {dict(skipped)}")
    return build_report(
        "aws collective",
        path,
        comparisons,
        rows_skipped=skipped,
        group_by={
            "chip": [f"{row['chip']}, {_nodes_text(row)}" for row in table.rows],
            "source": [_source_word(row["source"]) or "nccl-tests" for row in table.rows],
        },
    )


def _comparisons(
    table: ReferenceTable, model: np.ndarray, scale: np.ndarray
) -> dict[str, Comparison]:
    """Reference and model by metric, in base units, for rows with a model."""
    is_scored = ~np.isnan(model)
    cells = [row["value"] if keep else "" for row, keep in zip(table.rows, is_scored, strict=True)]
    rows = tuple({**row, "value": cell} for row, cell in zip(table.rows, cells, strict=True))
    scored = dataclasses.replace(table, rows=rows)
    reference = scored.numbers("value", at_least=0.0, may_be_empty=True) * scale
    resolution = printed_resolution(cells) * scale
    metrics = np.array(table.text("metric"))
    found = {}
    for name in ("time", "busbw"):
        chosen = is_scored & (metrics == name)
        if chosen.any():
            found[name] = Comparison(
                np.where(chosen, reference, math.nan),
                np.where(chosen, model, math.nan),
                resolution,
            )
    return found


def _nodes_text(row: Mapping[str, str]) -> str:
    return f"{row['nodes'] or '?'} server(s)"


def _source_word(source: str) -> str | None:
    return next((word for word in HOST_START_S if word in source), None)


def _model_value(row: Mapping[str, str]) -> float:
    """Time (s) or bus bandwidth (B/s) of a row."""
    if row["domain"] != "collective":
        raise UnmodeledCollectiveError(f"domain {row['domain']}: not a collective")
    if row["metric"] not in ("time", "busbw"):
        raise UnmodeledCollectiveError(f"no rule for the metric {row['metric']}")
    kind = next((KINDS[name] for name in KINDS if row["model"].lower().startswith(name)), None)
    machine = MACHINES.get(row["chip"])
    ranks = re.match(r"(\d+) ranks", row["parallelism"])
    if kind is None:
        raise UnmodeledCollectiveError(f"no rule for {row['model']}")
    if machine is None:
        raise UnmodeledCollectiveError(f"chip '{row['chip']}': no preset")
    if ranks is None or not row["nodes"] or not row["size_bytes"]:
        raise UnmodeledCollectiveError("ranks, servers or size not stated")
    if row["metric"] == "busbw" and kind == "all_gather" and "nccom" in row["source"]:
        raise UnmodeledCollectiveError("bus bandwidth of nccom-test's all-gather: twice n / t")
    num_ranks, nodes = float(ranks[1]), float(row["nodes"])
    size = float(row["size_bytes"])
    if num_ranks <= machine.ranks_per_chip:
        raise UnmodeledCollectiveError("all ranks on one chip")
    word = _source_word(row["source"])
    start_s = HOST_START_S[word] if word else 0.0
    time_s = start_s + _time_s(kind, size, num_ranks, nodes, row["chip"], machine)
    if row["metric"] == "time":
        return time_s
    factor = (2.0 if kind == "all_reduce" else 1.0) * (num_ranks - 1.0) / num_ranks
    return (1.0 if kind == "broadcast" else factor) * size / time_s


def _time_s(
    kind: str, size: float, num_ranks: float, nodes: float, chip_name: str, machine: Machine
) -> float:
    fabric, found = find_fabric(chip_name), find_library(chip_name, "nccl")
    if nodes == 1.0 and fabric is not None and found is not None and kind != "broadcast":
        one = Rows(
            np.array([kind]), np.array([size]), np.array([num_ranks]), np.ones(1), np.ones(1)
        )
        return float(model_times("nccl", found[0], one, fabric)[0])
    chip, cluster = _parts(machine)
    num_chips = num_ranks / machine.ranks_per_chip
    return float(_fabric_time(kind)(size, num_chips, chip, cluster))


@functools.cache
def _parts(machine: Machine) -> tuple[Chip, Cluster]:
    system = load_system(machine.system)
    return load_chip(machine.chip) if machine.chip else system.chip, system.cluster


@functools.cache
def _fabric_time(kind: str) -> Callable[..., Any]:
    """Compiled collective time of a group on the first chips of a cluster."""
    return quick_jit(
        lambda size, num_chips, chip, cluster: collective_time_s(
            kind, size, num_chips, 1.0, chip, cluster
        )
    )
