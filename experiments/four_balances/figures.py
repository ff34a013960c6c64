"""Figures of the study."""

import pathlib
from typing import Any

import numpy as np
from tables import PATHS

from hwdse.plots.pareto_plots import new_figure, save_figure
from hwdse.plots.plot_style import COLORS

KAPPAS = (8.6, 23.2)
"""Area of one fp64 flop/s over one fp16 flop/s: Horowitz's multipliers and adders, squares of
significands."""


def draw_losses(found: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """What being off each balance loses, a row of bars for each chip."""
    figure, (axes,) = new_figure(width_in=7.6, height_in=4.6)
    rows = np.arange(len(found))[::-1]
    width = 0.8 / len(PATHS)
    for place, (path, label) in enumerate(PATHS.items()):
        losses = [100.0 * one["knobs"][path]["loss"] for one in found]
        offset = 0.4 - width * (place + 0.5)
        axes.barh(rows + offset, losses, height=width, color=COLORS[place], label=label)
    axes.set_yticks(rows, [one["name"] for one in found])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Time per useful token lost against the best value (%)")
    axes.grid(True, axis="x", color="#e4e7eb", linewidth=0.7)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, folder, "losses")


def draw_shares(found: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """Best FP64:FP16 against the share of fp64 work, and the ratios of chips."""
    from hwdse.models.precision.precision_mix import best_fp64_per_fp16_ratio

    figure, (axes,) = new_figure(width_in=7.2, height_in=4.6)
    shares = np.geomspace(1e-5, 0.5, 200)
    for place, kappa in enumerate(KAPPAS):
        for power, style in ((1.0, "-"), (32.0, "--")):
            ratios = np.asarray(best_fp64_per_fp16_ratio(shares, kappa, power))
            phases = "in turn" if power == 1.0 else "overlapped"
            label = f"area ratio {kappa:g}, phases {phases}"
            axes.plot(100.0 * shares, ratios, style, color=COLORS[place], label=label)
    axes.axhline(0.01, color="#52606d", linewidth=1.2, linestyle=":")
    axes.annotate("1:100", (100.0 * shares[0], 0.01), (2, 3), textcoords="offset points")
    for one in found:
        ratio = one["knobs"]["chip.fp64_per_fp16_ratio"]["present"]
        if ratio > 0.0:
            suits = 100.0 * one["shares"]["own_ratio"]
            axes.scatter([suits], [ratio], color=COLORS[2], zorder=5)
            axes.annotate(one["name"], (suits, ratio), (6, -9), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FP64 share of all FLOP of a job (%)")
    axes.set_ylabel("Best peak FP64 over peak FP16")
    axes.grid(True, color="#e4e7eb", linewidth=0.7)
    axes.legend(frameon=False)
    save_figure(figure, folder, "one_to_hundred")
