"""Plots of both studies."""

import pathlib
from collections.abc import Sequence
from typing import Any

from best_strategies import shares_of
from domain_sizes import BATCH_TOKENS, JOBS, NUM_CHIPS, REFERENCE, SPARES, switch_usd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tables import millions, pick

from hwdse.plots.figure_files import PlotFiles, new_keyed_figure
from hwdse.plots.plot_style import COLORS, GRID, INK, PALE_INK, RULE, curve_style, tidy_log_axis

Rows = list[dict[str, Any]]
PARTS = {
    "compute": COLORS[7], "pipeline bubble": COLORS[3], "TP, CP communication": COLORS[0],
    "EP communication": COLORS[1], "PP communication": COLORS[4], "DP communication": COLORS[2],
}  # fmt: skip
BATCH_COLORS = (COLORS[1], COLORS[2], COLORS[0])
DOMAIN_TICKS = (1, 4, 16, 64, 256, 576)
NETWORKS = {
    "torus, EFA v3": ("torus", "base"),
    "switch, EFA v3": ("switch", "base"),
    "switch, scale-out x 2": ("switch", "scale-out x 2"),
    "switch, scale-out x 4": ("switch", "scale-out x 4"),
}
"""Topology and case of each curve of the domain sizes."""
ODD_NOTE = "Hollow: domains of 72, 144, 288 and 576, where a ninth of the chips can be spares."
FOOTER = "hwdse, fastest strategy that fits the memory at each point; Trainium2, 4608 chips."


def domain_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(DOMAIN_TICKS, [f"{tick}" for tick in DOMAIN_TICKS])
    axes.minorticks_off()
    axes.set_xlabel("Chips per scale-up domain")
    axes.grid(True, color=GRID, linewidth=0.7, zorder=0)


def line(axes: Axes, rows: Rows, column: str, marker: str = "o", **style: Any) -> None:
    """Draw powers of two as a line, and other sizes as hollow marks unless the line is pale."""
    smooth = [row for row in rows if row["domain"] not in SPARES]
    odd = [row for row in rows if row["domain"] in SPARES]
    axes.plot(
        [row["domain"] for row in smooth], [row[column] for row in smooth], marker=marker,
        markersize=4, **style,
    )  # fmt: skip
    if "alpha" not in style:
        axes.plot(
            [row["domain"] for row in odd], [row[column] for row in odd], marker, markersize=5,
            color=style["color"], markerfacecolor="white", zorder=5,
        )  # fmt: skip


def stacks(axes: Axes, labels: Sequence[str], rows: Rows) -> None:
    """Draw stacked bars of the fractions of the step time by cause."""
    bottom = [0.0] * len(rows)
    for name, color in PARTS.items():
        heights = [100.0 * shares_of(row)[name] for row in rows]
        if max(heights) < 0.1:
            continue
        axes.bar(
            labels, heights, bottom=bottom, color=color, width=0.8, label=name, zorder=2,
            edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylim(0.0, 100.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.set_ylabel("Share of the step time")


def key_of_parts(axes: Axes) -> None:
    """Draw the legend of the stacked bars into empty axes."""
    handles = [Patch(color=color, label=name) for name, color in PARTS.items()]
    axes.legend(handles=handles, loc="center", ncols=6, frameon=False)


def draw_domains(rows: Rows, folder: pathlib.Path) -> None:
    """Draw the speedup over domains of 16, one panel per job and batch, one curve per network."""
    figure, grid, key = new_keyed_figure(2, 3, width_in=12.0, height_in=7.4)
    for index, axes in enumerate(grid):
        job, tokens = list(JOBS)[index // 3], BATCH_TOKENS[index % 3]
        base = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
        (reference,) = pick(base, domain=REFERENCE)
        for number, (topology, case) in enumerate(NETWORKS.values()):
            found = pick(rows, job=job, topology=topology, case=case, batch_tokens=tokens)
            found = [row | {"ratio": row["tokens_per_s"] / reference["tokens_per_s"]}
                     for row in found]  # fmt: skip
            line(axes, found, "ratio", **curve_style(number))
        domain_axis(axes)
        axes.axhline(1.0, color=PALE_INK, linewidth=0.8, linestyle=":")
        axes.set_title(f"{job}, {millions(tokens)} tokens per step", fontsize=9.5, loc="left")
        if index % 3 == 0:
            axes.set_ylabel(f"Throughput over\nswitched domains of {REFERENCE}, EFA v3")
    for row in (grid[:3], grid[3:]):
        top = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(0.0, top)
    looks = [curve_style(number) for number in range(len(NETWORKS))]
    handles = [Line2D([], [], label=name, markersize=4, **look)
               for name, look in zip(NETWORKS, looks, strict=True)]  # fmt: skip
    key.legend(handles=handles, loc="center", ncols=4, frameon=False)
    files = PlotFiles(folder, job=f"{NUM_CHIPS} chips", footer=FOOTER)
    files.save(figure, "domain_sizes", "Throughput and domain size", ODD_NOTE)


def draw_domain_parts(rows: Rows, folder: pathlib.Path) -> None:
    """Draw the step time by cause, one panel per job and batch, with EFA v3."""
    figure, grid, key = new_keyed_figure(2, 3, width_in=12.0, height_in=7.4)
    for index, axes in enumerate(grid):
        job, tokens = list(JOBS)[index // 3], BATCH_TOKENS[index % 3]
        found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
        bars = [row for row in found if row["domain"] not in SPARES]
        stacks(axes, [f"{row['domain']}" for row in bars], bars)
        axes.set_xlabel("Chips per scale-up domain")
        axes.set_title(f"{job}, {millions(tokens)} tokens per step", fontsize=9.5, loc="left")
        if index % 3:
            axes.set_ylabel("")
    key_of_parts(key)
    files = PlotFiles(folder, job=f"{NUM_CHIPS} chips, switch, EFA v3", footer=FOOTER)
    files.save(figure, "domain_parts", "Step time by cause and domain size")


def draw_costs(rows: Rows, folder: pathlib.Path) -> None:
    """Draw the cost per token with and without switches, and the break-even price of the fabric."""
    figure, grid, key = new_keyed_figure(2, 2, width_in=10.5, height_in=7.6)
    for (cost, price), job in zip((grid[:2], grid[2:]), JOBS, strict=True):
        for number, (tokens, color) in enumerate(zip(BATCH_TOKENS, BATCH_COLORS, strict=True)):
            found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
            marker = ("o", "s", "^")[number]
            style = {"color": color, "marker": marker}
            line(cost, found, "cost_usd_per_mtoken", linestyle="--", alpha=0.5, **style)
            line(cost, found, "cost_with_switches_usd_per_mtoken", **style)
            line(price, found, "break_even_usd", **style)
        cost.set_yscale("log")
        cost.set_ylim(0.035 if job == "DeepSeek-V3" else 0.25, 1.9)
        tidy_log_axis(cost.yaxis)
        cost.set_ylabel("Cost (USD/Mtoken)")
        price.set_ylabel(
            f"Break-even fabric price over that of\ndomains of {REFERENCE} (USD per chip)"
        )
        price.yaxis.set_major_formatter(
            lambda value, _: f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")
        )
        for ends in ((1, 1.4), (4, 72), (128, 576)):
            additional = switch_usd(ends[0]) - switch_usd(REFERENCE)
            price.plot(ends, (additional, additional), color=INK, linewidth=3.0, alpha=0.5)
        for axes in (cost, price):
            domain_axis(axes)
            axes.set_title(job, fontsize=9.5, loc="left")
    handles = [
        Line2D([], [], color=color, marker=marker, label=f"{millions(tokens)} tokens per step")
        for tokens, color, marker in zip(BATCH_TOKENS, BATCH_COLORS, "os^", strict=True)
    ]
    handles.append(Line2D([], [], color=PALE_INK, linestyle="--", label="without switches"))
    handles.append(Line2D([], [], color=INK, linewidth=3.0, alpha=0.5, label="assumed price"))
    key.legend(handles=handles, loc="center", ncols=5, frameon=False)
    files = PlotFiles(folder, job=f"{NUM_CHIPS} chips", footer=FOOTER)
    files.save(figure, "costs", "Cost and domain size", ODD_NOTE)


FABRIC_COLORS = {"torus of 64": COLORS[0], "switch of 512": COLORS[1]}


def chip_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("Chips")
    tidy_log_axis(axes.xaxis)
    axes.grid(True, color=GRID, linewidth=0.7, zorder=0)


def draw_sizes(rows: Rows, folder: pathlib.Path) -> None:
    """Draw effective throughput, MFU and goodput, and parts of the step time."""
    rows = [row for row in rows if row["hbm_used_ratio"] <= 1.0]
    figure, grid, key = new_keyed_figure(2, 3, width_in=12.5, height_in=8.0)
    for (tokens, use, shares), job in zip((grid[:3], grid[3:]), JOBS, strict=True):
        for fabric, color in FABRIC_COLORS.items():
            for scaling in ("strong", "weak"):
                found = pick(rows, job=job, fabric=fabric, scaling=scaling)
                scaling_lines(tokens, use, found, color, f"{scaling}, {fabric}")
        bars = pick(rows, job=job, fabric="torus of 64", scaling="strong")
        goodput_lines(use, bars)
        tokens.plot([], [], linestyle=":", color=PALE_INK, label="without failures")
        tokens.set_yscale("log")
        tokens.set_ylabel("Effective throughput (tokens/s)")
        tokens.set_title(job, fontsize=9.5, loc="left")
        use.set_ylim(0.0, 1.0)
        use.yaxis.set_major_formatter(lambda value, _: f"{100.0 * value:.0f} %")
        use.set_ylabel("MFU (colors), goodput (dashed)")
        use.set_title(job, fontsize=9.5, loc="left")
        stacks(shares, [short(row["num_chips"]) for row in bars], bars)
        shares.set_xlabel("Chips")
        shares.tick_params(axis="x", rotation=45)
        shares.set_title(f"{job}, strong scaling, torus of 64", fontsize=9.5, loc="left")
        for axes in (tokens, use):
            chip_axis(axes)
        tidy_log_axis(tokens.yaxis)
        if tokens is grid[0]:
            tokens.legend(frameon=False, loc="upper left")
            use.legend(frameon=False, loc="lower left")
    key_of_parts(key)
    files = PlotFiles(folder, job="Trn2 UltraServers", footer=FOOTER.replace(", 4608 chips", ""))
    files.save(figure, "job_sizes", "Scaling of one training job")


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
        ("goodput_fraction", INK, "7 min"),
        ("fast_restart_goodput_fraction", RULE, "40 s"),
    ):
        axes.plot(
            [row["num_chips"] for row in rows], [row[column] for row in rows], color=color,
            linestyle="--", label=f"goodput, restart in {restart}",
        )  # fmt: skip


def short(number: int) -> str:
    return f"{number}" if number < 1024 else f"{number // 1024} k"
