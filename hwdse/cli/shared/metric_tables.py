"""Metrics, breakdowns and limits of an evaluation as tables and JSON.

`Metric` holds the label, scale and number format of one metric, and `metric_of` returns the metric
of an objective or constraint. Tables and axis labels take their units from there: the unit is part
of the label, the cells hold numbers only.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hwdse.cli.shared.table_output import percent, print_table, say
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.design import CoreDesign, Design
    from hwdse.specs.results.evaluation_result import Evaluation

MIN_DIGITS = 3
"""Significant digits of the smallest number of a row or column."""
MAX_DECIMALS = 12
LARGEST_PERCENT = 1000.0
"""Larger relative changes are written as factors."""
PROGRESS_FIELDS = (
    "effective_tokens_per_s",
    "time_per_token_s",
    "energy_per_token_j",
    "cost_per_token_usd",
    "carbon_per_token_g",
)
"""Metrics that have no value without progress."""
BINDING_FRACTION = 1e-3
"""A met limit is binding if the value is within this fraction of it."""


class Metric(NamedTuple):
    """Label with unit, field of `Evaluation`, factor from the base unit to that of the label, and
    decimals of its cells."""

    label: str
    field: str
    scale: float
    decimals: int

    @property
    def name(self) -> str:
        """Label without the unit."""
        return self.label.rpartition(" (")[0] or self.label

    @property
    def unit(self) -> str:
        """Unit of the label; `1` without one."""
        return self.label.rpartition(" (")[2].removesuffix(")") if "(" in self.label else "1"

    def cells(self, values: Sequence[float]) -> list[str]:
        """Values in base units as numbers in the unit of the label."""
        scaled = [self.scale * float(value) for value in values]
        return number_cells(scaled, self.decimals, 0 if self.unit.startswith("%") else MIN_DIGITS)

    def text(self, value: float) -> str:
        """A value in its base unit with the unit of the label, for prose."""
        (cell,) = self.cells([value])
        return cell if self.unit == "1" else f"{cell} {self.unit.partition(' ')[0]}"

    def change(self, before: float, after: float) -> str:
        """Relative change as `-44.2 %`; of a percentage in points; large ones as a factor."""
        if self.unit.startswith("%"):
            return f"{self.scale * (after - before):+.1f} pp"
        return relative_change(before, after)


HEADLINE = (
    Metric("step time (s)", "step_time_s", 1.0, 2),
    Metric("effective throughput (ktokens/s)", "effective_tokens_per_s", 1e-3, 1),
    Metric("effective time per token (µs)", "time_per_token_s", 1e6, 3),
    Metric("MFU (%)", "mfu_fraction", 100.0, 1),
    Metric("goodput (%)", "goodput_fraction", 100.0, 1),
    Metric("chip energy per token (mJ)", "energy_per_token_j", 1e3, 1),
    Metric("mean chip power (W)", "chip_power_w", 1.0, 1),
    Metric("throttled clock (% of set clock)", "throttled_clock_ratio", 100.0, 1),
    Metric("die area per chip (mm²)", "die_area_mm2", 1.0, 1),
    Metric("chip manufacturing cost (USD)", "chip_cost_usd", 1.0, 0),
    Metric("peak HBM usage (%)", "hbm_used_ratio", 100.0, 1),
    Metric("cost, facility included (USD/Mtoken)", "cost_per_token_usd", 1e6, 3),
    Metric("CO2e, facility included (g/Mtoken)", "carbon_per_token_g", 1e6, 1),
)
"""Metrics of chips in a cluster, in the order of the table."""
CORE_HEADLINE = (
    Metric("time per pass (ms)", "step_time_s", 1e3, 3),
    Metric("throughput (passes/s)", "effective_tokens_per_s", 1.0, 1),
    Metric("MAC utilization (%)", "mfu_fraction", 100.0, 1),
    Metric("energy per pass (mJ)", "step_energy_j", 1e3, 3),
    Metric("mean power (W)", "chip_power_w", 1.0, 3),
    Metric("DRAM traffic per pass (MB)", "hbm_traffic_bytes", 1e-6, 2),
    Metric("die area (mm²)", "die_area_mm2", 1.0, 2),
    Metric("manufacturing cost (USD)", "chip_cost_usd", 1.0, 1),
    Metric("peak memory usage (%)", "hbm_used_ratio", 100.0, 1),
)
"""Metrics of one core: a pass of its operator network takes the place of step and token."""
_OTHER_METRICS = {
    "energy_delay": Metric("energy-delay product per token (µJ·s)", "energy_delay_j_s", 1e6, 4),
    "hbm_used_ratio": Metric("peak HBM usage", "hbm_used_ratio", 1.0, 3),
    "memory_used_ratio": Metric("peak memory usage", "hbm_used_ratio", 1.0, 3),
    "reticle_used_ratio": Metric("reticle usage", "reticle_used_ratio", 1.0, 3),
}
_OTHER_CORE_METRICS = {
    "time_per_token": Metric("time per pass (ms)", "time_per_token_s", 1e3, 3),
    "energy_per_token": Metric("energy per pass (mJ)", "energy_per_token_j", 1e3, 3),
    "cost_per_token": Metric("cost per pass (µUSD)", "cost_per_token_usd", 1e6, 3),
    "carbon_per_token": Metric("CO2e per pass (mg)", "carbon_per_token_g", 1e3, 3),
    "energy_delay": Metric("energy-delay product per pass (µJ·s)", "energy_delay_j_s", 1e6, 4),
}
BREAKDOWNS = (
    ("step time", "time", "s"),
    ("step energy", "energy", "J"),
    ("die area per chip", "area", "mm²"),
    ("peak HBM usage", "hbm", "B"),
)
"""Label, field of `Evaluation` that holds the parts, base unit of each part."""
CORE_BREAKDOWNS = (
    ("time per pass", "time", "s"),
    ("energy per pass", "energy", "J"),
    ("die area", "area", "mm²"),
    ("DRAM footprint", "hbm", "B"),
)
"""The same for a core."""
BREAKDOWN_KEYS = {"time": "time_s", "energy": "energy_j", "area": "area_mm2", "hbm": "hbm_bytes"}
"""JSON key of each breakdown by its field of `Evaluation`."""
PREFIXES = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "",
            1e-3: "m", 1e-6: "µ", 1e-9: "n"}  # fmt: skip
"""SI prefix by factor, largest first."""
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
    "hbm_phy": "HBM PHY",
    "link_phy": "scale-up PHY",
    "runtime": "runtime, communicators",
}
"""Labels of the parts of time, energy, area and memory; others are their own labels."""
OPTIMIZER_LABELS = {"time": "optimizer update", "hbm": "optimizer states"}
"""Label of the part `optimizer` by breakdown."""
CORE_PARTS = {"matrix": "PE array", "sram": "on-chip memory", "hbm": "DRAM",
              "hbm_phy": "DRAM interface"}  # fmt: skip
"""Labels that differ for a core."""


def metric_of(name: str, *, of_core: bool = False) -> Metric:
    """Metric of an objective or constraint by its name in a config.

    One without a label of its own is labelled with its name and base unit.
    """
    from hwdse.config.schema.metric_fields import metric_field, metric_unit

    special = {**_OTHER_METRICS, **(_OTHER_CORE_METRICS if of_core else {})}
    if name in special:
        return special[name]
    field = metric_field(name)
    for metric in CORE_HEADLINE if of_core else HEADLINE:
        if metric.field == field:
            return metric
    unit = metric_unit(name).replace("mm^2", "mm²")
    label = spaced(name) if unit == "1" else f"{spaced(name)} ({unit})"
    return Metric(label, field, 1.0, MIN_DIGITS)


def is_core(loaded: "LoadedSearch") -> bool:
    """True if a search is about one core and not about chips in a cluster."""
    return hasattr(loaded.base, "accelerator")


def evaluate_exact(design: "Design | CoreDesign", workload: Any) -> "Evaluation":
    """Evaluation by the exact model in float64, with Python floats as leaves."""
    import jax

    with jax.enable_x64(True):
        leaves = jax.tree.map(float, design)
        return jax.tree.map(float, _compiled_evaluate()(leaves, workload))


@functools.cache
def _compiled_evaluate() -> Any:
    """One compiled program for all designs and workloads of the same structure."""
    from hwdse.evaluation import evaluate
    from hwdse.numerics.jit_compile import quick_jit

    return quick_jit(lambda design, workload: evaluate(design, workload))


def number_cells(values: Sequence[float], decimals: int, min_digits: int = MIN_DIGITS) -> list[str]:
    """Numbers of one row or column with the same decimals.

    There are at least `decimals`, and as many as give the smallest number `min_digits` significant
    digits; integers need none. Thousands are separated from 10,000 on.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if min_digits and not all(size.is_integer() for size in sizes):
        needed = min_digits - 1 - math.floor(math.log10(min(sizes)) + 1e-12)
        decimals = min(max(decimals, needed), MAX_DECIMALS)
    return [
        f"{value:{',' if abs(value) >= 1e4 else ''}.{decimals}f}" if math.isfinite(value) else "-"
        for value in values
    ]


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits or all of its integer part, for columns that span
    many decades."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 10.0**digits:
        return f"{value:,.0f}"
    text = format_number(value, digits)
    return text if "e" in text else f"{float(text):,.{len(text.partition('.')[2])}f}"


def relative_change(before: float, after: float) -> str:
    """`-44.2 %`, or `13.2x` above 1000 %; `-` without a value before."""
    if not before or not math.isfinite(after / before):
        return "-"
    change = 100.0 * (after / before - 1.0)
    return f"{change:+.1f} %" if change <= LARGEST_PERCENT else f"{after / before:.3g}x"


def format_metric(value: float, unit: str) -> str:
    """A value in its base unit with a unit and prefix that fit its size."""
    if unit == "%":
        return percent(value)
    if unit == "1/s":
        return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"
    if unit == "J s":
        return f"{1e6 * value:.4g} µJ·s"
    if unit == "1":
        return format_number(value)
    text = format_quantity(value, unit).replace("mm^2", "mm²")
    return re.sub(r" u(?=[A-Za-z])", " µ", text)


def parts_of(evaluation: "Evaluation", field: str) -> dict[str, float]:
    """A breakdown as names and values, largest first."""
    parts = getattr(evaluation, field)
    named = {f.name: float(getattr(parts, f.name)) for f in dataclasses.fields(parts)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def part_label(name: str, field: str, *, of_core: bool = False) -> str:
    """Label of one part of the breakdown in a field of `Evaluation`: `exposed TP communication`
    for `tensor_comm`."""
    if name == "optimizer":
        return OPTIMIZER_LABELS[field]
    labels = {**PART_LABELS, **CORE_PARTS} if of_core else PART_LABELS
    return labels.get(name, spaced(name))


def spaced(name: str) -> str:
    """A name with spaces for underscores."""
    return name.replace("_", " ")


def print_headline(
    evaluations: Mapping[str, "Evaluation"], loaded: "LoadedSearch", title: str | None = None
) -> None:
    """Print the metrics of designs, one column per design, with the change for two of them."""
    found = list(evaluations.values())
    rows = []
    for metric in CORE_HEADLINE if is_core(loaded) else HEADLINE:
        values = [_shown_value(evaluation, metric.field) for evaluation in found]
        change = [metric.change(*values)] if len(values) == 2 else []
        rows.append([metric.label, *metric.cells(values), *change])
    heads = ["metric", *evaluations, *(["change"] if len(found) == 2 else [])]
    print_table(loaded.title if title is None else title, heads, rows)


def _shown_value(evaluation: "Evaluation", field: str) -> float:
    """Value of a metric; NaN, shown as `-`, for a rate of a job that makes no progress."""
    from hwdse.analysis.design_warnings import makes_progress

    if field in PROGRESS_FIELDS and not makes_progress(evaluation):
        return math.nan
    return float(getattr(evaluation, field))


def print_warnings(design: "Design | CoreDesign", evaluation: "Evaluation") -> None:
    """Print the reasons why a design cannot run, one per line; nothing if it can."""
    from hwdse.analysis.design_warnings import design_warnings

    for warning in design_warnings(design, evaluation):
        say(warning.text)


def warnings_json(design: "Design | CoreDesign", evaluation: "Evaluation") -> list[dict[str, str]]:
    """Reasons why a design cannot run; empty if it can."""
    from hwdse.analysis.design_warnings import design_warnings

    return [dataclasses.asdict(warning) for warning in design_warnings(design, evaluation)]


def print_breakdowns(evaluation: "Evaluation", loaded: "LoadedSearch") -> None:
    """Print the parts of time, energy, area and memory."""
    of_core = is_core(loaded)
    for label, field, unit in CORE_BREAKDOWNS if of_core else BREAKDOWNS:
        print_breakdown(evaluation, field, label, unit, of_core=of_core)


def prefix_of(value: float) -> tuple[float, str]:
    """Largest SI prefix not above a value, as factor and letter."""
    return next(((size, p) for size, p in PREFIXES.items() if value >= size), (1e-9, "n"))


def print_breakdown(
    evaluation: "Evaluation", field: str, label: str, unit: str, *, of_core: bool = False
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
        [part_label(name, field, of_core=of_core), cell, share_cell(value, whole)]
        for (name, value), cell in zip(shown.items(), cells, strict=True)
    ]
    rows.append(["total", total_cell, share_cell(whole, whole)])
    quantity = {"hbm": "memory"}.get(field, field)
    print_table("", [label, f"{quantity} ({prefix}{unit})", "share (%)"], rows)


def share_cell(value: float, whole: float) -> str:
    """Share in percent with one decimal, without the percent sign."""
    return f"{100.0 * value / whole:.1f}" if whole else "-"


def limit_rows(loaded: "LoadedSearch", evaluation: "Evaluation") -> list[dict[str, Any]]:
    """Each constraint with its value, its limit and whether it is met, up to the rounding that
    searches allow."""
    from hwdse.objectives import CONSTRAINTS
    from hwdse.search.evaluation.search_result import ROUNDING

    rows = []
    for name, limit in loaded.limits.items():
        value = float(CONSTRAINTS[name](evaluation))
        is_met = value <= limit * (1.0 + ROUNDING)
        rows.append({"name": name, "value": value, "limit": limit, "is_met": is_met})
    return rows


def print_limits(rows: list[dict[str, Any]], *, of_core: bool = False) -> None:
    """Print the constraints; nothing if there are none."""
    if not rows:
        return
    cells = []
    for row in rows:
        metric = metric_of(row["name"], of_core=of_core)
        unit = "-" if metric.unit == "1" else metric.unit
        values = metric.cells([row["value"], row["limit"]])
        cells.append([metric.name, unit, *values, share_cell(row["value"], row["limit"]),
                      limit_status(row)])  # fmt: skip
    print_table("", ["limit", "unit", "value", "limit", "usage (%)", "status"], cells)


def limit_status(row: Mapping[str, Any]) -> str:
    """`met`, `binding` (met and within `BINDING_FRACTION` of the limit) or `violated`."""
    if not row["is_met"]:
        return "violated"
    return "binding" if row["value"] >= (1.0 - BINDING_FRACTION) * row["limit"] else "met"


def bottlenecks(evaluation: "Evaluation", loaded: "LoadedSearch") -> str:
    """One line: the largest parts of the step time."""
    parts, of_core = parts_of(evaluation, "time"), is_core(loaded)
    whole = sum(parts.values())
    shares = [
        f"{part_label(name, 'time', of_core=of_core)} {percent(value / whole, 0)}"
        for name, value in list(parts.items())[:3]
        if value >= 0.005 * whole
    ]
    return f"bottlenecks (share of {'pass' if of_core else 'step'} time): {', '.join(shares)}"


def as_json(evaluation: "Evaluation") -> dict[str, Any]:
    """All metrics and breakdowns in SI base units."""
    scalars = {
        field.name: float(getattr(evaluation, field.name))
        for field in dataclasses.fields(evaluation)
        if field.name not in BREAKDOWN_KEYS
    }
    breakdowns = {key: parts_of(evaluation, field) for field, key in BREAKDOWN_KEYS.items()}
    return {"metrics": scalars, "breakdowns": breakdowns}
