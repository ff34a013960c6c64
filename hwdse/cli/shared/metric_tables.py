"""Metrics, breakdowns and limits of an evaluation as printed tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.table_output import print_table, say
from hwdse.report.breakdowns import BREAKDOWNS, part_label, parts_of
from hwdse.report.evaluation_json import limit_status
from hwdse.report.metrics import HEADLINES, TRAINING, kind_of, metric_of, shown_value
from hwdse.report.number_texts import number_cells, prefix_of, share_cell

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.all_designs import AnyDesign
    from hwdse.specs.results.evaluation_result import Evaluation


def print_headline(
    evaluations: Mapping[str, "Evaluation"], loaded: "LoadedSearch", title: str | None = None
) -> None:
    """Print the metrics of designs, one column per design, with the change for two of them."""
    found = list(evaluations.values())
    rows = []
    for metric in HEADLINES[kind_of(loaded)]:
        values = [shown_value(evaluation, metric.field) for evaluation in found]
        change = [metric.change(*values)] if len(values) == 2 else []
        rows.append([metric.label, *metric.cells(values), *change])
    heads = ["metric", *evaluations, *(["change"] if len(found) == 2 else [])]
    print_table(loaded.title if title is None else title, heads, rows)


def print_warnings(design: "AnyDesign", evaluation: "Evaluation") -> None:
    """Print the reasons why a design cannot run, one per line; nothing if it can."""
    from hwdse.analysis.design_warnings import design_warnings

    for warning in design_warnings(design, evaluation):
        say(warning.text)


def print_breakdowns(evaluation: "Evaluation", loaded: "LoadedSearch") -> None:
    """Print the parts of time, energy, area and memory."""
    kind = kind_of(loaded)
    for label, field, unit in BREAKDOWNS[kind]:
        print_breakdown(evaluation, field, label, unit, kind=kind)


def print_breakdown(
    evaluation: "Evaluation", field: str, label: str, unit: str, *, kind: str = TRAINING
) -> None:
    """Print the parts of one quantity with their shares; parts of zero are left out."""
    parts = parts_of(evaluation, field)
    whole = sum(parts.values())
    size, prefix = (1.0, "") if unit == "mm²" else prefix_of(whole)
    shown = {name: value for name, value in parts.items() if value > 0.0}
    (total_cell,) = number_cells([whole / size], 0, 4)
    decimals = len(total_cell.partition(".")[2])
    cells = number_cells([value / size for value in shown.values()], decimals, 0)
    rows = [
        [part_label(name, field, kind=kind), cell, share_cell(value, whole)]
        for (name, value), cell in zip(shown.items(), cells, strict=True)
    ]
    rows.append(["total", total_cell, share_cell(whole, whole)])
    quantity = {"hbm": "memory"}.get(field, field)
    print_table("", [label, f"{quantity} ({prefix}{unit})", "share (%)"], rows)


def print_strategy(text: str) -> None:
    """Print the parallelism strategy; nothing for layers and cores, which have none."""
    if text:
        say(f"strategy: {text}")


def print_limits(rows: list[dict[str, Any]], *, kind: str = TRAINING) -> None:
    """Print the constraints; nothing if there are none."""
    if not rows:
        return
    cells = []
    for row in rows:
        metric = metric_of(row["name"], kind=kind)
        unit = "-" if metric.unit == "1" else metric.unit
        values = metric.cells([row["value"], row["limit"]])
        cells.append([metric.name, unit, *values, share_cell(row["value"], row["limit"]),
                      limit_status(row)])  # fmt: skip
    print_table("", ["limit", "unit", "value", "limit", "usage (%)", "status"], cells)
