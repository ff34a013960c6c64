"""Free parameters and targets of `hwdse solve`, from validated options."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwdse.cli.shared.exit_codes import CommandError

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.config.search.metric_names import Target
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.answers.solve_targets import Coupled

MAX_FACTOR = 1e3
"""Largest change, up or down, of a parameter without a range in the search file."""


def free_parameters(
    loaded: "LoadedSearch", paths: str, weights: Sequence[str]
) -> "tuple[tuple[FreeParameter, ...], Coupled | None]":
    """Free parameters from a comma-separated list and `PATH=W` weights, and their possible
    combinations if not all are possible. Raises `CommandError`."""
    from hwdse.cli.solve.coupled_parameters import restricted_parameters

    names = [text.strip() for text in paths.split(",") if text.strip()]
    resolved = [_resolved(loaded, text, "--free") for text in names]
    if not resolved or len(set(resolved)) != len(resolved):
        raise CommandError(f"--free {paths}: expected one or more different paths")
    factors = _weights(loaded, weights, resolved)
    parts = [_free(loaded, path, factors.get(path, 1.0)) for path in resolved]
    return restricted_parameters(loaded, parts)


def _resolved(loaded: "LoadedSearch", text: str, option: str) -> str:
    from hwdse.config.schema.field_rules import rule_of
    from hwdse.config.schema.user_paths import field_name, is_static, leaf_paths, resolve
    from hwdse.config.search.valid_combinations import is_coupled

    roots = {name: getattr(loaded.base, name) for name in loaded.plain if name != "workload"}
    try:
        path = resolve(roots, text)
        if path not in leaf_paths(roots) or is_static(roots, path):
            raise ValueError("a path that ends in a number")
    except ValueError as error:
        raise CommandError(f"{option} {text}: expected {error}") from None
    in_choice = any(path in choice.paths for choice in loaded.space.choices)
    if in_choice and not (is_coupled(path) and rule_of(field_name(path)).is_whole):
        raise CommandError(f"{option} {text}: expected a number outside of [[choices]]")
    return path


def _weights(
    loaded: "LoadedSearch", texts: Sequence[str], allowed: Sequence[str]
) -> dict[str, float]:
    factors = {}
    for text in texts:
        name, _, number = text.partition("=")
        path = _resolved(loaded, name.strip(), "--weight")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if path not in allowed or not 0.0 < value < 1e9:
            raise CommandError(f"--weight {text}: expected PATH=W, a free path and W above 0")
        factors[path] = value
    return factors


def _free(loaded: "LoadedSearch", path: str, weight: float) -> "FreeParameter":
    from hwdse.config.schema.field_rules import rule_of
    from hwdse.config.schema.user_paths import field_name
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.space.search_space import get_path

    base = float(get_path(loaded.base, path))
    if not base > 0.0:
        raise CommandError(f"--free {path}: value is 0, a relative change needs a value above 0")
    for dimension in loaded.space.dimensions:
        if dimension.path == path:
            low = dimension.low if dimension.low > 0.0 else base / MAX_FACTOR
            high, step = max(dimension.high, base), dimension.step
            return FreeParameter(path, base, min(low, base), high, step, weight)
    rule = rule_of(field_name(path))
    low = max(base / MAX_FACTOR, 1.0 if rule.is_whole else 0.0, rule.low)
    high = min(base * MAX_FACTOR, rule.high)
    step = 1.0 if rule.is_whole else None
    return FreeParameter(path, base, min(low, base), max(high, base), step, weight)


def limits_as_targets(loaded: "LoadedSearch", targets: Sequence["Target"]) -> tuple["Target", ...]:
    """Limits of the search file as targets (upper bounds), without those that a target implies."""
    from hwdse.config.schema.metric_fields import metric_field
    from hwdse.config.search.metric_names import Target, parse_metric

    found = []
    for name, limit in loaded.limits.items():
        field = metric_field(name).replace("memory_used", "hbm_used")
        metric = parse_metric(field)
        bounds = [t.limit for t in targets if t.is_upper and t.metric.name == metric.name]
        if not any(bound <= limit for bound in bounds):
            found.append(Target(f"{name} <= {metric.format(limit)}", metric, True, limit))
    return tuple(found)
