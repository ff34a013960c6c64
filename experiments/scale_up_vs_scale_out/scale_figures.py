"""Plots of both studies."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from best_strategies import shares_of
from domain_sizes import BATCH_TOKENS, JOBS, NUM_CHIPS, REFERENCE, SPARES, switch_usd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from tables import millions, pick

from hwdse.plots.plot_style import COLORS, STYLE

Rows = list[dict[str, Any]]
PARTS = {
    "compute": "#c5cdd6", "pipeline bubble": COLORS[3], "TP, CP communication": COLORS[0],
    "EP communication": COLORS[1], "PP communication": COLORS[4], "DP communication": COLORS[2],
}  # fmt: skip
BATCH_COLORS = (COLORS[1], COLORS[2], COLORS[0])
DOMAIN_TICKS = (1, 4, 16, 64, 256, 576)
GRID = {"color": "#e4e7eb", "linewidth": 0.7, "zorder": 0}


def domain_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(DOMAIN_TICKS, [f"{tick}" for tick in DOMAIN_TICKS])
    axes.minorticks_off()
    axes.set_xlabel("Chips per scale-up domain")
    axes.grid(True, **GRID)


def line(axes: Axes, rows: Rows, column: str, **style: Any) -> None:
    """Draw powers of two as a line, and other sizes as hollow marks unless the line is pale."""
    smooth = [row for row in rows if row["domain"] not in SPARES]
    odd = [row for row in rows if row["domain"] in SPARES]
    axes.plot(
        [row["domain"] for row in smooth], [row[column] for row in smooth], marker="o",
        markersize=3.5, **style,
    )  # fmt: skip
    if "alpha" not in style:
        axes.plot(
            [row["domain"] for row in odd], [row[column] for row in odd], "D", markersize=4.5,
            color=style["color"], markerfacecolor="white", zorder=5,
        )  # fmt: skip


def stacks(axes: Axes, labels: Sequence[str], rows: Rows) -> None:
    """Draw stacked bars of the fractions of the step time by cause."""
    bottom = [0.0] * len(rows)
    for name, color in PARTS.items():
        heights = [shares_of(row)[name] for row in rows]
        if max(heights) < 1e-3:
            continue
        axes.bar(labels, heights, bottom=bottom, color=color, width=0.8, label=name, zorder=2)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("Fraction of the step time")


def legend_of_parts(figure: Figure) -> None:
    """Draw the legend of the stacked bars below all panels."""
    handles = [Patch(color=color, label=name) for name, color in PARTS.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=6, frameon=False,
                  title="Fraction of the step time", alignment="right")  # fmt: skip


def save(figure: Figure, path: pathlib.Path) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=130)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def draw_domains(rows: Rows, path: pathlib.Path) -> None:
    """Draw speedup by batch, speedup by scale-out bandwidth, and parts of the step time."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), layout="constrained")
        for (speed, network, shares), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                line(
                    speed,
                    found,
                    "speedup",
                    color=color,
                    label=f"{millions(tokens)} tokens per step",
                )
            torus = pick(rows, job=job, topology="torus", batch_tokens=BATCH_TOKENS[2])
            line(speed, torus, "speedup", color=COLORS[7], linestyle="--",
                 label=f"torus, {millions(BATCH_TOKENS[2])}")  # fmt: skip
            networks(network, rows, job, BATCH_TOKENS[1])
            for axes in (speed, network):
                domain_axis(axes)
                axes.axhline(1.0, color="#52606d", linewidth=0.8, linestyle=":")
                axes.set_ylim(bottom=0.0)
            speed.set_ylabel(f"Throughput over domains of {REFERENCE}")
            speed.set_title(f"{job}, {NUM_CHIPS} chips", fontsize=10, loc="left")
            bars = [row for row in pick(rows, job=job, topology="switch", case="base",
                                        batch_tokens=BATCH_TOKENS[1])
                    if row["domain"] not in SPARES]  # fmt: skip
            stacks(shares, [f"{row['domain']}" for row in bars], bars)
            shares.set_xlabel("Chips per scale-up domain")
            shares.set_title(
                f"Step time by cause, {millions(BATCH_TOKENS[1])} tokens per step", fontsize=10
            )
            if speed is grid[0][0]:
                speed.plot([], [], "D", color="#52606d", markerfacecolor="white", markersize=4.5,
                           label="72, 144, 288, 576")  # fmt: skip
                speed.legend(frameon=False, loc="lower right")
                network.legend(frameon=False, loc="lower right")
        legend_of_parts(figure)
        save(figure, path)


def networks(axes: Axes, rows: Rows, job: str, tokens: int) -> None:
    """Draw throughput over that of the reference domain with the base scale-out bandwidth."""
    (base,) = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens,
                   domain=REFERENCE)  # fmt: skip
    for case, color, label in (
        ("scale-out x 4", COLORS[4], "scale-out bandwidth x 4"),
        ("scale-out x 2", COLORS[5], "scale-out bandwidth x 2"),
        ("base", COLORS[2], "scale-out as built (EFA v3)"),
    ):  # fmt: skip
        found = pick(rows, job=job, topology="switch", case=case, batch_tokens=tokens)
        found = [row | {"ratio": row["tokens_per_s"] / base["tokens_per_s"]} for row in found]
        line(axes, found, "ratio", color=color, label=label)
    axes.set_title(f"Faster scale-out network, {millions(tokens)} tokens per step", fontsize=10)


def draw_costs(rows: Rows, path: pathlib.Path) -> None:
    """Draw the cost per token with and without switches, and the break-even price of the fabric."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(10.0, 7.2), layout="constrained")
        for (cost, price), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                label = f"{millions(tokens)} tokens per step"
                line(cost, found, "cost_usd_per_mtoken", color=color, linestyle="--", alpha=0.5)
                line(cost, found, "cost_with_switches_usd_per_mtoken", color=color, label=label)
                line(price, found, "break_even_usd", color=color)
            cost.plot([], [], color=COLORS[7], linestyle="--", label="without the cost of switches")
            cost.set_yscale("log")
            ticks = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5)
            cost.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            cost.minorticks_off()
            cost.set_ylim(0.035 if job == "DeepSeek-V3" else 0.25, 1.8)
            cost.set_ylabel("Cost (USD per million tokens)")
            cost.set_title(job, fontsize=10, loc="left")
            for ends in ((1, 1.4), (4, 72), (128, 576)):
                additional = switch_usd(ends[0]) - switch_usd(REFERENCE)
                label = "assumed switch price" if ends[0] == 4 else None
                style = {"color": "#323f4b", "linewidth": 3.0, "alpha": 0.5, "label": label}
                price.plot(ends, (additional, additional), **style)
            price.set_ylabel(
                f"Break-even fabric price over that of\ndomains of {REFERENCE} (USD per chip)"
            )
            for axes in (cost, price):
                domain_axis(axes)
            cost.legend(frameon=False)
            price.legend(frameon=False, loc="upper left")
        save(figure, path)


FABRIC_COLORS = {"torus of 64": COLORS[0], "switch of 512": COLORS[1]}


def chip_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("Chips")
    axes.grid(True, **GRID)


def draw_sizes(rows: Rows, path: pathlib.Path) -> None:
    """Draw effective throughput, MFU and goodput, and parts of the step time."""
    rows = [row for row in rows if row["hbm_used_ratio"] <= 1.0]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), layout="constrained")
        for (tokens, use, shares), job in zip(grid, JOBS, strict=True):
            for fabric, color in FABRIC_COLORS.items():
                for scaling in ("strong", "weak"):
                    found = pick(rows, job=job, fabric=fabric, scaling=scaling)
                    scaling_lines(tokens, use, found, color, f"{scaling}, {fabric}")
            bars = pick(rows, job=job, fabric="torus of 64", scaling="strong")
            goodput_lines(use, bars)
            tokens.plot([], [], linestyle=":", color=COLORS[7], label="without failures")
            tokens.set_yscale("log")
            tokens.set_ylabel("Effective throughput (tokens/s)")
            tokens.set_title(job, fontsize=10, loc="left")
            use.set_ylim(0.0, 1.0)
            use.set_ylabel("MFU (colors), goodput (dashed), fraction")
            stacks(shares, [short(row["num_chips"]) for row in bars], bars)
            shares.set_xlabel("Chips")
            shares.tick_params(axis="x", rotation=45)
            shares.set_title("Strong scaling, torus of 64: step time by cause", fontsize=10)
            for axes in (tokens, use):
                chip_axis(axes)
            if tokens is grid[0][0]:
                tokens.legend(frameon=False, loc="upper left")
                use.legend(frameon=False, loc="lower left")
        legend_of_parts(figure)
        save(figure, path)


def scaling_lines(tokens: Axes, use: Axes, rows: Rows, color: str, label: str) -> None:
    """Draw effective throughput (dotted without failures) and MFU; filled marks: strong scaling."""
    is_strong = label.startswith("strong")
    chips = [row["num_chips"] for row in rows]
    face = color if is_strong else "white"
    style = {"color": color, "marker": "o" if is_strong else "s", "markersize": 4}
    style |= {"markerfacecolor": face}
    tokens.plot(chips, [row["tokens_per_s"] for row in rows], linestyle=":", color=color)
    tokens.plot(chips, [row["effective_tokens_per_s"] for row in rows], label=label, **style)
    use.plot(chips, [row["mfu_fraction"] for row in rows], **style)


def goodput_lines(axes: Axes, rows: Rows) -> None:
    """Draw goodput with slow and fast restarts."""
    for column, color, restart in (
        ("goodput_fraction", "#323f4b", "7 min"),
        ("fast_restart_goodput_fraction", COLORS[7], "40 s"),
    ):
        axes.plot(
            [row["num_chips"] for row in rows], [row[column] for row in rows], color=color,
            linestyle="--", label=f"goodput, restart in {restart}",
        )  # fmt: skip


def short(number: int) -> str:
    return f"{number}" if number < 1024 else f"{number // 1024} k"
