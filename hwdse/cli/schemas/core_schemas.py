"""Schemas of the outputs on cores and on reference data: mapping, validate, import."""

from hwdse.cli.schemas import result_schemas as results
from hwdse.cli.schemas.schema_parts import (
    Schema,
    count,
    either,
    fixed,
    flag,
    items,
    names,
    number,
    shared,
    text,
)


def mapping_schema() -> Schema:
    """Output of `hwdse mapping`: all operators of a network, or one with `--operator`."""
    return either(_network(), _operator())


def _network() -> Schema:
    row = {
        "index": count("Index of the operator."),
        "name": text("Name of the operator."),
        "sizes": text("Loop extents."),
        "count": number("Executions per pass."),
        "num_macs": number("MACs of one execution."),
        "time_s": number("Time of one execution.", "s"),
        "energy_j": number("Energy of one execution, without static energy.", "J"),
        "bound_by": text("Slowest resource: a memory or the PE array."),
        "utilization_fraction": number("MACs over time and peak rate."),
        "capacity_violations": capacity_violations(),
    }
    totals = {
        "count": number("Executions of all operators per pass."),
        "num_macs": number("MACs of a pass."),
        "time_s": number("Time of a pass.", "s"),
        "energy_j": number("Energy of a pass, without static energy.", "J"),
        "static_j": number("Static energy of a pass.", "J"),
        "utilization_fraction": number("MACs over time and peak rate."),
    }
    return fixed(
        {
            "title": text("Network and core."),
            "operators": items(fixed(row)),
            "totals": fixed(totals, "Sums over all executions."),
        },
        "All operators of a network.",
    )


@shared
def capacity_violations() -> Schema:
    """Capacities that a mapping exceeds."""
    row = {
        "resource": text("Name of a memory, rows or columns."),
        "required": number("Required capacity."),
        "available": number("Available capacity."),
        "unit": text("B, or 1 for PEs.", ("B", "1")),
        "ratio": number("Required over available capacity."),
    }
    return items(fixed(row), "Exceeded capacities; empty for a mapping that fits.")


def _operator() -> Schema:
    resource = {"name": text(), "time_s": number("Time of the resource.", "s")}
    return fixed(
        {
            "title": text("Operator and core."),
            "operator": text("Name of the operator."),
            "sizes": text("Loop extents."),
            "count": number("Executions per pass."),
            "num_macs": number("MACs of one execution."),
            "time_s": number("Time of one execution.", "s"),
            "energy_j": number("Energy of one execution.", "J"),
            "mac_j": number("Energy of the MAC units.", "J"),
            "compute_cycles": number("Cycles of the PE array."),
            "utilization_fraction": number("MACs over time and peak rate."),
            "macs_per_s": number("MACs over time.", "1/s"),
            "array_macs_per_s": number("Rate of the PEs in use.", "1/s"),
            "peak_macs_per_s": number("Peak rate of all PEs.", "1/s"),
            "nest": text("Loop nest as text, input of --nest."),
            "nest_lines": items(text(), "Loop nest as indented lines."),
            "resources": items(fixed(resource), "Resources, slowest first."),
            "levels": items(_level(), "Memories, from DRAM inward."),
            "capacity_violations": capacity_violations(),
            "files": results.files(),
        },
        "One operator.",
    )


def _level() -> Schema:
    operand = {
        "read_bytes": number("Reads.", "B"),
        "written_bytes": number("Writes.", "B"),
        "footprint_bytes": number("Footprint.", "B"),
        "capacity_ratio": number("Footprint over capacity."),
        "distinct_bytes": number("Distinct words.", "B"),
        "accesses_per_distinct_ratio": number("Accesses per distinct word."),
        "macs_per_byte": number("MACs per byte of traffic."),
    }
    return fixed(
        {
            "level": text("Name of the memory."),
            "operands": names(fixed(operand), "Operands that the memory keeps."),
            "capacity_bytes": number("Capacity.", "B"),
            "has_capacity": flag("True if the capacity is limited."),
            "used_ratio": number("Footprint over capacity."),
            "traffic_bytes": number("Traffic of one execution.", "B"),
            "lower_bound_bytes": number("Lower bound on the traffic.", "B"),
            "traffic_over_bound_ratio": number("Traffic over its lower bound."),
            "intensity_macs_per_byte": number("MACs per byte of traffic."),
            "bandwidth_bytes_per_s": number("Bandwidth.", "B/s"),
            "attainable_macs_per_s": number("Rate at which the memory is busy.", "1/s"),
            "time_s": number("Time of the port.", "s"),
            "time_fraction": number("Time of the port over time of the operator."),
            "energy_j": number("Energy of the accesses.", "J"),
            "energy_fraction": number("Share of the energy of the operator."),
        }
    )


def validate_schema() -> Schema:
    """Output of `hwdse validate`."""
    from hwdse.cli.evaluate.validate_command import KINDS

    return fixed(
        {
            "kind": text("Kind of the reference.", tuple(KINDS)),
            "file": text("Path of the reference data."),
            "rows_scored": count("Rows that were compared."),
            "rows_skipped": names(count(), "Rows outside the scope of the model, by reason."),
            "rows_partly_scored": names(count(), "Rows with some quantities only, by reason."),
            "metrics": names(errors(), "Errors by quantity."),
            "groups": names(names(errors()), "Errors by group of rows, then by quantity."),
        }
    )


@shared
def errors() -> Schema:
    """Errors of one quantity."""
    return fixed(
        {
            "num_rows": count("Rows with the quantity."),
            "mape": number("Mean absolute relative error."),
            "median_ape": number("Median absolute relative error."),
            "p90_ape": number("90th percentile of the absolute relative error."),
            "max_ape": number("Largest absolute relative error."),
            "bias": number("Mean relative error."),
            "spearman": number("Spearman rank correlation; null for equal values."),
            "mismatches": count("Rows that differ by more than the resolution of the reference."),
        }
    )


def import_schema() -> Schema:
    """Output of `hwdse import`."""
    from hwdse.cli.files.import_command import PEERS

    written = {
        "kind": text("Kind of the file: model, system, job, accelerator, operators."),
        "path": text("Path of the file."),
        "tables": {"type": "object", "description": "Content of the file."},
        "not_expressed": items(text(), "Parts of the source that the file cannot express."),
    }
    return fixed(
        {
            "peer": text("Program of the source files.", tuple(PEERS)),
            "summary": text("Title of the main file."),
            "usage": text("Command that takes the main file."),
            "files": items(fixed(written), "Written files, the main one first."),
        }
    )
