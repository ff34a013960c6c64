"""Metrics of compared jobs: labels, values, and the tables of absolute and relative values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hwdse.jobs.composed_job import Job
from hwdse.models.silicon import cost
from hwdse.report.number_texts import MIN_DIGITS, number_cells

SECONDS_PER_HOUR = 3600.0
Values = Mapping[str, Sequence[float]]
"""Values in base units by metric, one per job."""


def num_chips(one: Job, result: Any) -> float:
    """Chips of a job; 1 for a core."""
    cluster = getattr(one.design, "cluster", None)
    return 1.0 if cluster is None else float(cluster.num_chips)


def facility_power_w(one: Job, result: Any) -> float:
    """Power of all chips with hosts, conversion and cooling."""
    of_chip_w = cost.facility_power_w(result.chip_power_w, one.design.cluster)
    return num_chips(one, result) * float(of_chip_w)


def cost_usd_per_h(one: Job, result: Any) -> float:
    """Operating cost of all chips per hour."""
    return num_chips(one, result) * float(result.chip_operating_cost_usd_per_s) * SECONDS_PER_HOUR


def total_area_mm2(one: Job, result: Any) -> float:
    """Die area of all chips."""
    return num_chips(one, result) * float(result.die_area_mm2)


TOTALS: Mapping[str, Callable[[Job, Any], float]] = MappingProxyType(
    {
        "chips": num_chips,
        "power": facility_power_w,
        "cost": cost_usd_per_h,
        "area": total_area_mm2,
    }
)
"""Totals of a cluster that `equal` may hold, by name: function of a job and its result."""


@dataclass(frozen=True)
class ComparedMetric:
    """Metric of a comparison."""

    name: str
    """Name with its unit, in base units."""
    label: str
    """Label with the unit of the table."""
    value: Callable[[Job, Any], float]
    """Value in base units of a job and its result."""
    scale: float = 1.0
    """Factor from the base unit to that of the label."""
    decimals: int = 0
    sign: int = 0
    """1 if more is better, -1 if less is better, 0 if neither."""
    rate: str = ""
    """Name of the relative value in plots, where more is better; empty if it is not drawn."""

    def cells(self, values: Sequence[float]) -> list[str]:
        """Values as numbers in the unit of the label."""
        digits = 0 if "(%)" in self.label else MIN_DIGITS
        return number_cells([self.scale * value for value in values], self.decimals, digits)


def _field(name: str) -> Callable[[Job, Any], float]:
    return lambda one, result: float(getattr(result, name))


def _tokens_per_s_per_chip(one: Job, result: Any) -> float:
    return float(result.effective_tokens_per_s) / num_chips(one, result)


def _of_field(name: str, label: str, *rest: Any) -> ComparedMetric:
    return ComparedMetric(name, label, _field(name), *rest)


CLUSTER_METRICS = (
    ComparedMetric("num_chips", "chips", num_chips),
    _of_field(
        "effective_tokens_per_s",
        "effective throughput (ktokens/s)",
        1e-3,
        1,
        1,
        "tokens per second",
    ),
    ComparedMetric(
        "tokens_per_s_per_chip",
        "effective tokens/s per chip",
        _tokens_per_s_per_chip,
        1.0,
        0,
        1,
        "tokens per second and chip",
    ),
    _of_field("step_time_s", "step time (s)", 1.0, 2, -1),
    _of_field("mfu_fraction", "MFU (%)", 100.0, 1, 1, "MFU"),
    _of_field("goodput_fraction", "goodput (%)", 100.0, 1, 1),
    _of_field("hbm_used_ratio", "peak HBM usage (%)", 100.0, 1),
    _of_field("chip_power_w", "mean chip power (W)", 1.0, 0),
    ComparedMetric("facility_power_w", "facility power (kW)", facility_power_w, 1e-3, 1),
    _of_field(
        "energy_per_token_j", "chip energy per token (mJ)", 1e3, 1, -1, "tokens per joule of chips"
    ),
    ComparedMetric("cost_usd_per_h", "cost (USD/h)", cost_usd_per_h, 1.0, 0),
    _of_field(
        "cost_per_token_usd",
        "cost, facility included (USD/Mtoken)",
        1e6,
        3,
        -1,
        "tokens per dollar",
    ),
    _of_field(
        "carbon_per_token_g",
        "CO2e, facility included (g/Mtoken)",
        1e6,
        1,
        -1,
        "tokens per g of CO2e",
    ),
    _of_field("die_area_mm2", "die area per chip (mm²)", 1.0, 0),
)  # fmt: skip
"""Metrics of jobs on clusters."""
CORE_METRICS = (
    _of_field("step_time_s", "time per pass (ms)", 1e3, 3, -1, "passes per second"),
    _of_field("mfu_fraction", "MAC utilization (%)", 100.0, 1, 1, "MAC utilization"),
    _of_field("step_energy_j", "energy per pass (mJ)", 1e3, 3, -1, "passes per joule"),
    _of_field("chip_power_w", "mean power (W)", 1.0, 3),
    _of_field("hbm_used_ratio", "peak memory usage (%)", 100.0, 1),
    _of_field("die_area_mm2", "die area (mm²)", 1.0, 2),
)
"""Metrics of jobs on cores."""
IN_ROWS = (
    "effective_tokens_per_s",
    "step_time_s",
    "mfu_fraction",
    "hbm_used_ratio",
    "chip_power_w",
    "energy_per_token_j",
    "step_energy_j",
    "cost_per_token_usd",
)
"""Metrics of a table with one row per job."""
CURVES = ("effective_tokens_per_s", "step_time_s", "energy_per_token_j", "step_energy_j",
          "cost_per_token_usd")  # fmt: skip
"""Metrics of a plot over one parameter; a time only without a throughput."""


def is_on_core(one: Job) -> bool:
    """True for a job on one core."""
    return hasattr(one.design, "accelerator")


def metrics_of(one: Job) -> tuple[ComparedMetric, ...]:
    """Metrics of the table of a job and others of its kind."""
    return CORE_METRICS if is_on_core(one) else CLUSTER_METRICS


def curve_metrics(one: Job) -> list[ComparedMetric]:
    """Metrics of a plot over one parameter."""
    by_name = {metric.name: metric for metric in metrics_of(one)}
    names = [name for name in CURVES if name in by_name]
    if "effective_tokens_per_s" in names:
        names.remove("step_time_s")
    return [by_name[name] for name in names]


def ratio_text(value: float, first: float) -> str:
    """Ratio of a value to the first one as `1.80x`; `-` if it is not finite."""
    (text,) = number_cells([value / first if first else float("nan")], 2, 0)
    return text if text == "-" else f"{text}x"


def columns_table(
    metrics: Sequence[ComparedMetric], labels: Sequence[str], values: Values
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Heads and cells of a table with one column per job and ratios to the first."""
    rows = []
    for metric in metrics:
        numbers = values[metric.name]
        first, *rest = metric.cells(numbers)
        ratios = [ratio_text(number, numbers[0]) for number in numbers[1:]]
        pairs = [f"{text} ({ratio})" for text, ratio in zip(rest, ratios, strict=True)]
        rows.append((metric.label, first, *pairs))
    return ("metric", *labels), tuple(rows)


def rows_table(
    metrics: Sequence[ComparedMetric], labels: Sequence[str], values: Values
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Heads and cells of a table with one row per job; the ratio is that of the first metric, more
    is better."""
    shown = [metric for metric in metrics if metric.name in IN_ROWS]
    columns = [metric.cells(values[metric.name]) for metric in shown]
    numbers, sign = values[shown[0].name], shown[0].sign
    pairs = [(number, numbers[0])[::sign] for number in numbers]
    ratios = [ratio_text(above, below) for above, below in pairs]
    heads = ("job", *(metric.label for metric in shown), "relative")
    return heads, tuple(zip(labels, *columns, ratios, strict=True))
