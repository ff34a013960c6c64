"""`hwdse sensitivity`: what would move a metric, and by how much."""

from typing import Annotated

import typer

from hwdse.cli.shared.common_options import Config, Json, Plots, Sets
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files

NAME = "sensitivity"
SMALLEST = 5e-4
"""Elasticities below this print as zero."""


def run(
    config: Config,
    metric: Annotated[
        str, typer.Option("--metric", help="time_per_token, energy_per_token, cost_per_token, ...")
    ] = "time_per_token",
    top: Annotated[int, typer.Option("--top", min=1, help="Parameters to show.")] = 15,
    sets: Sets = None,
    plots: Plots = None,
    json: Json = False,
) -> None:
    """Elasticities d ln(metric) / d ln(parameter) of every number of the design, largest first.

    All come from one backward pass. -0.6 says: 1 % more of the parameter, 0.6 % less of the
    metric. Counts are moved as if they were continuous.

    \b
    Examples:
      hwdse sensitivity configs/searches/trn2_llama3_70b.toml
      hwdse sensitivity trn2_llama3_70b --metric energy_per_token --top 10 --plots pictures
    """
    from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric
    from hwdse.config import load_search

    loaded = load_search(config, sets or ())
    value, slopes = _elasticities(loaded, metric)
    ordered = sorted(slopes.items(), key=lambda item: -abs(item[1]))
    shown = [(path, slope) for path, slope in ordered[:top] if abs(slope) >= SMALLEST]
    files = []
    if plots is not None and shown:
        from hwdse.cli.shared import evaluation_plots

        files = evaluation_plots.save_tornado(dict(shown), metric, plots)
    if json:
        print_json(
            {"metric": metric, "value": value, "elasticities": dict(ordered), "files": files}
        )
    else:
        rows = [[path, _value_at(loaded.base, path), f"{slope:+.3f}"] for path, slope in shown]
        text = format_metric(value, METRIC_UNITS[metric])
        print_table(f"{metric.replace('_', ' ')} {text}", ["parameter", "now", "elasticity"], rows)
        rest = sum(abs(slope) >= SMALLEST for slope in slopes.values()) - len(shown)
        say(f"{rest} more of {len(slopes)} parameters have an effect" if rest else
            f"the other {len(slopes) - len(shown)} parameters have no effect")  # fmt: skip
    tell_files(files)


def _elasticities(loaded, metric: str) -> tuple[float, dict[str, float]]:
    import difflib

    import jax

    from hwdse.cli.shared.metric_tables import evaluate_exact
    from hwdse.evaluation import evaluate
    from hwdse.numerics.relaxation import safe_log
    from hwdse.objectives import OBJECTIVES
    from hwdse.search.answers.elasticity import elasticities

    if metric not in OBJECTIVES:
        near = difflib.get_close_matches(metric, OBJECTIVES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise CommandError(f"--metric {metric}: expected one of {', '.join(OBJECTIVES)}{hint}")

    def log_metric(design):
        return safe_log(OBJECTIVES[metric](evaluate(design, loaded.workload)))

    with jax.enable_x64(True):
        value = float(OBJECTIVES[metric](evaluate_exact(loaded.base, loaded.workload)))
        return value, elasticities(log_metric, loaded.base)


def _value_at(design, path: str) -> str:
    from hwdse.config import format_value
    from hwdse.search.space.pytree_path import get_path

    return format_value(path, float(get_path(design, path)), digits=4)
