"""Parallel layouts as the choices of a search: `values = "all"` and `values = "best"`.

`"all"` crosses the powers of two of tensor parallelism in a scale-up domain, pipelines of equal
stages and the lists that stand beside it; what is not listed stays as in the base design.
`"best"` takes every layout that is possible, within the lists that stand beside it. Where there
are more than a search can go through, each is scored on the base design and few are kept.
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
from hwdse.config.schema.consistency_checks import strategy_problem
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import Roots
from hwdse.search.space.search_space import Choice
from hwdse.specs.design import Design
from hwdse.training.strategy_enumeration import RECOMPUTE
from hwdse.workload.loops.layer_list import LayerList

if TYPE_CHECKING:
    from hwdse.training.factored_program import Columns

MAX_STAGES = 10_000
"""Deepest pipeline that is enumerated; bounds the time that an absurd layer count takes."""
MAX_CHOICES = 256
"""Layouts of "all" that a search goes through without keeping some of them only."""
NUM_KEPT = 64
"""Layouts that are kept where `keep` does not say how many."""
_ANY_LIST = (list[Any] | None, Field(None))
STRATEGY_KEYS: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("tensor", "pipeline", "context", "expert", "virtual_pipeline"), _ANY_LIST),
        "recompute": (list[StrictStr] | None, Field(None)),
        "zero": _ANY_LIST,
        "sequence": _ANY_LIST,
        "keep": (Any, Field(None)),
    }
)
"""Keys of a table of choices that are for layouts, beside `micro_batch` and
`recompute_fraction`."""
_ONLY_BEST = ("tensor", "pipeline", "recompute")
_BASE_FIELDS = ("tensor", "pipeline", "micro_batch", "recompute_fraction")


def all_strategies(table: Any, roots: Roots, where: ConfigLocation) -> Choice:
    """Every layout that runs: powers of two in a scale-up domain, pipelines of equal stages."""
    from hwdse.training.strategy_enumeration import ZERO, ZERO_FIELDS

    training, base, cluster = _training(table, roots, where), roots["parallelism"], roots["cluster"]
    for key in _ONLY_BEST:
        if getattr(table, key) is not None:
            raise where.error(key, getattr(table, key), 'it only beside values = "best"')
    choices: dict[tuple[str, ...], list[tuple[float, ...]]] = {
        ("tensor",): _powers_of_two(math.prod(cluster.torus_sizes)),
        ("pipeline",): _even_pipelines(training, cluster),
    }
    for name in ("micro_batch", "recompute_fraction"):
        listed_values = getattr(table, name)
        values = [getattr(base, name)] if listed_values is None else _numbers(table, name, where)
        choices[(name,)] = [(float(value),) for value in values]
    for name in ("context", "expert", "virtual_pipeline"):
        if getattr(table, name) is not None:
            choices[(name,)] = [(value,) for value in _numbers(table, name, where)]
    if table.zero is not None:
        choices[ZERO_FIELDS] = [
            ZERO[stage] for stage in _members(table, "zero", ZERO_STAGES, where)
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
    """The best of all layouts that `system.layout_list` knows, scored on the base design."""
    from hwdse.training.strategy_enumeration import FIELDS, StrategyOptions, enumerate_strategies

    training = _training(table, roots, where)
    if table.recompute_fraction is not None:
        expected = f'recompute beside values = "best", a list of {listed(tuple(RECOMPUTE))}'
        raise where.error("recompute_fraction", table.recompute_fraction, expected)
    given: dict[str, Any] = {}
    for name in ("tensor", "pipeline", "context", "expert", "micro_batch", "virtual_pipeline"):
        if getattr(table, name) is not None:
            given[name] = tuple(_numbers(table, name, where))
    for name, allowed in (
        ("recompute", tuple(RECOMPUTE)),
        ("zero", ZERO_STAGES),
        ("sequence", (0, 1)),
    ):
        if getattr(table, name) is not None:
            given[name] = _members(table, name, allowed, where)
    strategies = enumerate_strategies(
        training, roots["cluster"].num_chips, StrategyOptions(**given)
    )
    if not len(strategies):
        raise _none_allowed(table, where)
    columns = {name: strategies[name] for name in FIELDS}
    return _choice(columns, roots, _num_kept(table, where))


def _choice(columns: dict[str, np.ndarray], roots: Roots, num_kept: int | None = None) -> Choice:
    """A choice of these layouts, or of so many that stand for them."""
    from hwdse.training.factored_program import Columns
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
    name_of: Callable[..., str] = strategy_label
    if tuple(columns) == _BASE_FIELDS:
        name_of = _short_name
    return Choice(
        "parallelism",
        tuple(f"parallelism.{name}" for name in columns),
        tuple(tuple(float(column[row]) for column in columns.values()) for row in rows),
        tuple(name_of(strategies, int(row), num_chips) for row in rows),
    )


def _short_name(strategies: "Columns", row: int, num_chips: float) -> str:
    """`TP16 PP4 DP16, micro-batch 1, full recompute`, where nothing else differs."""
    one = strategies.take(np.array([row]))
    tensor, pipeline, micro_batch, recompute = (float(one[name][0]) for name in _BASE_FIELDS)
    share = {0.0: "no", 1.0: "full"}.get(recompute, f"{recompute:.0%}")
    data = num_chips / (tensor * pipeline)
    return f"TP{tensor:g} PP{pipeline:g} DP{data:g}, micro-batch {micro_batch:g}, {share} recompute"


def _training(table: Any, roots: Roots, where: ConfigLocation) -> Any:
    if isinstance(roots["workload"], LayerList):
        expected = "a training workload, a layer list has no layouts"
        raise where.error("values", table.values, expected)
    return roots["workload"]


def _none_allowed(table: Any, where: ConfigLocation) -> Exception:
    expected = "chips, heads, layers and batch that allow at least one layout"
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
    """The values of a list, each of the allowed ones."""
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
