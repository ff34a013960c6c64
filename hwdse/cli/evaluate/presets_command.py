"""`hwdse presets`: what comes with the package."""

from typing import Annotated

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.table_output import print_json, print_table

NAME = "presets"
KINDS = ("chip", "system", "workload", "software", "accelerator", "operators", "reliability")
SHOWN = {
    "chip": ("bf16_flop_per_s", "hbm_capacity_bytes", "hbm_bandwidth_bytes_per_s",
             "link_bandwidth_bytes_per_s", "tdp_w"),
    "system": ("bf16_flop_per_s", "fp8_flop_per_s", "hbm_capacity_bytes",
               "hbm_bandwidth_bytes_per_s", "network_bandwidth_bytes_per_s"),
    "workload": ("num_parameters", "num_training_tokens"),
    "software": ("dispatch_time_s", "elementwise_traffic_ratio"),
    "accelerator": ("rows", "cols", "clock_hz", "sram_bytes", "dram_bandwidth_bytes_per_s"),
    "operators": ("num_operators", "num_macs"),
    "reliability": ("failures_per_1000_node_days", "chips_per_node", "chip_mtbf_s"),
}  # fmt: skip
"""Published figures of each kind that fit a line; --json has all."""
PLURALS = {
    "operators": "operators of networks",
    "software": "training stacks",
    "reliability": "failure rates",
}
WIDEST_TITLE = 60


def run(
    kind: Annotated[
        str | None, typer.Argument(metavar=f"[{'|'.join(KINDS)}]", help="Only this kind.")
    ] = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Print the sources of each preset as well.")
    ] = False,
    json: Json = False,
) -> None:
    """List what comes with hwdse: chips, systems and workloads as their vendors print them,
    training stacks (software), cores (accelerators), the layers of networks that they run, and
    failure rates of fleets (reliability).

    \b
    Examples:
      hwdse presets
      hwdse presets chip --sources
    """
    from hwdse.config import list_presets

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(KINDS)}.")
    entries = [entry for entry in list_presets() if kind in (None, entry.kind)]
    if json:
        print_json(
            {
                "presets": [
                    {
                        "kind": entry.kind,
                        "name": entry.name,
                        "title": entry.title,
                        "figures": dict(entry.figures),
                        "sources": entry.sources,
                    }
                    for entry in entries
                ]
            }
        )
        return
    for group in KINDS if kind is None else (kind,):
        _print_group(group, [entry for entry in entries if entry.kind == group])
    if sources:
        for entry in entries:
            print_table(f"sources of {entry.name}", [""], [[text] for text in entry.sources])


def _print_group(kind: str, entries: list) -> None:
    from hwdse.units.format_units import format_field
    from hwdse.units.parse_units import split_field

    fields = SHOWN[kind]
    heads = [split_field(name)[0].removeprefix("num_").replace("_", " ") for name in fields]
    rows = []
    for entry in entries:
        cells = [
            (_count(entry.figures[name]) if name.startswith("num_") else
             format_field(name, entry.figures[name])) if name in entry.figures else "-"
            for name in fields
        ]  # fmt: skip
        title = entry.title if len(entry.title) <= WIDEST_TITLE else f"{entry.title[:57]}..."
        rows.append([entry.name, title, *cells])
    print_table(PLURALS.get(kind, f"{kind}s"), ["name", "", *heads], rows, left=2)


def _count(value: float) -> str:
    from hwdse.cli.shared.table_output import human_count

    return human_count(value).replace("G", " billion").replace("T", " trillion")
