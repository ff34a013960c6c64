"""Key `strategy` of the `[design]` table of a service: the best one, or a text such as `TP8`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.schema.metric_fields import metric_field
from hwdse.config.schema.user_paths import Roots
from hwdse.specs.serving.engine import ServingDesign, ServingStrategy
from hwdse.workload.serving.serving_task import ServingTask

BEST = "best"
"""Strategy of a service that gives none: the highest throughput within the limits."""
DEGREES = {
    "TP": "tensor",
    "PP": "pipeline",
    "ADP": "attention_data",
    "CP": "context",
    "EP": "expert",
    "ETP": "expert_tensor",
}
"""Parts of a strategy text."""
_PART = re.compile(r"(?P<name>ADP|ETP|TP|PP|CP|EP|DP)[ =-]*(?P<number>\d+)", re.IGNORECASE)
_PREFILL = re.compile(
    r"prefill\s+(?P<ratio>\d*\.?\d+)\s*x\s*(TP\s*(?P<tensor>\d+))?", re.IGNORECASE
)
"""Replicas that process prompts alone: "TP8 prefill 0.5xTP4"."""
EXAMPLE = '"best", or a text such as "TP8 EP8" or "TP8 prefill 0.5xTP4"'


def parse_serving_strategy(text: str, num_chips: float) -> dict[str, float]:
    """Fields of `ServingStrategy` that a text sets.

    `DP` is the number of replicas: it must follow from the others. Raises `ValueError` with the
    allowed texts.
    """
    values: dict[str, float] = {}
    replicas: float | None = None
    apart = _PREFILL.search(text)
    if apart is not None:
        text = text[: apart.start()] + text[apart.end() :]
        values["prefill_pool_ratio"] = float(apart["ratio"])
        if apart["tensor"]:
            values["prefill_tensor"] = float(apart["tensor"])
    if _PART.sub("", text).strip(" ,;") or not text.strip():
        raise ValueError(EXAMPLE)
    if not all(values.values()):
        raise ValueError("a ratio and degrees above 0")
    for part in _PART.finditer(text):
        number = float(part["number"])
        if number < 1.0:
            raise ValueError(f"degrees of at least 1, found {part[0]}")
        if part["name"].upper() == "DP":
            replicas = number
        else:
            values[DEGREES[part["name"].upper()]] = number
    chips = float(ServingStrategy(**values).unit_chips)
    if replicas is not None and replicas * chips != num_chips:
        raise ValueError(f"DP{num_chips / chips:g}, {num_chips:g} chips over {chips:g} a replica")
    return values


def with_serving_strategy(
    roots: Roots,
    table: Any,
    given: Iterable[str],
    limits: Mapping[str, float],
    where: ConfigLocation,
) -> Roots:
    """Specs with the strategy of a `[design]` table; without one it is the best.

    Fields of the strategy that overrides set remain. Raises `ConfigError` for a text that is no
    strategy.
    """
    text = BEST if table.strategy is None and table.parallelism is None else table.strategy
    if text is None:
        return roots
    if text == BEST:
        return {**roots, "strategy": _best(roots, limits, where)}
    try:
        values = parse_serving_strategy(text, float(roots["cluster"].num_chips))
    except ValueError as error:
        raise where.error("strategy", text, str(error)) from None
    fixed = set(given)
    new = {name: value for name, value in values.items() if name not in fixed}
    return {**roots, "strategy": roots["strategy"].replace(**new)}


def _best(roots: Roots, limits: Mapping[str, float], where: ConfigLocation) -> ServingStrategy:
    """The strategy with the highest throughput that fits and meets the limits."""
    from hwdse.serving.serving_ranking import best_serving_strategy

    specs = {name: value for name, value in roots.items() if name != "workload"}
    task: ServingTask = roots["workload"]
    fields = {
        "hbm_used_ratio" if name == "memory_used_ratio" else metric_field(name): limit
        for name, limit in limits.items()
    }
    best = best_serving_strategy(ServingDesign(**specs), task, fields)
    if best is None:
        chips = float(roots["cluster"].num_chips)
        expected = f"chips and a model with a possible strategy; {chips:g} chips allow none"
        raise where.error("strategy", BEST, expected)
    return best
