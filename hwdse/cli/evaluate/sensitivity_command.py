"""`hwdse sensitivity`: elasticities of one metric to all parameters of a design."""

import math
from collections.abc import Mapping
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
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files
from hwdse.report.number_texts import signed

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
    parameter. One backward pass returns all of them. Counts are treated as continuous. At an end
    of its range (a fraction of 1) a parameter has the derivative into the range.

    \b
    Examples:
      hwdse sensitivity configs/searches/trn2_llama3_70b.toml
      hwdse sensitivity trn2_llama3_70b --metric energy_per_token --top 10 --plots plots
    """
    from hwdse.config import load_search
    from hwdse.config.schema.range_ends import range_ends
    from hwdse.config.search.metric_names import parse_objective
    from hwdse.report.metrics import kind_of, metric_of
    from hwdse.units.parse_units import split_field

    kinds = parse_formats(formats)
    loaded = load_search(config, sets or ())
    metric = parse_objective(metric, "--metric")
    value, slopes = _elasticities(loaded, metric)
    unknown = {path: slope for path, slope in slopes.items() if not math.isfinite(slope)}
    finite = (item for item in slopes.items() if item[0] not in unknown)
    ordered = sorted(finite, key=lambda item: -abs(item[1]))
    shown = [(path, slope) for path, slope in ordered[:top] if abs(slope) >= MIN_ELASTICITY]
    ends = {path: end for path, end in range_ends(loaded.base).items() if slopes.get(path)}
    files = []
    if plots is not None and shown:
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.report import evaluation_plots

        target = resting_plot_files(loaded, plots, kinds, loaded.base, metric)
        files = evaluation_plots.save_tornado(dict(shown), metric, target)
    if json:
        print_json(
            {
                "metric": metric,
                "value": value,
                "elasticities": {**dict(ordered), **unknown},
                "one_sided": ends,
                "files": files,
            }
        )
    else:
        found = metric_of(metric, kind=kind_of(loaded))
        _print_slopes(f"{loaded.title}: {found.name} {found.text(value)}", loaded, shown, ends)
        rest = sum(abs(slope) >= MIN_ELASTICITY for _, slope in ordered) - len(shown)
        others = len(ordered) - len(shown)
        say(f"{rest} more of {len(slopes)} parameters have an effect" if rest else
            f"the other {others} parameters have no effect")  # fmt: skip
        if unknown:
            names = ", ".join(split_field(path)[0] for path in unknown)
            say(f"no elasticity, the derivative is not a number: {names}")
    tell_files(files)


def _print_slopes(
    title: str, loaded, shown: list[tuple[str, float]], ends: Mapping[str, str]
) -> None:
    """Print elasticities, with the side of those at an end of their range."""
    from hwdse.config.schema.range_ends import side_text
    from hwdse.units.parse_units import split_field

    sides = [side_text(ends.get(path)) for path, _ in shown]
    rows = [
        [split_field(path)[0], *_value_at(loaded.base, path), signed(slope), side]
        for (path, slope), side in zip(shown, sides, strict=True)
    ]
    heads = ["parameter", "unit", "value", "elasticity", "derivative"]
    width = len(heads) if any(sides) else len(heads) - 1
    print_table(title, heads[:width], [row[:width] for row in rows])


def _elasticities(loaded, metric: str) -> tuple[float, dict[str, float]]:
    """Value of a metric and its elasticity to every parameter."""
    from concurrent.futures import ThreadPoolExecutor

    from hwdse.analysis.metric_slopes import metric_elasticities
    from hwdse.config.schema.range_ends import inside_ranges
    from hwdse.evaluation import evaluate_exact
    from hwdse.objectives import OBJECTIVES

    base, workload = loaded.base, loaded.workload
    with ThreadPoolExecutor(max_workers=1) as pool:  # both programs compile at the same time
        evaluation = pool.submit(evaluate_exact, base, workload)
        slopes = metric_elasticities(inside_ranges(base), workload, (metric,))[metric]
        return float(OBJECTIVES[metric](evaluation.result())), slopes


def _value_at(design, path: str) -> tuple[str, str]:
    """Unit and number of a parameter."""
    from hwdse.cli.shared.parameter_cells import parameter_row
    from hwdse.search.space.pytree_path import get_path

    unit, (cell,) = parameter_row(path, [float(get_path(design, path))])
    return unit, cell
