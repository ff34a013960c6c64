"""`hwdse mapping`: loop nests, traffic and bounds of the operators of a core."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Plots,
    Sets,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.refusals import refuse_service
from hwdse.cli.shared.table_output import print_json, tell_files

if TYPE_CHECKING:
    from hwdse.core.operator_loop_nests import MappedNetwork, MappedOperator
    from hwdse.plots.figure_files import PlotFiles

NAME = "mapping"


def run(
    config: Config,
    operator: Annotated[
        str | None,
        typer.Option(
            "--operator",
            metavar="NAME",
            help="Name or number of one operator.  [default: table of all]",
        ),
    ] = None,
    nest: Annotated[
        str | None,
        typer.Option(
            "--nest",
            metavar="TEXT",
            help="Loop nest in the format of the last output line.  [default: of the mapper]",
        ),
    ] = None,
    sets: Sets = None,
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Map operators to a core: loop nests, traffic, bounds.

    Prints a table of all operators, or with --operator the loop nest, traffic, footprint and reuse
    of one operator at every memory level. Its last line is a valid --nest.

    \b
    Examples:
      hwdse mapping gemmini_bert
      hwdse mapping gemmini_resnet50 --operator 3 --set accelerator.rows=32 --plots plots
    """
    _check(operator, nest, plots)
    kinds = parse_formats(formats)
    from hwdse.cli.mapping import loop_nest_printing
    from hwdse.config import load_search
    from hwdse.core.network_mapper import map_network

    loaded = load_search(config, sets or ())
    refuse_service(loaded, "a job on a core, or a training job")
    network = map_network(loaded.base, loaded.workload)
    if operator is None:
        core_name = _core_name(network, loaded.labels["chip"])
        _show_network(network, f"{loaded.labels['workload']} on {core_name}", json=json)
        return
    index = loop_nest_printing.find_operator(network.operators.names, operator)
    try:
        mapped = network.operator(index) if nest is None else network.given(index, nest)
    except ValueError as error:
        raise CommandError(f"--nest: {error}") from None
    target = None
    if plots is not None:
        from hwdse.report.plot_targets import plot_files

        target = plot_files(loaded, plots, kinds)
    _show_operator(mapped, _core_name(network, loaded.labels["chip"]), target, json=json)


def _check(operator: str | None, nest: str | None, plots: Path | None) -> None:
    """Raise an error for options of one operator without `--operator`."""
    for name, value in (("--nest", nest), ("--plots", plots)):
        if value is not None and operator is None:
            raise typer.BadParameter(f"{name} needs one operator: add --operator NAME.")


def _core_name(network: "MappedNetwork", chip: str) -> str:
    """Name of the core: `Gemmini`, or `one of 8 cores of Trainium2`."""
    return chip if network.num_cores == 1.0 else f"one of {network.num_cores:.6g} cores of {chip}"


def _show_network(network: "MappedNetwork", title: str, *, json: bool) -> None:
    """Print all operators; raise `CommandError` if one does not fit."""
    from hwdse.cli.mapping import loop_nest_printing, mapping_tables

    rows = mapping_tables.network_rows(network)
    totals = mapping_tables.network_totals(rows, network)
    if json:
        print_json({"title": title, "operators": rows, "totals": totals})
    else:
        mapping_tables.print_network(rows, totals, title)
    violating = [row for row in rows if row["capacity_violations"]]
    if violating:
        worst = max(violating, key=lambda row: row["capacity_violations"][0]["ratio"])
        text = loop_nest_printing.violations_text(worst["capacity_violations"])
        raise CommandError(
            f"{len(violating)} of {len(rows)} operators have no mapping that fits; worst is "
            f"{worst['name']}, {text}",
            Exit.INFEASIBLE,
        )


def _show_operator(
    mapped: "MappedOperator", core_name: str, target: "PlotFiles | None", *, json: bool
) -> None:
    """Print one operator and write its plot; raise `CommandError` if it does not fit."""
    from hwdse.cli.mapping import loop_nest_printing, mapping_tables

    sizes = loop_nest_printing.sizes_text(mapped.operator)
    title = f"{mapped.operator.names[0]} {sizes} on {core_name}"
    violations = [mapping_tables.violation_row(one) for one in mapped.capacity_violations]
    files = []
    if target is not None:
        from hwdse.cli.mapping import mapping_plots

        files = mapping_plots.save_mapping(mapped, dataclasses.replace(target, job=title))
    if json:
        print_json({"title": title, **mapping_tables.operator_json(mapped), "files": files})
    else:
        mapping_tables.print_operator(mapped, title)
    tell_files(files)
    if violations:
        text = loop_nest_printing.violations_text(violations)
        raise CommandError(f"the mapping does not fit: {text}", Exit.INFEASIBLE)
