"""What a comparison of searches says: rows, tables, verdicts, and the pictures' curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric, is_core
from hwdse.search.compare.method_comparison import evaluation_cap, median_min_max

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.compare.method_comparison import Trace

    Traces = Mapping[tuple[str, str, int], Trace]

TITLES = {
    "gradient": "gradient (ours)",
    "random": "random",
    "sobol": "Sobol",
    "nsga2": "NSGA-II (pymoo)",
    "tpe": "TPE (Optuna)",
    "cma_es": "CMA-ES (cmaes)",
}
NUM_MARKS = 48
"""Budgets at which curves are drawn."""


def as_rows(
    loaded: "LoadedSearch", traces: "Traces", reference: np.ndarray | None
) -> list[dict[str, Any]]:
    """One row for each goal and method: median, least and most over the seeds.

    The value is the objective in base units, or the hypervolume in logarithms.
    """
    rows = []
    for goal, method in dict.fromkeys((goal, method) for goal, method, _ in traces):
        found = {s: t for (g, m, s), t in traces.items() if (g, m) == (goal, method)}
        median, low, high = median_min_max(
            {s: _value(t, goal, reference) for s, t in found.items()}
        )
        seconds = median_min_max({s: t.total_seconds for s, t in found.items()})[0]
        asked = max(t.num_evaluations for t in found.values())
        rows.append(
            {
                "goal": goal,
                "method": method,
                "median": median,
                "min": low,
                "max": high,
                "seeds": len(found),
                "evaluations": asked,
                "seconds": seconds,
            }
        )
    return sorted(rows, key=lambda row: (row["goal"], _better(row)))


def _value(trace: "Trace", goal: str, reference: np.ndarray | None) -> float:
    if goal == "front":
        assert reference is not None
        return trace.volume_at(math.inf, reference)
    best = trace.best_at(math.inf)
    return math.exp(best) if math.isfinite(best) else math.inf


def _better(row: Mapping[str, Any]) -> float:
    """Smaller is better."""
    return -row["median"] if row["goal"] == "front" else row["median"]


def table_of(
    loaded: "LoadedSearch", rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and cells of the table of each goal, the best method first."""
    tables = []
    for goal in dict.fromkeys(row["goal"] for row in rows):
        cells = []
        chosen = [row for row in rows if row["goal"] == goal]
        for row in chosen:
            values = [_text(loaded, goal, row[name]) for name in ("median", "min", "max")]
            is_short = evaluation_cap(row["method"], 1 << 60) <= row["evaluations"]
            counted = f"{row['evaluations']:,}{' (its limit)' if is_short else ''}"
            cells.append(
                [
                    TITLES[row["method"]],
                    *values,
                    counted,
                    f"{row['seconds']:.3g}",
                    f"{row['seeds']}",
                ]
            )
        heads = ["method", "median", "min", "max", "evaluations", "seconds", "seeds"]
        tables.append((_goal_title(loaded, goal), heads, cells))
    return tables


def _goal_title(loaded: "LoadedSearch", goal: str) -> str:
    if goal == "best":
        return f"{loaded.objective.replace('_', ' ')}, smaller is better"
    names = ", ".join(name.replace("_", " ") for name in loaded.front_objectives)
    return f"hypervolume of {names} in logarithms, larger is better"


def _text(loaded: "LoadedSearch", goal: str, value: float) -> str:
    if goal == "front":
        return f"{value:.4f}"
    if not math.isfinite(value):
        return "none feasible"
    return format_metric(value, METRIC_UNITS[loaded.objective])


def verdicts(loaded: "LoadedSearch", rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who wins at the median, and by how much over the next; in words."""
    said = []
    for goal in dict.fromkeys(row["goal"] for row in rows):
        chosen = [row for row in rows if row["goal"] == goal]
        what = _goal_title(loaded, goal).split(",")[0] if goal == "best" else "hypervolume"
        first = chosen[0]
        if len(chosen) < 2 or not math.isfinite(first["median"]):
            continue
        second = chosen[1]
        ends = [first["median"], second["median"]]
        more, less = ends if goal == "front" else ends[::-1]
        names = [TITLES[row["method"]] for row in (first, second)]
        if more == less:
            said.append(f"{what}: {names[0]} and {names[1]} are even at the median")
            continue
        factor = f"{more / less:.4g} times as good as" if less > 0.0 else "before"
        said.append(f"{what}: {names[0]} wins at the median, {factor} {names[1]}")
    return said


def curves_of(
    traces: "Traces", goal: str, marks: np.ndarray, reference: Any, *, in_seconds: bool
) -> dict[str, np.ndarray]:
    """For each method the median, least and most over seeds at each mark, three rows."""
    curves = {}
    for method in dict.fromkeys(m for g, m, _ in traces if g == goal):
        found = [t for (g, m, _), t in traces.items() if (g, m) == (goal, method)]
        table = np.asarray([_at_marks(t, goal, marks, reference, in_seconds) for t in found])
        curves[TITLES[method]] = np.stack(
            [np.median(table, axis=0), table.min(axis=0), table.max(axis=0)]
        )
    return curves


def _at_marks(
    trace: "Trace", goal: str, marks: np.ndarray, reference: Any, in_seconds: bool
) -> list[float]:
    end = trace.total_seconds if in_seconds else trace.num_evaluations
    values = []
    for mark in marks:
        if mark > 1.05 * end and values:
            values.append(math.nan)  # the search was over: its curve ends
        elif goal == "front":
            values.append(trace.volume_at(mark, reference, in_seconds=in_seconds))
        else:
            best = trace.best_at(mark, in_seconds=in_seconds)
            values.append(math.exp(best) if math.isfinite(best) else math.nan)
    return values


def save_comparison(
    loaded: "LoadedSearch", traces: "Traces", reference: Any, folder: Path, budget: int
) -> list[Path]:
    """Best objective and hypervolume against evaluations and against seconds, with the spread."""
    from hwdse.cli.shared.evaluation_plots import CORE_SCALES, SCALES
    from hwdse.plots import pareto_plots
    from hwdse.plots.comparison_curves import plot_spread

    scale, label = (CORE_SCALES if is_core(loaded) else SCALES)[loaded.objective]
    files = []
    for goal in dict.fromkeys(goal for goal, _, _ in traces):
        figure, axes = pareto_plots.new_figure(2, width_in=6.4, height_in=7.6)
        longest = max(trace.total_seconds for trace in traces.values())
        spans = ((20.0, float(budget), "Evaluations of the model"), (0.01, longest, "Seconds"))
        for ax, (low, high, name) in zip(axes, spans, strict=True):
            marks = np.geomspace(min(low, high / 2.0), high, NUM_MARKS)
            curves = curves_of(traces, goal, marks, reference, in_seconds=name == "Seconds")
            factor = scale if goal == "best" else 1.0
            scaled = {method: factor * curve for method, curve in curves.items()}
            title = label if goal == "best" else "Hypervolume (logarithms)"
            plot_spread(ax, marks, scaled, name, title)
        files += pareto_plots.save_figure(
            figure, folder, "objective" if goal == "best" else "hypervolume"
        )
    return files
