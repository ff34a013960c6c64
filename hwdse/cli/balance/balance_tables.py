"""Tables of `hwdse balance`: all parameters, then each of the four balances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwdse.cli.shared.metric_tables import print_warnings
from hwdse.cli.shared.parameter_cells import printed_unit
from hwdse.cli.shared.table_output import print_table, say
from hwdse.report.breakdowns import parts_of
from hwdse.report.metrics import metric_of
from hwdse.report.number_texts import number_cells, share_cell, signed, significant
from hwdse.units.format_units import common_unit
from hwdse.units.parse_units import split_field, unit_size

if TYPE_CHECKING:
    from hwdse.analysis.fp64_balance import PrecisionBalance
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.config import LoadedSearch
    from hwdse.specs.design import Design
    from hwdse.specs.results.balance_results import DeliveryComparison, MemoryBalance
    from hwdse.specs.results.evaluation_result import Evaluation

LEVEL_LABELS = {
    "array": "array operands",
    "sram": "SRAM",
    "hbm": "HBM",
    "link": "scale-up fabric",
    "network": "scale-out network",
    "storage": "storage",
}
COMMUNICATION_LABELS = {
    "tensor_comm": "TP (all-gather, reduce-scatter)",
    "context_comm": "CP",
    "expert_comm": "EP (all-to-all)",
    "pipeline_comm": "PP (send)",
    "data_comm": "DP (gradients, weights)",
}
"""Parts of the step time that are exposed communication."""
BALANCES = ("precision", "network", "memory", "checkpoint")
"""Balances in the order of the sections of the page."""
GB = 1e9
MIB = 2.0**20


@dataclass(frozen=True)
class Page:
    """All results of the page."""

    loaded: "LoadedSearch"
    design: "Design"
    metric: str
    evaluation: "Evaluation"
    parameters: "list[ParameterBalance]"
    precision: "PrecisionBalance"
    memory: "MemoryBalance"
    delivery: "DeliveryComparison"

    @property
    def value(self) -> float:
        """Metric of the current design."""
        from hwdse.objectives import OBJECTIVES

        return float(OBJECTIVES[self.metric](self.evaluation))


def print_page(page: Page) -> None:
    """Print the parameters of all balances, then each balance."""
    print_warnings(page.design, page.evaluation)
    _print_parameters(page)
    _print_precision(page)
    _print_communication(page)
    _print_memory(page)
    _print_checkpoint(page)


def _unit_and_cells(path: str, values: Sequence[float]) -> tuple[str, list[str]]:
    """Unit and cells of values of one parameter."""
    if path == "chip.fp64_per_fp16_ratio":
        return "-", [one_to(value) for value in values]
    if path.endswith("capacity_bytes"):
        return "MiB", [significant(value / MIB) for value in values]
    base_unit = split_field(path)[1]
    unit = common_unit(values, base_unit)
    size = float(unit_size(unit)[0] / unit_size(base_unit)[0])
    return printed_unit(unit), [significant(value / size) for value in values]


def one_to(ratio: float) -> str:
    """A ratio below 1 as `1:N`, `none` for 0."""
    if ratio <= 0.0:
        return "none"
    number = 1.0 / ratio
    return f"1:{number:,.0f}" if number >= 9.95 else f"1:{number:.1f}"


def _print_parameters(page: Page) -> None:
    rows = []
    numbers = {str(name): number for number, name in enumerate(BALANCES, 1)}
    for item in page.parameters:
        path = item.parameter.path
        values = [item.current, item.optimum, *item.near_optimal]
        unit, (current, optimum, low, high) = _unit_and_cells(path, values)
        rows.append(
            [
                numbers[item.parameter.balance],
                split_field(path)[0],
                unit,
                current,
                optimum,
                f"{low} to {high}",
                f"{100.0 * item.penalty_fraction:.1f}",
                "yes" if item.is_at_end else "no",
                signed(item.elasticity) if item.current > 0.0 else "-",
            ]
        )
    metric = metric_of(page.metric)
    columns = ["#", "parameter", "unit", "current", "optimum", "1 % range", "penalty (%)",
               "at range end", "elasticity"]  # fmt: skip
    title = f"{page.loaded.title}: {metric.name} {metric.text(page.value)}"
    print_table(title, columns, rows, left=2)
    say(
        f"optimum: lowest {metric.name}, other parameters fixed, hardware at iso-area (area added "
        "to one block is removed from the matrix engines)"
    )
    say("1 % range: tested values within 1 % of the optimum; at range end: optimum at its end")
    say("penalty: metric at the current value over metric at the optimum, minus 1")
    say("elasticity: d ln(metric) / d ln(parameter), all other parameters fixed")
    say("")


def _print_precision(page: Page) -> None:
    mix, found = page.design.mix, page.precision
    fp64_s, step_s = float(page.evaluation.time.fp64), page.evaluation.step_time_s
    fractions = number_cells(
        [
            100.0 * float(mix.fp64_flop_fraction),
            100.0 * float(found.suited_fp64_fraction),
            100.0 * _fp64_fraction_for_one_percent(page),
        ],
        3,
        0,
    )
    rows = [
        ["FP64 fraction of all FLOP (%)", fractions[0]],
        ["step time in FP64 (%)", share_cell(fp64_s, step_s)],
        ["native FP64:FP16 ratio, current", one_to(found.current_ratio)],
        ["native FP64:FP16 ratio, optimum in closed form", one_to(found.optimal_ratio)],
        ["FP64 fraction balanced by the current ratio (%)", fractions[1]],
        ["FP64 fraction balanced by 1:100 (%)", fractions[2]],
        ["FP64 GEMMs emulated on 16-bit engines", "yes" if found.is_emulated else "no"],
    ]
    print_table("1 Precision", ["metric", "value"], rows)


def _fp64_fraction_for_one_percent(page: Page) -> float:
    """FP64 fraction of all FLOP for which the ratio 1:100 is optimal."""
    import jax

    from hwdse.models.precision.precision_mix import fp64_fraction_for_ratio
    from hwdse.models.silicon.area import fp64_cost_ratio

    with jax.enable_x64(True):
        kappa = fp64_cost_ratio(page.design.chip)
        return float(fp64_fraction_for_ratio(0.01, kappa, 1.0))


def _print_communication(page: Page) -> None:
    parts = parts_of(page.evaluation, "time")
    whole = page.evaluation.step_time_s
    shown = {name: parts[name] for name in COMMUNICATION_LABELS if parts[name] > 0.0}
    total = sum(parts[name] for name in COMMUNICATION_LABELS)
    cells = number_cells([*shown.values(), total], 3, 0)
    labels = [*(COMMUNICATION_LABELS[name] for name in shown), "total"]
    shares = [share_cell(value, whole) for value in (*shown.values(), total)]
    rows = [list(row) for row in zip(labels, cells, shares, strict=True)]
    columns = ["communication", "time (s)", "share of step (%)"]
    print_table("2 Exposed communication", columns, rows)


def _print_memory(page: Page) -> None:
    memory, delivery = page.memory, page.delivery
    rows = []
    for name, label in LEVEL_LABELS.items():
        level = getattr(memory, name)
        if level.step_bytes <= 0.0:
            continue
        rows.append(
            [
                label,
                significant(level.step_bytes / GB),
                significant(level.required_bytes_per_flop),
                significant(level.available_bytes_per_flop),
                f"{100.0 * level.demand_ratio:.1f}",
                significant(level.intensity_flop_per_byte),
                signed(level.step_time_elasticity),
            ]
        )
    columns = ["level", "traffic (GB/step)", "required (B/FLOP)", "available (B/FLOP)",
               "demand/supply (%)", "intensity (FLOP/B)", "elasticity"]  # fmt: skip
    print_table("3 Memory levels, per chip", columns, rows)
    balanced = memory.balanced_sram_bytes
    sram = significant(balanced / MIB) if balanced < 1e15 else "none"
    details = [
        [
            "HBM traffic of GEMMs over the red-blue pebble bound",
            f"{memory.traffic_over_bound_ratio:.2f}",
        ],
        [
            "HBM traffic of GEMMs over the bound of private scratchpads",
            f"{memory.traffic_over_private_bound_ratio:.2f}",
        ],
        ["smallest SRAM at which HBM does not limit (MiB)", sram],
        [
            "SRAM operand traffic, systolic array (B/FLOP)",
            significant(delivery.systolic.memory_bytes_per_flop),
        ],
        [
            "SRAM operand traffic, vector units with register reuse (B/FLOP)",
            significant(delivery.simd.memory_bytes_per_flop),
        ],
        [
            "SRAM operand traffic, no reuse (B/FLOP)",
            significant(delivery.unshared.memory_bytes_per_flop),
        ],
    ]
    print_table("", ["metric", "value"], details)


def _print_checkpoint(page: Page) -> None:
    from hwdse.cli.balance.goodput_tables import checkpoint_rows, scheme_rows

    rows = checkpoint_rows(page.design, page.evaluation)
    print_table("4 Checkpoints", ["metric", "value"], rows)
    columns = ["checkpoint scheme", "optimal interval (min)", "goodput there (%)"]
    print_table("", columns, scheme_rows(page.design, page.loaded.workload))
