"""Schemas of the outputs on one job or several: evaluate, show, compare, explain, sensitivity."""

import functools

from hwdse.cli.schemas import result_schemas as results
from hwdse.cli.schemas.schema_parts import (
    PARTS,
    Schema,
    constant,
    count,
    either,
    fields_of,
    fixed,
    flag,
    items,
    leaf,
    names,
    nullable,
    number,
    parts_of_field,
    shared,
    text,
)


def presets_schema() -> Schema:
    """Output of `hwdse presets`."""
    from hwdse.cli.evaluate.presets_command import KINDS

    preset = {
        "kind": text("Kind of the preset.", KINDS),
        "name": text("Name in files and on the command line."),
        "title": text("Title."),
        "published": names(number(), "Published values in the units of their names."),
        "sources": items(text(), "Sources."),
    }
    return fixed({"presets": items(fixed(preset))})


def evaluate_schema() -> Schema:
    """Output of `hwdse evaluate`; of a chip, system or model alone that of `hwdse show`."""
    job = {
        "title": text("Title of the job."),
        "labels": results.labels(),
        "strategy": nullable(text("Parallelism strategy; null for layers and cores.")),
        **results.evaluated(),
        "limits": results.limits(),
        "warnings": results.warnings(),
        "not_modeled": results.not_modeled(),
        "rests_on": results.rests_on(),
        "bands": results.bands(),
        "files": results.files(),
    }
    return either(fixed(job, "Evaluation of a job."), *_sheets())


def show_schema() -> Schema:
    """Output of `hwdse show`."""
    return either(*_sheets())


SHEETS = ("chip", "system", "model", "accelerator", "task", "software")
"""Kinds of items with a sheet."""


def _sheets() -> list[Schema]:
    """References to the sheets of all kinds of items."""
    for kind in SHEETS:
        PARTS[f"{kind}_sheet"] = functools.partial(_sheet, kind)
    return [{"$ref": f"#/$defs/{kind}_sheet"} for kind in SHEETS]


def _sheet(kind: str) -> Schema:
    values = {
        "chip": chip_values(),
        "system": system_values(),
        "model": model_values(),
        "task": names(leaf(), "Keys of the task."),
        "accelerator": names(either(leaf(), flag(), items(text())), "All parameters by path."),
    }
    return fixed(
        {
            "kind": constant(kind),
            "name": text("Name or path as given."),
            "title": text("Title of the file."),
            "values": values.get(kind, names(leaf(), "All parameters by path.")),
            "not_modeled": results.not_modeled(),
            "files": results.files(),
        },
        f"Output of `hwdse show` for the kind {kind}.",
    )


@shared
def chip_values() -> Schema:
    """Values of a chip."""
    from hwdse.cli.schemas.schema_parts import parts_of_field
    from hwdse.specs.results.evaluation_result import AreaParts

    levels = {name: number() for name in ("sram", "hbm", "link", "network")}
    return fixed(
        {
            "bf16_flop_per_s": number("Peak BF16 rate of the matrix engines.", "FLOP/s"),
            "fp8_flop_per_s": number("Peak FP8 rate.", "FLOP/s"),
            "fp32_flop_per_s": number("Peak FP32 rate of the vector engines.", "FLOP/s"),
            "fp64_flop_per_s": number("Peak FP64 rate, emulated without FP64 units.", "FLOP/s"),
            "sustained_flop_per_s": number("BF16 rate of a large GEMM.", "FLOP/s"),
            "gemm_power_w": number("Power in that GEMM.", "W"),
            "die_area_mm2": number("Die area, all compute dies.", "mm^2"),
            "area_mm2": parts_of_field(AreaParts, "mm^2"),
            "chip_cost_usd": number("Manufacturing cost.", "USD"),
            "balance_flop_per_byte": fixed(
                levels, "FLOP per byte at which a level and the BF16 engines are equally busy."
            ),
            "published": names(number(), "Published values in the units of their names."),
            **assumptions(),
        },
        optional=tuple(assumptions()),
    )


def assumptions() -> dict[str, Schema]:
    """Properties of a sheet on constants without a source."""
    return {
        "assumed": names(text(), "Assumptions by path of the constant."),
        "defaults": items(text(), "Paths of the constants that have the default of the code."),
    }


@shared
def system_values() -> Schema:
    """Values of a system."""
    numbers = {"num_chips": count("Chips of the system."), "chip": chip_values()}
    return fixed({**numbers, **assumptions()})


@shared
def model_values() -> Schema:
    """Values of a model."""
    return fixed(
        {
            "num_parameters": number("Parameters."),
            "num_active_parameters": number("Parameters used per token."),
            "training_flop_per_token": number("Training FLOP per token.", "FLOP"),
            "seq_len": number("Tokens per sequence of that number."),
            "kv_bytes_per_token": number("Keys and values of a token in all layers, BF16.", "B"),
        }
    )


def compare_schema() -> Schema:
    """Output of `hwdse compare`."""
    from hwdse.jobs.compared_metrics import CLUSTER_METRICS, CORE_METRICS, TOTALS

    def values(metrics: tuple, meaning: str) -> Schema:
        return fixed({metric.name: number() for metric in metrics}, meaning)

    def one(metrics: tuple) -> Schema:
        return fixed(
            {
                "label": text("Name in the table."),
                "title": text("Title of the job."),
                "strategy": nullable(text("Parallelism strategy; null for a core.")),
                "varied": names(text(), "Varied parts and parameters with their values."),
                "metrics": values(metrics, "Metrics in SI base units."),
                "ratios": values(metrics, "Metrics over those of the first job."),
                "bands": results.bands(),
                "warnings": results.warnings(),
                "not_modeled": results.not_modeled(),
            }
        )

    jobs = [items(one(metrics)) for metrics in (CLUSTER_METRICS, CORE_METRICS)]
    return fixed(
        {
            "title": text("Title of the comparison."),
            "equal": nullable(text("Total that is equal.", tuple(TOTALS))),
            "jobs": {"description": "The jobs on systems, or on cores.", **either(*jobs)},
            "unlike_kinds": results.unlike_kinds(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        }
    )


def explain_schema() -> Schema:
    """Output of `hwdse explain`."""
    from hwdse.config.provenance import KINDS
    from hwdse.jobs.explanation import METRICS, Explanation

    slopes = fixed({name: number() for name in METRICS}, "d ln(metric) / d ln(value) by metric.")
    return fixed(
        {
            **fields_of(Explanation),
            "value": leaf("Number in SI base units, or name."),
            "kind": text("Kind of the constant.", tuple(KINDS)),
            "one_sided": nullable(text("End of its range, where derivatives are one-sided.")),
            "elasticities": nullable(slopes),
        }
    )


def sensitivity_schema() -> Schema:
    """Output of `hwdse sensitivity`."""
    return fixed(
        {
            "metric": text("Name of the metric."),
            "value": number("Value of the metric in its base unit."),
            "elasticities": names(number(), "d ln(metric) / d ln(parameter) by path."),
            "one_sided": names(
                text(choices=("upper", "lower")), "Parameters at an end of their range, by path."
            ),
            "files": results.files(),
        }
    )


def balance_schema() -> Schema:
    """Output of `hwdse balance`."""
    from hwdse.analysis.fp64_balance import PrecisionBalance
    from hwdse.cli.balance.balance_tables import BALANCES
    from hwdse.specs.results.balance_results import DeliveryComparison, MemoryBalance

    parameter = {
        "balance": text("Balance to which the parameter belongs.", BALANCES),
        "path": text("Path of the parameter."),
        "current": number("Value of the design."),
        "optimum": number("Value with the lowest metric, other parameters fixed, at iso-area."),
        "one_percent_range": items(number(), "Lowest and highest value within 1 %."),
        "optimum_is_at_range_end": flag("True if the optimum is at an end of its range."),
        "penalty_fraction": number("Metric at the current value over the optimum, minus 1."),
        "elasticity": number("d ln(metric) / d ln(parameter)."),
    }
    return fixed(
        {
            "title": text("Title of the job."),
            "labels": results.labels(),
            "metric": text("Name of the metric."),
            "value": number("Value of the metric in its base unit."),
            "parameters": items(fixed(parameter)),
            "precision": fixed(fields_of(PrecisionBalance), "FP64 share of chip and work."),
            "memory": fixed(fields_of(MemoryBalance), "Memory levels, per step and chip."),
            "operand_delivery": fixed(fields_of(DeliveryComparison)),
            **results.evaluated(),
            "warnings": results.warnings(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        }
    )


def parallelism_schema() -> Schema:
    """Output of `hwdse parallelism`."""
    from hwdse.cli.parallelism.parallelism_command import METRIC_NAMES

    return fixed(
        {
            "title": text("Title of the job."),
            "labels": results.labels(),
            "num_chips": count("Chips of the cluster."),
            "sort_by": text("Metric of the ranking.", METRIC_NAMES),
            "num_evaluated": count("Strategies that were evaluated."),
            "num_fitting": count("Strategies that fit the HBM."),
            "num_feasible": count("Strategies that fit and meet the limits."),
            "excluding_limits": names(number(), "Limits that exclude some strategies."),
            "always_violated": items(text(), "Limits that no strategy can meet."),
            "elapsed_s": number("Time of the evaluation, compilation included.", "s"),
            "strategies": items(_strategy(), "The best strategies, best first."),
            "files": results.files(),
            "not_modeled": results.not_modeled(),
            "rests_on": results.rests_on(),
            "bands": results.bands(),
        }
    )


def _strategy() -> Schema:
    import dataclasses

    from hwdse.config.key_reference import field_docs
    from hwdse.specs.design import Parallelism
    from hwdse.training.strategy_enumeration import FIELDS
    from hwdse.training.strategy_ranking import StrategyMetrics

    docs = field_docs(Parallelism)
    row = {name: number(docs.get(name, "")) for name in FIELDS}
    row["data"] = number("Data-parallel degree.")
    row["zero"] = number("ZeRO stage.")
    row["recompute"] = text("Recompute mode: none, selective, full or a fraction.")
    row |= fields_of(StrategyMetrics, ("time", "hbm"), results.TOKEN_UNITS)
    hints = {field.name: field.type for field in dataclasses.fields(StrategyMetrics)}
    for group, unit, suffix in (("time", "s", "s"), ("hbm", "B", "bytes")):
        parts: type = hints[group]  # type: ignore[assignment]
        units = {field.name: unit for field in dataclasses.fields(parts)}
        for name, schema in fields_of(parts, units=units).items():
            row[f"{group}.{name}_{suffix}"] = schema
    return fixed(row)


def serve_schema() -> Schema:
    """Output of `hwdse serve`."""
    from hwdse.cli.serve.serve_command import KINDS_OF_TOKENS
    from hwdse.jobs.services.serving_answers import FIGURES
    from hwdse.specs.results.evaluation_result import ServingMemoryParts, ServingTimeParts
    from hwdse.specs.serving.serving_metrics import ServingState

    def prices(unit: str) -> Schema:
        return fixed({kind: number(f"Per {kind} token.", unit) for kind in KINDS_OF_TOKENS})

    return fixed(
        {
            "title": text("Title of the job."),
            "labels": results.labels(),
            "strategy": text("Parallelism strategy."),
            "is_served": flag("True if the offered load can be served."),
            **fields_of(ServingState, ("is_served",)),
            "chip_power_w": number("Mean power of a chip.", "W"),
            "chip_tokens_per_s": number("Output tokens per chip.", "1/s"),
            "user_tokens_per_s": number("Output tokens of a user.", "1/s"),
            "energy_per_token_j": prices("J"),
            "cost_per_token_usd": prices("USD"),
            "elasticities": names(
                fixed({name: number("d ln figure / d ln constant.") for name in FIGURES}),
                "Elasticities by constant.",
            ),
            "decode_step_s": parts_of_field(ServingTimeParts, "s"),
            "prefill_step_s": parts_of_field(ServingTimeParts, "s"),
            "memory_bytes": parts_of_field(ServingMemoryParts, "B"),
            "warnings": results.warnings(),
            "not_modeled": results.not_modeled(),
            "bands": results.bands(),
        }
    )


def serve_front_schema() -> Schema:
    """Output of `hwdse serve-front`."""
    from hwdse.specs.serving.engine import ServingStrategy

    row = {
        "precision": text("Name of the formats."),
        "strategy": text("Parallelism strategy of a replica."),
        "parallelism": fixed(fields_of(ServingStrategy)),
        "replica_chips": number("Chips of a replica."),
        "num_replicas": number("Replicas."),
        "concurrency": number("Requests in flight over all replicas."),
        "user_tokens_per_s": number("Output tokens of a user.", "1/s"),
        "chip_tokens_per_s": number("Output tokens per chip.", "1/s"),
        "ttft_s": number("Time to first token, mean.", "s"),
        "ttft_p99_s": number("The same, 99th percentile.", "s"),
        "tpot_s": number("Time per output token, mean.", "s"),
        "tpot_p99_s": number("The same, 99th percentile.", "s"),
        "requests_per_s": number("Answered requests.", "1/s"),
        "chip_power_w": number("Mean power of a chip.", "W"),
        "energy_per_token_j": number("Chip energy per output token.", "J"),
        "cost_per_token_usd": number("Cost per output token.", "USD"),
        "hbm_used_ratio": number("Peak HBM footprint over capacity."),
    }
    point = fixed(row)
    fewest = fixed({**row, "chips": number("Chips for the load.")})
    return fixed(
        {
            "title": text("Title of the job."),
            "num_points": count("Configurations that were evaluated."),
            "front": items(point, "Configurations on the front, the most interactive first."),
            "best_within_limits": nullable(point),
            "least_chips": nullable(fewest),
            "files": results.files(),
            "not_modeled": results.not_modeled(),
        }
    )
