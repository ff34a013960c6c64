"""Parameters and metrics of several designs as table rows: one label and unit per row, numbers
without units in the cells."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hwdse.report.metrics import HEADLINES, metric_of
from hwdse.report.number_texts import MIN_DIGITS, number_cells
from hwdse.units.format_units import common_unit
from hwdse.units.parse_units import split_field, unit_size

if TYPE_CHECKING:
    from hwdse.config.search.metric_names import Metric as EvaluationMetric
    from hwdse.search.space.search_space import Choice

MAX_CELL = 14
"""Characters up to which a name with underscores stays on one line of a narrow table."""


def quantity_row(values: Sequence[float], base_unit: str) -> tuple[str, list[str]]:
    """Common unit of values in a base unit, `-` without one, and the cells.

    Whole numbers have no decimals; other values have at least three significant digits.
    """
    unit = common_unit(values, base_unit)
    scale = float(unit_size(base_unit)[0] / unit_size(unit)[0]) if unit != "1" else 1.0
    scaled = [float(f"{float(value) * scale:.12g}") for value in values]
    is_whole = all(value.is_integer() for value in scaled)
    cells = number_cells(scaled, 0, 0 if is_whole else MIN_DIGITS)
    cells = [cell if value else "0" for cell, value in zip(cells, scaled, strict=True)]
    return printed_unit(unit), cells


def parameter_row(
    path: str, values: Sequence[float | str], *, with_inverse: bool = False
) -> tuple[str, list[str]]:
    """Unit and cells of one parameter of several designs.

    `with_inverse` adds the inverse of a ratio of two rates, as in `0.00275 (1:364)`.
    """
    from hwdse.config.schema.user_paths import field_name

    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        return "-", [str(value) for value in values]
    name = field_name(path)
    unit, cells = quantity_row(numbers, split_field(name)[1])
    if with_inverse and name.endswith("_ratio") and "_per_" in name:
        cells = [
            f"{cell} (1:{1.0 / value:.0f})" if 0.0 < value < 1.0 else cell
            for cell, value in zip(cells, numbers, strict=True)
        ]
    return unit, cells


def metric_row(
    metric: "EvaluationMetric", values: Sequence[float], *, kind: str
) -> tuple[str, list[str]]:
    """Label with unit and cells of one metric of several designs or samples."""
    for known in HEADLINES[kind]:
        if known.field == metric.name:
            return known.label, known.cells(values)
    if metric.name == "energy_delay_j_s":
        known = metric_of("energy_delay", kind=kind)
        return known.label, known.cells(values)
    unit, cells = quantity_row(values, metric.unit)
    return metric.label if unit == "-" else f"{metric.label} ({unit})", cells


def printed_unit(unit: str) -> str:
    """Unit as printed: `-` for 1, µ for u, superscripts."""
    if unit == "1":
        return "-"
    text = unit.replace("mm^2", "mm²").replace("cm^2", "cm²")
    return f"µ{text[1:]}" if text in ("us", "uW", "ug", "uJ") else text


def choice_labels(choice: "Choice", designs: Sequence[Any]) -> list[str] | None:
    """Label of the alternative of each design; None if one design is no alternative."""
    from hwdse.search.space.pytree_path import get_path

    labels = []
    for design in designs:
        values = tuple(float(get_path(design, path)) for path in choice.paths)
        table = [tuple(map(float, row)) for row in choice.table]
        if values not in table:
            return None
        labels.append(choice.labels[table.index(values)])
    return labels


def different_parts(labels: Sequence[str]) -> list[str]:
    """Labels without the comma-separated parts that all have in common."""
    parts = [label.split(", ") for label in labels]
    if len({len(one) for one in parts}) > 1 or len(set(labels)) == 1:
        return list(labels)
    kept = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return [", ".join(one[i] for i in kept) for one in parts]


def wrapped(text: str) -> str:
    """A long name with spaces for underscores, so that it wraps between words."""
    return text.replace("_", " ") if len(text) > MAX_CELL else text
