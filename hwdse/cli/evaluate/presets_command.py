"""`hwdse presets`: list of the presets of the package."""

from typing import Annotated

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.table_output import print_json, print_table
from hwdse.report.metrics import Metric
from hwdse.report.number_texts import number_cells

NAME = "presets"
KINDS = (
    "chip",
    "system",
    "model",
    "task",
    "requests",
    "engine",
    "software",
    "accelerator",
    "operators",
    "reliability",
)
SHOWN = {
    "chip": (
        Metric("BF16 (TFLOP/s)", "bf16_flop_per_s", 1e-12, 0),
        Metric("HBM capacity (GB)", "hbm_capacity_bytes", 1e-9, 0),
        Metric("HBM bandwidth (TB/s)", "hbm_bandwidth_bytes_per_s", 1e-12, 2),
        Metric("scale-up bandwidth (GB/s, both directions)", "link_bandwidth_bytes_per_s", 1e-9, 0),
        Metric("TDP (W)", "tdp_w", 1.0, 0),
    ),
    "system": (
        Metric("BF16 (PFLOP/s)", "bf16_flop_per_s", 1e-15, 1),
        Metric("FP8 (PFLOP/s)", "fp8_flop_per_s", 1e-15, 1),
        Metric("HBM capacity (TB)", "hbm_capacity_bytes", 1e-12, 2),
        Metric("HBM bandwidth (TB/s)", "hbm_bandwidth_bytes_per_s", 1e-12, 1),
        Metric("scale-out bandwidth (GB/s)", "network_bandwidth_bytes_per_s", 1e-9, 0),
    ),
    "model": (
        Metric("parameters (billion)", "num_parameters", 1e-9, 1),
        Metric("training tokens (trillion)", "num_training_tokens", 1e-12, 1),
    ),
    "task": (
        Metric("attention fraction", "attention_fraction", 1.0, 2),
        Metric("gradient (B per element)", "gradient_element_bytes", 1.0, 0),
        Metric("optimizer (B per parameter)", "optimizer_state_bytes_per_parameter", 1.0, 0),
    ),
    "requests": (
        Metric("input tokens", "input_tokens", 1.0, 0),
        Metric("output tokens", "output_tokens", 1.0, 0),
        Metric("requests in flight", "concurrency", 1.0, 0),
    ),
    "engine": (
        Metric("host time per step (ms)", "step_host_s", 1e3, 3),
        Metric("start of a collective (µs)", "collective_launch_s", 1e6, 1),
        Metric("tokens per step", "token_budget", 1.0, 0),
    ),
    "software": (
        Metric("dispatch time (µs)", "dispatch_time_s", 1e6, 0),
        Metric("element-wise traffic ratio", "elementwise_traffic_ratio", 1.0, 2),
    ),
    "accelerator": (
        Metric("rows", "rows", 1.0, 0),
        Metric("columns", "cols", 1.0, 0),
        Metric("clock (GHz)", "clock_hz", 1e-9, 2),
        Metric("SRAM (KiB)", "sram_bytes", 1.0 / 1024.0, 0),
        Metric("DRAM bandwidth (GB/s)", "dram_bandwidth_bytes_per_s", 1e-9, 1),
    ),
    "operators": (
        Metric("operators", "num_operators", 1.0, 0),
        Metric("MACs (billion)", "num_macs", 1e-9, 1),
    ),
    "reliability": (
        Metric("failures per 1000 node-days", "failures_per_1000_node_days", 1.0, 1),
        Metric("chips per node", "chips_per_node", 1.0, 0),
        Metric("chip MTBF (years)", "chip_mtbf_s", 1.0 / 31557600.0, 1),
    ),
}
"""Published values of each kind in the table; --json prints all."""
TITLES = {
    "chip": "chips",
    "system": "systems",
    "model": "models",
    "task": "tasks",
    "requests": "requests to serve",
    "engine": "serving engines",
    "software": "training stacks (software)",
    "accelerator": "cores (accelerators)",
    "operators": "operator networks",
    "reliability": "failure rates (reliability)",
}
MIN_DIGITS = 2
"""Significant digits of the smallest value of a column."""
MAX_TITLE = 48
"""Largest number of printed characters of a title."""


def run(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"Only this kind: {', '.join(KINDS)}.  [default: all]"),
    ] = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Print the sources of each preset.")
    ] = False,
    json: Json = False,
) -> None:
    """List the presets with published values and sources.

    Chips, systems and models as published, tasks, requests to serve, serving engines, training
    stacks (software), cores (accelerators), operator networks of cores (operators), and failure
    rates of fleets (reliability).

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
                        "published": dict(entry.published),
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
    """Print the presets of one kind, one row per preset."""
    import math

    columns = []
    for metric in SHOWN[kind]:
        values = [metric.scale * entry.published.get(metric.field, math.nan) for entry in entries]
        columns.append(number_cells(values, metric.decimals, MIN_DIGITS))
    rows = []
    for index, entry in enumerate(entries):
        is_long = len(entry.title) > MAX_TITLE
        title = f"{entry.title[: MAX_TITLE - 3]}..." if is_long else entry.title
        rows.append([entry.name, title, *(column[index] for column in columns)])
    heads = ["name", "title", *(metric.label for metric in SHOWN[kind])]
    print_table(TITLES[kind], heads, rows, left=2)
