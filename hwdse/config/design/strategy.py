"""Key `strategy` of `[design]`: the best strategy, or one as text such as `TP8 PP4, ZeRO-1`.

The text is that of `training.strategy_enumeration.strategy_label`, in any order, with spaces or
commas between the parts; parts that it leaves out have the default of `[design.parallelism]`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.schema.metric_fields import metric_field
from hwdse.config.schema.user_paths import Roots
from hwdse.training.strategy_enumeration import (
    RECOMPUTE,
    SCHEDULE_FIELDS,
    SCHEDULE_WORDS,
    SCHEDULES,
    STAGE_FIELDS,
    ZERO,
    ZERO_FIELDS,
    StrategyOptions,
)
from hwdse.workload.gemms import LayerList

if TYPE_CHECKING:
    from hwdse.training.strategy_ranking import StrategyMetrics

BEST = "best"
"""Strategy of a job that gives none: the fastest per token of all that meet the limits."""
DEGREES = {
    "TP": "tensor",
    "PP": "pipeline",
    "CP": "context",
    "EP": "expert",
    "ETP": "expert_tensor",
    "VPP": "virtual_pipeline",
    "MBS": "micro_batch",
}
"""Parts of a strategy text that are one number."""
LIMIT_ROUNDING = 1.0 + 1e-12
"""Factor on limits: a value at its limit meets it."""
_PART = re.compile(
    r"(?P<name>ETP|TP|PP|CP|EP|DP|VPP|MBS|micro-batch|ZeRO)[ =-]*(?P<number>\d+)"
    r"|(?P<schedule>1F1B|zero bubble|DualPipe)"
    r"|(?P<recompute>no|selective|full) recompute"
    r"|(?P<sequence>no sequence parallelism|no SP|SP)",
    re.IGNORECASE,
)
EXAMPLE = '"best", or a text such as "TP8 PP4, micro-batch 1, full recompute, ZeRO-1"'


def parse_strategy(text: str, num_chips: float) -> dict[str, float]:
    """Fields of `Parallelism` that a strategy text sets.

    A data-parallel degree (`DP16`) is not a field: it must be the one that follows from the
    others. Raises `ValueError` with the allowed texts.
    """
    values: dict[str, float] = {}
    data: float | None = None
    rest = _PART.sub("", text)
    if rest.strip(" ,;") or not text.strip():
        raise ValueError(EXAMPLE)
    for part in _PART.finditer(text):
        name, number = (part["name"] or "").upper(), float(part["number"] or 0)
        if part["recompute"]:
            full, attention = RECOMPUTE[part["recompute"].lower().replace("no", "none", 1)]
            values |= {"recompute_fraction": full, "attention_recompute_fraction": attention}
        elif part["schedule"]:
            words = {word.lower(): name for name, word in SCHEDULE_WORDS.items()}
            schedule = SCHEDULES[words.get(part["schedule"].lower(), "1f1b")]
            values |= dict(zip(SCHEDULE_FIELDS, schedule, strict=True))
        elif part["sequence"]:
            is_on = not part["sequence"].lower().startswith("no")
            values["sequence_parallel_fraction"] = float(is_on)
        elif name == "ZERO":
            if int(number) not in ZERO:
                raise ValueError("a ZeRO stage from 0 to 3")
            values |= dict(zip(ZERO_FIELDS, ZERO[int(number)], strict=True))
        elif name == "DP":
            data = number
        elif number < 1:
            raise ValueError(f"degrees of at least 1, found {part[0]}")
        else:
            values[DEGREES["MBS" if name == "MICRO-BATCH" else name]] = number
    ranks = 1.0
    for name in ("tensor", "pipeline", "context"):
        ranks *= values.get(name, 1.0)
    if data is not None and data * ranks != num_chips:
        raise ValueError(
            f"a data-parallel degree of {num_chips / ranks:g}, {num_chips:g} chips over {ranks:g}"
        )
    return values


def with_strategy(
    roots: Roots,
    table: Any,
    given: Iterable[str],
    limits: Mapping[str, float],
    where: ConfigLocation,
) -> Roots:
    """Specs with the strategy of a `[design]` table.

    `limits` are those of the config; the HBM must suffice in any case. Without the keys `strategy`
    and `parallelism`, it is the best one. Fields of `Parallelism` in `given` were set by the user
    and remain. Raises `ConfigError` for a text that is no strategy and for a job without one.
    """
    text = table.strategy
    if isinstance(roots["workload"], LayerList):
        if text is not None:
            raise where.error("strategy", text, "no strategy for layers, which have none")
        return roots
    if text is None and table.parallelism is None:
        text = BEST
    if text is None:
        return roots
    fixed = set(given)
    if table.parallelism is not None:
        fixed |= set(table.parallelism.model_fields_set) - {"zero"}
    if text != BEST:
        try:
            values = parse_strategy(text, float(roots["cluster"].num_chips))
        except ValueError as error:
            raise where.error("strategy", text, str(error)) from None
        new = {name: value for name, value in values.items() if name not in fixed}
        return {**roots, "parallelism": roots["parallelism"].replace(**new)}
    return {**roots, "parallelism": _best(roots, fixed, limits, where)}


def limited_values(metrics: Any, name: str) -> np.ndarray:
    """Values of the metric of a limit, of an evaluation or of the metrics of strategies."""
    field = "hbm_used_ratio" if name == "memory_used_ratio" else metric_field(name)
    return np.asarray(getattr(metrics, field), float)


def within_limits(
    metrics: "StrategyMetrics", limits: Mapping[str, float], rows: np.ndarray
) -> np.ndarray:
    """Rows of strategies, in their order, that meet the limits of a config.

    A limit that none of the rows meets, as one on the area of the given chip, excludes none: no
    strategy helps there, and the job's warnings say so.
    """
    for name, limit in limits.items():
        is_met = limited_values(metrics, name)[rows] <= limit * LIMIT_ROUNDING
        if is_met.any():
            rows = rows[is_met]
    return rows


def _best(roots: Roots, fixed: set[str], limits: Mapping[str, float], where: ConfigLocation) -> Any:
    """The fastest strategy that meets the limits, or the one with the least memory if none fits
    the HBM."""
    from hwdse.numerics.factored_program import Columns
    from hwdse.specs.design import Design
    from hwdse.training.strategy_enumeration import FIELDS, enumerate_strategies, strategy_at
    from hwdse.training.strategy_ranking import evaluate_strategies, least_hbm_index, ranked

    base, job = roots["parallelism"], roots["workload"]
    degrees: dict[str, Any] = {
        name: (float(getattr(base, name)),) for name in DEGREES.values() if name in fixed
    }
    for name in STAGE_FIELDS:
        if getattr(base, name) > 0.0:
            raise where.error("strategy", BEST, f"a strategy as text beside parallelism.{name}")
    schedule = tuple(float(getattr(base, name)) for name in SCHEDULE_FIELDS)
    names = [name for name, pair in SCHEDULES.items() if pair == schedule]
    if fixed.intersection(SCHEDULE_FIELDS) and names:
        degrees["schedule"] = tuple(names)
    num_chips = float(roots["cluster"].num_chips)
    found = enumerate_strategies(job, num_chips, StrategyOptions(**degrees))
    if not len(found):
        held = ", ".join(f"{name} = {value[0]:g}" for name, value in degrees.items())
        raise where.error(
            "strategy",
            BEST,
            f"chips, heads, layers and batch with a possible strategy; {num_chips:g} chips, "
            f"{job.model.num_heads:g} heads, {job.model.num_layers:g} layers and "
            f"{job.global_batch:g} sequences allow none" + (f" with {held}" if held else ""),
        )
    kept = {name: found[name] for name in FIELDS if name not in fixed or name in degrees}
    strategies = Columns.of(kept)
    specs = {name: value for name, value in roots.items() if name != "workload"}
    metrics = evaluate_strategies(Design(**specs), job, strategies)
    order = ranked(metrics, "time_per_token", min(1.0, limits.get("hbm_used_ratio", 1.0)))
    order = within_limits(metrics, limits, order)
    row = int(order[0]) if len(order) else least_hbm_index(metrics)
    return strategy_at(strategies, row, base)


def text_of(design: Any, workload: Any) -> str:
    """Strategy of a design as text; empty where there is none (layers, cores)."""
    from hwdse.numerics.factored_program import Columns
    from hwdse.serving.serving_strategies import serving_strategy_label
    from hwdse.specs.serving.engine import ServingDesign
    from hwdse.training.strategy_enumeration import FIELDS, strategy_label
    from hwdse.workload.transformer.model_config import TransformerTraining

    if isinstance(design, ServingDesign):
        return serving_strategy_label(design.strategy, float(design.cluster.num_chips))
    if not isinstance(workload, TransformerTraining):
        return ""
    fields = {name: [float(getattr(design.parallelism, name))] for name in FIELDS}
    columns = Columns.of({name: np.array(value) for name, value in fields.items()})
    return strategy_label(columns, 0, float(design.cluster.num_chips))
