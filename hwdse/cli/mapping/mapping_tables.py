"""Metrics of mappings as tables and JSON: all operators of a network, one operator by level."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwdse.cli.mapping.loop_nest_printing import bounds_text, nest_lines, sizes_text
from hwdse.cli.shared.table_output import print_table, say
from hwdse.report.metrics import format_metric
from hwdse.report.number_texts import number_cells, percent, prefix_of, share_cell, significant
from hwdse.units.format_units import format_number

if TYPE_CHECKING:
    from hwdse.core.mapping_analysis import CapacityViolation, LevelMetrics, MappingMetrics
    from hwdse.core.operator_loop_nests import MappedNetwork, MappedOperator
    from hwdse.specs.hardware.accelerator import Accelerator, Level
    from hwdse.specs.mappings.loop_nest import LevelTraffic, MappingCosts

GB = 1e9


def network_rows(network: "MappedNetwork") -> list[dict[str, Any]]:
    """Every operator: time and energy of one execution, slowest resource, capacity violations."""
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
                "capacity_violations": [violation_row(x) for x in capacity_violations(costs, core)],
            }
        )
    return rows


def violation_row(violation: "CapacityViolation") -> dict[str, Any]:
    """Exceeded capacity as a row of JSON, with the ratio of required to available."""
    return {**dataclasses.asdict(violation), "ratio": violation.ratio}


def network_totals(rows: Sequence[Mapping[str, Any]], network: "MappedNetwork") -> dict[str, float]:
    """Sums over all executions of all operators, static energy and MAC utilization."""
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
    """Print the operators of a network: time and energy of all executions, and their sums."""
    times = [row["count"] * row["time_s"] for row in rows] + [totals["time_s"]]
    energies = [row["count"] * row["energy_j"] for row in rows] + [totals["energy_j"]]
    (time_unit, time_cells), (energy_unit, energy_cells) = (
        _prefixed_cells(times, "s"),
        _prefixed_cells(energies, "J"),
    )
    cells = []
    for index, row in enumerate([*rows, {"name": "total", **totals}]):
        cells.append(
            [
                row.get("index", ""),
                row["name"],
                row.get("sizes", ""),
                format_number(row["count"], 6),
                time_cells[index],
                share_cell(times[index], totals["time_s"]),
                energy_cells[index],
                share_cell(energies[index], totals["energy_j"]),
                f"{100.0 * row['utilization_fraction']:.1f}",
                "does not fit" if row.get("capacity_violations") else row.get("bound_by", ""),
            ]
        )
    heads = [
        "#", "operator", "sizes", "count", f"time ({time_unit})", "share (%)",
        f"energy ({energy_unit})", "share (%)", "MAC utilization (%)", "bound by",
    ]  # fmt: skip
    print_table(title, heads, cells, left=3)


def _prefixed_cells(values: Sequence[float], unit: str) -> tuple[str, list[str]]:
    """Unit with the prefix of the largest value, and cells of which it has four digits."""
    size, prefix = prefix_of(max(values))
    (largest,) = number_cells([max(values) / size], 0, 4)
    decimals = len(largest.partition(".")[2])
    return f"{prefix}{unit}", number_cells([value / size for value in values], decimals, 0)


def level_rows(
    costs: "MappingCosts", metrics: "MappingMetrics", accelerator: "Accelerator"
) -> list[dict[str, Any]]:
    """Every level of the mapping of one operator (Python floats), in base units."""
    from hwdse.core.mapping_analysis import has_capacity

    rows = []
    parts = zip(
        accelerator.levels, costs.traffic.levels, metrics.levels, costs.level_s, costs.level_j,
        costs.used_ratio, strict=True,
    )  # fmt: skip
    for level, traffic, found, time_s, energy_j, used in parts:
        rows.append(
            {
                "level": level.name,
                "operands": _operand_rows(level, traffic, found),
                "capacity_bytes": float(level.capacity_bytes),
                "has_capacity": has_capacity(level, accelerator),
                "used_ratio": used,
                "traffic_bytes": found.traffic_bytes,
                "lower_bound_bytes": found.lower_bound_bytes,
                "traffic_over_bound_ratio": found.traffic_over_bound_ratio,
                "intensity_macs_per_byte": found.intensity_macs_per_byte,
                "bandwidth_bytes_per_s": found.bandwidth_bytes_per_s,
                "attainable_macs_per_s": found.attainable_macs_per_s,
                "time_s": time_s,
                "time_fraction": found.time_fraction,
                "energy_j": energy_j,
                "energy_fraction": found.energy_fraction,
            }
        )
    return rows


def _operand_rows(
    level: "Level", traffic: "LevelTraffic", metrics: "LevelMetrics"
) -> dict[str, dict[str, float]]:
    """Traffic, footprint and reuse of each operand that a level keeps."""
    capacity_bytes = float(level.capacity_bytes)
    return {
        name: {
            "read_bytes": getattr(traffic.reads, name),
            "written_bytes": getattr(traffic.writes, name),
            "footprint_bytes": getattr(traffic.used, name),
            "capacity_ratio": getattr(traffic.used, name) / capacity_bytes,
            "distinct_bytes": getattr(metrics.distinct_bytes, name),
            "accesses_per_distinct_ratio": getattr(metrics.accesses_per_distinct_ratio, name),
            "macs_per_byte": getattr(metrics.macs_per_byte, name),
        }
        for name in level.keeps
    }


def operator_json(mapped: "MappedOperator") -> dict[str, Any]:
    """Metrics of one operator and its loop nest, in base units."""
    costs, metrics = mapped.costs, mapped.metrics
    return {
        "operator": mapped.operator.names[0],
        "sizes": sizes_text(mapped.operator),
        "count": mapped.operator.count,
        "num_macs": costs.traffic.num_macs,
        "time_s": costs.time_s,
        "energy_j": costs.energy_j,
        "mac_j": costs.mac_j,
        "compute_cycles": costs.traffic.compute_cycles,
        "utilization_fraction": metrics.utilization_fraction,
        "macs_per_s": metrics.macs_per_s,
        "array_macs_per_s": metrics.array_macs_per_s,
        "peak_macs_per_s": metrics.peak_macs_per_s,
        "nest": mapped.text,
        "nest_lines": nest_lines(mapped),
        "resources": [{"name": name, "time_s": time_s} for name, time_s in mapped.resources],
        "levels": level_rows(costs, metrics, mapped.accelerator),
        "capacity_violations": [violation_row(one) for one in mapped.capacity_violations],
    }


def print_operator(mapped: "MappedOperator", title: str) -> None:
    """Print the loop nest of one operator, its tables and its bounds."""
    costs, metrics = mapped.costs, mapped.metrics
    rows = level_rows(costs, metrics, mapped.accelerator)
    say(title)
    say(
        f"one execution: {format_metric(costs.time_s, 's')}, {format_metric(costs.energy_j, 'J')}, "
        f"MAC utilization {percent(metrics.utilization_fraction)}; "
        f"count {format_number(float(mapped.operator.count), 6)}"
    )
    say("")
    for line in nest_lines(mapped):
        say(line)
    say("")
    print_operands(rows)
    print_levels(rows, costs)
    say(bounds_text(mapped.resources))
    say(f"nest: {mapped.text}")


def print_operands(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print traffic, footprint and reuse by level and operand."""
    keys = ("read_bytes", "written_bytes", "footprint_bytes")
    parts = [part for row in rows for part in row["operands"].values()]
    size, unit = _binary_unit([part[key] for part in parts for key in keys])
    cells = []
    for row in rows:
        for number, (name, part) in enumerate(row["operands"].items()):
            usage = f"{100.0 * part['capacity_ratio']:.1f}" if row["has_capacity"] else "-"
            cells.append(
                [
                    row["level"] if number == 0 else "",
                    name,
                    *(significant(part[key] / size, 4) for key in keys),
                    usage,
                    _reuse(part["accesses_per_distinct_ratio"]),
                    _reuse(part["macs_per_byte"]),
                ]
            )
    heads = [
        "level", "operand", f"read ({unit})", f"written ({unit})", f"footprint ({unit})",
        "usage (%)", "accesses/word", "MAC/B",
    ]  # fmt: skip
    print_table("Traffic and footprint of one execution", heads, cells, left=2)


def print_levels(rows: Sequence[Mapping[str, Any]], costs: "MappingCosts") -> None:
    """Print traffic with its lower bound, port time and energy by level."""
    size, unit = _binary_unit([row["traffic_bytes"] for row in rows])
    times = [row["time_s"] for row in rows] + [costs.compute_s]
    energies = [row["energy_j"] for row in rows] + [costs.mac_j]
    time_unit, time_cells = _prefixed_cells(times, "s")
    energy_unit, energy_cells = _prefixed_cells(energies, "J")
    cells = []
    for index, level in enumerate([*(row["level"] for row in rows), "PE array"]):
        traffic = ["", "", "", ""]
        if index < len(rows):
            row = rows[index]
            traffic = [
                significant(row["traffic_bytes"] / size, 4),
                significant(row["lower_bound_bytes"] / size, 4),
                format_number(row["traffic_over_bound_ratio"], 4),
                significant(row["bandwidth_bytes_per_s"] / GB),
            ]
        cells.append(
            [
                level,
                *traffic,
                time_cells[index],
                share_cell(times[index], costs.time_s),
                energy_cells[index],
                share_cell(energies[index], costs.energy_j),
            ]
        )
    heads = [
        "level", f"traffic ({unit})", f"lower bound ({unit})", "traffic/bound", "bandwidth (GB/s)",
        f"time ({time_unit})", "share (%)", f"energy ({energy_unit})", "share (%)",
    ]  # fmt: skip
    print_table("Time and energy of one execution", heads, cells)


def _binary_unit(sizes_bytes: Sequence[float]) -> tuple[float, str]:
    """Binary unit in which the largest size has two to five digits."""
    power = min(max((math.frexp(max(sizes_bytes))[1] - 5) // 10, 0), 4)
    return 1024.0**power, f"{('', 'Ki', 'Mi', 'Gi', 'Ti')[power]}B"


def _reuse(ratio: float) -> str:
    """Reuse with four digits; `-` without accesses."""
    return format_number(ratio, 4) if ratio > 0.0 else "-"
