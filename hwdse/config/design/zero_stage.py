"""TOML key `zero`: the ZeRO stage in place of the three shard fractions of `Parallelism`."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, create_model

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.schema.schema import number_field, spec_model
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_enumeration import ZERO, ZERO_FIELDS

ZERO_STAGES = tuple(ZERO)
_DEFAULTS = {
    "tensor": 1.0,
    "pipeline": 1.0,
    "micro_batch": 1.0,
    "recompute_fraction": 0.0,
}
"""Values of the keys that a file leaves out: one rank."""
_FIELDS: Any = {name: number_field(name, default=value) for name, value in _DEFAULTS.items()}
PARALLELISM_TABLE: Any = create_model(
    "ParallelismTable", __base__=spec_model(Parallelism), zero=(Any, Field(None)), **_FIELDS
)
"""Table of `Parallelism` with the key `zero`, which `with_shard_fractions` writes out."""


def with_shard_fractions(
    table: Mapping[str, Any], where: ConfigLocation, prefix: str = ""
) -> dict[str, Any]:
    """The table with the three shard fractions of its `zero`, which is removed.

    Keys begin with `prefix`. Raises `ConfigError` for a stage that is none and for `zero` beside
    one of the fractions that it sets.
    """
    key = f"{prefix}zero"
    if key not in table:
        return dict(table)
    stage = table[key]
    if isinstance(stage, bool) or stage not in ZERO_STAGES:
        raise where.error(key, stage, "a ZeRO stage: 0, 1, 2 or 3")
    for name in ZERO_FIELDS:
        if f"{prefix}{name}" in table:
            raise where.error(key, stage, f"either zero or {name}, which zero sets; remove one")
    fractions = zip(ZERO_FIELDS, ZERO[stage], strict=True)
    rest = {name: value for name, value in table.items() if name != key}
    return {**rest, **{f"{prefix}{name}": fraction for name, fraction in fractions}}
