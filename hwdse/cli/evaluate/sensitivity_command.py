"""`hwdse sensitivity`: elasticities of one metric to all parameters of a design."""

from typing import Annotated

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Plots,
    Sets,
    parse_count,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files

NAME = "sensitivity"
MIN_ELASTICITY = 5e-4
"""Smallest printed elasticity; smaller ones are zero with three decimals."""


def run(
    config: Config,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metric: time_per_token, energy_per_token, cost_per_token, ...",
        ),
    ] = "time_per_token",
    top: Annotated[
        int, typer.Option("--top", parser=parse_count, metavar="N", help="Number of parameters.")
    ] = 15,
    sets: Sets = None,
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Rank parameters by their effect on a metric.

    Elasticity: d ln(metric) / d ln(parameter); -0.6 means 0.6 % less of the metric per +1 % of the
    parameter. One backward pass returns all of them. Counts are treated as continuous.

    \b
    Examples:
      hwdse sensitivity configs/searches/trn2_llama3_70b.toml
      hwdse sensitivity trn2_llama3_70b --metric energy_per_token --top 10 --plots plots
    """
    from hwdse.cli.shared.metric_tables import is_core, metric_of
    from hwdse.config import load_search
    from hwdse.units.parse_units import split_field

    loaded = load_search(config, sets or ())
    value, slopes = _elasticities(loaded, metric)
    ordered = sorted(slopes.items(), key=lambda item: -abs(item[1]))
    shown = [(path, slope) for path, slope in ordered[:top] if abs(slope) >= MIN_ELASTICITY]
    files = []
    if plots is not None and shown:
        from hwdse.cli.shared import evaluation_plots
        from hwdse.cli.shared.plot_targets import plot_files

        target = plot_files(loaded, plots, kinds)
        files = evaluation_plots.save_tornado(dict(shown), metric, target)
    if json:
        print_json(
            {"metric": metric, "value": value, "elasticities": dict(ordered), "files": files}
        )
    else:
        rows = [
            [split_field(path)[0], *_value_at(loaded.base, path), f"{slope:+.3f}"]
            for path, slope in shown
        ]
        found = metric_of(metric, of_core=is_core(loaded))
        title = f"{loaded.title}: {found.name} {found.text(value)}"
        print_table(title, ["parameter", "unit", "value", "elasticity"], rows)
        rest = sum(abs(slope) >= MIN_ELASTICITY for slope in slopes.values()) - len(shown)
        say(f"{rest} more of {len(slopes)} parameters have an effect" if rest else
            f"the other {len(slopes) - len(shown)} parameters have no effect")  # fmt: skip
    tell_files(files)


def _elasticities(loaded, metric: str) -> tuple[float, dict[str, float]]:
    """Value of a metric and its elasticity to every parameter."""

    import jax

    from hwdse.cli.shared.metric_tables import evaluate_exact
    from hwdse.config.files.errors import did_you_mean, listed
    from hwdse.evaluation import evaluate
    from hwdse.numerics.relaxation import safe_log
    from hwdse.objectives import OBJECTIVES
    from hwdse.search.answers.elasticity import elasticities

    if metric not in OBJECTIVES:
        hint = did_you_mean(metric, OBJECTIVES)
        raise CommandError(f"--metric {metric}: expected one of {listed(OBJECTIVES)}{hint}")

    def log_metric(design):
        return safe_log(OBJECTIVES[metric](evaluate(design, loaded.workload)))

    with jax.enable_x64(True):
        value = float(OBJECTIVES[metric](evaluate_exact(loaded.base, loaded.workload)))
        return value, elasticities(log_metric, loaded.base)


def _value_at(design, path: str) -> tuple[str, str]:
    """Unit and number of a parameter."""
    from hwdse.cli.shared.parameter_cells import parameter_row
    from hwdse.search.space.pytree_path import get_path

    unit, (cell,) = parameter_row(path, [float(get_path(design, path))])
    return unit, cell
