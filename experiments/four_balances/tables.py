"""Tables of the study as Markdown."""

from collections.abc import Callable
from typing import Any

Systems = list[dict[str, Any]]
PARAMETERS = {
    "chip.fp64_per_fp16_ratio": "FP64:FP16",
    "chip.link.bandwidth_bytes_per_s": "scale-up bandwidth",
    "chip.network.bandwidth_bytes_per_s": "scale-out bandwidth",
    "chip.sram.capacity_bytes": "SRAM",
    "chip.hbm.bandwidth_bytes_per_s": "HBM bandwidth",
    "checkpoint_interval_s": "checkpoint interval",
}
UNITS = {
    "chip.link.bandwidth_bytes_per_s": ("GB/s", 1e9),
    "chip.network.bandwidth_bytes_per_s": ("GB/s", 1e9),
    "chip.sram.capacity_bytes": ("MiB", 2.0**20),
    "chip.hbm.bandwidth_bytes_per_s": ("TB/s", 1e12),
    "checkpoint_interval_s": ("min", 60.0),
}
LEVELS = {
    "sram": "SRAM",
    "hbm": "HBM",
    "link": "scale-up",
    "network": "scale-out",
    "storage": "checkpoint storage",
}


def ratio_text(ratio: float) -> str:
    """A ratio below one as 1:N."""
    return f"1:{1.0 / ratio:,.0f}" if ratio > 0.0 else "none"


def value_text(path: str, value: float) -> str:
    """Value of a parameter in the unit of its column."""
    if path not in UNITS:
        return ratio_text(value)
    scaled = value / UNITS[path][1]
    return f"{scaled:,.0f}" if scaled >= 100.0 else f"{scaled:.3g}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100.0 * share:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def parameter_table(found: Systems, cell: Callable[[str, dict[str, Any]], str], units: bool) -> str:
    """Table of chips by parameters."""
    head = [
        f"{label} ({UNITS[path][0]})" if units and path in UNITS else label
        for path, label in PARAMETERS.items()
    ]
    rows = [[one["name"], *(cell(path, one["parameters"][path]) for path in PARAMETERS)]
            for one in found]  # fmt: skip
    return table(["chip", *head], rows)


def optimum_table(found: Systems) -> str:
    """Current value and optimum of each parameter."""

    def cell(path: str, balance: dict[str, Any]) -> str:
        is_open = balance["is_at_end"] and balance["optimum"] > balance["current"]
        optimum = "higher" if is_open else value_text(path, balance["optimum"])
        return f"{value_text(path, balance['current'])} / {optimum}"

    return parameter_table(found, cell, units=True)


def penalty_table(found: Systems) -> str:
    """Effective time per token at the current value over that at the optimum, minus 1 (%)."""
    return parameter_table(found, lambda _, b: percent(b["penalty_fraction"]), units=False)


def elasticity_table(found: Systems) -> str:
    """d ln(effective time per token) / d ln(parameter) of each parameter."""
    return parameter_table(found, lambda _, b: f"{b['elasticity']:+.3f}", units=False)


def levels_table(found: Systems) -> str:
    """Demand ratio of each memory level, and HBM traffic over its lower bound."""
    rows = []
    for one in found:
        memory = one["memory"]
        ratios = [percent(memory[level]["demand_ratio"], 0) for level in LEVELS]
        bound = memory["traffic_over_bound_ratio"]
        rows.append([one["name"], *ratios, f"{bound:.2f}", percent(one["mfu_fraction"], 0)])
    head = [f"{label} (%)" for label in LEVELS.values()]
    return table(["chip", *head, "HBM traffic / pebble-game bound", "MFU (%)"], rows)


def shares_table(found: Systems) -> str:
    """FP64 shares of a job for which given FP64:FP16 ratios are optimal."""
    rows = []
    for one in found:
        shares, balance = one["shares"], one["parameters"]["chip.fp64_per_fp16_ratio"]
        rows.append(
            [
                one["name"],
                ratio_text(balance["current"]),
                percent(shares["own_ratio"], 3),
                percent(shares["one_to_hundred"], 3),
                percent(shares["in_job"], 3),
                percent(shares["emulated"], 2),
                " to ".join(ratio_text(ratio) for ratio in reversed(balance["near_optimal"])),
            ]
        )
    head = [
        "chip",
        "FP64:FP16",
        "optimal at an FP64 share of (%)",
        "1:100 optimal, units at peak (%)",
        "1:100 optimal, arrays at the utilization of this job (%)",
        "1:100 optimal, FP64 GEMMs emulated (%)",
        "FP64:FP16 within 1 % of the optimum at a share of 0.01 %",
    ]
    return table(head, rows)


def all_tables(found: Systems) -> str:
    """Tables of the README."""
    parts = (
        ("Current value / optimum at iso-area", optimum_table),
        ("Penalty: effective time per token above the optimum (%)", penalty_table),
        ("Elasticity of the effective time per token", elasticity_table),
        ("Memory levels: time of a level over time of the matrix engines", levels_table),
        ("FP64 shares at which 1:100 is optimal", shares_table),
    )
    return "\n".join(f"### {title}\n\n{make(found)}" for title, make in parts)
