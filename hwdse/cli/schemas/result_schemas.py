"""Schemas of the parts of several outputs: evaluations, limits, warnings, reliance, fronts."""

from hwdse.cli.schemas.schema_parts import (
    Schema,
    count,
    fields_of,
    fixed,
    flag,
    items,
    leaf,
    names,
    number,
    parts_of_field,
    shared,
    text,
)

TOKEN_UNITS = {"tokens_per_step": "tokens", "effective_tokens_per_s": "tokens/s"}
"""Units of the fields of `Evaluation` that count tokens."""


@shared
def metrics() -> Schema:
    """Scalar fields of an evaluation."""
    from hwdse.report.breakdowns import BREAKDOWN_KEYS
    from hwdse.specs.results.evaluation_result import Evaluation

    return fixed(fields_of(Evaluation, tuple(BREAKDOWN_KEYS), TOKEN_UNITS))


@shared
def breakdowns() -> Schema:
    """Parts of time, energy, area and memory, largest first."""
    from hwdse.specs.results.evaluation_result import (
        AreaParts,
        EnergyParts,
        MemoryParts,
        TimeParts,
    )

    return fixed(
        {
            "time_s": parts_of_field(TimeParts, "s"),
            "energy_j": parts_of_field(EnergyParts, "J"),
            "area_mm2": parts_of_field(AreaParts, "mm^2"),
            "hbm_bytes": parts_of_field(MemoryParts, "B"),
        }
    )


@shared
def limits() -> Schema:
    """Limits of the config."""
    row = {
        "name": text("Name of the limit in the config."),
        "value": number("Value of the design, in the base unit of the limit."),
        "limit": number("Largest allowed value."),
        "is_met": flag("True if the value is at most the limit, up to rounding."),
    }
    return items(fixed(row), "Limits of the config.")


@shared
def warnings() -> Schema:
    """Reasons why a design cannot run."""
    row = {
        "kind": text("Reason.", ("memory", "progress", "power", "clock")),
        "text": text("One line with the numbers."),
    }
    return items(fixed(row), "Reasons why the design cannot run; empty if it can.")


@shared
def rests_on() -> Schema:
    """Assumed and default constants with their effect."""
    from hwdse.config.provenance import UNSURE

    row = {
        "path": text("Path of the constant."),
        "value": number("Value in the base unit of the path."),
        "kind": text("Kind of the constant.", UNSURE),
        "band_ratio": number("Relative half-width of the band around the value."),
        "elasticity": number("d ln(metric) / d ln(constant)."),
        "effect_ratio": number("Elasticity times band: relative change of the metric."),
    }
    return items(fixed(row), "Constants without a source that the result rests on, largest first.")


@shared
def bands() -> Schema:
    """Bands for the figures from the kinds of the constants."""
    ends = {"low": number("Lower end in the base unit."), "high": number("Upper end.")}
    return names(fixed(ends), "Bands for figures by name; empty if they take long.")


@shared
def unlike_kinds() -> Schema:
    """Constants whose kinds differ between compared sides."""
    from hwdse.config.provenance import KINDS

    side = {
        "label": text("Name of the side."),
        "kind": text("Kind of the constant there.", tuple(KINDS)),
        "value": number("Value in the base unit of the path."),
        "low": number("Lower end of its band."),
        "high": number("Upper end of its band."),
        "effect_ratio": number("Largest |change of ln(figure)| over the band."),
    }
    row = {"path": text("Path of the constant."), "sides": items(fixed(side))}
    return items(fixed(row), "Constants that decide and are not of one kind on all sides.")


@shared
def not_modeled() -> Schema:
    """Parts of imported files that are not modeled."""
    return items(text(), "Parts of imported files that are not modeled.")


@shared
def labels() -> Schema:
    """Titles of system, chip, workload and software."""
    return names(text(), "Titles of the files: system, chip, workload, software.")


@shared
def files() -> Schema:
    """Written files."""
    return items(text(), "Paths of written files.")


@shared
def front() -> Schema:
    """Columns of the designs of a front."""
    return names(
        items(leaf()),
        "Columns of front.csv, one value per design: objectives in base units, NAME_limit_ratio "
        "(value over limit), parameters by path.",
    )


def evaluated() -> dict[str, Schema]:
    """Properties of a whole evaluation."""
    return {"metrics": metrics(), "breakdowns": breakdowns()}


def robust_keys() -> dict[str, Schema]:
    """Properties of a search with a robust objective; absent for nominal objectives."""
    return {
        "robust": text("Statistic of objectives and limits, such as p95."),
        "samples": count("Samples of the uncertain constants per design."),
        "sample_evaluations": count("Evaluations of all samples."),
    }


ROBUST = ("robust", "samples", "sample_evaluations")
