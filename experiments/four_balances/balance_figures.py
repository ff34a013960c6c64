"""Plots of the study."""

import pathlib
from typing import Any

import numpy as np
from tables import PARAMETERS

from hwdse.plots.figure_files import new_figure, save_figure
from hwdse.plots.plot_style import COLORS

KAPPAS = (8.6, 23.2)
"""Area per FP64 FLOP/s over area per FP16 FLOP/s: from Horowitz's multipliers and adders, and from
squared significand widths."""


def draw_penalties(found: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """Draw the penalty of each balance as a group of bars per chip."""
    figure, (axes,) = new_figure(width_in=7.6, height_in=4.6)
    rows = np.arange(len(found))[::-1]
    width = 0.8 / len(PARAMETERS)
    for index, (path, label) in enumerate(PARAMETERS.items()):
        penalties = [100.0 * one["parameters"][path]["penalty_fraction"] for one in found]
        offset = 0.4 - width * (index + 0.5)
        axes.barh(rows + offset, penalties, height=width, color=COLORS[index], label=label)
    axes.set_yticks(rows, [one["name"] for one in found])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Effective time per token above the optimum at iso-area (%)")
    axes.grid(True, axis="x", color="#e4e7eb", linewidth=0.7)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, folder, "penalties")


def draw_shares(found: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """Draw the optimal FP64:FP16 ratio over the FP64 share, with the ratios of chips."""
    from hwdse.models.precision.precision_mix import best_fp64_per_fp16_ratio

    figure, (axes,) = new_figure(width_in=7.2, height_in=4.6)
    shares = np.geomspace(1e-5, 0.5, 200)
    for index, kappa in enumerate(KAPPAS):
        for power, style in ((1.0, "-"), (32.0, "--")):
            ratios = np.asarray(best_fp64_per_fp16_ratio(shares, kappa, power))
            phases = "serialized" if power == 1.0 else "overlapped"
            label = f"area ratio {kappa:g}, phases {phases}"
            axes.plot(100.0 * shares, ratios, style, color=COLORS[index], label=label)
    axes.axhline(0.01, color="#52606d", linewidth=1.2, linestyle=":")
    axes.annotate("1:100", (100.0 * shares[0], 0.01), (2, 3), textcoords="offset points")
    for one in found:
        ratio = one["parameters"]["chip.fp64_per_fp16_ratio"]["current"]
        if ratio > 0.0:
            share = 100.0 * one["shares"]["own_ratio"]
            axes.scatter([share], [ratio], color=COLORS[2], zorder=5)
            axes.annotate(one["name"], (share, ratio), (6, -9), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FP64 share of the FLOP of a job (%)")
    axes.set_ylabel("Optimal ratio of peak FP64 to peak FP16")
    axes.grid(True, color="#e4e7eb", linewidth=0.7)
    axes.legend(frameon=False)
    save_figure(figure, folder, "one_to_hundred")
