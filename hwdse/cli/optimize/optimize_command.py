"""`hwdse optimize`: the best buildable design by gradients."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Out, Seed, Sets, parse_count
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import human_count, note, print_json, print_table, say

if TYPE_CHECKING:
    from hwdse.cli.optimize.budgeted_search import SearchBudgetOptions
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.search.answers.optimality import OptimalityReport
    from hwdse.search.evaluation.search_result import SearchResult
    from hwdse.specs.results.evaluation_result import Evaluation

NAME = "optimize"


def run(
    config: Config,
    evaluations: Annotated[
        int,
        typer.Option(
            "--evaluations",
            parser=parse_count,
            metavar="N",
            help="Budget; a gradient counts as three, robust objectives as one for all samples.",
        ),
    ] = 10_000,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="30s",
            help="Rounds of that budget until time is up; the certificate comes on top.",
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="adam, adamw, lion, sgd, ... of optax.")
    ] = "adam",
    schedule: Annotated[
        str, typer.Option("--schedule", help="cosine, linear, exponential or constant.")
    ] = "cosine",
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="By default one for each optimizer.")
    ] = None,
    neighbors: Annotated[
        int | None,
        typer.Option("--neighbors", min=0, help="Looked at in the end; 0: no certificate."),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Search the front of the file's front objectives.")
    ] = False,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Search the best buildable design by gradients, within the limits of the search file.

    Writes best.toml, which `hwdse evaluate` takes, and pictures to the run folder. With --front
    the folder is like that of a sweep, so that `hwdse pareto` merges both.

    \b
    Examples:
      hwdse optimize trn2_llama3_70b --time 60s --set limits.chip_power="400 W" --out runs/b
      hwdse optimize trn2_llama3_70b --front --evaluations 5000 --out runs/front
    """
    loaded, budget = _checked(config, sets, evaluations, time, optimizer, schedule, learning_rate)
    seed = loaded.seed if seed is None else seed
    if front:
        from hwdse.cli.optimize.optimize_front import run_front

        _check_front({**budget.options(), "time_s": time, "neighbors": neighbors})
        return run_front(
            loaded, config, num_evaluations=evaluations, sets=list(sets or ()), out=out,
            seed=seed, json=json,
        )  # fmt: skip
    _optimize(loaded, budget, config, out, seed, neighbors, json)


def _check_front(given: dict[str, Any]) -> None:
    """A front takes no other option of the search than its number of evaluations."""
    for name, value in given.items():
        if name != "evaluations" and value is not None:
            flag = name.removesuffix("_s").replace("_", "-")
            text = f"--{flag} {value}: not with --front, whose budget is --evaluations"
            raise CommandError(f"{text} and whose descent is fixed")


def _checked(
    config: str,
    sets: list[str] | None,
    evaluations: int,
    time: str | None,
    optimizer: str,
    schedule: str,
    learning_rate: float | None,
) -> tuple["LoadedSearch", "SearchBudgetOptions"]:
    from hwdse.cli.optimize.budgeted_search import make_budget
    from hwdse.config import load_search

    budget = make_budget(evaluations, time, optimizer, schedule, learning_rate)
    return load_search(config, sets or ()), budget


def _optimize(
    loaded: "LoadedSearch",
    budget: "SearchBudgetOptions",
    config: str,
    out: Path | None,
    seed: int,
    num_neighbors: int | None,
    json: bool,
) -> None:
    from hwdse.cli.optimize.budgeted_search import search
    from hwdse.cli.optimize.optimality_tables import optimality_json, with_optimality_report
    from hwdse.cli.shared.start_run import explain_infeasible, start_run
    from hwdse.config import to_toml
    from hwdse.config.search.objective_functions import objective_fn

    options = {"command": NAME, **budget.options()}
    # The same question has the same answer, so answering again may replace it.
    record = start_run(loaded, options, config, out, seed, resume=True)
    score = objective_fn(loaded)
    result, num_rounds = search(loaded, score, budget, seed)
    result, found = with_optimality_report(loaded, score, result, seed, num_neighbors)
    record.write_text("best.toml", to_toml(loaded, result.design))
    before, after, files = _evaluate_and_draw(loaded, result, record)
    record.finish(
        "finished" if result.is_feasible else "infeasible",
        objective=math.exp(result.log_objective),
        evaluations=result.num_evaluations,
        optimality_evaluations=0 if found is None else found.num_evaluations,
    )
    if json:
        answer = _as_json(loaded, result, before, after, record, files)
        worth = {} if found is None else {"worth": optimality_json(loaded, result, found)}
        print_json({**answer, "rounds": num_rounds, **worth})
    else:
        _print(loaded, result, before, after, found)
    for path in (record.folder / "best.toml", *files):
        note(f"wrote {path}")
    if not result.is_feasible:
        raise CommandError(explain_infeasible(loaded, result.constraint_values), Exit.INFEASIBLE)


def _evaluate_and_draw(
    loaded: "LoadedSearch", result: "SearchResult", record: "Run"
) -> tuple["Evaluation", "Evaluation", list[Path]]:
    import numpy as np

    from hwdse.cli.shared import evaluation_plots, metric_tables
    from hwdse.objectives import OBJECTIVES

    before = metric_tables.evaluate_exact(loaded.base, loaded.workload)
    after = metric_tables.evaluate_exact(result.design, loaded.workload)
    folder = record.folder / "plots"
    pair = {loaded.labels["system"]: before, "optimized": after}
    files = evaluation_plots.save_breakdown(pair, folder)
    counts, logs = result.history_evaluations, result.history_log_objective
    if np.isfinite(logs).any():
        curve = (counts, np.exp(np.where(np.isfinite(logs), logs, np.nan)))
        value = float(OBJECTIVES[loaded.objective](before))
        start = (counts[[0, -1]], np.array([value, value]))
        curves = {"gradient search": curve, loaded.labels["system"]: start}
        files += evaluation_plots.save_convergence(
            curves, loaded.objective, folder, of_core=metric_tables.is_core(loaded)
        )
    return before, after, files


def _print(
    loaded: "LoadedSearch",
    result: "SearchResult",
    before: "Evaluation",
    after: "Evaluation",
    found: "OptimalityReport | None",
) -> None:
    from hwdse.cli.optimize import optimality_tables
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.sweep import front_tables

    pair = {loaded.labels["system"]: before, "optimized": after}
    metric_tables.print_headline(pair, loaded)
    print_table("what changed", ["parameter", "before", "after"], _changes(loaded, result.design))
    metric_tables.print_limits(metric_tables.limit_rows(loaded, after))
    prices = [
        f"{name.replace('_', ' ')} {-price:+.3f} %"
        for name, price in zip(loaded.limits, result.multipliers, strict=True)
        if price > 1e-3
    ]
    if found is not None:
        optimality_tables.print_optimality(loaded, result, found)
        say(optimality_tables.checks(found))
    elif prices:
        say(f"1 % more of a limit would move the objective by: {', '.join(prices)}")
    say(metric_tables.what_limits(after, loaded))
    say(f"minimized: {_minimized(loaded, result, before)}")
    if loaded.robust is not None:
        say(front_tables.robust_line(loaded, result.num_evaluations))
    optimality_gap = (
        f"; rounding to what can be built moved the objective by {_moved(result.relaxation_gap)}"
    )
    say(
        f"{human_count(result.num_evaluations)} evaluations"
        + (f"{optimality_gap} before polishing" if math.isfinite(result.relaxation_gap) else "")
    )
    if found is not None:
        neighbors = "neighbor" if found.num_improvements == 1 else "neighbors in turn"
        better = f": {found.num_improvements} better {neighbors} took its place"
        say(
            f"{human_count(found.num_evaluations)} more for what it is worth"
            + (better if found.num_improvements else "")
        )


def _minimized(loaded: "LoadedSearch", result: "SearchResult", before: "Evaluation") -> str:
    """The objective at the end and, where it is not robust, against the base."""
    from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric
    from hwdse.objectives import OBJECTIVES

    name, unit = loaded.objective.replace("_", " "), METRIC_UNITS[loaded.objective]
    value = math.exp(result.log_objective)
    if loaded.robust is not None:
        return f"{loaded.robust.text} of {name}, {format_metric(value, unit)}"
    start = float(OBJECTIVES[loaded.objective](before))
    moved = f" ({start / value:.3g} x better)" if start > value else ""
    return f"{name}, {format_metric(start, unit)} before, {format_metric(value, unit)} now{moved}"


def _moved(log_change: float) -> str:
    return f"{100.0 * math.expm1(log_change):+.2f} %"


def _changes(loaded: "LoadedSearch", design: Any) -> list[list[str]]:
    """Every searched parameter whose value differs, as path, before, after."""
    from hwdse.cli.shared.start_run import searched_paths
    from hwdse.config import format_value
    from hwdse.search.space.pytree_path import get_path

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
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.shared.start_run import searched_paths
    from hwdse.cli.sweep.front_tables import robust_json
    from hwdse.search.space.pytree_path import get_path

    return {
        "title": loaded.title,
        "objective": loaded.objective,
        "value": math.exp(result.log_objective),
        "is_feasible": result.is_feasible,
        "design": {path: get_path(result.design, path) for path in searched_paths(loaded.space)},
        "before": metric_tables.as_json(before),
        "after": metric_tables.as_json(after),
        "limits": metric_tables.limit_rows(loaded, after),
        "shadow_prices": dict(zip(loaded.limits, result.multipliers.tolist(), strict=True)),
        "evaluations": result.num_evaluations,
        **robust_json(loaded, result.num_evaluations),
        "relaxation_gap": result.relaxation_gap,
        "folder": record.folder,
        "files": [record.folder / "best.toml", *files],
    }
