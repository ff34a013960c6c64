"""Optimality report of `hwdse optimize` as tables and JSON.

Computes the report for a feasible result (`search.answers.optimality`) and formats the
neighborhood check, optimality gap, binding constraints, shadow prices and quantization loss.
JSON values are in SI base units.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwdse.cli.optimize.budgeted_search import REPORT_FRACTION
from hwdse.cli.shared.table_output import print_table, say
from hwdse.report.metrics import kind_of, metric_of
from hwdse.report.number_texts import number_cells, percent, spaced

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.jobs.footing.strategy_check import StrategyCheck
    from hwdse.search.answers.optimality import OptimalityReport
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult

NEIGHBORS = 2000
"""Default number of neighbors; 0 with mapping = "optimize", where an evaluation takes tens of
milliseconds."""
LONG_EFFORT = {"num_starts": 1, "max_iterations": 10, "num_segments": 8, "batch": 16}
"""Reduced effort of a requested report with mapping = "optimize"."""
MIN_SHADOW_PRICE = 1e-3
"""Smallest printed shadow price, in % per +1 % of the limit."""
MAX_PARAMETERS = 16
"""Largest number of parameters that are all printed."""
UNIT_STEPS = {"mm²": 1.0, "W": 1.0, "USD": 1.0, "1": 0.01}
"""Change of a limit per printed unit: 1 mm², 1 W, 1 USD, 1 percentage point of a ratio."""


def has_optimality_report(loaded: "LoadedSearch", num_neighbors: int | None, total: float) -> bool:
    """True if a budget of `total` evaluations has an optimality report."""
    from hwdse.search.answers.optimality import fixed_report_evaluations

    if not max_neighbors(loaded, num_neighbors):
        return False
    return REPORT_FRACTION * total >= fixed_report_evaluations(loaded.space)


def missing_report_line(loaded: "LoadedSearch", num_neighbors: int | None, total: float) -> str:
    """Reason why a feasible result has no optimality report."""
    from hwdse.search.answers.optimality import fixed_report_evaluations

    if not max_neighbors(loaded, num_neighbors):
        return "no optimality report: --neighbors N requests one"
    if has_optimality_report(loaded, num_neighbors, total):
        return "no optimality report: the time is up"
    least = math.ceil(fixed_report_evaluations(loaded.space) / REPORT_FRACTION)
    return f"no optimality report: it needs --evaluations {least} or more"


def max_neighbors(loaded: "LoadedSearch", num_neighbors: int | None) -> int:
    """Largest number of neighbors of the report; 0 without a report."""
    if num_neighbors is not None:
        return num_neighbors
    return 0 if getattr(loaded.base, "runs_long", False) else NEIGHBORS


def with_optimality_report(
    loaded: "LoadedSearch",
    objective: "ObjectiveFn",
    result: "SearchResult",
    seed: int,
    num_neighbors: int | None,
    *,
    max_evaluations: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple["SearchResult", "OptimalityReport | None"]:
    """Result and its optimality report; a better neighbor replaces the design of the result.

    The report is None without neighbors, for an infeasible result, and if `max_evaluations` is too
    small for it.
    """
    import jax

    from hwdse.search.answers.optimality import fixed_report_evaluations, report_optimality

    most = max_neighbors(loaded, num_neighbors)
    is_affordable = max_evaluations >= fixed_report_evaluations(loaded.space)
    if not most or not result.is_feasible or not is_affordable:
        return result, None
    is_long = getattr(loaded.base, "runs_long", False)
    search_budget: dict[str, int] = LONG_EFFORT if is_long else {}
    with jax.enable_x64(True):
        report = report_optimality(
            objective, loaded.space, result.design, result.unit, tuple(loaded.limits), seed=seed,
            max_neighbors=most, max_evaluations=max_evaluations,
            should_stop=should_stop, **search_budget,
        )  # fmt: skip
    if not report.num_improvements:
        return result, report
    better = dataclasses.replace(
        result,
        design=loaded.space.decode_rounded(report.unit, result.design),
        unit=report.unit,
        log_objective=report.log_objective,
        constraint_values=report.constraint_values,
    )
    return better, report


def print_optimality(
    loaded: "LoadedSearch",
    result: "SearchResult",
    report: "OptimalityReport",
    strategies: "StrategyCheck | None" = None,
) -> None:
    """Print the optimality report with its scope, binding constraints and shadow prices."""
    say("optimality report")
    rows = [["scope", scope_text(loaded, result)], *_report_rows(loaded, report)]
    if strategies is not None:
        rows.append(["strategies on this design", strategies_text(strategies)])
    print_table("", ["", ""], rows, left=2)
    if binding := _binding_rows(loaded, report):
        print_table("", ["parameter", "elasticity", "bound by"], binding)
    if prices := _price_rows(loaded, result, report):
        print_table("", ["limit", "shadow price per +1 %", "per +1 unit"], prices)


def scope_text(loaded: "LoadedSearch", result: "SearchResult") -> str:
    """Parameters that the report covers, and what it keeps fixed."""
    fixed = _fixed_texts(loaded, result)
    kept = f"; local optimum also over {_other_choices(loaded)}" if loaded.space.choices else ""
    count = len(loaded.space.dimensions)
    parameters = f"{count} parameters within their ranges" if count != 1 else "1 parameter"
    bound = f"bound and gap for {', '.join(fixed)} only" if fixed else "all that is searched"
    return f"{parameters}; {bound}{kept}; all other values as in the base design"


def _other_choices(loaded: "LoadedSearch") -> str:
    """Alternatives that are neighbors of a design."""
    return ", ".join(
        f"the {len(choice.table):,} "
        f"{'strategies' if choice.name == 'parallelism' else 'alternatives of ' + choice.name} kept"
        for choice in loaded.space.choices
    )


def strategies_text(found: "StrategyCheck") -> str:
    """Outcome of the check of all strategies on the design."""
    count = f"{len(found.strategies):,}"
    within = f"{found.num_feasible:,} meet the limits"
    if not found.num_better:
        return f"none of all {count} is better ({within})"
    factor = math.exp(found.log_objective - found.best_log_objective)
    better = f"{found.num_better:,} of all {count} are better ({within}), the best {factor:.2f}x"
    reason = "" if found.is_searched else '; values = "best" searches them'
    return f"{better}: {found.best_label}{reason}"


def _fixed_texts(loaded: "LoadedSearch", result: "SearchResult") -> list[str]:
    """Choices and variants that the bound keeps fixed."""
    from hwdse.cli.shared.parameter_cells import choice_labels
    from hwdse.config.schema.user_paths import field_name
    from hwdse.search.space.pytree_path import get_path

    texts = []
    for choice in loaded.space.choices:
        if labels := choice_labels(choice, [result.design]):
            texts.append(
                f"{'strategy' if choice.name == 'parallelism' else choice.name} {labels[0]}"
            )
    for variant in loaded.space.variants:
        texts.append(f"{spaced(field_name(variant.path))} {get_path(result.design, variant.path)}")
    return texts


def _report_rows(loaded: "LoadedSearch", report: "OptimalityReport") -> list[list[str]]:
    metric = metric_of(loaded.objective, kind=kind_of(loaded))
    kind = "lower bound" if report.passed_bound_checks else "estimate"
    bound = gap = f"unknown: {unknown_bound(report)}"
    if _is_known(report):
        bound = f"{metric.cells([math.exp(report.log_bound)])[0]}, {kind}"
        gap = f"{100.0 * report.optimality_gap:.1f}, {kind}"
    return [
        ["local optimum", _neighborhood_text(report)],
        [f"best possible ({metric.unit})", bound],
        ["optimality gap (%)", gap],
        [f"checks of the {kind}", bound_checks(report)],
        ["quantization loss (%)", _loss_text(report)],
    ]


def _neighborhood_text(report: "OptimalityReport") -> str:
    """Result of the comparison with the neighbors."""
    if report.is_exhaustive and not report.num_neighbors:
        return "no neighbors: no parameter has a range"
    count = f"{report.num_neighbors:,}"
    among = f"all {count} neighbors" if report.is_exhaustive else f"{count} sampled neighbors"
    if report.is_local_optimum:
        count = report.num_improvements
        moves = (
            f", after {count} {'moves' if count > 1 else 'move'} to a better one" if count else ""
        )
        return f"no better design among {among} (one step){moves}"
    return f"unknown: moved to a better design among {among}, whose own were not evaluated"


def unknown_bound(report: "OptimalityReport") -> str:
    """Reason why a report has no bound."""
    if math.isnan(report.largest_violation):
        return "no evaluations or no time left for the relaxed optimum"
    over = percent(math.expm1(report.largest_violation))
    return f"no relaxed design within the limits found, the nearest is {over} over"


def _loss_text(report: "OptimalityReport") -> str:
    names = {"cols": "columns"}
    losses = {name: 100.0 * math.expm1(log) for name, log in report.quantization_loss.items()}
    parts = [
        f"{names.get(name, name)} {value:.2f}"
        for name, value in losses.items()
        if name != "all" and abs(value) > 1e-4
    ]
    alone = f"; {', '.join(parts)}{', each alone' if len(parts) > 1 else ' alone'}" if parts else ""
    return f"{losses['all']:.2f} in total{alone}"


def bound_checks(report: "OptimalityReport") -> str:
    """Outcome of the checks of the relaxation: the reason for an estimate, or the samples of a
    lower bound."""
    texts = []
    if not report.is_bound_complete:
        texts.append("search of the relaxed optimum ended by the budget")
    if not (report.num_checked and report.num_segments):
        texts.append("no evaluations left for checks")
    if report.num_bound_violations:
        largest = percent(math.expm1(report.largest_bound_violation))
        texts.append(
            f"relaxation above the exact model at {report.num_bound_violations:,} of "
            f"{report.num_checked:,} designs, by at most {largest}"
        )
    if report.num_nonconvex_segments:
        texts.append(
            f"not convex on {report.num_nonconvex_segments:,} of {report.num_segments:,} segments"
        )
    if texts:
        return "; ".join(texts)
    return (
        f"relaxation below the exact model at all {report.num_checked:,} designs, convex on all "
        f"{report.num_segments:,} segments"
    )


def _is_known(report: "OptimalityReport") -> bool:
    return math.isfinite(report.log_bound)


def _binding_rows(loaded: "LoadedSearch", report: "OptimalityReport") -> list[list[str]]:
    """Rows of the parameters; unbound ones are counted if there are many parameters."""
    from hwdse.config.schema.user_paths import short_path

    kind = kind_of(loaded)
    labels = {name: metric_of(name, kind=kind).name for name in loaded.limits}
    rows, num_unbound = [], 0
    for dimension, slope, text in zip(
        loaded.space.dimensions, report.elasticities, report.bound_by, strict=True
    ):
        if text == "none" and len(report.bound_by) > MAX_PARAMETERS:
            num_unbound += 1
            continue
        bound_by = ", ".join(labels.get(part, part) for part in text.split(", "))
        rows.append([short_path(dimension.path), f"{slope:+.3f}", bound_by])
    if num_unbound:
        rows.append([f"{num_unbound} other parameters", "0.000", "none"])
    return rows


def _price_rows(
    loaded: "LoadedSearch", result: "SearchResult", report: "OptimalityReport"
) -> list[list[str]]:
    rows = []
    value = math.exp(result.log_objective)
    for name, price in unit_prices(loaded, result, report).items():
        metric = metric_of(name, kind=kind_of(loaded))
        relative = price * loaded.limits[name] / value
        step = UNIT_STEPS.get(metric.unit)
        per_unit = "-"
        if step is not None:
            (cell,) = number_cells([100.0 * price * step / value], 0)
            per_unit = f"{cell} % per {'pp' if metric.unit == '1' else metric.unit}"
        if -relative > MIN_SHADOW_PRICE:
            rows.append([metric.name, f"{relative:+.3f} %", per_unit])
    return rows


def unit_prices(
    loaded: "LoadedSearch", result: "SearchResult", report: "OptimalityReport"
) -> dict[str, float]:
    """Change of the objective per base unit of each limit: -multiplier * value / limit."""
    value = math.exp(result.log_objective)
    return {
        name: -float(price) * value / loaded.limits[name]
        for name, price in zip(loaded.limits, report.multipliers, strict=True)
    }


def optimality_json(
    loaded: "LoadedSearch", result: "SearchResult", report: "OptimalityReport"
) -> dict[str, Any]:
    """Optimality report in base units."""
    paths = [dimension.path for dimension in loaded.space.dimensions]
    return {
        "scope": scope_text(loaded, result),
        "lower_bound": math.exp(report.log_bound) if _is_known(report) else None,
        "passed_bound_checks": report.passed_bound_checks,
        "optimality_gap": report.optimality_gap if _is_known(report) else None,
        "unknown_because": None if _is_known(report) else unknown_bound(report),
        "checks": bound_checks(report),
        "neighbors": report.num_neighbors,
        "is_exhaustive": report.is_exhaustive,
        "num_improvements": report.num_improvements,
        "is_local_optimum": report.is_local_optimum,
        "elasticities": dict(zip(paths, report.elasticities.tolist(), strict=True)),
        "bound_by": dict(zip(paths, report.bound_by, strict=True)),
        "shadow_prices": dict(zip(loaded.limits, report.multipliers.tolist(), strict=True)),
        "shadow_prices_per_unit": unit_prices(loaded, result, report),
        "quantization_loss": {
            name: math.expm1(log) for name, log in report.quantization_loss.items()
        },
        "evaluations": report.num_evaluations,
    }
