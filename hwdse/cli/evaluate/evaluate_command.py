"""`hwdse evaluate`: all metrics of one design and workload."""

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
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.shared.reliance_output import print_notes, print_reliance, reliance_json
    from hwdse.config import load_search
    from hwdse.config.design.strategy import text_of
    from hwdse.evaluation import evaluate_exact
    from hwdse.report.breakdowns import bottlenecks
    from hwdse.report.evaluation_json import evaluation_json, limit_rows, warnings_json
    from hwdse.report.metrics import is_core

    kinds = parse_formats(formats)
    loaded = load_search(config, sets or ())
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    limits = limit_rows(loaded, evaluation)
    of_core, strategy = is_core(loaded), text_of(loaded.base, loaded.workload)
    files = []
    if plots is not None:
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.report.evaluation_plots import save_evaluation

        target = resting_plot_files(loaded, plots, kinds, loaded.base)
        files = save_evaluation(loaded, loaded.base, evaluation, target)
    if json:
        print_json(
            {
                "title": loaded.title,
                "labels": dict(loaded.labels),
                "strategy": strategy or None,
                **evaluation_json(evaluation),
                "limits": limits,
                "warnings": warnings_json(loaded.base, evaluation),
                "not_modeled": loaded.notes,
                "rests_on": reliance_json(loaded, loaded.base),
                "files": files,
            }
        )
    else:
        metric_tables.print_warnings(loaded.base, evaluation)
        metric_tables.print_headline({loaded.labels["system"]: evaluation}, loaded)
        metric_tables.print_breakdowns(evaluation, loaded)
        metric_tables.print_limits(limits, of_core=of_core)
        metric_tables.print_strategy(strategy)
        say(bottlenecks(evaluation, loaded))
        print_reliance(loaded, loaded.base)
        print_notes(loaded)
    tell_files(files)
