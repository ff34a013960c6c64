"""The `astrasim` convention of collectives against times of ASTRA-sim's analytical backend.

Scored: the congestion-unaware backend with ring, direct and halving-doubling. The model is exact
in one dimension. In several dimensions, rows with more than one chunk form a separate group.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)
from hwdse.validation.simulators.astrasim_times import (
    ALGORITHM_TIMES,
    AstraSimDimension,
    collective_time_s,
)

COLUMNS = (
    "backend",
    "topology",
    "group_sizes",
    "link_bandwidth_bytes_per_s",
    "link_latency_s",
    "collective",
    "algorithm",
    "message_bytes",
    "num_chunks",
    "active_chunks",
    "endpoint_delay_s",
    "local_memory_bandwidth_bytes_per_s",
    "multi_dimension_order",
    "time_s",
)
TOPOLOGIES = ("Ring", "Switch", "FullyConnected")
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def validate(path: Path) -> ValidationReport:
    """Error table of the time of a collective."""
    table = read_table(path, COLUMNS)
    reference = table.numbers("time_s", at_least=0.0)
    table.text("collective", KINDS)
    skipped: Counter[str] = Counter()
    model = np.full(len(table), math.nan)
    for index, row in enumerate(table.rows):
        reason = _skip_reason(row)
        if reason:
            skipped[reason] += 1
            continue
        model[index] = _model_time(table, index)
    scored = np.where(np.isnan(model), math.nan, reference)
    return build_report(
        "astrasim",
        path,
        {"time": Comparison(scored, model, printed_resolution(table.text("time_s")))},
        rows_skipped=skipped,
        group_by={
            "algorithm": table.text("algorithm"),
            "case": [_case(row) for row in table.rows],
            "collective": table.text("collective"),
        },
    )


def _skip_reason(row: Mapping[str, str]) -> str | None:
    if row["backend"] != "congestion_unaware":
        return f"backend {row['backend']}: no model of link queues"
    names = row["algorithm"].split("+")
    for name in names:
        if name not in ALGORITHM_TIMES:
            return f"algorithm {name}: no rule"
    if row["collective"] == "all_to_all" and "halvingDoubling" in names:
        return "all_to_all by halvingDoubling: no rule"
    if any(topology not in TOPOLOGIES for topology in row["topology"].split("+")):
        return f"topology {row['topology']}: no rule"
    return None


def _case(row: Mapping[str, str]) -> str:
    chunks = "one chunk" if row["num_chunks"] == "1" else "several chunks"
    if "+" not in row["topology"]:
        plain = {"ring", "direct"} >= set(row["algorithm"].split("+"))
        return f"one dimension, {'ring or direct' if plain else 'halving-doubling'}"
    return f"several dimensions, {chunks}"


def _model_time(table: ReferenceTable, index: int) -> float:
    row = table.rows[index]

    def numbers(column: str) -> list[float]:
        try:
            return [float(cell) for cell in row[column].replace("x", "+").split("+")]
        except ValueError:
            raise table.error(index, column, "numbers joined by + or x") from None

    topologies, sizes = row["topology"].split("+"), numbers("group_sizes")
    rates, latencies = numbers("link_bandwidth_bytes_per_s"), numbers("link_latency_s")
    algorithms = row["algorithm"].split("+")
    if not len(topologies) == len(sizes) == len(rates) == len(latencies) == len(algorithms):
        raise table.error(index, "group_sizes", "one number per dimension of the topology")
    delay, memory = (
        numbers(name)[0] for name in ("endpoint_delay_s", "local_memory_bandwidth_bytes_per_s")
    )
    dimensions = [
        AstraSimDimension(topology, int(size), rate, latency, delay, memory)
        for topology, size, rate, latency in zip(topologies, sizes, rates, latencies, strict=True)
    ]
    chunks, active = (int(numbers(name)[0]) for name in ("num_chunks", "active_chunks"))
    return collective_time_s(
        row["collective"],
        numbers("message_bytes")[0],
        dimensions,
        algorithms,
        num_chunks=chunks,
        num_active=active,
        is_hierarchical=row["multi_dimension_order"] == "hierarchical",
    )
