"""Plot of `hwdse balance`: selects the curves; `hwdse.plots` draws them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.balance.balance_tables import one_to
from hwdse.plots.balance_curves import BalanceCurve, draw_key, plot_balance, set_common_range
from hwdse.plots.figure_files import PlotFiles, new_keyed_figure
from hwdse.report.metrics import metric_of
from hwdse.report.number_texts import percent, significant
from hwdse.units.parse_units import split_field, unit_size

if TYPE_CHECKING:
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.cli.balance.balance_tables import Page

REFERENCE_RATIO = 0.01
"""FP64:FP16 ratio that Zheng Weimin recommends."""
ISO_AREA_NOTE = (
    "Hardware parameters vary at iso-area: area added to one block is removed from the matrix "
    "engines. Penalty: metric now over metric at the optimum, minus 1."
)
NUM_COLUMNS = 3
PANELS = {
    "chip.fp64_per_fp16_ratio": ("1 Precision: FP64 units", "Peak FP64 over peak FP16", "1"),
    "chip.link.bandwidth_bytes_per_s": (
        "2 Network: scale-up fabric", "Scale-up bandwidth per chip", "GB/s"
    ),
    "chip.network.bandwidth_bytes_per_s": (
        "2 Network: scale-out", "Scale-out bandwidth per chip", "GB/s"
    ),
    "chip.sram.capacity_bytes": ("3 Memory: SRAM", "SRAM capacity per chip", "MiB"),
    "chip.hbm.bandwidth_bytes_per_s": ("3 Memory: HBM", "HBM bandwidth per chip", "TB/s"),
    "checkpoint_interval_s": ("4 Checkpoints", "Checkpoint interval", "min"),
}  # fmt: skip
"""Title, label and unit of the panel of each parameter."""


def save_balance(page: "Page", files: PlotFiles) -> list[Path]:
    """Write the plot of the balances, one panel per parameter; its paths."""
    num_rows = -(-len(page.parameters) // NUM_COLUMNS)
    figure, axes, key = new_keyed_figure(
        num_rows, NUM_COLUMNS, width_in=10.5, height_in=1.0 + 2.9 * num_rows
    )
    metric = metric_of(page.metric)
    now = metric.scale * page.value
    curves = [_curve(item, now) for item in page.parameters]
    label = metric.label[0].upper() + metric.label[1:]
    for each, item, curve in zip(axes, page.parameters, curves, strict=False):
        is_ratio = item.parameter.path == "chip.fp64_per_fp16_ratio"
        marks = [("1:100", REFERENCE_RATIO)] if is_ratio else []
        plot_balance(each, curve, now, label, marks)
    set_common_range(axes[: len(curves)], curves, now, NUM_COLUMNS)
    for unused in axes[len(curves) :]:
        unused.remove()
    draw_key(key)
    return files.save(figure, "balance", "Four balances", ISO_AREA_NOTE)


def _curve(item: "ParameterBalance", metric_now: float) -> BalanceCurve:
    """Curve of one parameter in the units of its panel."""
    path = item.parameter.path
    title, name, unit = PANELS[path]
    size = 1.0 if unit == "1" else _size(path, unit)
    is_shown = item.values > 0.0
    is_inside = item.optimum > 0.0 and not item.is_at_end
    near = (item.near_optimal[0] / size, item.near_optimal[1] / size)
    return BalanceCurve(
        title=title,
        summary=_summary(item, unit, size),
        label=name if unit == "1" else f"{name} ({unit})",
        values=item.values[is_shown] / size,
        metrics=metric_now * np.minimum(item.metric_ratios[is_shown], 1e6),
        current=item.current / size,
        optimum=item.optimum / size if is_inside else None,
        near_optimal=near if is_inside and near[0] > 0.0 else None,
    )


def _size(path: str, unit: str) -> float:
    """Size of a unit in the base unit of a parameter."""
    return float(unit_size(unit)[0] / unit_size(split_field(path)[1])[0])


def _summary(item: "ParameterBalance", unit: str, size: float) -> str:
    """Current value, optimum and penalty in words, in the unit of the panel."""
    now, optimum = (
        one_to(value) if unit == "1" else f"{significant(value / size)} {unit}"
        for value in (item.current, item.optimum)
    )
    now = f"now: {now}"
    if item.optimum <= 0.0:
        return f"{now}; lowest without any"
    penalty = percent(item.penalty_fraction)
    if item.is_at_end:
        return f"{now}; no optimum in range (penalty {penalty})"
    return f"{now}; optimum: {optimum} (penalty {penalty})"
