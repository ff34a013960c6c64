"""Tables, plots and results of the README from results/cells.csv."""

import json
import pathlib
from typing import Any

import numpy as np
from problems import SCAN, TITLES

from hwdse.plots.comparison_curves import Curve, plot_median_and_range
from hwdse.plots.figure_files import new_figure, save_figure
from hwdse.search.compare.baselines import TPE_TRIALS

GRADIENT = "gradient"
NAMES = {
    GRADIENT: "hwdse (gradient)", "random": "random", "sobol": "Sobol", "nsga2": "NSGA-II",
    "tpe": "TPE (at most 1,000 trials)", "cma_es": "CMA-ES", SCAN: "random scan, same wall time",
}  # fmt: skip
TASK_TITLES = {
    "single": "objective over the best known, median (worst) over seeds; lower is better",
    "pareto": "hypervolume over the best known, median (worst) over seeds; higher is better",
}
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def write(cells: dict[tuple[str, ...], dict[str, str]], here: pathlib.Path) -> None:
    """Write results/summary.json, the plots, and the tables between the marks of README.md."""
    summary = summarized(cells)
    (here / "results" / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    readme = here / "README.md"
    text = readme.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    body = "\n\n".join([*tables(summary), best_baselines(summary)])
    readme.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}")
    draw(cells, here / "results")


def summarized(cells: dict[tuple[str, ...], dict[str, str]]) -> list[dict[str, Any]]:
    """Median and worst over seeds, relative to the best known, by problem, task, method, budget."""
    values: dict[tuple[str, str, str, int], list[dict[str, str]]] = {}
    for (problem, task, method, budget, _), row in cells.items():
        values.setdefault((problem, task, method, int(budget)), []).append(row)
    known: dict[tuple[str, str], float] = {}
    for (problem, task, _, _), rows in values.items():
        found = [float(row["value"]) for row in rows]
        best = max(found) if task == "pareto" else min(found)
        pick = max if task == "pareto" else min
        known[problem, task] = pick(known.get((problem, task), best), best)

    def in_order(item: tuple[tuple[str, str, str, int], list]) -> tuple:
        problem, task, method, budget = item[0]
        return problem, task != "single", method, budget

    summary = []
    for (problem, task, method, budget), rows in sorted(values.items(), key=in_order):
        ratios = np.asarray([float(row["value"]) for row in rows]) / known[problem, task]
        worst = ratios.min() if task == "pareto" else ratios.max()
        summary.append(
            {
                "problem": problem, "task": task, "method": method, "budget": budget,
                "seeds": len(rows), "best_known": known[problem, task],
                "median": float(np.median(ratios)), "worst": float(worst),
                "evaluations": float(np.median([float(row["evaluations"]) for row in rows])),
                "wall_s": float(np.median([float(row["seconds"]) for row in rows])),
            }
        )  # fmt: skip
    return summary


def tables(summary: list[dict[str, Any]]) -> list[str]:
    """Tables of methods by budgets, one per problem and task."""
    found = []
    for problem, task in dict.fromkeys((row["problem"], row["task"]) for row in summary):
        rows = [row for row in summary if (row["problem"], row["task"]) == (problem, task)]
        budgets = sorted({row["budget"] for row in rows})
        lines = [
            f"{TITLES[problem]}: {TASK_TITLES[task]}",
            "",
            f"| method | {' | '.join(f'{b:,}' for b in budgets)} | time of last (s) | seeds |",
            f"| --- |{' --- |' * (len(budgets) + 2)}",
        ]
        for method in [name for name in NAMES if any(row["method"] == name for row in rows)]:
            own = {row["budget"]: row for row in rows if row["method"] == method}
            if method == "tpe" and max(own) >= TPE_TRIALS:
                # Stopped at its cap: the same result for all larger budgets.
                own |= {budget: own[max(own)] for budget in budgets if budget > max(own)}
            texts = [cell(own.get(budget)) for budget in budgets]
            last = own[max(own)]
            lines.append(
                f"| {NAMES[method]} | {' | '.join(texts)} | {last['wall_s']:.2f} "
                f"| {min(row['seeds'] for row in own.values())} |"
            )
        found.append("\n".join(lines))
    return found


def cell(row: dict[str, Any] | None) -> str:
    """Median and worst, or a dash if there is no result."""
    if row is None:
        return "-"
    return f"{row['median']:.3f} ({row['worst']:.3f})"


def best_baselines(summary: list[dict[str, Any]]) -> str:
    """Table of hwdse against the best baseline, by problem, task and budget."""
    found = {(r["problem"], r["task"], r["method"], r["budget"]): r for r in summary}
    lines = [
        "| problem | task | evaluations | hwdse | best baseline | hwdse better by |",
        "|" + " --- |" * 6,
    ]
    for (problem, task, method, budget), row in found.items():
        if method != GRADIENT:
            continue
        others = [
            r for (p, g, m, b), r in found.items()
            if (p, g, b) == (problem, task, budget) and m not in (GRADIENT, SCAN)
        ]  # fmt: skip
        if not others:
            others = [found[key] for key in [(problem, task, "nsga2", 10_000)] if key in found]
            if not others:
                continue
        better = max if task == "pareto" else min
        rival = better(others, key=lambda r: r["median"])
        factor = (
            row["median"] / rival["median"] if task == "pareto" else rival["median"] / row["median"]
        )
        name = NAMES[rival["method"]] + (
            f" at {rival['budget']:,}" if rival["budget"] != budget else ""
        )
        lines.append(
            f"| {TITLES[problem]} | {task} | {budget:,} | {row['median']:.3f} "
            f"| {rival['median']:.3f}, {name} | {factor:.3f}x |"
        )
    return "\n".join(lines)


def draw(cells: dict[tuple[str, ...], dict[str, str]], folder: pathlib.Path) -> None:
    """Draw the best value over evaluations: the curve of the largest budget of each method.

    The stages of hwdse depend on the budget: its curve is the final value of each budget."""
    for problem, task in dict.fromkeys(key[:2] for key in cells):
        largest: dict[str, int] = {}
        for p, g, method, budget, _ in cells:
            if (p, g) == (problem, task) and method != SCAN:
                largest[method] = max(largest.get(method, 0), int(budget))
        curves: dict[str, list[dict[float, float]]] = {}
        ends: dict[str, dict[float, float]] = {}
        for (p, g, method, budget, seed), row in cells.items():
            if (p, g) == (problem, task) and method == GRADIENT:
                ends.setdefault(seed, {})[float(budget)] = float(row["value"])
            elif (p, g) == (problem, task) and largest.get(method) == int(budget):
                pairs = [text.split(":") for text in row["curve"].split()]
                curves.setdefault(method, []).append({float(a): float(b) for a, b in pairs})
        if ends:
            curves[GRADIENT] = list(ends.values())
        marks = np.asarray(sorted({mark for each in curves.values() for c in each for mark in c}))
        ranges_by_method = {}
        for method in [name for name in NAMES if name in curves]:
            table = np.asarray([[c.get(m, np.nan) for m in marks] for c in curves[method]])
            bounds = [np.median(table, axis=0), table.min(axis=0), table.max(axis=0)]
            ranges_by_method[NAMES[method]] = Curve(marks, np.stack(bounds))
        figure, (axes,) = new_figure()
        label = (
            "Hypervolume (of the logarithms)" if task == "pareto" else "Energy-delay product (J·s)"
        )
        plot_median_and_range(
            axes, ranges_by_method, ("Model evaluations", label), "none", is_staircase=False
        )
        save_figure(figure, folder, f"{problem}_{task}")
