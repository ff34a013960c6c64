"""`hwdse optimize`: the best buildable design by gradients."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.exits import CommandError, Exit
from hwdse.cli.options import Config, Json, Out, Seed, Sets, parse_count
from hwdse.cli.tables import human_count, note, print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.results import Run
    from hwdse.search.result import SearchResult
    from hwdse.specs.evaluation import Evaluation

NAME = "optimize"


def run(
    config: Config,
    evaluations: Annotated[
        int,
        typer.Option(
            "--evaluations",
            parser=parse_count,
            metavar="N",
            help="Budget; a gradient counts as three evaluations.",
        ),
    ] = 10_000,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Search the best buildable design by gradients, within the limits of the search file.

    Writes best.toml, which `hwdse evaluate` takes, and pictures to the run folder.

    \b
    Examples:
      hwdse optimize configs/searches/trn2_llama3_70b.toml
      hwdse optimize trn2_llama3_70b --evaluations 2000 --set limits.chip_power="400 W" --out runs/b
    """
    from hwdse.cli.runs import start_run
    from hwdse.config import load_search, to_toml

    loaded = load_search(config, sets or ())
    seed = loaded.seed if seed is None else seed
    options = {"command": NAME, "evaluations": evaluations}
    # The same question has the same answer, so answering again may replace it.
    record = start_run(loaded, options, config, out, seed, resume=True)
    result = _search(loaded, evaluations, seed)
    record.write_text("best.toml", to_toml(loaded, result.design))
    before, after, files = _evaluate_and_draw(loaded, result, record)
    record.finish(
        "finished" if result.is_feasible else "infeasible",
        objective=math.exp(result.log_objective),
        evaluations=result.num_evaluations,
    )
    if json:
        print_json(_as_json(loaded, result, before, after, record, files))
    else:
        _print(loaded, result, before, after)
    for path in (record.folder / "best.toml", *files):
        note(f"wrote {path}")
    if not result.is_feasible:
        from hwdse.cli.runs import explain_infeasible

        raise CommandError(explain_infeasible(loaded, result.violations), Exit.INFEASIBLE)


def _search(loaded: "LoadedSearch", num_evaluations: int, seed: int) -> "SearchResult":
    import jax

    from hwdse.cli.figures import METRIC_UNITS, format_metric
    from hwdse.objectives import make_score
    from hwdse.search.gradient import minimize, split_evaluations

    num_variants = math.prod(len(variant.values) for variant in loaded.space.variants)
    effort = split_evaluations(num_evaluations, num_variants)
    unit = METRIC_UNITS[loaded.objective]
    title = f"minimizing {loaded.objective.replace('_', ' ')}"
    with progress_bar(title, num_evaluations, "evaluations") as update, jax.enable_x64(True):

        def progress(count: int, best: float) -> None:
            value = format_metric(math.exp(best), unit) if math.isfinite(best) else "none yet"
            update(count, f"best {value}")

        score = make_score(loaded.objective, loaded.limits, loaded.workload)
        result = minimize(score, loaded.space, loaded.base, seed=seed, progress=progress, **effort)
        update(num_evaluations, f"best {format_metric(math.exp(result.log_objective), unit)}")
    return result


def _evaluate_and_draw(
    loaded: "LoadedSearch", result: "SearchResult", record: "Run"
) -> tuple["Evaluation", "Evaluation", list[Path]]:
    import numpy as np

    from hwdse.cli import figures, pictures
    from hwdse.objectives import OBJECTIVES

    before = figures.evaluate_exact(loaded.base, loaded.workload)
    after = figures.evaluate_exact(result.design, loaded.workload)
    folder = record.folder / "plots"
    pair = {loaded.labels["system"]: before, "optimized": after}
    files = pictures.save_breakdown(pair, folder)
    counts, logs = result.history_evaluations, result.history_log_objective
    if np.isfinite(logs).any():
        curve = (counts, np.exp(np.where(np.isfinite(logs), logs, np.nan)))
        value = float(OBJECTIVES[loaded.objective](before))
        start = (counts[[0, -1]], np.array([value, value]))
        curves = {"gradient search": curve, loaded.labels["system"]: start}
        files += pictures.save_convergence(
            curves, loaded.objective, folder, of_core=figures.is_core(loaded)
        )
    return before, after, files


def _print(
    loaded: "LoadedSearch", result: "SearchResult", before: "Evaluation", after: "Evaluation"
) -> None:
    from hwdse.cli import figures

    pair = {loaded.labels["system"]: before, "optimized": after}
    figures.print_headline(pair, loaded)
    print_table("what changed", ["parameter", "before", "after"], _changes(loaded, result.design))
    figures.print_limits(figures.limit_rows(loaded, after))
    prices = [
        f"{name.replace('_', ' ')} {-price:+.3f} %"
        for name, price in zip(loaded.limits, result.multipliers, strict=True)
        if price > 1e-3
    ]
    if prices:
        say(f"1 % more of a limit would move the objective by: {', '.join(prices)}")
    say(figures.what_limits(after, loaded))
    say(
        f"{human_count(result.num_evaluations)} evaluations; rounding to what can be built moved "
        f"the objective by {100.0 * math.expm1(result.reading_gap):+.2f} % before polishing"
    )


def _changes(loaded: "LoadedSearch", design: Any) -> list[list[str]]:
    """Every searched parameter whose value differs, as path, before, after."""
    from hwdse.cli.runs import searched_paths
    from hwdse.config import format_value
    from hwdse.search.paths import get_path

    rows = []
    for path in searched_paths(loaded.space):
        old, new = get_path(loaded.base, path), get_path(design, path)
        if old != new:
            texts = [x if isinstance(x, str) else format_value(path, float(x)) for x in (old, new)]
            rows.append([path, *texts])
    return rows


def _as_json(
    loaded: "LoadedSearch",
    result: "SearchResult",
    before: "Evaluation",
    after: "Evaluation",
    record: "Run",
    files: list[Path],
) -> dict[str, Any]:
    from hwdse.cli import figures
    from hwdse.cli.runs import searched_paths
    from hwdse.search.paths import get_path

    return {
        "title": loaded.title,
        "objective": loaded.objective,
        "value": math.exp(result.log_objective),
        "is_feasible": result.is_feasible,
        "design": {path: get_path(result.design, path) for path in searched_paths(loaded.space)},
        "before": figures.as_json(before),
        "after": figures.as_json(after),
        "limits": figures.limit_rows(loaded, after),
        "shadow_prices": dict(zip(loaded.limits, result.multipliers.tolist(), strict=True)),
        "evaluations": result.num_evaluations,
        "reading_gap": result.reading_gap,
        "folder": record.folder,
        "files": [record.folder / "best.toml", *files],
    }
