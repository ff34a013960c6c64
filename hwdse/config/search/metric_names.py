"""Metrics of an `Evaluation` by name, and targets such as "chip_power <= 500 W"."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from hwdse.config.files.errors import ConfigError, did_you_mean, listed, one_line
from hwdse.config.schema.field_rules import field_of
from hwdse.config.schema.metric_fields import DERIVED, SCALARS, metric_field, objective_of
from hwdse.evaluation import Workload, evaluate
from hwdse.numerics.array_types import PerConstraint
from hwdse.numerics.relaxation import Relaxation, safe_log
from hwdse.objectives import OBJECTIVES, Objective
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.units.format_units import format_quantity
from hwdse.units.parse_units import example, split_field, to_base

_UNITS = MappingProxyType(
    {
        "effective_tokens_per_s": "1/s",
        "hbm_traffic_bytes": "B",
        "hardware_flop": "FLOP",
    }
)
"""Units of metrics whose names do not end with it."""
_ALIASES = MappingProxyType(
    {
        "effective_tokens": "effective_tokens_per_s",
        "memory_used_ratio": "hbm_used_ratio",
    }
)
"""Other names of a metric; `memory_used_ratio` is that of one core."""
_NO_UNIT = ("1", "1/s")
"""Units of metrics that a target may leave out: of pure numbers and of tokens per second."""
_TARGET = re.compile(r"\s*(\w+)\s*(<=|>=|<|>|=+)\s*(\S.*?)\s*")


@dataclass(frozen=True)
class Metric:
    """A scalar metric of an evaluation, above zero."""

    name: str
    unit: str
    value: Objective

    @property
    def label(self) -> str:
        """Name in words, without the unit."""
        name = self.name if self.name in _UNITS else split_field(self.name)[0]
        return name.replace("_", " ")

    def format(self, value: float, digits: int = 4) -> str:
        """Text of a value with its unit."""
        if self.unit == "1/s":
            return f"{value:,.{0 if abs(value) >= 1e3 else 4}f} /s"
        return format_quantity(value, self.unit, digits)


@dataclass(frozen=True)
class Target:
    """A bound on a metric, in base units."""

    text: str
    metric: Metric
    is_upper: bool
    limit: float

    @property
    def sign(self) -> float:
        """+1 for an upper bound, -1 for a lower one."""
        return 1.0 if self.is_upper else -1.0


def metric_names() -> tuple[str, ...]:
    """Names of all metrics, with their units."""
    return (*SCALARS, *DERIVED)


def parse_metric(name: str, label: str = "metric") -> Metric:
    """Metric of a name with or without its unit. Raises `ConfigError` with one line that begins
    with `label`."""
    names = metric_names()
    found = field_of(_ALIASES.get(name, name), list(names))
    if found is None:
        shorts = [name if name in _UNITS else split_field(name)[0] for name in names]
        hint = did_you_mean(name, [*shorts, *names])
        raise ConfigError(one_line(f"{label} {name}: expected one of {listed(names)}{hint}"))
    unit = _UNITS.get(found, split_field(found)[1])
    return Metric(found, unit, _getter(found))


def parse_objective(name: str, label: str, allowed: Sequence[str] = tuple(OBJECTIVES)) -> str:
    """Objective of a name with or without its unit. Raises `ConfigError` with one line that begins
    with `label`."""
    found = objective_of(name, allowed)
    if found is None:
        hint = did_you_mean(name, [*allowed, *map(metric_field, allowed)])
        raise ConfigError(one_line(f"{label} {name}: expected one of {listed(allowed)}{hint}"))
    return found


def _getter(name: str) -> Callable[[Evaluation], Any]:
    return lambda evaluation: getattr(evaluation, name)


OBJECTIVE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {name: metric_field(name) for name in OBJECTIVES}
)
"""Column of each objective in CSV and Parquet files; its name ends with the unit."""
ROBUST_PREFIX = "robust_"
"""Prefix of the columns of robust objectives; columns without it hold nominal values."""


def objective_columns(objectives: Sequence[str], *, is_robust: bool) -> tuple[str, ...]:
    """Columns of the minimized objectives in CSV and Parquet files."""
    prefix = ROBUST_PREFIX if is_robust else ""
    return tuple(prefix + OBJECTIVE_COLUMNS[name] for name in objectives)


def parse_target(text: str) -> Target:
    """Target from a text such as `chip_power <= 0.5 kW`.

    A number without a unit is in the unit that ends the metric's name, such as `chip_power_w`.
    Raises `ConfigError` with one line for anything else.
    """
    match = _TARGET.fullmatch(text)
    if match is None or match[2] not in ("<=", ">=", "<", ">"):
        raise ConfigError(
            one_line(f"--target {text!r}: expected METRIC <= VALUE or METRIC >= VALUE, "
                     'such as "chip_power <= 500 W"')
        )  # fmt: skip
    name, mark, given = match.groups()
    metric = parse_metric(name)
    try:
        value: float | str = float(given)
    except ValueError:
        value = given.strip("\"'")
    try:
        is_named = split_field(name)[1] != "1" or metric.unit in _NO_UNIT
        if isinstance(value, float) and value and not is_named:
            raise ValueError(f"a number with a unit such as '{example(metric.unit)}'")
        limit = to_base(value, metric.unit)
    except ValueError as error:
        raise ConfigError(one_line(f"--target {text!r}: expected {error}")) from None
    if not limit > 0.0:
        raise ConfigError(one_line(f"--target {text!r}: expected a value above 0"))
    return Target(" ".join(text.split()), metric, mark.startswith("<"), limit)


def target_constraint_values(
    targets: tuple[Target, ...], workload: Workload
) -> Callable[[Any, Relaxation], PerConstraint]:
    """Constraint function of a design and a relaxation: ln(value / limit) of each upper bound,
    ln(limit / value) of each lower bound. Values above zero violate the target."""

    def constraint_values(design: Any, relaxation: Relaxation) -> PerConstraint:
        evaluation = evaluate(design, workload, relaxation)
        logs = [
            target.sign * safe_log(jnp.asarray(target.metric.value(evaluation)) / target.limit)
            for target in targets
        ]
        return jnp.stack(logs)

    return constraint_values
