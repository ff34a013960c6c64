"""Tables of the study as Markdown."""

from typing import Any

from hwdse.units.format_units import format_quantity

PATHS = {
    "chip.fp64_per_fp16_ratio": "FP64:FP16",
    "chip.link.bandwidth_bytes_per_s": "scale-up link",
    "chip.network.bandwidth_bytes_per_s": "scale-out network",
    "chip.sram.capacity_bytes": "SRAM",
    "chip.hbm.bandwidth_bytes_per_s": "HBM bandwidth",
    "checkpoint_interval_s": "checkpoint interval",
}
UNITS = {"bandwidth_bytes_per_s": "B/s", "capacity_bytes": "B", "interval_s": "s"}
LEVELS = ("sram", "hbm", "link", "network", "storage")


def one_to(ratio: float) -> str:
    """A ratio below one as 1:N."""
    return f"1:{1.0 / ratio:,.0f}" if ratio > 0.0 else "none"


def text_of(path: str, value: float) -> str:
    """A knob's value as people write it."""
    if path == "chip.fp64_per_fp16_ratio":
        return one_to(value)
    unit = next(unit for end, unit in UNITS.items() if path.endswith(end))
    return format_quantity(value, unit, digits=2)


def percent(share: float, digits: int = 1) -> str:
    return f"{100.0 * share:.{digits}f} %"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def knobs_table(found: list[dict[str, Any]]) -> str:
    """Now, best and loss of every knob."""
    rows = []
    for one in found:
        cells = []
        for path in PATHS:
            knob = one["knobs"][path]
            best = "more" if knob["is_at_end"] and knob["best"] > knob["present"] else None
            best = best or text_of(path, knob["best"])
            cells.append(f"{text_of(path, knob['present'])} / {best} / {percent(knob['loss'])}")
        rows.append([one["name"], *cells])
    return table(["chip", *PATHS.values()], rows)


def elasticity_table(found: list[dict[str, Any]]) -> str:
    """d ln(time a token) / d ln(parameter) of every knob."""
    rows = [
        [one["name"], *(f"{one['knobs'][path]['elasticity']:+.3f}" for path in PATHS)]
        for one in found
    ]
    return table(["chip", *PATHS.values()], rows)


def levels_table(found: list[dict[str, Any]]) -> str:
    """How much of each level the job uses, and the distance from the bound."""
    rows = []
    for one in found:
        memory = one["memory"]
        used = [percent(memory[level]["demand_ratio"], 0) for level in LEVELS]
        bound = memory["traffic_over_bound_ratio"]
        rows.append([one["name"], *used, f"{bound:.2f} x", percent(one["utilization"], 0)])
    return table(["chip", *LEVELS, "HBM traffic over the pebble bound", "MFU"], rows)


def shares_table(found: list[dict[str, Any]]) -> str:
    """For which fp64 share ratios are right."""
    rows = []
    for one in found:
        shares, knob = one["shares"], one["knobs"]["chip.fp64_per_fp16_ratio"]
        rows.append(
            [
                one["name"],
                one_to(knob["present"]),
                percent(shares["own_ratio"], 3),
                percent(shares["one_to_hundred"], 3),
                percent(shares["in_job"], 3),
                percent(shares["emulated"], 2),
                " to ".join(one_to(ratio) for ratio in reversed(knob["good"])),
            ]
        )
    head = [
        "chip",
        "FP64:FP16",
        "suits an FP64 share of",
        "1:100 suits (units at peak)",
        "1:100 suits (arrays as busy as in this job)",
        "the same with emulated products",
        "within 1 % of the best for 0.01 %",
    ]
    return table(head, rows)


def all_tables(found: list[dict[str, Any]]) -> str:
    """The tables of the README."""
    parts = (
        ("Now / best at equal silicon / loss of time per useful token", knobs_table),
        ("Elasticity of time per useful token", elasticity_table),
        ("Memory: time of each level over time of the matrix engines", levels_table),
        ("Where 1:100 is right", shares_table),
    )
    return "\n".join(f"### {title}\n\n{make(found)}" for title, make in parts)
