"""Constants that the answer of `hwdse optimize` rests on, and the design of least regret."""

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.table_output import jsonable, print_table, say
from hwdse.report.metrics import kind_of, metric_of
from hwdse.report.number_texts import percent

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.jobs.footing.answer_reliance import AnswerReliance
    from hwdse.runs.run_folder import Run
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult
    from hwdse.search.uncertainty.regret import RobustDesign, Scenario

MAX_STUDIES = 3
"""Studies of one answer: each begins at the better design that the last one found, if any."""
SAME_REGRET = 5e-4
"""Loss below which the best design of a scenario counts as the chosen one: it prints as 0.0 %."""
MAX_CHANGES = 2
"""Changed parameters of the best design of a scenario that are printed."""


def with_answer_reliance(
    loaded: "LoadedSearch",
    objective: "ObjectiveFn",
    result: "SearchResult",
    seed: int,
    *,
    finds_robust: bool,
) -> tuple["SearchResult", "AnswerReliance | None"]:
    """Result and the regret of its design over the bands around its constants.

    The local searches of the study include the nominal values: a better design that they find
    replaces that of the result. None for an infeasible result.
    """
    from hwdse.jobs.footing.answer_reliance import answer_reliance

    if not result.is_feasible:
        return result, None
    reliance = None
    for index in range(MAX_STUDIES):
        last = index == MAX_STUDIES - 1
        reliance = answer_reliance(
            loaded, objective, result.design, result.multipliers, seed, finds_robust=finds_robust
        )
        found = reliance.study.nominal
        if last or not found.regret > 0.0:
            break
        result = _moved(loaded, result, found)
    return result, reliance


def _moved(loaded: "LoadedSearch", result: "SearchResult", nominal: "Scenario") -> "SearchResult":
    """The result with the better design of a study."""
    from hwdse.search.space.pytree_path import get_path

    design = nominal.best_design
    return dataclasses.replace(
        result,
        design=design,
        unit=loaded.space.snap(loaded.space.encode(design)),
        labels={v.path: get_path(design, v.path) for v in loaded.space.variants},
        log_objective=nominal.best_log_objective,
    )


def deciding(loaded: "LoadedSearch", reliance: "AnswerReliance", design: Any) -> list[str]:
    """Paths of the constants that the answer rests on, largest effect first."""
    return [path for path in reliance.study.effects if reliance.decides(loaded, path, design)]


def print_answer_reliance(
    loaded: "LoadedSearch", result: "SearchResult", reliance: "AnswerReliance"
) -> None:
    """Print the scenarios, the constants that the answer rests on, and the robust design."""
    from hwdse.config.schema.user_paths import short_path

    study = reliance.study
    if not study.effects:
        say("this answer rests on no constant: none with a band changes the objective")
        return
    print_table(
        f"this answer rests on ({len(study.effects)} most influential of {study.num_bands} "
        "constants neither measured nor published, at the ends of their bands)",
        ["constant", "kind", "value", "objective", "regret (%)", "best design there"],
        [_row(loaded, result, reliance, scenario) for scenario in study.scenarios[1:]],
        left=2,
    )
    names = [short_path(path) for path in deciding(loaded, reliance, result.design)]
    say(
        f"the answer rests on: {', '.join(names) or 'none of them'} (over the band the design "
        "breaks a limit, loses more than 5 %, or another strategy or variant is better)"
    )
    say(_regret_line([scenario.regret for scenario in study.scenarios]))
    if study.robust is not None:
        _print_robust(loaded, result, reliance, study.robust)


def _row(
    loaded: "LoadedSearch",
    result: "SearchResult",
    reliance: "AnswerReliance",
    scenario: "Scenario",
) -> list[str]:
    from hwdse.config.schema.user_paths import format_value, short_path

    path = scenario.path
    change = math.expm1(scenario.log_objective - reliance.study.nominal.log_objective)
    value = format_value(path, scenario.value, 3)
    cell = f"{100.0 * change:+.1f} %" if math.isfinite(change) else "not possible"
    if broken := _broken(loaded, scenario):
        cell = broken
    return [
        short_path(path).removeprefix("chip."), reliance.origins[path].kind, value, cell,
        _regret_cell(scenario.regret),
        "the same" if scenario.regret < SAME_REGRET
        else _changes(loaded, result.design, scenario.best_design),
    ]  # fmt: skip


def _broken(loaded: "LoadedSearch", scenario: "Scenario") -> str:
    """Limit that the design breaks most in a scenario; empty if it meets all."""
    values = scenario.constraint_values
    if not len(values) or not math.isfinite(scenario.log_objective) or values.max() <= 0.0:
        return ""
    name = list(loaded.limits)[int(values.argmax())]
    over = percent(math.expm1(float(values.max())))
    return f"{metric_of(name, kind=kind_of(loaded)).name} {over} over"


def _regret_cell(regret: float) -> str:
    if math.isnan(regret):
        return "no design"
    return "over a limit" if math.isinf(regret) else f"{100.0 * regret:.1f}"


def _changes(loaded: "LoadedSearch", design: Any, other: Any) -> str:
    """Parameters in which the best design of a scenario differs: choices, then numbers that move
    over the largest part of their range."""
    import numpy as np

    from hwdse.cli.shared.parameter_cells import choice_labels, different_parts
    from hwdse.config.schema.user_paths import format_value, short_path
    from hwdse.search.space.pytree_path import get_path

    if other is None:
        return "none meets the limits"
    texts, numbers = [], []
    for choice in loaded.space.choices:
        labels = choice_labels(choice, (design, other))
        if labels is not None and labels[0] != labels[1]:
            texts.append(different_parts(labels)[1])
    for variant in loaded.space.variants:
        if get_path(other, variant.path) != get_path(design, variant.path):
            texts.append(str(get_path(other, variant.path)).replace("_", " "))
    for dimension in loaded.space.dimensions:
        here, there = (float(get_path(one, dimension.path)) for one in (design, other))
        if here != there:
            units = dimension.unit(np.array([here, there]))
            text = f"{short_path(dimension.path).removeprefix('chip.')} "
            numbers.append(
                (-abs(units[1] - units[0]), text + format_value(dimension.path, there, 3))
            )
    texts += [text for _, text in sorted(numbers)]
    more = f", {len(texts) - MAX_CHANGES} more" if len(texts) > MAX_CHANGES else ""
    return ", ".join(texts[:MAX_CHANGES]) + more if texts else "the same"


def _regret_line(regrets: list[float]) -> str:
    """Worst and mean regret, and how many scenarios break a limit."""
    finite = [one for one in regrets if math.isfinite(one)]
    parts = [f"regret of keeping the design: at most {100.0 * max(finite, default=0.0):.1f} %"]
    parts.append(f"{100.0 * sum(finite) / max(len(finite), 1):.1f} % in the mean")
    text = ", ".join(parts)
    if over := sum(math.isinf(one) for one in regrets):
        text += f"; over a limit in {over} of {len(regrets)} scenarios"
    return text


def _print_robust(
    loaded: "LoadedSearch",
    result: "SearchResult",
    reliance: "AnswerReliance",
    robust: "RobustDesign",
) -> None:
    """Both designs side by side: parameters, nominal objective, regrets."""
    from hwdse.cli.shared.parameter_cells import parameter_row
    from hwdse.config.schema.user_paths import short_path
    from hwdse.jobs.footing.answer_reliance import changed_leaves
    from hwdse.search.space.pytree_path import get_path

    study = reliance.study
    metric = metric_of(loaded.objective, kind=kind_of(loaded))
    nominal = (study.nominal.log_objective, float(robust.log_objectives[0]))
    regrets = ([one.regret for one in study.scenarios], robust.regrets.tolist())
    finite = [[one for one in each if math.isfinite(one)] for each in regrets]
    rows = [
        [metric.name, metric.unit, *metric.cells([math.exp(log) for log in nominal])],
        ["loss at the nominal values", "%", "0.0",
         f"{100.0 * math.expm1(nominal[1] - nominal[0]):.1f}"],
        ["scenarios over a limit", "-", *(str(sum(map(math.isinf, each))) for each in regrets)],
        ["largest regret in the others", "%",
         *(f"{100.0 * max(each, default=0.0):.1f}" for each in finite)],
        ["mean regret in the others", "%",
         *(f"{100.0 * sum(each) / max(len(each), 1):.1f}" for each in finite)],
    ]  # fmt: skip
    for path in changed_leaves(loaded.space, result.design, robust.design):
        unit, cells = parameter_row(
            path, [get_path(one, path) for one in (result.design, robust.design)]
        )
        rows.append([short_path(path), unit, *cells])
    print_table("", ["", "unit", "optimum", "least regret"], rows)


def write_answer_reliance(
    loaded: "LoadedSearch", result: "SearchResult", reliance: "AnswerReliance", record: "Run"
) -> None:
    """Write rests_on.json, and robust.toml of a design of least regret, to a run folder."""
    from hwdse.config import to_toml

    values = answer_reliance_json(loaded, result, reliance)
    record.write_text("rests_on.json", json.dumps(jsonable(values), indent=2) + "\n")
    if reliance.study.robust is not None:
        record.write_text("robust.toml", to_toml(loaded, reliance.study.robust.design))


def answer_reliance_json(
    loaded: "LoadedSearch", result: "SearchResult", reliance: "AnswerReliance"
) -> dict[str, Any]:
    """Scenarios in base units."""
    study, names = reliance.study, deciding(loaded, reliance, result.design)
    first = study.nominal.log_objective
    found: dict[str, Any] = {
        "rests_on": names,
        "bands": study.num_bands,
        "evaluations": study.num_evaluations,
        "scenarios": [
            {
                "path": one.path,
                "kind": reliance.origins[one.path].kind,
                "note": reliance.origins[one.path].note,
                "nominal": _leaf(loaded.base, one.path),
                "value": one.value,
                "effect": study.effects[one.path],
                "objective_ratio": math.exp(one.log_objective - first),
                "best_ratio": math.exp(one.best_log_objective - first),
                **_regret_json(one.regret),
                "best_design": _changed_json(loaded, result.design, one.best_design),
            }
            for one in study.scenarios[1:]
        ],
        "robust": None,
    }
    if study.robust is not None:
        robust = study.robust
        found["robust"] = {
            "value": math.exp(float(robust.log_objectives[0])),
            "nominal_loss": math.expm1(float(robust.log_objectives[0]) - first),
            "is_feasible": robust.is_feasible,
            "regrets": [_regret_json(one) for one in robust.regrets.tolist()[1:]],
            "design": _changed_json(loaded, result.design, robust.design),
        }
    return found


def _regret_json(regret: float) -> dict[str, Any]:
    return {
        "regret": regret if math.isfinite(regret) else None,
        "is_over_limit": math.isinf(regret),
    }


def _leaf(design: Any, path: str) -> Any:
    from hwdse.search.space.pytree_path import get_path

    return get_path(design, path)


def _changed_json(loaded: "LoadedSearch", design: Any, other: Any) -> dict[str, Any] | None:
    """Searched values that differ from the chosen design; None without a design."""
    from hwdse.jobs.footing.answer_reliance import changed_leaves

    if other is None:
        return None
    paths = changed_leaves(loaded.space, design, other)
    return {path: _leaf(other, path) for path in paths}
