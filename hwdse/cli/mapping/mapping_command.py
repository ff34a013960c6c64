"""`hwdse mapping`: how a core runs its operators, loop by loop, and what limits each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Sets
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import print_json, tell_files

if TYPE_CHECKING:
    from hwdse.core.operator_loop_nests import MappedNetwork, MappedOperator

NAME = "mapping"


def run(
    config: Config,
    operator: Annotated[
        str | None,
        typer.Option("--operator", metavar="NAME", help="Name or number of one operator."),
    ] = None,
    nest: Annotated[
        str | None,
        typer.Option(
            "--nest", metavar="TEXT", help="Your own loop nest in place of the one found."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw nest and rooflines (.png or .svg)."),
    ] = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Show how a core runs its operators: loops, bytes and reuse of each level, what limits.

    Without --operator a table of all of them. The last line of a nest is what --nest takes.

    \b
    Examples:
      hwdse mapping gemmini_bert
      hwdse mapping gemmini_resnet50 --operator 3 --set accelerator.rows=32 --plot nest.png
    """
    _check(operator, nest, plot)
    from hwdse.cli.mapping import loop_nest_printing
    from hwdse.config import load_search
    from hwdse.core.network_mapper import map_network

    loaded = load_search(config, sets or ())
    network = map_network(loaded.base, loaded.workload)
    if operator is None:
        place = _core_name(network, loaded.labels["chip"])
        _show_network(network, f"{loaded.labels['workload']} on {place}", json=json)
        return
    index = loop_nest_printing.find_operator(network.operators.names, operator)
    try:
        mapped = network.operator(index) if nest is None else network.given(index, nest)
    except ValueError as error:
        raise CommandError(f"--nest: {error}") from None
    _show_operator(mapped, _core_name(network, loaded.labels["chip"]), plot, json=json)


def _check(operator: str | None, nest: str | None, plot: Path | None) -> None:
    """Options that only make sense together, before anything is computed."""
    for name, value in (("--nest", nest), ("--plot", plot)):
        if value is not None and operator is None:
            raise typer.BadParameter(f"{name} is about one operator: name it with --operator.")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"--plot {plot}: expected a file that ends with .png or .svg.")


def _core_name(network: "MappedNetwork", chip: str) -> str:
    """`Gemmini`, or `one of 8 cores of Trainium2`."""
    return chip if network.num_cores == 1.0 else f"one of {network.num_cores:.6g} cores of {chip}"


def _show_network(network: "MappedNetwork", title: str, *, json: bool) -> None:
    from hwdse.cli.mapping import loop_nest_printing, mapping_tables

    rows = mapping_tables.network_rows(network)
    totals = mapping_tables.network_totals(rows, network)
    if json:
        print_json({"title": title, "operators": rows, "totals": totals})
    else:
        mapping_tables.print_network(rows, totals, title)
    broken = [row for row in rows if row["capacity_violations"]]
    if broken:
        worst = max(broken, key=lambda row: row["capacity_violations"][0]["ratio"])
        what = loop_nest_printing.shortages_text(worst["capacity_violations"])
        raise CommandError(
            f"{len(broken)} of {len(rows)} operators fit nowhere; worst is {worst['name']}: {what}",
            Exit.INFEASIBLE,
        )


def _show_operator(
    mapped: "MappedOperator", core_name: str, plot: Path | None, *, json: bool
) -> None:
    from hwdse.cli.mapping import loop_nest_printing, mapping_tables

    title = f"{mapped.operator.names[0]} {loop_nest_printing.sizes_text(mapped.operator)} on {core_name}"
    capacity_violations = [
        mapping_tables.shortage_row(shortage) for shortage in mapped.capacity_violations
    ]
    if plot is not None:
        from hwdse.cli.mapping import mapping_plots

        mapping_plots.save_mapping(plot, title, mapped)
    if json:
        files: list[Any] = [] if plot is None else [plot]
        print_json({"title": title, **mapping_tables.operator_json(mapped), "files": files})
    else:
        mapping_tables.print_operator(mapped, title)
    tell_files([] if plot is None else [plot])
    if capacity_violations:
        what = loop_nest_printing.shortages_text(capacity_violations)
        raise CommandError(f"the mapping does not fit: {what}", Exit.INFEASIBLE)
