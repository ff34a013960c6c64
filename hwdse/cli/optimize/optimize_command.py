"""`hwdse optimize`: gradient search of one design within the limits of a config."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Out,
    Overwrite,
    Resume,
    Seed,
    Sets,
    parse_count,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import note, print_json, print_table, say
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS

if TYPE_CHECKING:
    from hwdse.cli.optimize.answer_reports import Answer
    from hwdse.cli.optimize.budgeted_search import Clock, SearchBudgetOptions
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.search.evaluation.search_result import SearchResult
    from hwdse.specs.results.evaluation_result import Evaluation

NAME = "optimize"
UNCHANGED_RATIO = 1.0 + 1e-6
"""Objectives that differ by less are equal: the search and `evaluate` round differently."""


def run(
    config: Config,
    evaluations: Annotated[
        int | None,
        typer.Option(
            "--evaluations",
            parser=parse_count,
            metavar="N",
            help="Budget in model evaluations: search, local search and optimality report. A "
            f"gradient counts as {GRADIENT_COST_EVALUATIONS}; a robust objective counts once for "
            "all its samples.  [default: 20000; 10000 without optimality report; no bound with "
            "--time]",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="DURATION",
            help="Bound of the time, e.g. 30s. The search repeats with successive seeds; 30 % is "
            "for the optimality report. A stage that has begun is completed.",
        ),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(
            "--optimizer", metavar="NAME", help="Optax optimizer: adam, adamw, lion, sgd, ..."
        ),
    ] = "adam",
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="NAME",
            help="Learning-rate schedule: cosine, linear, exponential, constant.",
        ),
    ] = "cosine",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            metavar="RATE",
            help="Initial learning rate.  [default: depends on the optimizer]",
        ),
    ] = None,
    neighbors: Annotated[
        int | None,
        typer.Option(
            "--neighbors",
            min=0,
            metavar="N",
            help="Neighbors evaluated by the optimality report; 0 skips the report.  "
            '[default: 2000; 0 with mapping = "optimize"]',
        ),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Search the Pareto front of [objective] front.")
    ] = False,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="Search the design of least regret over the bands around constants too.",
        ),
    ] = False,
    sets: Sets = None,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    seed: Seed = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Minimize the objective of a config within its limits.

    Runs a multi-start gradient search on the smooth relaxation, rounds to the parameter steps,
    refines by local search with the exact model, reports optimality and what the answer rests on:
    constants that change the design or lose more than 5 % over their bands, and the regret of
    keeping it. --robust also writes robust.toml, the design of least regret. Writes best.toml
    (input of `hwdse evaluate`) and plots to the run folder. --front searches the Pareto front
    instead; `hwdse pareto` merges its folder with those of sweeps. Ctrl-C keeps the best design so
    far; `hwdse optimize --resume FOLDER` continues.

    \b
    Examples:
      hwdse optimize trn2_llama3_70b --time 60s --set limits.chip_power="400 W" --out runs/b
      hwdse optimize trn2_llama3_70b --front --evaluations 5000 --out runs/front
    """
    from hwdse.cli.optimize.budgeted_search import (
        DEFAULT_SEARCH_EVALUATIONS,
        Clock,
        make_budget,
    )
    from hwdse.cli.shared.run_call import repeat_if_folder
    from hwdse.cli.shared.start_run import start_run
    from hwdse.config import load_search

    clock = Clock()
    repeat_if_folder(config, NAME, resume=resume)
    budget = make_budget(evaluations, time, optimizer, schedule, learning_rate)
    loaded = load_search(config, sets or ())
    seed = loaded.seed if seed is None else seed
    start = functools.partial(
        start_run, loaded, config=config, out=out, seed=seed, resume=resume, overwrite=overwrite
    )
    if front:
        from hwdse.cli.optimize.optimize_front import run_front

        _check_front(
            {**budget.options(math.inf, neighbors), "time_s": time, "robust": robust or None}
        )
        return run_front(
            loaded, config, start, num_evaluations=evaluations or DEFAULT_SEARCH_EVALUATIONS,
            sets=list(sets or ()), seed=seed, formats=parse_formats(formats), resume=resume,
            json=json,
        )  # fmt: skip
    if robust:
        _check_robust(loaded)
    clock.limit_s = math.inf if budget.time_s is None else budget.time_s
    _optimize(
        loaded, budget, start, seed, neighbors, clock, formats=parse_formats(formats),
        resume=resume, finds_robust=robust, json=json,
    )  # fmt: skip


def _check_front(given: dict[str, Any]) -> None:
    """Raise `CommandError` for an option of the search that --front does not support."""
    for name, value in given.items():
        if name != "evaluations" and value is not None:
            flag = name.removesuffix("_s").replace("_", "-")
            given_value = "" if value is True else f" {value}"
            raise CommandError(
                f"--{flag}{given_value}: not with --front, which has --evaluations only"
            )


def _check_robust(loaded: "LoadedSearch") -> None:
    """Raise `CommandError` for a config without a design of least regret."""
    if loaded.robust is not None:
        raise CommandError(
            f'--robust: not with robust = "{loaded.robust.text}" in [objective], a statistic of a '
            "sample of the uncertain constants in place of the regret"
        )
    if getattr(loaded.base, "runs_long", False):
        raise CommandError('--robust: not with mapping = "optimize", which takes too long')


def _optimize(
    loaded: "LoadedSearch",
    budget: "SearchBudgetOptions",
    start: "Callable[..., Run]",
    seed: int,
    num_neighbors: int | None,
    clock: "Clock",
    *,
    formats: tuple[str, ...],
    resume: bool,
    finds_robust: bool,
    json: bool,
) -> None:
    """Search, report and write a run folder, which `start(options)` returns."""
    from hwdse.cli.optimize import answer_reports, optimality_tables
    from hwdse.cli.optimize.budgeted_search import evaluations_by_stage, search, spent_lines
    from hwdse.cli.optimize.stopped_search import SearchKeeper
    from hwdse.cli.shared.interrupts import on_interrupt
    from hwdse.cli.shared.start_run import explain_infeasible
    from hwdse.cli.sweep.front_tables import optimum_markers
    from hwdse.config.search.search_file_objectives import objective_fn

    total = budget.total(optimality_tables.max_neighbors(loaded, num_neighbors) > 0)
    has_report = optimality_tables.has_optimality_report(loaded, num_neighbors, total)
    record = start({"command": NAME, **budget.options(total, num_neighbors)})
    keeper = SearchKeeper(loaded, record, clock, resume=resume)
    question = answer_reports.Question(
        loaded, objective_fn(loaded), budget, seed, num_neighbors, total, has_report, finds_robust
    )
    with on_interrupt(keeper.stop):
        result, num_rounds = search(
            loaded, question.objective, budget, seed, log=keeper.log, clock=clock,
            has_report=has_report, on_progress=keeper.save_if_due,
        )  # fmt: skip
        answer = answer_reports.answered(question, result, clock, keeper.keep)
        loaded, result = answer.loaded, answer.result
        keeper.keep(result)
        answer_reports.write_answer(answer, record)
        before, after, files = _evaluate_and_plot(loaded, result, record, formats)
        spent = evaluations_by_stage(result, answer.optimality)
        markers = optimum_markers(loaded, result.design, after) if result.is_feasible else []
        keeper.finish(objective=math.exp(result.log_objective), markers=markers, **spent)
    if json:
        values = _as_json(loaded, result, before, after, record, files)
        values |= {**spent, "seconds": clock.elapsed_s, "rounds": num_rounds}
        print_json({**values, **answer_reports.answer_json(answer)})
    else:
        _print(answer, before, after)
        for line in spent_lines(loaded, result, spent, total, clock):
            say(line)
        if answer.optimality is None and result.is_feasible and num_neighbors != 0:
            say(optimality_tables.missing_report_line(loaded, num_neighbors, total))
    for path in (record.folder / "best.toml", *files):
        note(f"wrote {path}")
    if not result.is_feasible:
        raise CommandError(explain_infeasible(loaded, result.constraint_values), Exit.INFEASIBLE)


def _evaluate_and_plot(
    loaded: "LoadedSearch", result: "SearchResult", record: "Run", formats: tuple[str, ...]
) -> tuple["Evaluation", "Evaluation", list[Path]]:
    """Evaluations of the baseline and of the optimum, and the files of their plots."""
    import numpy as np

    from hwdse.evaluation import evaluate_exact
    from hwdse.jobs.reliance import resting_plot_files
    from hwdse.objectives import OBJECTIVES
    from hwdse.report import evaluation_plots
    from hwdse.report.metrics import kind_of

    before = evaluate_exact(loaded.base, loaded.workload)
    after = evaluate_exact(result.design, loaded.workload)
    kind = kind_of(loaded)
    target = resting_plot_files(loaded, record.folder / "plots", formats, result.design)
    pair = {loaded.labels["system"]: before, "optimum": after}
    files = evaluation_plots.save_breakdown(pair, target, kind=kind)
    counts, logs = result.history_evaluations, result.history_log_objective
    if np.isfinite(logs).any():
        curve = (counts, np.exp(np.where(np.isfinite(logs), logs, np.nan)))
        value = float(OBJECTIVES[loaded.objective](before))
        files += evaluation_plots.save_convergence(
            {"gradient search": curve},
            loaded.objective,
            target,
            {f"base ({loaded.labels['system']})": value},
            kind=kind,
        )
    return before, after, files


def _print(answer: "Answer", before: "Evaluation", after: "Evaluation") -> None:
    from hwdse.cli.optimize import answer_reports
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.shared.reliance_output import print_notes, print_reliance
    from hwdse.report.breakdowns import bottlenecks
    from hwdse.report.evaluation_json import limit_rows
    from hwdse.report.metrics import kind_of

    loaded, result = answer.loaded, answer.result
    kind = kind_of(loaded)
    say(loaded.title)
    say(objective_line(loaded, result, before))
    answer_reports.say_fair_base(answer)
    metric_tables.print_warnings(result.design, after)
    say("")
    metric_tables.print_headline({"baseline": before, "optimum": after}, loaded, "")
    if changes := changed_parameters(loaded, result.design):
        print_table("", ["changed parameter", "unit", "baseline", "optimum"], changes)
    metric_tables.print_limits(limit_rows(loaded, after), kind=kind)
    answer_reports.print_answer(answer)
    if answer.optimality is None and (prices := _search_prices(loaded, result)):
        say(f"shadow prices (per +1 % of a limit): {prices}")
    say(bottlenecks(after, loaded))
    if answer.reliance is None:
        print_reliance(loaded, result.design)
    print_notes(loaded)


def objective_line(loaded: "LoadedSearch", result: "SearchResult", before: "Evaluation") -> str:
    """Objective with its values of baseline and optimum, their ratio and the feasibility.

    A robust objective has no value of the baseline.
    """
    from hwdse.objectives import OBJECTIVES
    from hwdse.report.evaluation_json import limit_rows
    from hwdse.report.metrics import kind_of, metric_of

    metric = metric_of(loaded.objective, kind=kind_of(loaded))
    status = "feasible" if result.is_feasible else "infeasible"
    optimum = math.exp(result.log_objective)
    if loaded.robust is not None:
        (cell,) = metric.cells([optimum])
        return f"objective: {loaded.robust.text} of {metric.label}   optimum {cell}   {status}"
    baseline = float(OBJECTIVES[loaded.objective](before))
    cells = metric.cells([baseline, optimum])
    ratio, side = (baseline / optimum, "lower") if optimum < baseline else (
        optimum / baseline, "higher"
    )  # fmt: skip
    factor = "unchanged" if ratio < UNCHANGED_RATIO else f"{ratio:.3g}x {side}"
    is_met = all(row["is_met"] for row in limit_rows(loaded, before))
    start = cells[0] if is_met else f"{cells[0]} (infeasible)"
    values = f"baseline {start}   optimum {cells[1]}   {factor}"
    return f"objective: {metric.label}   {values}   {status}"


def changed_parameters(loaded: "LoadedSearch", design: Any) -> list[list[str]]:
    """Rows of the searched parameters that differ from the base design: path, unit, values."""
    from hwdse.cli.shared.parameter_cells import choice_labels, different_parts, parameter_row
    from hwdse.config.schema.user_paths import short_path
    from hwdse.search.space.pytree_path import get_path

    pair, rows = (loaded.base, design), []
    paths = [dimension.path for dimension in loaded.space.dimensions]
    for choice in loaded.space.choices:
        labels = choice_labels(choice, pair)
        if labels is None:
            paths += choice.paths
        elif labels[0] != labels[1]:
            rows.append([choice.name, "-", *different_parts(labels)])
    names = [variant.path for variant in loaded.space.variants]
    numbers, texts = [
        [
            [short_path(path), *_flat(parameter_row(path, values, with_inverse=True))]
            for path in group
            if len(set(values := [get_path(one, path) for one in pair])) > 1
        ]
        for group in (paths, names)
    ]
    return [*numbers, *rows, *texts]


def _flat(row: tuple[str, list[str]]) -> list[str]:
    return [row[0], *row[1]]


def _search_prices(loaded: "LoadedSearch", result: "SearchResult") -> str:
    """Shadow prices of the search, for a result without optimality report."""
    from hwdse.report.metrics import kind_of, metric_of

    kind = kind_of(loaded)
    return ", ".join(
        f"{metric_of(name, kind=kind).name} {-price:+.3f} %"
        for name, price in zip(loaded.limits, result.multipliers, strict=True)
        if price > 1e-3
    )


def _as_json(
    loaded: "LoadedSearch",
    result: "SearchResult",
    before: "Evaluation",
    after: "Evaluation",
    record: "Run",
    files: list[Path],
) -> dict[str, Any]:
    from hwdse.cli.shared.reliance_output import reliance_json
    from hwdse.cli.shared.start_run import searched_paths
    from hwdse.cli.sweep.front_tables import robust_json
    from hwdse.report.evaluation_json import evaluation_json, limit_rows, warnings_json
    from hwdse.search.space.pytree_path import get_path

    return {
        "title": loaded.title,
        "objective": loaded.objective,
        "value": math.exp(result.log_objective),
        "is_feasible": result.is_feasible,
        "design": {path: get_path(result.design, path) for path in searched_paths(loaded.space)},
        "before": evaluation_json(before),
        "after": evaluation_json(after),
        "limits": limit_rows(loaded, after),
        "warnings": warnings_json(result.design, after),
        "rests_on": reliance_json(loaded, result.design),
        "shadow_prices": dict(zip(loaded.limits, result.multipliers.tolist(), strict=True)),
        **robust_json(loaded, result.num_evaluations),
        "relaxation_gap": result.relaxation_gap,
        "folder": record.folder,
        "files": [record.folder / "best.toml", *files],
    }
