"""The figures of both studies."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from best_layouts import shares_of
from domain_sizes import BATCH_TOKENS, JOBS, NUM_CHIPS, REFERENCE, SPARES, SWITCHED
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tables import millions, pick

from hwdse.report.plots_style import COLORS, STYLE, tidy_log_axis

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
    """Powers of two as a line, sizes of nine times one as hollow marks."""
    smooth = [row for row in rows if row["domain"] not in SPARES]
    odd = [row for row in rows if row["domain"] in SPARES]
    axes.plot(
        [row["domain"] for row in smooth], [row[column] for row in smooth], marker="o",
        markersize=3.5, **style,
    )  # fmt: skip
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


def save(figure: Figure, path: pathlib.Path) -> None:
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=130, metadata={"Date": None} if suffix == ".svg" else None)
    plt.close(figure)


def draw_domains(rows: Rows, path: pathlib.Path) -> None:
    """Speed by batch, speed by network, and what chips wait for."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), layout="constrained")
        for (speed, network, shares), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                line(speed, found, "speedup", color=color, label=f"{millions(tokens)} tokens a step")
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
            shares.set_title(f"Where a step's time goes, {millions(BATCH_TOKENS[1])} tokens", fontsize=10)
            speed.legend(frameon=False, loc="upper left")
            network.legend(frameon=False, loc="lower right")
            shares.legend(frameon=False, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.42))
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
        figure, grid = plt.subplots(2, 2, figsize=(10.0, 7.2), layout="constrained")
        for (cost, may), job in zip(grid, JOBS, strict=True):
            for tokens, color in zip(BATCH_TOKENS, BATCH_COLORS, strict=True):
                found = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens)
                line(cost, found, "usd_per_million_tokens", color=color, linestyle="--", alpha=0.5)
                line(cost, found, "usd_with_switches", color=color, label=f"{millions(tokens)} tokens a step")
                line(may, found, "break_even_usd", color=color)
            cost.plot([], [], color=COLORS[7], linestyle="--", label="switches for nothing")
            cost.set_yscale("log")
            tidy_log_axis(cost.yaxis)
            cost.set_ylabel("USD a million tokens")
            cost.set_title(job, fontsize=10, loc="left")
            may.set_yscale("symlog", linthresh=300.0)
            may.set_yticks([-3000, -1000, -300, 0, 300, 1000, 3000, 10000],
                           ["-3,000", "-1,000", "-300", "0", "300", "1,000", "3,000", "10,000"])  # fmt: skip
            may.axhline(0.0, color="#52606d", linewidth=0.8)
            may.step([1, 72.01, 576], [0, 1000, 3000], where="post", color="#323f4b", linewidth=1.2,
                     linestyle=":", label="assumed price of switches")  # fmt: skip
            may.set_ylabel(f"Fabric may cost more than that of {REFERENCE} by\n(USD a chip)")
            for axes in (cost, may):
                domain_axis(axes)
            cost.legend(frameon=False)
            may.legend(frameon=False, loc="lower right")
        save(figure, path)


SCALING_STYLES: Mapping[str, tuple[str, str]] = {"torus of 64": (COLORS[0], "-"), "switch of 512": (COLORS[1], "-")}


def chip_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("Chips")
    axes.grid(True, **GRID)


def draw_sizes(rows: Rows, path: pathlib.Path) -> None:
    """Tokens a second, use of the chips, and what chips wait for."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(13.0, 7.6), layout="constrained")
        for (tokens, use, shares), job in zip(grid, JOBS, strict=True):
            for fabric, (color, _) in SCALING_STYLES.items():
                for scaling, marker in (("strong", "o"), ("weak", "s")):
                    found = [row for row in pick(rows, job=job, fabric=fabric, scaling=scaling)
                             if row["hbm_used_ratio"] <= 1.0]  # fmt: skip
                    chips = [row["num_chips"] for row in found]
                    face = color if scaling == "strong" else "white"
                    style = {"color": color, "marker": marker, "markersize": 4, "markerfacecolor": face}
                    tokens.plot(chips, [row["tokens_per_s"] for row in found], linestyle=":", color=color)
                    tokens.plot(chips, [row["useful_tokens_per_s"] for row in found],
                                label=f"{scaling}, {fabric}", **style)  # fmt: skip
                    use.plot(chips, [row["mfu"] for row in found], **style)
                    if scaling == "strong" and fabric == "torus of 64":
                        use.plot(chips, [row["goodput"] for row in found], color="#323f4b",
                                 linestyle="--", label="goodput, restart in 7 min")  # fmt: skip
                        use.plot(chips, [row["fast_goodput"] for row in found], color=COLORS[7],
                                 linestyle="--", label="goodput, restart in 40 s")  # fmt: skip
            tokens.plot([], [], linestyle=":", color=COLORS[7], label="without failures")
            tokens.set_yscale("log")
            tokens.set_ylabel("Useful tokens a second")
            tokens.set_title(job, fontsize=10, loc="left")
            use.set_ylim(0.0, 1.0)
            use.set_ylabel("MFU (colors), goodput (dashed)")
            bars = [row for row in pick(rows, job=job, fabric="torus of 64", scaling="strong")
                    if row["hbm_used_ratio"] <= 1.0]  # fmt: skip
            stacks(shares, [short(row["num_chips"]) for row in bars], bars)
            shares.set_xlabel("Chips")
            shares.tick_params(axis="x", rotation=45)
            shares.set_title("Strong scaling, torus of 64: where the time goes", fontsize=10)
            for axes in (tokens, use):
                chip_axis(axes)
            tokens.legend(frameon=False, loc="upper left")
            use.legend(frameon=False, loc="lower left")
            shares.legend(frameon=False, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.5))
        save(figure, path)


def short(number: int) -> str:
    return f"{number}" if number < 1024 else f"{number // 1024} k"
