"""Evaluations, their limits and warnings as JSON in SI base units."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwdse.report.breakdowns import BREAKDOWN_KEYS, parts_of
from hwdse.specs.results.evaluation_result import PARTS

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.specs.all_designs import AnyDesign
    from hwdse.specs.results.evaluation_result import Evaluation

BINDING_FRACTION = 1e-3
"""A met limit is binding if the value is within this fraction of it."""


def evaluation_json(evaluation: "Evaluation") -> dict[str, Any]:
    """All metrics and breakdowns in SI base units."""
    scalars = {
        field.name: float(getattr(evaluation, field.name))
        for field in dataclasses.fields(evaluation)
        if field.name not in PARTS
    }
    breakdowns = {key: parts_of(evaluation, field) for field, key in BREAKDOWN_KEYS.items()}
    return {"metrics": scalars, "breakdowns": breakdowns}


def warnings_json(design: "AnyDesign", evaluation: "Evaluation") -> list[dict[str, str]]:
    """Reasons why a design cannot run; empty if it can."""
    from hwdse.analysis.design_warnings import design_warnings

    return [dataclasses.asdict(warning) for warning in design_warnings(design, evaluation)]


def limit_rows(loaded: "LoadedSearch", evaluation: "Evaluation") -> list[dict[str, Any]]:
    """Each constraint with its value, its limit and whether it is met, up to the rounding that
    searches allow."""
    from hwdse.objectives import CONSTRAINTS
    from hwdse.search.evaluation.search_result import ROUNDING

    rows = []
    for name, limit in loaded.limits.items():
        value = float(CONSTRAINTS[name](evaluation))
        is_met = value <= limit * (1.0 + ROUNDING)
        rows.append({"name": name, "value": value, "limit": limit, "is_met": is_met})
    return rows


def limit_status(row: Mapping[str, Any]) -> str:
    """`met`, `binding` (met and within `BINDING_FRACTION` of the limit) or `violated`."""
    if not row["is_met"]:
        return "violated"
    return "binding" if row["value"] >= (1.0 - BINDING_FRACTION) * row["limit"] else "met"
