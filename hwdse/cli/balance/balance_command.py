"""`hwdse balance`: the four balances of one design and workload."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.refusals import refuse_service
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_json, tell_files

if TYPE_CHECKING:
    from hwdse.analysis.resource_balance import ParameterBalance
    from hwdse.cli.balance.balance_tables import Page
    from hwdse.config import LoadedSearch

NAME = "balance"


def run(
    config: Config,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metric: time_per_token, energy_per_token, energy_delay, ...",
        ),
    ] = "time_per_token",
    sets: Sets = None,
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Show precision, network, memory, checkpoint balance.

    Prints current value, optimum, penalty and elasticity of the parameters of each balance.
    Hardware parameters vary at iso-area: area added to one block is removed from the matrix
    engines.

    \b
    Examples:
      hwdse balance trn2_llama3_70b --plots plots
      hwdse balance trn2_llama3_70b --set mix.fp64_flop_fraction=0.01 --metric energy_delay
    """
    from hwdse.config import load_search

    kinds = parse_formats(formats)
    loaded = load_search(config, sets or ())
    page = _page(loaded, metric)
    files = _draw(page, plots, kinds) if plots is not None else []
    if json:
        rests_on = reliance_json(loaded, page.design, page.metric)
        print_json({**_as_json(page), "rests_on": rests_on, "files": files})
    else:
        from hwdse.cli.balance.balance_tables import print_page

        print_page(page)
        print_reliance(loaded, page.design, page.metric)
    tell_files(files)


def _page(loaded: "LoadedSearch", metric: str) -> "Page":
    """All results of the page."""
    from hwdse.cli.balance.balance_tables import Page
    from hwdse.config.search.metric_names import parse_objective
    from hwdse.evaluation import evaluate_exact
    from hwdse.specs.design import CoreDesign
    from hwdse.workload.loops.operators import Operators

    refuse_service(loaded, "a training job or a list of layers")
    design, workload = loaded.base, loaded.workload
    if isinstance(design, CoreDesign) or isinstance(workload, Operators):
        raise CommandError(
            f"{loaded.title}: expected a config with a cluster (a core has no network)"
        )
    metric = parse_objective(metric, "--metric")
    import jax

    from hwdse.analysis.fp64_balance import design_precision_balance
    from hwdse.analysis.memory_level_balance import memory_balance
    from hwdse.analysis.operand_delivery import compare_operand_delivery
    from hwdse.analysis.resource_balance import parameter_balances
    from hwdse.config.hardware.cpus import load_simd
    from hwdse.models.precision.precision_mix import mix_bytes_per_element
    from hwdse.numerics.jit_compile import quick_jit

    evaluation = evaluate_exact(design, workload)
    parameters = parameter_balances(design, workload, metric)
    engine = load_simd(SIMD_ENGINE)

    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        size = mix_bytes_per_element(base.mix)

        def parts(_: Any) -> Any:
            return (
                design_precision_balance(base, evaluation),
                memory_balance(base, workload),
                compare_operand_delivery(base.chip, engine, size),
            )

        precision, memory, delivery = jax.tree.map(float, quick_jit(parts)(0.0))
    return Page(loaded, design, metric, evaluation, parameters, precision, memory, delivery)


SIMD_ENGINE = "graviton4"
"""Vector unit for comparison with the array: four 128-bit pipes of a Neoverse V2."""


def _as_json(page: "Page") -> dict[str, Any]:
    """Results of the page in SI base units."""
    from hwdse.report.evaluation_json import evaluation_json, warnings_json

    def parameter_json(item: "ParameterBalance") -> dict[str, Any]:
        return {
            "balance": item.parameter.balance,
            "path": item.parameter.path,
            "current": item.current,
            "optimum": item.optimum,
            "one_percent_range": item.near_optimal,
            "optimum_is_at_range_end": item.is_at_end,
            "penalty_fraction": item.penalty_fraction,
            "elasticity": item.elasticity,
        }

    return {
        "title": page.loaded.title,
        "labels": dict(page.loaded.labels),
        "metric": page.metric,
        "value": page.value,
        "parameters": [parameter_json(item) for item in page.parameters],
        "precision": dataclasses.asdict(page.precision),
        "memory": dataclasses.asdict(page.memory),
        "operand_delivery": dataclasses.asdict(page.delivery),
        **evaluation_json(page.evaluation),
        "warnings": warnings_json(page.design, page.evaluation),
    }


def _draw(page: "Page", folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write the plot of the four balances; its paths."""
    from hwdse.cli.balance.balance_plots import save_balance
    from hwdse.jobs.reliance import resting_plot_files

    target = resting_plot_files(page.loaded, folder, formats, page.design, page.metric)
    return save_balance(page, target)
