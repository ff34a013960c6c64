"""Figures of mappings as tables and as JSON: a network operator by operator, one in depth."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwdse.cli.mapping.loop_nest_printing import (
    bytes_text,
    limits_text,
    nest_lines,
    sizes_text,
    times_or_percent,
)
from hwdse.cli.shared.table_output import percent, print_table, say
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.core.mapping_analysis import CapacityViolation, LevelMetrics, MappingMetrics
    from hwdse.core.operator_loop_nests import MappedNetwork, MappedOperator
    from hwdse.specs.hardware.accelerator import Accelerator, Level
    from hwdse.specs.mappings.loop_nest import LevelTraffic, MappingCosts


def network_rows(network: "MappedNetwork") -> list[dict[str, Any]]:
    """Every operator with its time and energy of one run, what limits it and what breaks."""
    from hwdse.core.mapping_analysis import capacity_violations, peak_macs_per_s, ranked_resources
    from hwdse.core.ordered_loops import at_index, operator_at

    rows = []
    for index, name in enumerate(network.operators.names):
        operator, costs, core = (
            operator_at(network.operators, index),
            at_index(network.best.costs, index),
            at_index(network.accelerator, index),
        )
        rows.append(
            {
                "index": index,
                "name": name,
                "sizes": sizes_text(operator),
                "count": operator.count,
                "num_macs": costs.traffic.num_macs,
                "time_s": costs.time_s,
                "energy_j": costs.energy_j,
                "bound_by": ranked_resources(costs, core)[0][0],
                "utilization_fraction": costs.traffic.num_macs
                / costs.time_s
                / peak_macs_per_s(core),
                "capacity_violations": [shortage_row(x) for x in capacity_violations(costs, core)],
            }
        )
    return rows


def shortage_row(shortage: "CapacityViolation") -> dict[str, Any]:
    """What does not fit, and by how much."""
    return {**dataclasses.asdict(shortage), "ratio": shortage.ratio}


def network_totals(rows: Sequence[Mapping[str, Any]], network: "MappedNetwork") -> dict[str, float]:
    """Sums over all runs of all operators, and what they make together, leakage beside them."""
    from hwdse.core.mapping_analysis import peak_macs_per_s
    from hwdse.core.ordered_loops import at_index

    sums = {
        key: sum(row["count"] * row[key] for row in rows)
        for key in ("num_macs", "time_s", "energy_j")
    }
    rate = sums["num_macs"] / sums["time_s"]
    return {
        "count": sum(row["count"] for row in rows),
        **sums,
        "static_j": network.leakage_w * sums["time_s"],
        "utilization_fraction": rate / peak_macs_per_s(at_index(network.accelerator, 0)),
    }


def print_network(
    rows: Sequence[Mapping[str, Any]], totals: Mapping[str, float], title: str
) -> None:
    """Table of a network: times and energies of all runs of each operator, and their sum."""
    cells = [
        [
            row["index"], row["name"], row["sizes"], format_number(row["count"], 6),
            *_with_share(row["count"] * row["time_s"], totals["time_s"], "s"),
            *_with_share(row["count"] * row["energy_j"], totals["energy_j"], "J"),
            percent(row["utilization_fraction"]),
            "does not fit" if row["capacity_violations"] else row["bound_by"],
        ]
        for row in rows
    ]  # fmt: skip
    whole = [
        "", "all", "", format_number(totals["count"], 6),
        *_with_share(totals["time_s"], totals["time_s"], "s"),
        *_with_share(totals["energy_j"], totals["energy_j"], "J"),
        percent(totals["utilization_fraction"]), "",
    ]  # fmt: skip
    heads = [
        "#", "operator", "sizes", "runs", "time", "share", "energy", "share", "array used",
        "limited by",
    ]  # fmt: skip
    print_table(title, heads, [*cells, whole], left=3)


def _with_share(value: float, whole: float, unit: str) -> list[str]:
    return [format_quantity(value, unit), percent(value / whole)]


def level_rows(
    costs: "MappingCosts", figures: "MappingMetrics", accelerator: "Accelerator"
) -> list[dict[str, Any]]:
    """Each level of the mapping of one operator (Python floats), in base units."""
    from hwdse.core.mapping_analysis import has_capacity

    rows = []
    parts = zip(
        accelerator.levels, costs.traffic.levels, figures.levels, costs.level_s, costs.level_j,
        costs.used_ratio, strict=True,
    )  # fmt: skip
    for level, traffic, figure, time_s, energy_j, used in parts:
        rows.append(
            {
                "level": level.name,
                "operands": _operand_rows(level, traffic, figure),
                "capacity_bytes": float(level.capacity_bytes),
                "has_capacity": has_capacity(level, accelerator),
                "used_ratio": used,
                "traffic_bytes": figure.traffic_bytes,
                "lower_bound_bytes": figure.lower_bound_bytes,
                "traffic_over_bound_ratio": figure.traffic_over_bound_ratio,
                "intensity_macs_per_byte": figure.intensity_macs_per_byte,
                "bandwidth_bytes_per_s": figure.bandwidth_bytes_per_s,
                "attainable_macs_per_s": figure.attainable_macs_per_s,
                "time_s": time_s,
                "time_fraction": figure.time_fraction,
                "energy_j": energy_j,
                "energy_fraction": figure.energy_fraction,
            }
        )
    return rows


def _operand_rows(
    level: "Level", traffic: "LevelTraffic", figure: "LevelMetrics"
) -> dict[str, dict[str, float]]:
    """What a level does for each operand that it keeps."""
    capacity_bytes = float(level.capacity_bytes)
    return {
        name: {
            "read_bytes": getattr(traffic.reads, name),
            "written_bytes": getattr(traffic.writes, name),
            "kept_bytes": getattr(traffic.used, name),
            "capacity_ratio": getattr(traffic.used, name) / capacity_bytes,
            "distinct_bytes": getattr(figure.distinct_bytes, name),
            "accesses_per_distinct_ratio": getattr(figure.accesses_per_distinct_ratio, name),
            "macs_per_byte": getattr(figure.macs_per_byte, name),
        }
        for name in level.keeps
    }


def operator_json(mapped: "MappedOperator") -> dict[str, Any]:
    """Everything about one operator and its nest, in base units."""

    costs, figures = mapped.costs, mapped.metrics
    return {
        "operator": mapped.operator.names[0],
        "sizes": sizes_text(mapped.operator),
        "count": mapped.operator.count,
        "num_macs": costs.traffic.num_macs,
        "time_s": costs.time_s,
        "energy_j": costs.energy_j,
        "mac_j": costs.mac_j,
        "compute_cycles": costs.traffic.compute_cycles,
        "utilization_fraction": figures.utilization_fraction,
        "macs_per_s": figures.macs_per_s,
        "array_macs_per_s": figures.array_macs_per_s,
        "peak_macs_per_s": figures.peak_macs_per_s,
        "nest": mapped.text,
        "lines": nest_lines(mapped),
        "limits": [{"name": name, "time_s": time_s} for name, time_s in mapped.resources],
        "levels": level_rows(costs, figures, mapped.accelerator),
        "capacity_violations": [shortage_row(shortage) for shortage in mapped.capacity_violations],
    }


def print_operator(mapped: "MappedOperator", title: str) -> None:
    """The nest of one operator, its tables, and what limits it."""

    costs, figures = mapped.costs, mapped.metrics
    rows = level_rows(costs, figures, mapped.accelerator)
    say(title)
    say(
        f"one run: {format_quantity(costs.time_s, 's')}, {format_quantity(costs.energy_j, 'J')}, "
        f"array used {percent(figures.utilization_fraction)}; "
        f"runs {format_number(float(mapped.operator.count), 6)} x"
    )
    say("")
    for line in nest_lines(mapped):
        say(line)
    say("")
    print_operands(rows)
    print_levels(rows, costs)
    say(limits_text(mapped.resources))
    say(f"nest: {mapped.text}")


def print_operands(rows: Sequence[Mapping[str, Any]]) -> None:
    """Table of levels x operands: bytes read, written and kept, and how often they are used."""
    cells = []
    for row in rows:
        for number, (name, part) in enumerate(row["operands"].items()):
            cells.append(
                [
                    row["level"] if number == 0 else "", name,
                    *(bytes_text(part[key])
                      for key in ("read_bytes", "written_bytes", "kept_bytes")),
                    times_or_percent(part["capacity_ratio"]) if row["has_capacity"] else "-",
                    _reuse(part["accesses_per_distinct_ratio"]),
                    _reuse(part["macs_per_byte"]),
                ]
            )  # fmt: skip
    heads = [
        "level", "operand", "read", "written", "kept", "of capacity", "accesses/word", "MACs/byte",
    ]  # fmt: skip
    print_table("what each level moves and keeps, in one run", heads, cells, left=2)


def print_levels(rows: Sequence[Mapping[str, Any]], costs: "MappingCosts") -> None:
    """Table of levels: bytes against the fewest possible, time of the ports, energy."""
    cells = [
        [
            row["level"],
            bytes_text(row["traffic_bytes"]),
            bytes_text(row["lower_bound_bytes"]),
            f"{format_number(row['traffic_over_bound_ratio'], 4)} x",
            _bandwidth(row["bandwidth_bytes_per_s"]),
            format_quantity(row["time_s"], "s"),
            percent(row["time_fraction"]),
            *_with_share(row["energy_j"], costs.energy_j, "J"),
        ]
        for row in rows
    ]
    busy, mac_j = costs.compute_s, costs.mac_j
    array = [
        "array", "", "", "", "", format_quantity(busy, "s"), percent(busy / costs.time_s),
        *_with_share(mac_j, costs.energy_j, "J"),
    ]  # fmt: skip
    heads = ["", "moved", "at least", "", "bandwidth", "time", "share", "energy", "share"]
    print_table("time and energy of one run", heads, [*cells, array])


def _reuse(ratio: float) -> str:
    return format_number(ratio, 4) if ratio > 0.0 else "-"


def _bandwidth(bytes_per_s: float) -> str:
    return format_quantity(bytes_per_s, "B/s") if math.isfinite(bytes_per_s) else "not counted"
