"""Names of metrics: without unit in TOML and on the command line, with unit in all outputs."""

import dataclasses

from hwdse.config.schema.field_rules import field_of
from hwdse.specs.results.evaluation_result import Evaluation

SCALARS = tuple(
    field.name
    for field in dataclasses.fields(Evaluation)
    if not dataclasses.is_dataclass(field.type)
)
"""Scalar fields of an evaluation; each name ends with its unit."""


def metric_field(name: str) -> str:
    """The name with its unit of an objective or limit: `cost_per_token_usd` of `cost_per_token`.

    JSON, CSV, SQL and Python use this name; TOML and the command line the short one.
    """
    if name == "energy_delay":  # a product of two fields
        return "energy_delay_j_s"
    return field_of(name, list(SCALARS)) or name
