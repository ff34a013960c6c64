"""`hwdse compare-search`: gradient search and gradient-free methods at equal budgets."""

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
from hwdse.cli.shared.exit_codes import CommandError, refuse_robust
from hwdse.cli.shared.interrupts import on_interrupt, uninterrupted
from hwdse.cli.shared.table_output import note, print_json, print_table, say, tell_files
from hwdse.search.evaluation.gradient_cost import GRADIENT_COST_EVALUATIONS

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.search.compare.method_comparison import ComparisonProblem, Trace

NAME = "compare-search"


def run(
    config: Config,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            parser=parse_count,
            metavar="N",
            help="Budget of each search in model evaluations; a gradient counts as "
            f"{GRADIENT_COST_EVALUATIONS}.",
        ),
    ] = 2_000,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Searches per method.")
    ] = 3,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAMES",
            help="Methods, separated by commas: gradient, random, sobol, nsga2, tpe, cma_es.  "
            "[default: all that are installed]",
        ),
    ] = None,
    sets: Sets = None,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    seed: Seed = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Compare search methods at equal budgets.

    Compares best objective and hypervolume. NSGA-II, TPE and CMA-ES need pip install
    'hwdse[compare]' and are left out otherwise. Each finished search is on disk: the same command
    continues a stopped comparison, and more --seeds or --methods extend it.

    \b
    Examples:
      hwdse compare-search trn2_llama3_70b --budget 500 --seeds 3
      hwdse compare-search gemmini_bert_explicit --methods gradient,sobol --out runs/methods
    """
    from hwdse.cli.compare.comparison_tables import (
        as_rows,
        ranking,
        save_comparison,
        table_of,
        zero_volume_line,
    )
    from hwdse.cli.shared.run_call import repeat_if_folder
    from hwdse.cli.shared.start_run import start_run
    from hwdse.config import load_search
    from hwdse.report.plot_targets import plot_files
    from hwdse.runs.atomic_files import csv_text
    from hwdse.search.compare.method_comparison import reference_point

    repeat_if_folder(config, NAME, resume=resume)
    names = _methods(methods)
    loaded = load_search(config, sets or ())
    refuse_robust(loaded, config, NAME)
    seed = loaded.seed if seed is None else seed
    options = {"command": NAME, "budget": budget}
    # Finished searches of other methods and seeds remain: the run is extended.
    record = start_run(
        loaded, options, config, out, seed, resume=resume, overwrite=overwrite, extends=True
    )
    problem = comparison_problem_of(loaded)
    tasks = ("single", "pareto") if len(loaded.front_objectives) > 1 else ("single",)
    traces = _all_traces(problem, record, names, tasks, range(seed, seed + seeds), budget)
    reference = reference_point(problem) if "pareto" in tasks else None
    rows = as_rows(loaded, traces, reference)
    columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
    files = [record.write_text("comparison.csv", csv_text(columns))]
    target = plot_files(loaded, record.folder / "plots", parse_formats(formats))
    files += save_comparison(loaded, traces, reference, target)
    lines, reason = ranking(loaded, rows), zero_volume_line(rows)
    record.finish("finished", ranking=lines)
    if json:
        print_json(
            {
                "title": loaded.title, "folder": record.folder, "budget": budget, "methods": rows,
                "ranking": lines, "zero_hypervolume": reason or None, "files": files,
            }
        )  # fmt: skip
    else:
        for title, heads, cells in table_of(loaded, rows):
            print_table(title, heads, cells)
        for line in filter(None, (*lines, reason)):
            say(line)
    tell_files(files)


def comparison_problem_of(loaded: "LoadedSearch") -> "ComparisonProblem":
    """Problem of a search file, for all methods."""
    from hwdse.config.search.search_file_objectives import front_objectives_fn, objective_fn
    from hwdse.search.compare.method_comparison import ComparisonProblem

    return ComparisonProblem(
        objective_fn(loaded), front_objectives_fn(loaded), loaded.space, loaded.base
    )


def _methods(text: str | None) -> list[str]:
    """Names of the methods, by default all that are installed; the others are told on stderr.

    Raises `CommandError` for an unknown method, or a named one that is not installed.
    """
    import importlib.util

    from hwdse.cli.compare.comparison_tables import TITLES
    from hwdse.search.compare.method_comparison import METHODS

    names = [name.strip() for name in (text or ",".join(METHODS)).split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise CommandError(f"--methods {text}: expected some of {', '.join(METHODS)}")
    packages = {"nsga2": "pymoo", "tpe": "optuna", "cma_es": "cmaes"}
    missing = [n for n in names if n in packages and not importlib.util.find_spec(packages[n])]
    if missing and text is not None:
        raise CommandError(f"--methods {missing[0]}: needs {packages[missing[0]]}: pip install "
                           "'hwdse[compare]', or choose other methods")  # fmt: skip
    if missing:
        left_out = ", ".join(TITLES[name] for name in missing)
        note(f"left out, not installed: {left_out}; pip install 'hwdse[compare]' adds them")
    return list(dict.fromkeys(name for name in names if name not in missing))


def _all_traces(
    problem: "ComparisonProblem",
    record: "Run",
    methods: list[str],
    tasks: tuple[str, ...],
    seeds: range,
    budget: int,
) -> "dict[tuple[str, str, int], Trace]":
    """Traces by task, method and seed: read from disk, or run and written."""
    import time

    from hwdse.cli.shared.table_output import progress_bar
    from hwdse.search.compare.method_comparison import METHODS, run_method, supports

    cells = [(t, m, s) for s in seeds for t in tasks for m in methods if supports(m, t)]
    done, traces = record.finished_parts(), {}
    kept = [cell for cell in cells if _part(cell, METHODS) in done]
    if kept:
        note(f"{len(kept)} of {len(cells)} searches found on disk")

    def stop() -> str:
        num_done = len(record.finished_parts() & {_part(cell, METHODS) for cell in cells})
        record.finish("stopped", searches=num_done)
        return (
            f"{record.folder}: stopped after {num_done} of {len(cells)} searches, which are on "
            f"disk; continue with: hwdse {NAME} --resume {record.folder}"
        )

    with (
        on_interrupt(stop),
        progress_bar("comparing", len(cells), "searches") as update,
    ):
        for index, cell in enumerate(cells):
            task, method, seed = cell
            update(index, f"{method} {task} seed {seed}")
            if cell not in kept:
                trace = run_method(
                    problem, method, task, num_evaluations=budget, seed=seed,
                    clock=time.perf_counter,
                )  # fmt: skip
                with uninterrupted():
                    _write_trace(record, _part(cell, METHODS), trace)
            traces[cell] = _read_trace(record, _part(cell, METHODS))
        update(len(cells), "")
    return traces


def _part(cell: tuple[str, str, int], methods: tuple[str, ...]) -> int:
    task, method, seed = cell
    return 100 * seed + 50 * (task == "pareto") + methods.index(method)


def _write_trace(record: "Run", index: int, trace: "Trace") -> None:
    columns = {"evaluations": trace.evaluations, "seconds": trace.seconds}
    columns |= {
        f"log.{i}": trace.log_objectives[:, i] for i in range(trace.log_objectives.shape[1])
    }
    notes = {"num_evaluations": trace.num_evaluations, "total_seconds": trace.total_seconds}
    record.write_part(index, columns, notes)


def _read_trace(record: "Run", index: int) -> "Trace":
    import numpy as np

    from hwdse.search.compare.method_comparison import Trace

    columns, notes = record.read_part(index)
    log_objectives = [columns[name] for name in columns if name.startswith("log.")]
    return Trace(
        columns["evaluations"],
        columns["seconds"],
        np.stack(log_objectives, axis=1),
        int(notes["num_evaluations"]),
        float(notes["total_seconds"]),
    )


def _column(values: list[Any]) -> Any:
    import numpy as np

    return np.array(values, dtype=object if isinstance(values[0], str) else float)
