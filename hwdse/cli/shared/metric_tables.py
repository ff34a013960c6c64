"""The figures of an evaluation that people ask for, by name, in order, with their units."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.table_output import percent, print_table
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.design import CoreDesign, Design
    from hwdse.specs.results.evaluation_result import Evaluation

HEADLINE = (
    ("step time", "step_time_s", "s", 1.0),
    ("useful tokens per second", "effective_tokens_per_s", "1/s", 1.0),
    ("time per useful token", "time_per_token_s", "s", 1.0),
    ("model FLOP utilization (MFU)", "mfu_fraction", "%", 1.0),
    ("goodput", "goodput_fraction", "%", 1.0),
    ("energy per useful token", "energy_per_token_j", "J", 1.0),
    ("power of a chip", "chip_power_w", "W", 1.0),
    ("clock left by the power limit", "throttled_clock_ratio", "%", 1.0),
    ("silicon of a chip", "die_area_mm2", "mm^2", 1.0),
    ("cost of a chip", "chip_cost_usd", "USD", 1.0),
    ("HBM used", "hbm_used_ratio", "%", 1.0),
    ("cost per million useful tokens", "cost_per_token_usd", "USD", 1e6),
    ("CO2 per million useful tokens", "carbon_per_token_g", "g", 1e6),
)
"""Label, field of `Evaluation`, unit, and the factor of the unit that the label names."""
BREAKDOWNS = (
    ("step time", "time", "s"),
    ("step energy", "energy", "J"),
    ("silicon of a chip", "area", "mm^2"),
    ("HBM of the fullest chip", "hbm", "B"),
)
"""Label, field of `Evaluation` that holds the parts, unit of each part."""
CORE_HEADLINE = (
    ("time of a pass", "step_time_s", "s", 1.0),
    ("passes per second", "effective_tokens_per_s", "1/s", 1.0),
    ("use of the multipliers", "mfu_fraction", "%", 1.0),
    ("energy of a pass", "step_energy_j", "J", 1.0),
    ("power", "chip_power_w", "W", 1.0),
    ("DRAM traffic", "hbm_traffic_bytes", "B", 1.0),
    ("silicon", "die_area_mm2", "mm^2", 1.0),
    ("cost", "chip_cost_usd", "USD", 1.0),
    ("fullest memory", "hbm_used_ratio", "%", 1.0),
)
"""The same for a core: a pass of its network takes the place of the step and the token."""
CORE_BREAKDOWNS = (
    ("time of a pass", "time", "s"),
    ("energy of a pass", "energy", "J"),
    ("silicon", "area", "mm^2"),
    ("DRAM in use", "hbm", "B"),
)
CORE_PARTS = {"matrix": "multipliers", "sram": "memory on chip", "hbm": "DRAM",
              "hbm_phy": "DRAM interface"}  # fmt: skip
"""Parts that have other names inside a core."""
METRIC_UNITS = {
    "time_per_token": "s",
    "energy_per_token": "J",
    "cost_per_token": "USD",
    "energy_delay": "J s",
    "step_time": "s",
    "die_area": "mm^2",
    "chip_power": "W",
    "chip_cost": "USD",
    "hbm_used_ratio": "1",
    "memory_used_ratio": "1",
    "reticle_used_ratio": "1",
    "carbon_per_token": "g",
}
"""Base units of the objectives and constraints."""


def is_core(loaded: "LoadedSearch") -> bool:
    """Whether a search is about the inside of a core, and not about chips in a cluster."""
    return hasattr(loaded.base, "accelerator")


def evaluate_exact(design: "Design | CoreDesign", workload: Any) -> "Evaluation":
    """Evaluation in the exact reading and float64, with Python floats as leaves."""
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


def format_metric(value: float, unit: str) -> str:
    """A value in its base unit as people write it."""
    if unit == "%":
        return percent(value)
    if unit == "1/s":
        return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"
    if unit == "J s":
        return f"{value:.4g} J s"
    if unit == "1":
        return format_number(value)
    return format_quantity(value, unit)


def parts_of(evaluation: "Evaluation", field: str) -> dict[str, float]:
    """A breakdown as names and values, largest first."""
    parts = getattr(evaluation, field)
    named = {f.name: float(getattr(parts, f.name)) for f in dataclasses.fields(parts)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def spaced(name: str) -> str:
    """tensor_comm as it is printed: tensor network."""
    return name.replace("_", " ")


def print_headline(evaluations: Mapping[str, "Evaluation"], loaded: "LoadedSearch") -> None:
    """Table of the headline figures, one column a design, with the change for two of them."""
    pair = list(evaluations.values()) if len(evaluations) == 2 else []
    rows = []
    for label, field, unit, factor in CORE_HEADLINE if is_core(loaded) else HEADLINE:
        values = [factor * getattr(evaluation, field) for evaluation in evaluations.values()]
        cells = [format_metric(value, unit) for value in values]
        if pair:
            cells.append(f"{100.0 * (values[1] / values[0] - 1.0):+.1f} %" if values[0] else "-")
        rows.append([label, *cells])
    print_table(loaded.title, ["", *evaluations, *(["change"] if pair else [])], rows)


def print_breakdowns(evaluation: "Evaluation", loaded: "LoadedSearch") -> None:
    """Tables of the parts of time, energy, silicon and memory."""
    for label, field, unit in CORE_BREAKDOWNS if is_core(loaded) else BREAKDOWNS:
        print_breakdown(parts_of(evaluation, field), label, unit, _part_names(loaded))


def _part_names(loaded: "LoadedSearch") -> Mapping[str, str]:
    return CORE_PARTS if is_core(loaded) else {}


def print_breakdown(
    parts: Mapping[str, float], label: str, unit: str, names: Mapping[str, str]
) -> None:
    """Table of the parts of one quantity with their shares; parts of zero are left out."""
    whole = sum(parts.values())
    rows = [
        [names.get(name, spaced(name)), format_metric(value, unit), percent(value / whole)]
        for name, value in parts.items()
        if value > 0.0
    ]
    rows.append(["all", format_metric(whole, unit), percent(1.0)])
    print_table(label, ["part", "value", "share"], rows)


def limit_rows(loaded: "LoadedSearch", evaluation: "Evaluation") -> list[dict[str, Any]]:
    """Each constraint with its value, its limit and whether it holds, but for rounding as searches
    see it."""
    from hwdse.objectives import CONSTRAINTS
    from hwdse.search.evaluation.search_result import ROUNDING

    rows = []
    for name, limit in loaded.limits.items():
        value = float(CONSTRAINTS[name](evaluation))
        holds = value <= limit * (1.0 + ROUNDING)
        rows.append({"name": name, "value": value, "limit": limit, "holds": holds})
    return rows


def print_limits(rows: list[dict[str, Any]]) -> None:
    """Table of the constraints; nothing where there are none."""
    if not rows:
        return
    cells = [
        [
            spaced(row["name"]),
            format_metric(row["value"], METRIC_UNITS[row["name"]]),
            format_metric(row["limit"], METRIC_UNITS[row["name"]]),
            percent(row["value"] / row["limit"]),
            "ok" if row["holds"] else "exceeded",
        ]
        for row in rows
    ]
    print_table("limits", ["", "value", "limit", "used", ""], cells)


def what_limits(evaluation: "Evaluation", loaded: "LoadedSearch") -> str:
    """One line: the largest parts of the step time."""
    parts, names = parts_of(evaluation, "time"), _part_names(loaded)
    largest = [(names.get(name, spaced(name)), value) for name, value in list(parts.items())[:3]]
    whole = sum(parts.values())
    shares = [f"{name} {percent(value / whole, 0)}" for name, value in largest if value > 0.0]
    return f"limited by: {', '.join(shares)} of the {'pass' if is_core(loaded) else 'step time'}"


def as_json(evaluation: "Evaluation") -> dict[str, Any]:
    """All figures in SI base units."""
    breakdowns = {field: parts_of(evaluation, field) for _, field, _ in BREAKDOWNS}
    scalars = {
        field.name: float(getattr(evaluation, field.name))
        for field in dataclasses.fields(evaluation)
        if field.name not in breakdowns
    }
    return {"metrics": scalars, "breakdowns": breakdowns}
