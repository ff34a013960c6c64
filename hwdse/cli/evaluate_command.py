"""`hwdse evaluate`: one design, one workload, every figure."""

from typing import Any

from hwdse.cli.options import Config, Json, Plots, Sets
from hwdse.cli.tables import print_json, say, tell_files

NAME = "evaluate"


def run(config: Config, sets: Sets = None, plots: Plots = None, json: Json = False) -> None:
    """Evaluate the base design of a search file: times, energy, area, cost, and what limits it.

    \b
    Examples:
      hwdse evaluate configs/searches/trn2_llama3_70b.toml
      hwdse evaluate trn2_llama3_70b --set chip.hbm.bandwidth="4 TB/s" --plots pictures
    """
    from hwdse.cli import figures
    from hwdse.config import load_search

    loaded = load_search(config, sets or ())
    evaluation = figures.evaluate_exact(loaded.base, loaded.workload)
    limits = figures.limit_rows(loaded, evaluation)
    files = []
    if plots is not None:
        from hwdse.cli import pictures

        name = loaded.labels["chip"]
        files += pictures.save_breakdown({name: evaluation}, plots)
        draw: Any = pictures.save_roofline
        if figures.is_core(loaded):
            draw = pictures.save_core_roofline
        files += draw(loaded.base, loaded.workload, evaluation, plots)
    if json:
        print_json(
            {
                "title": loaded.title,
                "labels": dict(loaded.labels),
                **figures.as_json(evaluation),
                "limits": limits,
                "files": files,
            }
        )
    else:
        figures.print_headline({loaded.labels["system"]: evaluation}, loaded)
        figures.print_breakdowns(evaluation, loaded)
        figures.print_limits(limits)
        say(figures.what_limits(evaluation, loaded))
    tell_files(files)
