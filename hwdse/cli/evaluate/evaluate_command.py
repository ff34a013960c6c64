"""`hwdse evaluate`: all metrics of one design and workload."""

from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Plots,
    Sets,
    parse_formats,
)
from hwdse.cli.shared.job_flags import item_of
from hwdse.cli.shared.table_output import print_json, say, tell_files

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.results.evaluation_result import Evaluation

NAME = "evaluate"


def run(
    config: Config,
    sets: Sets = None,
    plots: Plots = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Evaluate one design: time, energy, area, bottlenecks.

    Evaluates the base design of a config by the exact model in float64. Prints metrics, breakdowns
    and limits; --plots adds a breakdown and a roofline. A chip, system or model alone is shown as
    by `hwdse show`.

    \b
    Examples:
      hwdse evaluate --system trn2_ultraserver:16 --model llama3_70b --strategy best
      hwdse evaluate trn2_llama3_70b --set chip.hbm.bandwidth="4 TB/s" --plots plots
    """
    if not sets and (item := item_of(config)) is not None:
        from hwdse.cli.jobs.show_command import show

        return show(item.name, plots, formats, json=json)
    from hwdse.config import load_search
    from hwdse.evaluation import evaluate_exact

    kinds = parse_formats(formats)
    loaded = load_search(config, sets or ())
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    files = []
    if plots is not None:
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.report.evaluation_plots import save_evaluation

        target = resting_plot_files(loaded, plots, kinds, loaded.base)
        files = save_evaluation(loaded, loaded.base, evaluation, target)
    if json:
        print_json({**_as_json(loaded, evaluation), "files": files})
    else:
        _print(loaded, evaluation)
    tell_files(files)


def _as_json(loaded: "LoadedSearch", evaluation: "Evaluation") -> dict[str, Any]:
    from hwdse.cli.shared.reliance_output import reliance_json
    from hwdse.config.design.strategy import text_of
    from hwdse.jobs.footing.figure_bands import bands_json, footing
    from hwdse.report.evaluation_json import evaluation_json, limit_rows, warnings_json

    return {
        "title": loaded.title,
        "labels": dict(loaded.labels),
        "strategy": text_of(loaded.base, loaded.workload) or None,
        **evaluation_json(evaluation),
        "limits": limit_rows(loaded, evaluation),
        "warnings": warnings_json(loaded.base, evaluation),
        "not_modeled": loaded.notes,
        "rests_on": reliance_json(loaded, loaded.base),
        "bands": bands_json(footing(loaded, loaded.base)),
    }


def _print(loaded: "LoadedSearch", evaluation: "Evaluation") -> None:
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.shared.reliance_output import print_bands, print_notes, print_reliance
    from hwdse.config.design.strategy import text_of
    from hwdse.report.breakdowns import bottlenecks
    from hwdse.report.evaluation_json import limit_rows
    from hwdse.report.metrics import kind_of

    metric_tables.print_warnings(loaded.base, evaluation)
    metric_tables.print_headline({loaded.labels["system"]: evaluation}, loaded)
    metric_tables.print_breakdowns(evaluation, loaded)
    metric_tables.print_limits(limit_rows(loaded, evaluation), kind=kind_of(loaded))
    metric_tables.print_strategy(text_of(loaded.base, loaded.workload))
    say(bottlenecks(evaluation, loaded))
    print_reliance(loaded, loaded.base)
    print_bands(loaded, loaded.base)
    print_notes(loaded)
