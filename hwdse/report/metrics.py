"""Metrics of an evaluation with label, unit and number format.

`metric_of` returns the metric of an objective or constraint. Tables and axis labels take their
units from there: the unit is part of the label, the cells hold numbers only.
"""

import math
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hwdse.report.number_texts import MIN_DIGITS, number_cells, percent, relative_change, spaced
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.results.evaluation_result import Evaluation

PROGRESS_FIELDS = (
    "effective_tokens_per_s",
    "time_per_token_s",
    "energy_per_token_j",
    "cost_per_token_usd",
    "carbon_per_token_g",
)
"""Metrics that have no value without progress."""


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


TRAINING, CORE, SERVING = "training", "core", "serving"
"""Kinds of jobs: chips in a cluster that train or run layers, one core, and a service."""
_TRAINING_HEADLINE = (
    Metric("step time (s)", "step_time_s", 1.0, 2),
    Metric("effective throughput (ktokens/s)", "effective_tokens_per_s", 1e-3, 1),
    Metric("effective time per token (µs)", "time_per_token_s", 1e6, 3),
    Metric("MFU (%)", "mfu_fraction", 100.0, 1),
    Metric("goodput (%)", "goodput_fraction", 100.0, 1),
    Metric("chip energy per token (mJ)", "energy_per_token_j", 1e3, 1),
    Metric("mean chip power (W)", "chip_power_w", 1.0, 1),
    Metric("throttled clock (% of set clock)", "throttled_clock_ratio", 100.0, 1),
    Metric("supply voltage (V)", "supply_voltage_v", 1.0, 3),
    Metric("die area per chip (mm²)", "die_area_mm2", 1.0, 1),
    Metric("chip manufacturing cost (USD)", "chip_cost_usd", 1.0, 0),
    Metric("peak HBM usage (%)", "hbm_used_ratio", 100.0, 1),
    Metric("cost, facility included (USD/Mtoken)", "cost_per_token_usd", 1e6, 3),
    Metric("CO2e, facility included (g/Mtoken)", "carbon_per_token_g", 1e6, 1),
)
"""Metrics of chips in a cluster, in the order of the table."""
_CORE_HEADLINE = (
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
_SERVING_HEADLINE = (
    Metric("output throughput (tokens/s)", "effective_tokens_per_s", 1.0, 1),
    Metric("output throughput per chip (tokens/s)", "chip_tokens_per_s", 1.0, 1),
    Metric("requests (1/s)", "requests_per_s", 1.0, 2),
    Metric("output tokens/s per user", "interactivity_tokens_per_s", 1.0, 1),
    Metric("time to first token, mean (ms)", "ttft_s", 1e3, 1),
    Metric("time to first token, p99 (ms)", "ttft_p99_s", 1e3, 1),
    Metric("time per output token, mean (ms)", "tpot_s", 1e3, 2),
    Metric("time per output token, p99 (ms)", "tpot_p99_s", 1e3, 2),
    Metric("request latency, mean (s)", "request_latency_s", 1.0, 3),
    Metric("request latency, p99 (s)", "request_latency_p99_s", 1.0, 3),
    Metric("decoding sequences per replica", "decode_sequences", 1.0, 1),
    Metric("load (% of capacity)", "load_ratio", 100.0, 1),
    Metric("KV cache usage (%)", "kv_used_ratio", 100.0, 1),
    Metric("peak HBM usage (%)", "hbm_used_ratio", 100.0, 1),
    Metric("chip energy per output token (mJ)", "energy_per_token_j", 1e3, 1),
    Metric("mean chip power (W)", "chip_power_w", 1.0, 1),
    Metric("throttled clock (% of set clock)", "throttled_clock_ratio", 100.0, 1),
    Metric("supply voltage (V)", "supply_voltage_v", 1.0, 3),
    Metric("die area per chip (mm²)", "die_area_mm2", 1.0, 1),
    Metric("chip manufacturing cost (USD)", "chip_cost_usd", 1.0, 0),
    Metric("cost, facility included (USD/M output tokens)", "cost_per_token_usd", 1e6, 3),
    Metric("CO2e, facility included (g/M output tokens)", "carbon_per_token_g", 1e6, 1),
)
"""Metrics of a service: a token is an output token."""
HEADLINES = MappingProxyType(
    {TRAINING: _TRAINING_HEADLINE, CORE: _CORE_HEADLINE, SERVING: _SERVING_HEADLINE}
)
"""Metrics of the tables of a kind of jobs."""
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
_OTHER_SERVING_METRICS = {
    "time_per_token": Metric("time per output token of all users (µs)", "time_per_token_s", 1e6, 3),
}
_OTHERS = MappingProxyType(
    {TRAINING: {}, CORE: _OTHER_CORE_METRICS, SERVING: _OTHER_SERVING_METRICS}
)


def metric_of(name: str, *, kind: str = TRAINING) -> Metric:
    """Metric of an objective or constraint by its name in a config.

    One without a label of its own is labelled with its name and base unit.
    """
    from hwdse.config.schema.metric_fields import metric_field, metric_unit

    special = {**_OTHER_METRICS, **_OTHERS[kind]}
    if name in special:
        return special[name]
    field = metric_field(name)
    for metric in HEADLINES[kind]:
        if metric.field == field:
            return metric
    unit = metric_unit(name).replace("mm^2", "mm²")
    label = spaced(name) if unit == "1" else f"{spaced(name)} ({unit})"
    return Metric(label, field, 1.0, MIN_DIGITS)


def kind_of(loaded: "LoadedSearch") -> str:
    """Kind of a job: the key of `HEADLINES`."""
    if hasattr(loaded.base, "accelerator"):
        return CORE
    return SERVING if hasattr(loaded.base, "engine") else TRAINING


def shown_value(evaluation: "Evaluation", field: str) -> float:
    """Value of a metric; NaN, shown as `-`, for a rate of a job that makes no progress."""
    from hwdse.analysis.design_warnings import makes_progress

    if field in PROGRESS_FIELDS and not makes_progress(evaluation):
        return math.nan
    return float(getattr(evaluation, field))


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
