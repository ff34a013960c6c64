"""Partition of a traced program into stages by the input columns that operations depend on."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

ColumnSet = frozenset[str]
"""Names of columns."""

MIN_SAVING = 0.02
"""Minimum fraction of the remaining work that a further stage must save, since it costs lookups
and compilation."""
MIN_ROWS = 4
"""Minimum rows per combination of the columns of an early stage, whose values are all stored."""
MAX_STAGES = 8
"""Maximum number of stages."""


@dataclass(frozen=True)
class ColumnStage:
    """Part of a program that depends on the columns `names` only."""

    names: tuple[str, ...]
    needs: tuple[tuple[int, int], ...]
    """Values to look up: index of an earlier stage with a subset of the columns, and index of the
    value in that stage."""
    piece: Callable[..., list[Any]]
    """Function from one scalar per column and one per need to the values of the stage."""


@dataclass
class _Draft:
    """Stage under construction: consumers of its values are not all known."""

    outputs: list[Any] = field(default_factory=list)
    imports: list[Var] = field(default_factory=list)
    equations: list[JaxprEqn] = field(default_factory=list)


def plan_stages(traced: ClosedJaxpr, sizes: Mapping[str, int], num_rows: int) -> list[ColumnStage]:
    """Stages in order of execution; the last one has all columns and returns the outputs.

    The inputs of the program are scalars, one per column. `sizes` has the number of distinct values
    of each column. A stage is executed for all combinations of the values of its columns, the last
    one for `num_rows` rows. The stages are selected for a small total number of operations.
    """
    jaxpr, names = traced.jaxpr, tuple(sizes)
    depends_on = _dependence(traced, names)
    executions = _select_groups(_work(traced, depends_on), sizes, num_rows)
    home = {
        value: min(
            (group for group in executions if columns <= group),
            key=lambda group: executions[group],
        )
        for value, columns in depends_on.items()
    }
    drafts = {group: _Draft() for group in sorted(executions, key=len, reverse=True)}
    drafts[ColumnSet(names)].outputs = list(jaxpr.outvars)
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
    drafts: Mapping[ColumnSet, _Draft],
    group: ColumnSet,
    home: Mapping[Var, ColumnSet],
    traced: ClosedJaxpr,
) -> None:
    """Fill in the operations of a stage, last first, and its imports from other stages."""
    draft, own_values = drafts[group], set()
    inputs = {*traced.jaxpr.invars, *traced.jaxpr.constvars}

    def require(values: Iterable[Any]) -> None:
        for value in _variables(values):
            if value in inputs:
                continue
            if not home[value] < group:
                own_values.add(value)
            elif value not in draft.imports:
                draft.imports.append(value)
                source = drafts[home[value]]
                if value not in source.outputs:
                    source.outputs.append(value)

    require(draft.outputs)
    for equation in reversed(traced.jaxpr.eqns):
        if not own_values.isdisjoint(equation.outvars):
            draft.equations.append(equation)
            require(equation.invars)


def _variables(atoms: Iterable[Any]) -> list[Var]:
    """Distinct variables, without literals."""
    return list(dict.fromkeys(atom for atom in atoms if not isinstance(atom, Literal)))


def _dependence(traced: ClosedJaxpr, names: tuple[str, ...]) -> dict[Var, ColumnSet]:
    """Columns that each value depends on: the union over the operands of its operation."""
    jaxpr = traced.jaxpr
    depends_on = dict.fromkeys(jaxpr.constvars, ColumnSet())
    depends_on |= {
        value: ColumnSet([name]) for value, name in zip(jaxpr.invars, names, strict=True)
    }
    for equation in jaxpr.eqns:
        columns = ColumnSet().union(*(depends_on[value] for value in _variables(equation.invars)))
        depends_on |= dict.fromkeys(equation.outvars, columns)
    return depends_on


def _work(traced: ClosedJaxpr, depends_on: Mapping[Var, ColumnSet]) -> Counter[ColumnSet]:
    """Array elements computed by operations that depend on the same columns."""
    work = Counter()
    for equation in traced.jaxpr.eqns:
        for value in equation.outvars:
            work[depends_on[value]] += max(math.prod(getattr(value.aval, "shape", ())), 1)
    return work


def _select_groups(
    work: Mapping[ColumnSet, int], sizes: Mapping[str, int], num_rows: int
) -> dict[ColumnSet, int]:
    """Columns and number of executions of each stage, by greedy selection of the largest saving.

    The stage without columns has the constants, the last stage all columns. An operation belongs to
    the stage with its columns that is executed least often.
    """
    executions = {ColumnSet(sizes): num_rows, ColumnSet(): 1}

    def total(executions: Mapping[ColumnSet, int]) -> int:
        return sum(
            amount * min(count for group, count in executions.items() if columns <= group)
            for columns, amount in work.items()
        )

    before = total(executions)
    while len(executions) < MAX_STAGES:
        grids = {
            columns: math.prod(sizes[name] for name in columns)
            for columns in work
            if columns not in executions
        }
        after, columns = min(
            (
                (total({**executions, columns: grid}), columns)
                for columns, grid in grids.items()
                if MIN_ROWS * grid <= num_rows
            ),
            key=lambda choice: (choice[0], sorted(choice[1])),
            default=(before, ColumnSet()),
        )
        if before - after <= MIN_SAVING * before:
            break
        executions[columns], before = grids[columns], after
    return executions
