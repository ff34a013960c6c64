"""Comparison of search methods as rows, tables, ranking and plots."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.plots.comparison_curves import Curve
from hwdse.report.metrics import kind_of, metric_of
from hwdse.report.number_texts import number_cells
from hwdse.search.compare.method_comparison import (
    REFERENCE_POINTS,
    evaluation_cap,
    median_min_max,
)

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.plots.figure_files import PlotFiles
    from hwdse.search.compare.method_comparison import Trace

    Traces = Mapping[tuple[str, str, int], Trace]

TITLES = {
    "gradient": "gradient (hwdse)",
    "random": "random",
    "sobol": "Sobol",
    "nsga2": "NSGA-II (pymoo)",
    "tpe": "TPE (Optuna)",
    "cma_es": "CMA-ES (cmaes)",
}
NUM_MARKS = 200
"""Largest number of points of a curve."""


def as_rows(
    loaded: "LoadedSearch", traces: "Traces", reference: np.ndarray | None
) -> list[dict[str, Any]]:
    """Rows of all tasks and methods: median, minimum and maximum over the seeds.

    Values are objectives in base units or hypervolumes in logarithms.
    """
    rows = []
    for task, method in dict.fromkeys((task, method) for task, method, _ in traces):
        found = {s: t for (k, m, s), t in traces.items() if (k, m) == (task, method)}
        median, low, high = median_min_max(
            {s: _value(t, task, reference) for s, t in found.items()}
        )
        seconds = median_min_max({s: t.total_seconds for s, t in found.items()})[0]
        num_evaluations = max(t.num_evaluations for t in found.values())
        rows.append(
            {
                "task": task,
                "method": method,
                "median": median,
                "min": low,
                "max": high,
                "seeds": len(found),
                "evaluations": num_evaluations,
                "seconds": seconds,
            }
        )
    return sorted(rows, key=lambda row: (row["task"] != "single", _better(row)))


def _value(trace: "Trace", task: str, reference: np.ndarray | None) -> float:
    if task == "pareto":
        assert reference is not None
        return trace.volume_at(math.inf, reference)
    best = trace.best_at(math.inf)
    return math.exp(best) if math.isfinite(best) else math.inf


def _better(row: Mapping[str, Any]) -> float:
    """Sort key, smaller for the better median."""
    return -row["median"] if row["task"] == "pareto" else row["median"]


def table_of(
    loaded: "LoadedSearch", rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and cells of the table of each task, best method first."""
    tables = []
    for task in dict.fromkeys(row["task"] for row in rows):
        chosen = [row for row in rows if row["task"] == task]
        values = _value_cells(loaded, chosen, task)
        times = number_cells([row["seconds"] for row in chosen], 2, 0)
        cells = []
        for row, texts, time in zip(chosen, values, times, strict=True):
            is_capped = evaluation_cap(row["method"], 1 << 60) <= row["evaluations"]
            counted = f"{row['evaluations']:,}{' (capped)' if is_capped else ''}"
            cells.append([TITLES[row["method"]], *texts, counted, time, f"{row['seeds']}"])
        heads = ["method", "median", "min", "max", "evaluations", "time (s)", "seeds"]
        tables.append((_task_title(loaded, task), heads, cells))
    return tables


def _value_cells(
    loaded: "LoadedSearch", rows: Sequence[Mapping[str, Any]], task: str
) -> list[list[str]]:
    """Median, minimum and maximum of each row, all with the same decimals."""
    names = ("median", "min", "max")
    values = [row[name] for row in rows for name in names]
    if task == "pareto":
        cells = number_cells(values, 4, 0)
    else:
        cells = metric_of(loaded.objective, kind=kind_of(loaded)).cells(values)
    cells = [
        cell if math.isfinite(value) else "infeasible"
        for cell, value in zip(cells, values, strict=True)
    ]
    return [cells[i : i + len(names)] for i in range(0, len(cells), len(names))]


def _task_title(loaded: "LoadedSearch", task: str) -> str:
    if task == "single":
        return f"{metric_of(loaded.objective, kind=kind_of(loaded)).label}, lower is better"
    names = ", ".join(name.replace("_", " ") for name in loaded.front_objectives)
    return f"hypervolume in the logarithms of {names}; higher is better"


def ranking(loaded: "LoadedSearch", rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Summary lines: method with the best median and its lead over the second."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        chosen = [row for row in rows if row["task"] == task]
        name = metric_of(loaded.objective, kind=kind_of(loaded)).name
        what = name if task == "single" else "hypervolume"
        first = chosen[0]
        if len(chosen) < 2 or not math.isfinite(first["median"]):
            continue
        second = chosen[1]
        ends = [first["median"], second["median"]]
        more, less = ends if task == "pareto" else ends[::-1]
        names = [TITLES[row["method"]] for row in (first, second)]
        if more == less:
            lines.append(f"{what}: equal medians of {names[0]} and {names[1]}")
            continue
        lead = f"{more / less:.4g}x better than" if less > 0.0 else "ahead of"
        lines.append(f"best median ({what}): {names[0]}, {lead} {names[1]}")
    return lines


def zero_volume_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Line on the methods whose median hypervolume is zero; empty without any."""
    names = [TITLES[row["method"]] for row in rows if row["task"] == "pareto" and not row["median"]]
    if not names:
        return ""
    return (
        f"hypervolume 0 ({', '.join(names)}): no design found dominates the reference point, the "
        f"worst value of each objective on the front of {REFERENCE_POINTS:,} Sobol designs with "
        "the base design"
    )


def curves_of(
    traces: "Traces", task: str, reference: np.ndarray | None, *, in_seconds: bool
) -> dict[str, Curve]:
    """Median, minimum and maximum over the seeds after each improvement, by title of the method.

    A search that has ended keeps its last value, so that a curve extends to the end of the longest
    search of its method. Values are NaN while half of the seeds have no feasible design, or a
    hypervolume of zero.
    """
    curves = {}
    for method in dict.fromkeys(m for k, m, _ in traces if k == task):
        found = [t for (k, m, _), t in traces.items() if (k, m) == (task, method)]
        marks = _improvement_marks(found, in_seconds)
        table = np.asarray([[_value_at(t, task, reference, x, in_seconds) for x in marks]
                            for t in found]).reshape(len(found), len(marks))  # fmt: skip
        bounds = np.stack([np.median(table, axis=0), table.min(axis=0), table.max(axis=0)])
        is_shown = np.isfinite(bounds[0]) & (bounds[0] != 0.0)
        curves[TITLES[method]] = Curve(marks, np.where(is_shown, bounds, np.nan))
    return curves


def _improvement_marks(traces: "Sequence[Trace]", in_seconds: bool) -> np.ndarray:
    """Evaluations or seconds of the improvements of some searches and of their end, at most
    `NUM_MARKS`."""
    spent = [trace.seconds if in_seconds else trace.evaluations for trace in traces]
    ends = [trace.total_seconds if in_seconds else trace.num_evaluations for trace in traces]
    marks = np.unique(np.concatenate([*spent, [max(ends)]]))
    kept = np.linspace(0, len(marks) - 1, min(NUM_MARKS, len(marks))).round().astype(int)
    return marks[kept]


def _value_at(
    trace: "Trace", task: str, reference: np.ndarray | None, mark: float, in_seconds: bool
) -> float:
    """Value of a search after this many evaluations or seconds; infinite without a design."""
    if task == "pareto":
        assert reference is not None
        return trace.volume_at(mark, reference, in_seconds=in_seconds)
    best = trace.best_at(mark, in_seconds=in_seconds)
    return math.exp(best) if math.isfinite(best) else math.inf


def save_comparison(
    loaded: "LoadedSearch",
    traces: "Traces",
    reference: np.ndarray | None,
    target: "PlotFiles",
) -> list[Path]:
    """Plot best objective and hypervolume over evaluations and time, with ranges over seeds."""
    from hwdse.plots.comparison_curves import plot_median_and_range
    from hwdse.plots.figure_files import new_figure
    from hwdse.report.evaluation_plots import SCALES

    scale, label = SCALES[kind_of(loaded)][loaded.objective]
    files = []
    for task in dict.fromkeys(task for task, _, _ in traces):
        figure, axes = new_figure(2, width_in=6.4, height_in=7.6)
        factor, ylabel = (scale, label) if task == "single" else (1.0, "Hypervolume (logarithms)")
        absent = "no feasible design" if task == "single" else "hypervolume 0"
        for ax, (in_seconds, name) in zip(
            axes, ((False, "Model evaluations"), (True, "Time (s)")), strict=True
        ):
            found = curves_of(traces, task, reference, in_seconds=in_seconds)
            curves = {m: Curve(curve.marks, factor * curve.bounds) for m, curve in found.items()}
            plot_median_and_range(ax, curves, (name, ylabel), absent, has_legend=not in_seconds)
        seeds = len({seed for _, _, seed in traces})
        files += target.save(
            figure,
            "best_objective" if task == "single" else "hypervolume",
            "Best objective of the methods" if task == "single" else "Hypervolume of the methods",
            f"Median and range over {seeds} seeds. The time of the gradient search includes its "
            "compilation, in the first seed.",
        )
    return files
