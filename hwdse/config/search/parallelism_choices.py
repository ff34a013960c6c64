"""Parallelism strategies as choices of a search: `values = "all"` and `values = "best"`.

`"all"` is the product of powers of two of tensor parallelism within a scale-up domain, pipelines
of equal stages and the lists of the same table. Keys without a list have the base value. `"best"`
is every possible strategy within the lists of the same table. If a search has too many, all are
evaluated on the base design and a representative subset is kept.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, StrictStr

from hwdse.config.design.zero_stage import ZERO_STAGES
from hwdse.config.files.errors import ConfigLocation, listed
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import Roots
from hwdse.search.space.search_space import Choice
from hwdse.specs.design import Design
from hwdse.training.strategy_enumeration import RECOMPUTE, SCHEDULES, STAGE_FIELDS
from hwdse.training.strategy_rules import strategy_problem
from hwdse.workload.gemms import LayerList

if TYPE_CHECKING:
    from hwdse.numerics.factored_program import Columns
    from hwdse.training.strategy_enumeration import StrategyOptions

MAX_STAGES = 10_000
"""Deepest pipeline that is enumerated; limits the time for absurd layer counts."""
MAX_CHOICES = 256
"""Largest number of strategies of "all" that are all kept."""
NUM_KEPT = 64
"""Default of `keep`, the number of strategies that are kept."""
_ANY_LIST = (list[Any] | None, Field(None))
STRATEGY_KEYS: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("tensor", "pipeline", "context", "expert", "virtual_pipeline"), _ANY_LIST),
        "expert_tensor": _ANY_LIST,
        "schedule": (list[StrictStr] | None, Field(None)),
        "recompute": (list[StrictStr] | None, Field(None)),
        "zero": _ANY_LIST,
        "sequence": _ANY_LIST,
        "keep": (Any, Field(None)),
    }
)
"""Keys of a choice of strategies, in addition to `micro_batch` and `recompute_fraction`."""
_DEGREES = (
    "tensor",
    "pipeline",
    "context",
    "expert",
    "expert_tensor",
    "micro_batch",
    "virtual_pipeline",
)
_ONLY_BEST = ("tensor", "pipeline", "recompute")
_BASE_FIELDS = ("tensor", "pipeline", "micro_batch", "recompute_fraction")


def all_strategies(table: Any, roots: Roots, where: ConfigLocation) -> Choice:
    """All strategies of powers of two in a scale-up domain and pipelines of equal stages."""
    from hwdse.training.strategy_enumeration import SCHEDULE_FIELDS, ZERO, ZERO_FIELDS

    training, base, cluster = _training(table, roots, where), roots["parallelism"], roots["cluster"]
    for key in _ONLY_BEST:
        if getattr(table, key) is not None:
            raise where.error(key, getattr(table, key), 'values = "best" in the same table')
    choices: dict[tuple[str, ...], list[tuple[float, ...]]] = {
        ("tensor",): _powers_of_two(math.prod(cluster.torus_sizes)),
        ("pipeline",): _even_pipelines(training, cluster),
    }
    for name in ("micro_batch", "recompute_fraction"):
        listed_values = getattr(table, name)
        values = [getattr(base, name)] if listed_values is None else _numbers(table, name, where)
        choices[(name,)] = [(float(value),) for value in values]
    for name in ("context", "expert", "expert_tensor", "virtual_pipeline"):
        if getattr(table, name) is not None:
            choices[(name,)] = [(value,) for value in _numbers(table, name, where)]
    if table.zero is not None:
        choices[ZERO_FIELDS] = [
            ZERO[stage] for stage in _members(table, "zero", ZERO_STAGES, where)
        ]
    if table.schedule is not None:
        choices[SCHEDULE_FIELDS] = [
            SCHEDULES[name] for name in _members(table, "schedule", SCHEDULES, where)
        ]
    if table.sequence is not None:
        values = _members(table, "sequence", (0, 1), where)
        choices[("sequence_parallel_fraction",)] = [(float(value),) for value in values]
    names = tuple(itertools.chain(*choices))
    rows = []
    for parts in itertools.product(*choices.values()):
        row = tuple(float(value) for value in itertools.chain(*parts))
        parallelism = base.replace(**dict(zip(names, row, strict=True)))
        if strategy_problem(parallelism, cluster.num_chips, training) is None:
            rows.append(row)
    if not rows:
        raise _none_allowed(table, where)
    most = MAX_CHOICES if table.keep is None else _num_kept(table, where)
    columns = dict(zip(names, np.array(rows).T, strict=True))
    if len(rows) <= most:
        return _choice(columns, roots)
    return _choice(columns, roots, min(most, _num_kept(table, where)))


def best_strategies(table: Any, roots: Roots, where: ConfigLocation) -> Choice:
    """The best strategies of `training.strategy_enumeration`, evaluated on the base design."""
    from hwdse.training.strategy_enumeration import enumerate_strategies

    training = _training(table, roots, where)
    options = strategy_options(table, where)
    strategies = enumerate_strategies(training, roots["cluster"].num_chips, options)
    if not len(strategies):
        raise _none_allowed(table, where)
    check_equal_stages(roots["parallelism"], "values", where)
    columns = {name: strategies[name] for name in choice_fields(strategies, roots["parallelism"])}
    is_free = options == type(options)() and table.keep is None
    return _choice(columns, roots, _num_kept(table, where), with_own=is_free)


def strategy_options(table: Any, where: ConfigLocation) -> "StrategyOptions":
    """Options of `training.strategy_enumeration` of a checked table with `values = "best"`."""
    from hwdse.training.strategy_enumeration import StrategyOptions

    if table.recompute_fraction is not None:
        expected = f"recompute in place of it, a list of {listed(tuple(RECOMPUTE))}"
        raise where.error("recompute_fraction", table.recompute_fraction, expected)
    given: dict[str, Any] = {}
    for name in _DEGREES:
        if getattr(table, name) is not None:
            given[name] = tuple(_numbers(table, name, where))
    for name, allowed in (
        ("recompute", tuple(RECOMPUTE)),
        ("schedule", tuple(SCHEDULES)),
        ("zero", ZERO_STAGES),
        ("sequence", (0, 1)),
    ):
        if getattr(table, name) is not None:
            given[name] = _members(table, name, allowed, where)
    return StrategyOptions(**given)


def _choice(
    columns: dict[str, np.ndarray],
    roots: Roots,
    num_kept: int | None = None,
    *,
    with_own: bool = False,
) -> Choice:
    """Choice of all these strategies, or of `num_kept` representatives, with the strategy of the
    base design if asked for."""
    from hwdse.numerics.factored_program import Columns
    from hwdse.training.strategy_enumeration import FIELDS, strategy_label
    from hwdse.training.strategy_ranking import evaluate_strategies, representatives

    base, num_chips = roots["parallelism"], roots["cluster"].num_chips
    size = len(columns["tensor"])
    constant = {name: np.full(size, float(getattr(base, name))) for name in FIELDS}
    strategies = Columns.of({**constant, **columns})
    rows = np.arange(size)
    if num_kept is not None and num_kept < size:
        specs = {name: value for name, value in roots.items() if name != "workload"}
        scores = evaluate_strategies(Design(**specs), roots["workload"], strategies)
        rows = representatives(strategies, scores, num_kept)
        if with_own:
            strategies = _with_own(strategies.take(rows), base)
            rows = np.arange(len(strategies))
    name_of: Callable[..., str] = strategy_label
    if tuple(columns) == _BASE_FIELDS:
        name_of = _short_name
    return choice_of(strategies.take(rows), tuple(columns), num_chips, name_of)


def _with_own(strategies: "Columns", own: Any) -> "Columns":
    """Strategies with that of the base design, if it is not one of them."""
    from hwdse.numerics.factored_program import Columns

    values = {name: float(getattr(own, name)) for name in strategies.levels}
    is_own = [strategies[name] == value for name, value in values.items()]
    if np.logical_and.reduce(is_own).any():
        return strategies
    return Columns.of({name: np.append(strategies[name], values[name]) for name in values})


def check_equal_stages(base: Any, key: str, where: ConfigLocation) -> None:
    """Raise for stages divided by hand, which other pipelines may not have."""
    for name in STAGE_FIELDS:
        if getattr(base, name) > 0.0:
            expected = f"strategies one by one beside parallelism.{name}"
            raise where.error(key, "best", expected)


def choice_fields(strategies: "Columns", base: Any) -> tuple[str, ...]:
    """Fields that a choice of strategies sets: of the rare ones only those that it changes."""
    from hwdse.training.strategy_enumeration import FIELDS, SCHEDULE_FIELDS

    def is_set(name: str) -> bool:
        is_rare = name in (*SCHEDULE_FIELDS, "expert_tensor")
        return not is_rare or bool(np.any(strategies[name] != float(getattr(base, name))))

    return tuple(name for name in FIELDS if is_set(name))


def choice_of(
    strategies: "Columns",
    fields: tuple[str, ...],
    num_chips: float,
    name_of: Callable[..., str] | None = None,
) -> Choice:
    """Choice of all these strategies, with the fields that they set."""
    from hwdse.training.strategy_enumeration import strategy_label

    name_of = name_of or strategy_label
    rows = range(len(strategies))
    columns = [strategies[name] for name in fields]
    return Choice(
        "parallelism",
        tuple(f"parallelism.{name}" for name in fields),
        tuple(tuple(float(column[row]) for column in columns) for row in rows),
        tuple(name_of(strategies, row, num_chips) for row in rows),
    )


def _short_name(strategies: "Columns", row: int, num_chips: float) -> str:
    """Label such as `TP16 PP4 DP16, micro-batch 1, full recompute`, without other fields."""
    one = strategies.take(np.array([row]))
    tensor, pipeline, micro_batch, recompute = (float(one[name][0]) for name in _BASE_FIELDS)
    recomputed = {0.0: "no", 1.0: "full"}.get(recompute, f"{recompute:.0%}")
    data = num_chips / (tensor * pipeline)
    degrees = f"TP{tensor:g} PP{pipeline:g} DP{data:g}"
    return f"{degrees}, micro-batch {micro_batch:g}, {recomputed} recompute"


def _training(table: Any, roots: Roots, where: ConfigLocation) -> Any:
    if isinstance(roots["workload"], LayerList):
        expected = "a training workload; a layer list has no parallelism strategies"
        raise where.error("values", table.values, expected)
    return roots["workload"]


def _none_allowed(table: Any, where: ConfigLocation) -> Exception:
    expected = "chips, heads, layers and batch with at least one possible parallelism strategy"
    return where.error("values", table.values, expected)


def _powers_of_two(largest: float) -> list[tuple[float, ...]]:
    return [(2.0**power,) for power in range(int(math.log2(largest)) + 1)]


def _even_pipelines(training: Any, cluster: Any) -> list[tuple[float, ...]]:
    layers = int(training.model.num_layers)
    deepest = int(min(layers, cluster.num_chips, MAX_STAGES))
    return [(float(p),) for p in range(1, deepest + 1) if layers % p == 0]


def _numbers(table: Any, name: str, where: ConfigLocation) -> list[float]:
    values = getattr(table, name)
    try:
        return [rule_of(name).check(value) for value in values]
    except ValueError as error:
        raise where.error(name, values, f"a list of numbers, each {error}") from None


def _members(table: Any, name: str, allowed: Any, where: ConfigLocation) -> tuple[Any, ...]:
    """Values of a list, each checked to be among the allowed ones."""
    values, known = getattr(table, name), tuple(allowed)
    if not values or any(value not in known for value in values):
        texts = listed(tuple(str(value) for value in known))
        raise where.error(name, values, f"a list of some of {texts}")
    return tuple(dict.fromkeys(values))


def _num_kept(table: Any, where: ConfigLocation) -> int:
    if table.keep is None:
        return NUM_KEPT
    if not isinstance(table.keep, int) or isinstance(table.keep, bool) or table.keep < 1:
        raise where.error("keep", table.keep, "a whole number of at least 1")
    return table.keep
