"""The picture of `hwdse balance`: picks the curves, `report` draws them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.shared.metric_tables import spaced
from hwdse.plots.balance_curves import Curve, frame, plot_balance
from hwdse.plots.pareto_plots import new_figure, save_figure

if TYPE_CHECKING:
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.cli.balance.balance_tables import Page

MINUTE_S = 60.0
ZHENG_RATIO = 0.01
"""FP64:FP16 that Zheng Weimin calls the best."""
NAMES = {
    "chip.link.bandwidth_bytes_per_s": "scale-up link",
    "chip.network.bandwidth_bytes_per_s": "scale-out network",
    "chip.sram.capacity_bytes": "SRAM capacity",
    "chip.hbm.bandwidth_bytes_per_s": "HBM bandwidth",
}
"""Labels of the curves that share a panel."""


def _curve(item: "ParameterBalance", unit: float) -> Curve:
    """A knob's curve, its values in `unit`."""
    is_shown = item.values > 0.0
    return Curve(
        label=NAMES.get(item.parameter.path, ""),
        values=item.values[is_shown] / unit,
        ratios=np.minimum(item.metric_ratios[is_shown], 1e6),
        present=item.current / unit if item.current > 0.0 else None,
        best=item.optimum / unit,
    )


def save_balance(page: "Page", folder: Path) -> list[Path]:
    """`balance.png` and `balance.svg`: a panel for each balance."""
    by_balance: dict[str, list[ParameterBalance]] = {}
    for item in page.parameters:
        by_balance.setdefault(item.parameter.balance, []).append(item)
    figure, axes = new_figure(2, 2, width_in=9.2, height_in=6.6)
    metric = f"{spaced(page.metric)}, over present"
    (ratio,), (interval,) = by_balance["precision"], by_balance["checkpoint"]
    panels = {
        "Precision": ([_curve(ratio, 1.0)], "peak FP64 over peak FP16", [("1:100", ZHENG_RATIO)]),
        "Network": (_relative(by_balance["network"]), "bandwidth, over present", []),
        "Memory": (_relative(by_balance["memory"]), "size or bandwidth, over present", []),
        "Checkpoints": ([_curve(interval, MINUTE_S)], "work between checkpoints (min)", []),
    }
    for each, (title, (curves, label, marks)) in zip(axes, panels.items(), strict=True):
        plot_balance(each, title, curves, (label, metric), marks)
    frame(axes, [curve for curves, _, _ in panels.values() for curve in curves])
    return save_figure(figure, folder, "balance")


def _relative(items: "list[ParameterBalance]") -> list[Curve]:
    return [_curve(item, item.current) for item in items]
