"""What an answer is worth, for people and programs: bound, neighbors, prices, waste."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric, spaced
from hwdse.cli.shared.table_output import percent, print_table

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.answers.optimality import OptimalityReport
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult

NEIGHBORS = 2000
"""Looked at where nothing is said; none where each design's mappings are searched, which takes tens
of milliseconds each."""
LONG_EFFORT = {"num_starts": 1, "most_iterations": 10, "num_segments": 8, "batch": 16}
"""Of these, for those who ask for a certificate all the same."""
SMALLEST_PRICE = 1e-3
UNIT_STEPS = {"mm^2": 1.0, "W": 1.0, "USD": 1.0, "1": 0.01}
"""What of a limit is bought in whole: 1 mm2, 1 W, 1 USD, a hundredth of a ratio."""


def with_optimality_report(
    loaded: "LoadedSearch",
    score: "ObjectiveFn",
    result: "SearchResult",
    seed: int,
    num_neighbors: int | None,
) -> tuple["SearchResult", "OptimalityReport | None"]:
    """The certificate of a feasible answer, and the answer: a better neighbor takes its place.

    None where no neighbor is asked for, or by default where evaluations search mappings.
    """
    import jax

    from hwdse.search.answers.optimality import report_optimality

    is_long = getattr(loaded.base, "runs_long", False)
    most = (0 if is_long else NEIGHBORS) if num_neighbors is None else num_neighbors
    if not most or not result.is_feasible:
        return result, None
    search_budget: dict[str, int] = LONG_EFFORT if is_long else {}
    with jax.enable_x64(True):
        found = report_optimality(
            score, loaded.space, result.design, result.unit, tuple(loaded.limits),
            seed=seed, most_neighbors=most, **search_budget,
        )  # fmt: skip
    if not found.num_improvements:
        return result, found
    better = dataclasses.replace(
        result,
        design=loaded.space.decode_rounded(found.unit, result.design),
        unit=found.unit,
        log_objective=found.log_objective,
        constraint_values=found.constraint_values,
    )
    return better, found


def print_optimality(
    loaded: "LoadedSearch", result: "SearchResult", found: "OptimalityReport"
) -> None:
    """Tables: what the answer is worth, what holds each parameter, what more of a limit buys."""
    unit = METRIC_UNITS[loaded.objective]
    whole = "all" if found.is_exhaustive else "some"
    rows = [
        [
            "no better design among" if found.is_local_optimum else "a better one is still among",
            f"{found.num_neighbors:,} neighbors",
            f"{whole} within a step",
        ],
        [
            "lower bound" if found.passed_bound_checks else "best possible (estimate)",
            format_metric(math.exp(found.log_bound), unit) if _is_known(found) else "unknown",
            f"at most {percent(found.optimality_gap)} better" if _is_known(found) else "",
        ],
    ]
    rows += [
        [
            "rounding wastes" if name == "all" else f"  of {name}",
            percent(math.expm1(quantization_loss), 2),
            "of everything" if name == "all" else "alone",
        ]
        for name, quantization_loss in found.quantization_loss.items()
        if name == "all" or abs(quantization_loss) > 1e-6
    ]
    print_table("what it is worth", ["", "", ""], rows)
    print_table("what holds it", ["parameter", "elasticity", "held by"], _holding(loaded, found))
    prices = _price_rows(loaded, result, found)
    if prices:
        print_table("what more of a limit buys", ["", "1 % more", "", ""], prices)


def checks(found: "OptimalityReport") -> str:
    """One line: what the bound was checked on, and why it is no more than an estimate."""
    texts = []
    if found.num_bound_violations:
        texts.append(
            f"the unrounded model lies above the exact one at {found.num_bound_violations:,} of "
            f"{found.num_checked:,} designs, by up to {percent(math.expm1(found.largest_bound_violation))}"
        )
    if found.num_nonconvex_segments:
        texts.append(
            f"is not convex on {found.num_nonconvex_segments} of {found.num_segments} segments"
        )
    if texts:
        return f"an estimate, no bound: {', and '.join(texts)}"
    return (
        f"the unrounded model lay below the exact one at all {found.num_checked:,} designs and was "
        f"convex on all {found.num_segments} segments checked; same layout and variants"
    )


def _is_known(found: "OptimalityReport") -> bool:
    return math.isfinite(found.log_bound)


def _holding(loaded: "LoadedSearch", found: "OptimalityReport") -> list[list[str]]:
    return [
        [dimension.path, f"{slope:+.3f}", text]
        for dimension, slope, text in zip(
            loaded.space.dimensions, found.elasticities, found.bound_by, strict=True
        )
    ]


def _price_rows(
    loaded: "LoadedSearch", result: "SearchResult", found: "OptimalityReport"
) -> list[list[str]]:
    rows = []
    for name, price in unit_prices(loaded, result, found).items():
        unit = METRIC_UNITS[name]
        step = UNIT_STEPS.get(unit)
        relative = -price * loaded.limits[name] / math.exp(result.log_objective)
        cells = [spaced(name), f"{-relative:+.3f} %", "", ""]
        if step is not None:
            moved = format_metric(abs(price * step), METRIC_UNITS[loaded.objective])
            cells[2:] = [f"{format_metric(step, unit)} more", f"-{moved}"]
        if relative > SMALLEST_PRICE:
            rows.append(cells)
    return rows


def unit_prices(
    loaded: "LoadedSearch", result: "SearchResult", found: "OptimalityReport"
) -> dict[str, float]:
    """Change of the objective for one base unit more of each limit: -multiplier * value / limit."""
    value = math.exp(result.log_objective)
    return {
        name: -float(price) * value / loaded.limits[name]
        for name, price in zip(loaded.limits, found.multipliers, strict=True)
    }


def optimality_json(
    loaded: "LoadedSearch", result: "SearchResult", found: "OptimalityReport"
) -> dict[str, Any]:
    """Everything of a certificate in base units."""
    paths = [dimension.path for dimension in loaded.space.dimensions]
    return {
        "lower_bound": math.exp(found.log_bound) if _is_known(found) else None,
        "passed_bound_checks": found.passed_bound_checks,
        "gap": found.optimality_gap if _is_known(found) else None,
        "checks": checks(found),
        "neighbors": found.num_neighbors,
        "all_neighbors": found.is_exhaustive,
        "better_neighbors_taken": found.num_improvements,
        "better_neighbors_left": not found.is_local_optimum,
        "elasticities": dict(zip(paths, found.elasticities.tolist(), strict=True)),
        "bound_by": dict(zip(paths, found.bound_by, strict=True)),
        "shadow_prices": dict(zip(loaded.limits, found.multipliers.tolist(), strict=True)),
        "shadow_prices_per_unit": unit_prices(loaded, result, found),
        "quantization_loss": {
            name: math.expm1(quantization_loss)
            for name, quantization_loss in found.quantization_loss.items()
        },
        "evaluations": found.num_evaluations,
    }
