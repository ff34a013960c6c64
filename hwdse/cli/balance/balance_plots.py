"""Plot of `hwdse balance`: selects the curves; `hwdse.plots` draws them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.shared.metric_tables import metric_of
from hwdse.plots.balance_curves import Curve, plot_balance, set_common_range
from hwdse.plots.pareto_plots import new_figure, save_figure

if TYPE_CHECKING:
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.cli.balance.balance_tables import Page

MINUTE_S = 60.0
REFERENCE_RATIO = 0.01
"""FP64:FP16 ratio that Zheng Weimin recommends."""
CURVE_LABELS = {
    "chip.link.bandwidth_bytes_per_s": "scale-up fabric",
    "chip.network.bandwidth_bytes_per_s": "scale-out network",
    "chip.sram.capacity_bytes": "SRAM capacity",
    "chip.hbm.bandwidth_bytes_per_s": "HBM bandwidth",
}
"""Labels of the curves that share a panel."""


def _curve(item: "ParameterBalance", unit: float) -> Curve:
    """Curve of one parameter, its values in `unit`."""
    is_shown = item.values > 0.0
    return Curve(
        label=CURVE_LABELS.get(item.parameter.path, ""),
        values=item.values[is_shown] / unit,
        ratios=np.minimum(item.metric_ratios[is_shown], 1e6),
        current=item.current / unit if item.current > 0.0 else None,
        optimum=item.optimum / unit,
    )


def save_balance(page: "Page", folder: Path) -> list[Path]:
    """Write balance.png and balance.svg, one panel per balance; their paths."""
    by_balance: dict[str, list[ParameterBalance]] = {}
    for item in page.parameters:
        by_balance.setdefault(item.parameter.balance, []).append(item)
    figure, axes = new_figure(2, 2, width_in=9.2, height_in=6.6)
    name = metric_of(page.metric).name
    metric = f"{name[0].upper()}{name[1:]}\n(1 = current design)"
    (ratio,), (interval,) = by_balance["precision"], by_balance["checkpoint"]
    panels = {
        "Precision": (
            [_curve(ratio, 1.0)],
            "Peak FP64 over peak FP16",
            [("1:100", REFERENCE_RATIO)],
        ),
        "Network": (_relative(by_balance["network"]), "Bandwidth (1 = current)", []),
        "Memory": (_relative(by_balance["memory"]), "Capacity or bandwidth (1 = current)", []),
        "Checkpoints": ([_curve(interval, MINUTE_S)], "Checkpoint interval (min)", []),
    }
    for each, (title, (curves, label, marks)) in zip(axes, panels.items(), strict=True):
        plot_balance(each, title, curves, (label, metric), marks)
    set_common_range(axes, [curve for curves, _, _ in panels.values() for curve in curves])
    return save_figure(figure, folder, "balance")


def _relative(items: "list[ParameterBalance]") -> list[Curve]:
    return [_curve(item, item.current) for item in items]
