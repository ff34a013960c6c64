"""A traced program cut into stages by the inputs that its operations depend on."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

Group = frozenset[str]
"""Names of columns."""

MIN_SAVING = 0.02
"""Share of the remaining work that another stage must save, for its lookups and compilation."""
MIN_ROWS = 4
"""Rows for each combination of the columns of an early stage, whose values are all held."""
MAX_STAGES = 8


@dataclass(frozen=True)
class ColumnStage:
    """Part of a program that depends on the columns `names` alone."""

    names: tuple[str, ...]
    needs: tuple[tuple[int, int], ...]
    """Values that it looks up: number of an earlier stage with part of its columns, and place
    among the values of that."""
    piece: Callable[..., list[Any]]
    """From one scalar a column and one a need to the values of the stage."""


@dataclass
class _Draft:
    """A stage while consumers of its values are still to be found."""

    outputs: list[Any] = field(default_factory=list)
    imports: list[Var] = field(default_factory=list)
    equations: list[JaxprEqn] = field(default_factory=list)


def plan_stages(traced: ClosedJaxpr, sizes: Mapping[str, int], num_rows: int) -> list[ColumnStage]:
    """Stages in the order they run; the last has all columns and gives the outputs.

    The inputs of the program are scalars, one for each column of `sizes`, which says how many
    distinct values it has. A stage runs for all combinations of the values of its columns, the
    last for `num_rows` rows; the stages are chosen to have few operations in all.
    """
    jaxpr, names = traced.jaxpr, tuple(sizes)
    fields = _dependence(traced, names)
    times = _choose_groups(_work(traced, fields), sizes, num_rows)
    home = {
        value: min((group for group in times if on <= group), key=lambda group: times[group])
        for value, on in fields.items()
    }
    drafts = {group: _Draft() for group in sorted(times, key=len, reverse=True)}
    drafts[Group(names)].outputs = list(jaxpr.outvars)
    for group in drafts:
        _fill(drafts, group, home, traced)
    order = list(drafts)[::-1]
    stages = []
    for group in order:
        draft = drafts[group]
        columns = [v for v, name in zip(jaxpr.invars, names, strict=True) if name in group]
        needs = [
            (order.index(home[value]), drafts[home[value]].outputs.index(value))
            for value in draft.imports
        ]
        piece = jaxpr.replace(
            invars=columns + draft.imports,
            outvars=draft.outputs,
            eqns=draft.equations[::-1],
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        own_names = tuple(name for name in names if name in group)
        run = jaxpr_as_fun(ClosedJaxpr(piece, traced.consts))
        stages.append(ColumnStage(own_names, tuple(needs), run))
    return stages


def _fill(
    drafts: Mapping[Group, _Draft], group: Group, home: Mapping[Var, Group], traced: ClosedJaxpr
) -> None:
    """The operations of a stage, last first; what it looks up becomes output of other stages."""
    draft, own = drafts[group], set()
    given = {*traced.jaxpr.invars, *traced.jaxpr.constvars}

    def ask(values: Iterable[Any]) -> None:
        for value in _variables(values):
            if value in given:
                continue
            if not home[value] < group:
                own.add(value)
            elif value not in draft.imports:
                draft.imports.append(value)
                source = drafts[home[value]]
                if value not in source.outputs:
                    source.outputs.append(value)

    ask(draft.outputs)
    for equation in reversed(traced.jaxpr.eqns):
        if not own.isdisjoint(equation.outvars):
            draft.equations.append(equation)
            ask(equation.invars)


def _variables(atoms: Iterable[Any]) -> list[Var]:
    """Each variable once, without literals."""
    return list(dict.fromkeys(atom for atom in atoms if not isinstance(atom, Literal)))


def _dependence(traced: ClosedJaxpr, names: tuple[str, ...]) -> dict[Var, Group]:
    """The columns that each value depends on; an operation on those of all of its operands."""
    jaxpr = traced.jaxpr
    fields = dict.fromkeys(jaxpr.constvars, Group())
    fields |= {value: Group([name]) for value, name in zip(jaxpr.invars, names, strict=True)}
    for equation in jaxpr.eqns:
        on = Group().union(*(fields[value] for value in _variables(equation.invars)))
        fields |= dict.fromkeys(equation.outvars, on)
    return fields


def _work(traced: ClosedJaxpr, fields: Mapping[Var, Group]) -> Counter[Group]:
    """Elements computed by operations that depend on the same columns."""
    work = Counter()
    for equation in traced.jaxpr.eqns:
        for value in equation.outvars:
            work[fields[value]] += max(math.prod(getattr(value.aval, "shape", ())), 1)
    return work


def _choose_groups(
    work: Mapping[Group, int], sizes: Mapping[str, int], num_rows: int
) -> dict[Group, int]:
    """Columns of each stage and how often it runs: one after the other the one that saves most.

    Of no columns for constants, of all for the last. What depends on some columns runs in the
    stage with these that runs least.
    """
    times = {Group(sizes): num_rows, Group(): 1}

    def total(times: Mapping[Group, int]) -> int:
        return sum(
            amount * min(count for group, count in times.items() if on <= group)
            for on, amount in work.items()
        )

    before = total(times)
    while len(times) < MAX_STAGES:
        grids = {on: math.prod(sizes[name] for name in on) for on in work if on not in times}
        after, on = min(
            (
                (total({**times, on: grid}), on)
                for on, grid in grids.items()
                if MIN_ROWS * grid <= num_rows
            ),
            key=lambda choice: (choice[0], sorted(choice[1])),
            default=(before, Group()),
        )
        if before - after <= MIN_SAVING * before:
            break
        times[on], before = grids[on], after
    return times
