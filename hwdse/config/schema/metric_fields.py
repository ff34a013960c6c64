"""Names of metrics: without unit in TOML and on the command line, with unit in all outputs."""

import dataclasses
from collections.abc import Iterable

from hwdse.config.schema.field_rules import field_of
from hwdse.specs.results.evaluation_result import PARTS, Evaluation
from hwdse.units.parse_units import split_field

SCALARS = tuple(field.name for field in dataclasses.fields(Evaluation) if field.name not in PARTS)
"""Scalar fields of an evaluation; each name ends with its unit."""
DERIVED = tuple(name for name, item in vars(Evaluation).items() if isinstance(item, property))
"""Scalars that follow from these fields."""


def metric_field(name: str) -> str:
    """The name with its unit of an objective or limit: `cost_per_token_usd` of `cost_per_token`.

    JSON, CSV, SQL and Python use this name; TOML and the command line the short one.
    """
    return field_of(name, [*SCALARS, *DERIVED]) or name


def metric_unit(name: str) -> str:
    """Base unit of an objective or limit."""
    return split_field(metric_field(name))[1]


def objective_of(name: str, objectives: Iterable[str]) -> str | None:
    """The objective that a name with or without its unit refers to, or None."""
    return next((one for one in objectives if name in (one, metric_field(one))), None)
