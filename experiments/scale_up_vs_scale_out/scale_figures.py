"""The figures of both studies."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from best_layouts import shares_of
from domain_sizes import BATCH_TOKENS, JOBS, NUM_CHIPS, REFERENCE, SPARES, switch_usd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from tables import millions, pick

from hwdse.plots.plot_style import COLORS, STYLE

Rows = list[dict[str, Any]]
PARTS = {
    "compute": "#c5cdd6", "bubble": COLORS[3], "tensor, context": COLORS[0], "expert": COLORS[1],
    "pipeline": COLORS[4], "data": COLORS[2],
}  # fmt: skip
BATCH_COLORS = (COLORS[1], COLORS[2], COLORS[0])
DOMAIN_TICKS = (1, 4, 16, 64, 256, 576)
GRID = {"color": "#e4e7eb", "linewidth": 0.7, "zorder": 0}


def domain_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(DOMAIN_TICKS, [f"{tick}" for tick in DOMAIN_TICKS])
    axes.minorticks_off()
    axes.set_xlabel("Chips of a scale-up domain")
    axes.grid(True, **GRID)


def line(axes: Axes, rows: Rows, column: str, **style: Any) -> None:
    """Powers of two as a line; sizes of nine times one as hollow marks, unless the line is pale."""
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
    """Shares of the step by what chips wait for."""
    bottom = [0.0] * len(rows)
    for name, color in PARTS.items():
        heights = [shares_of(row)[name] for row in rows]
        if max(heights) < 1e-3:
            continue
        axes.bar(labels, heights, bottom=bottom, color=color, width=0.8, label=name, zorder=2)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("Share of the step")


def legend_of_parts(figure: Figure) -> None:
    """What the colors of stacked bars mean, below all panels."""
    names = {
        "compute": "compute", "bubble": "pipeline bubble", "tensor, context": "tensor and context",
        "expert": "expert", "pipeline": "pipeline sends", "data": "data-parallel collectives",
    }  # fmt: skip
    handles = [Patch(color=PARTS[key], label=name) for key, name in names.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=6, frameon=False,
                  title="Share of the step", alignment="right")  # fmt: skip


def save(figure: Figure, path: pathlib.Path) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=130)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def draw_domains(rows: Rows, path: pathlib.Path) -> None:
    """Speed by batch, speed by network, and what chips wait for."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), parallelism="constrained")
        for (speed, network, shares), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                line(
                    speed, found, "speedup", color=color, label=f"{millions(tokens)} tokens a step"
                )
            torus = pick(rows, job=job, topology="torus", batch_tokens=BATCH_TOKENS[2])
            line(speed, torus, "speedup", color=COLORS[7], linestyle="--",
                 label=f"torus, {millions(BATCH_TOKENS[2])}")  # fmt: skip
            networks(network, rows, job, BATCH_TOKENS[1])
            for axes in (speed, network):
                domain_axis(axes)
                axes.axhline(1.0, color="#52606d", linewidth=0.8, linestyle=":")
                axes.set_ylim(bottom=0.0)
            speed.set_ylabel(f"Tokens a second over domains of {REFERENCE}")
            speed.set_title(f"{job}, {NUM_CHIPS} chips", fontsize=10, loc="left")
            bars = [row for row in pick(rows, job=job, topology="switch", case="base",
                                        batch_tokens=BATCH_TOKENS[1])
                    if row["domain"] not in SPARES]  # fmt: skip
            stacks(shares, [f"{row['domain']}" for row in bars], bars)
            shares.set_xlabel("Chips of a scale-up domain")
            shares.set_title(
                f"Where a step's time goes, {millions(BATCH_TOKENS[1])} tokens", fontsize=10
            )
            if speed is grid[0][0]:
                speed.plot([], [], "D", color="#52606d", markerfacecolor="white", markersize=4.5,
                           label="72, 144, 288, 576")  # fmt: skip
                speed.legend(frameon=False, loc="lower right")
                network.legend(frameon=False, loc="lower right")
        legend_of_parts(figure)
        save(figure, path)


def networks(axes: Axes, rows: Rows, job: str, tokens: int) -> None:
    """Tokens a second over those of the reference with the network as it is."""
    (base,) = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens,
                   domain=REFERENCE)  # fmt: skip
    for case, color, label in (
        ("network x 4", COLORS[4], "network x 4"), ("network x 2", COLORS[5], "network x 2"),
        ("base", COLORS[2], "network as built (EFA v3)"),
    ):  # fmt: skip
        found = pick(rows, job=job, topology="switch", case=case, batch_tokens=tokens)
        found = [row | {"ratio": row["tokens_per_s"] / base["tokens_per_s"]} for row in found]
        line(axes, found, "ratio", color=color, label=label)
    axes.set_title(f"Faster scale-out network, {millions(tokens)} tokens", fontsize=10)


def draw_costs(rows: Rows, path: pathlib.Path) -> None:
    """Cost of a token with and without switches, and what the fabric may cost."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(10.0, 7.2), parallelism="constrained")
        for (cost, may), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                label = f"{millions(tokens)} tokens a step"
                line(cost, found, "usd_per_million_tokens", color=color, linestyle="--", alpha=0.5)
                line(cost, found, "usd_with_switches", color=color, label=label)
                line(may, found, "break_even_usd", color=color)
            cost.plot([], [], color=COLORS[7], linestyle="--", label="switches for nothing")
            cost.set_yscale("log")
            ticks = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5)
            cost.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            cost.minorticks_off()
            cost.set_ylim(0.035 if job == "DeepSeek-V3" else 0.25, 1.8)
            cost.set_ylabel("USD a million tokens")
            cost.set_title(job, fontsize=10, loc="left")
            for ends in ((1, 1.4), (4, 72), (128, 576)):
                more = switch_usd(ends[0]) - switch_usd(REFERENCE)
                may.plot(ends, (more, more), color="#323f4b", linewidth=3.0, alpha=0.5,
                         label="assumed price of switches" if ends[0] == 4 else None)  # fmt: skip
            may.set_ylabel(f"Fabric may cost more than that of {REFERENCE}\nby (USD a chip)")
            for axes in (cost, may):
                domain_axis(axes)
            cost.legend(frameon=False)
            may.legend(frameon=False, loc="upper left")
        save(figure, path)


FABRIC_COLORS = {"torus of 64": COLORS[0], "switch of 512": COLORS[1]}


def chip_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("Chips")
    axes.grid(True, **GRID)


def draw_sizes(rows: Rows, path: pathlib.Path) -> None:
    """Tokens a second, use of the chips, and what chips wait for."""
    rows = [row for row in rows if row["hbm_used_ratio"] <= 1.0]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), parallelism="constrained")
        for (tokens, use, shares), job in zip(grid, JOBS, strict=True):
            for fabric, color in FABRIC_COLORS.items():
                for scaling in ("strong", "weak"):
                    found = pick(rows, job=job, fabric=fabric, scaling=scaling)
                    scaling_lines(tokens, use, found, color, f"{scaling}, {fabric}")
            bars = pick(rows, job=job, fabric="torus of 64", scaling="strong")
            goodput_lines(use, bars)
            tokens.plot([], [], linestyle=":", color=COLORS[7], label="without failures")
            tokens.set_yscale("log")
            tokens.set_ylabel("Useful tokens a second")
            tokens.set_title(job, fontsize=10, loc="left")
            use.set_ylim(0.0, 1.0)
            use.set_ylabel("MFU (colors), goodput (dashed)")
            stacks(shares, [short(row["num_chips"]) for row in bars], bars)
            shares.set_xlabel("Chips")
            shares.tick_params(axis="x", rotation=45)
            shares.set_title("Strong scaling, torus of 64: where the time goes", fontsize=10)
            for axes in (tokens, use):
                chip_axis(axes)
            if tokens is grid[0][0]:
                tokens.legend(frameon=False, loc="upper left")
                use.legend(frameon=False, loc="lower left")
        legend_of_parts(figure)
        save(figure, path)


def scaling_lines(tokens: Axes, use: Axes, rows: Rows, color: str, label: str) -> None:
    """Useful tokens, dotted without failures, and MFU; filled marks for strong scaling."""
    is_strong = label.startswith("strong")
    chips = [row["num_chips"] for row in rows]
    face = color if is_strong else "white"
    style = {"color": color, "marker": "o" if is_strong else "s", "markersize": 4}
    style |= {"markerfacecolor": face}
    tokens.plot(chips, [row["tokens_per_s"] for row in rows], linestyle=":", color=color)
    tokens.plot(chips, [row["effective_tokens_per_s"] for row in rows], label=label, **style)
    use.plot(chips, [row["mfu"] for row in rows], **style)


def goodput_lines(axes: Axes, rows: Rows) -> None:
    """Share of time that failures leave, with slow and fast restarts."""
    for column, color, restart in (
        ("goodput", "#323f4b", "7 min"),
        ("fast_goodput", COLORS[7], "40 s"),
    ):
        axes.plot(
            [row["num_chips"] for row in rows], [row[column] for row in rows], color=color,
            linestyle="--", label=f"goodput, restart in {restart}",
        )  # fmt: skip


def short(number: int) -> str:
    return f"{number}" if number < 1024 else f"{number // 1024} k"
