"""The page of `hwdse balance` as tables."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric, parts_of, spaced
from hwdse.cli.shared.table_output import percent, print_table, say
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.analysis.fp64_balance import PrecisionBalance
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.config import LoadedSearch
    from hwdse.specs.design import Design
    from hwdse.specs.results.balance_results import DeliveryComparison, MemoryBalance
    from hwdse.specs.results.evaluation_result import Evaluation

LEVEL_NAMES = {
    "array": "operands of the array",
    "sram": "SRAM",
    "hbm": "HBM",
    "link": "scale-up link",
    "network": "scale-out network",
    "storage": "storage",
}
GROUPS = {
    "tensor_comm": "tensor parallel (all-gather, reduce-scatter)",
    "context_comm": "context parallel",
    "expert_comm": "experts (all-to-all)",
    "pipeline_comm": "pipeline (send)",
    "data_comm": "data parallel (reduce, gather)",
}
"""Parts of the step time that are communication that nothing hides."""


@dataclass(frozen=True)
class Page:
    """Everything that the page shows."""

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
        """The metric of the design as it is."""
        from hwdse.objectives import OBJECTIVES

        return float(OBJECTIVES[self.metric](self.evaluation))


def print_page(page: Page) -> None:
    """The four balances at a glance, then each by itself."""
    _print_glance(page)
    _print_precision(page)
    _print_network(page)
    _print_memory(page)
    _print_checkpoint(page)


def _value(path: str, value: float) -> str:
    from hwdse.config import format_value

    if path == "chip.fp64_per_fp16_ratio":
        return one_to(value)
    if path.endswith("capacity_bytes"):
        return mebibytes(value)
    return format_value(path, value, digits=3)


def mebibytes(value: float) -> str:
    """Bytes of a memory on chip, which comes in binary sizes."""
    return f"{value / 2**20:,.3g} MiB"


def one_to(ratio: float) -> str:
    """A ratio below one as 1:N."""
    if ratio <= 0.0:
        return "none"
    number = 1.0 / ratio
    return f"1:{number:,.0f}" if number >= 9.95 else f"1:{number:.1f}"


def _print_glance(page: Page) -> None:
    rows = []
    for item in page.parameters:
        best = _value(item.parameter.path, item.optimum)
        rows.append(
            [
                item.parameter.balance,
                item.parameter.path,
                _value(item.parameter.path, item.current),
                f"{best} (end)" if item.is_at_end else best,
                " to ".join(_value(item.parameter.path, value) for value in item.near_optimal),
                percent(item.penalty_fraction),
                f"{item.elasticity:+.3f}" if item.current > 0.0 else "-",
            ]
        )
    name = spaced(page.metric)
    text = f"{page.loaded.title}: {name} {format_metric(page.value, METRIC_UNITS[page.metric])}"
    columns = ["balance", "parameter", "now", "optimum", "within 1 %", "loss", "elasticity"]
    print_table(text, columns, rows, left=2)
    say(
        f"best: least {name} with the rest as it is, hardware at equal silicon (the matrix "
        "engines give what the part takes); loss: what the present value costs against it; "
        f"elasticity: d ln({name}) / d ln(parameter) with nothing else moved; (end): the end of "
        "the range that was tried"
    )
    say("")


def _print_precision(page: Page) -> None:
    mix, found = page.design.mix, page.precision
    time = page.evaluation.time
    share = float(mix.fp64_flop_fraction)
    rows = [
        ["FP64 share of all FLOP", percent(share, 3)],
        ["step time in FP64", percent(float(time.fp64) / page.evaluation.step_time_s)],
        ["native FP64:FP16 now", one_to(found.current_ratio)],
        ["best for this share, in closed form", one_to(found.optimal_ratio)],
        ["the present ratio suits an FP64 share of", percent(found.suited_fp64_fraction, 3)],
        ["1:100 suits an FP64 share of", percent(_share_for_one_percent(page), 3)],
        ["FP64 products emulated on 16-bit engines", "yes" if found.is_emulated else "no"],
    ]
    print_table("1 precision", ["", ""], rows)


def _share_for_one_percent(page: Page) -> float:
    import jax

    from hwdse.models.precision.precision_mix import fp64_fraction_for_ratio

    with jax.enable_x64(True):
        kappa = page.design.chip.process.fp64_area_ratio
        return float(fp64_fraction_for_ratio(0.01, kappa, 1.0))


def _print_network(page: Page) -> None:
    parts = parts_of(page.evaluation, "time")
    whole = page.evaluation.step_time_s
    rows = [
        [label, format_quantity(parts[name], "s"), percent(parts[name] / whole)]
        for name, label in GROUPS.items()
        if parts[name] > 0.0
    ]
    total = sum(parts[name] for name in GROUPS)
    rows.append(["all", format_quantity(total, "s"), percent(total / whole)])
    print_table("2 network: what nothing hides", ["group", "time", "of the step"], rows)


def _print_memory(page: Page) -> None:
    memory = page.memory
    rows = []
    for name, label in LEVEL_NAMES.items():
        level = getattr(memory, name)
        if level.step_bytes <= 0.0:
            continue
        rows.append(
            [
                label,
                format_quantity(level.step_bytes, "B"),
                f"{level.required_bytes_per_flop:.3g}",
                f"{level.available_bytes_per_flop:.3g}",
                percent(level.demand_ratio),
                f"{format_number(level.intensity_flop_per_byte)}",
                f"{level.step_time_elasticity:+.3f}",
            ]
        )
    columns = ["level", "bytes a step", "B/FLOP needed", "provided", "used", "FLOP/B", "elasticity"]
    print_table("3 memory, a chip", columns, rows)
    balanced = memory.balanced_sram_bytes
    sram = mebibytes(balanced) if balanced < 1e15 else "no size"
    say(
        f"HBM traffic of the products: {memory.traffic_over_bound_ratio:.2f} x the red-blue pebble "
        f"bound of this SRAM ({memory.traffic_over_private_bound_ratio:.2f} x with a private part "
        f"for each core); SRAM at which HBM keeps up: {sram}"
    )
    arrays = ", ".join(
        f"{label} {one.memory_bytes_per_flop:.2g} B/FLOP"
        for label, one in (
            ("as the systolic array", page.delivery.systolic),
            ("as vector units that share in registers", page.delivery.simd),
            ("without sharing", page.delivery.unshared),
        )
    )
    say(f"operands that the same multipliers take from SRAM: {arrays}")
    say("")


def _print_checkpoint(page: Page) -> None:
    from hwdse.cli.balance.goodput_tables import checkpoint_rows, scheme_rows

    print_table("4 checkpoints", ["", ""], checkpoint_rows(page.design, page.evaluation))
    columns = ["at its best interval", "interval", "goodput"]
    print_table("", columns, scheme_rows(page.design, page.loaded.workload))
