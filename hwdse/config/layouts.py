"""Choices of a search: rows of values that change together, such as parallel layouts."""

import itertools
import math
from typing import Any

from hwdse.config.errors import Where
from hwdse.config.leaf_paths import Roots, check_value, field_name, get_value, leaf_paths, resolve
from hwdse.config.physics import layout_problem
from hwdse.config.rules import rule_of
from hwdse.search.space import Choice
from hwdse.units import format_field, split_field
from hwdse.workload.layers import LayerList
from hwdse.workload.transformer import TransformerTraining

MAX_STAGES = 10_000
"""Deepest pipeline that is enumerated; bounds the time that an absurd layer count takes."""
_LAYOUT_FIELDS = ("tensor", "pipeline", "micro_batch", "recompute_fraction")


def make_choice(table: Any, roots: Roots, where: Where) -> Choice:
    """A choice from its checked table: `path`, and `values` as rows, numbers, or "all"."""
    try:
        path = resolve(roots, table.path)
    except ValueError as error:
        raise where.error("path", table.path, str(error)) from None
    if table.values == "all":
        if path != "parallelism":
            raise where.error("values", "all", 'a list; "all" is for path = "parallelism" only')
        return _all_layouts(table, roots, where)
    for key in ("micro_batch", "recompute_fraction"):
        if getattr(table, key) is not None:
            raise where.error(key, getattr(table, key), 'it only beside values = "all"')
    if not isinstance(table.values, list) or not table.values:
        raise where.error("values", table.values, 'a list of tables or numbers, or "all"')
    return _listed(path, table, roots, where)


def _listed(path: str, table: Any, roots: Roots, where: Where) -> Choice:
    """Rows as the user wrote them; what a row leaves out stays as in the base design."""
    rows = [_row(path, value, roots, where) for value in table.values]
    paths = tuple(dict.fromkeys(name for row in rows for name in row))
    base = {name: float(get_value(roots, name)) for name in paths}
    full = [{**base, **row} for row in rows]
    if path == "parallelism":
        for index, row in enumerate(full):
            _check_layout(row, roots, where, table.values[index])
    labels = tuple(table.labels or [_label(row) for row in full])
    if len(labels) != len(full) or len(set(labels)) != len(labels):
        raise where.error("labels", list(labels), f"{len(full)} different texts, one a row")
    if len({tuple(row.items()) for row in full}) != len(full):
        raise where.error("values", table.values, "rows that differ")
    return Choice(path, paths, tuple(tuple(row.values()) for row in full), labels)


def _row(path: str, value: Any, roots: Roots, where: Where) -> dict[str, float]:
    leaves = leaf_paths(get_value(roots, path))
    if leaves and not (isinstance(value, dict) and value):
        raise where.error("values", value, f"tables with keys such as {next(iter(leaves))}")
    entries = value if leaves else {"": value}
    row: dict[str, float] = {}
    for key, item in entries.items():
        full = f"{path}.{key}" if key else path
        try:
            name = resolve(roots, full)
            checked = check_value(roots, name, item)
        except ValueError as error:
            raise where.error(full, item, str(error)) from None
        if isinstance(checked, str):
            raise where.error(full, item, "a number; a text is searched by [[variants]]")
        row[name] = checked
    return row


def _label(row: dict[str, float]) -> str:
    parts = []
    for path, value in row.items():
        name = field_name(path)
        parts.append(f"{split_field(name)[0]} {format_field(name, value, 6)}")
    return ", ".join(parts)


def _check_layout(row: dict[str, float], roots: Roots, where: Where, value: Any) -> None:
    workload = roots["workload"]
    if isinstance(workload, LayerList):
        return
    fields = {path.rpartition(".")[2]: number for path, number in row.items()}
    layout = roots["parallelism"].replace(**fields)
    problem = layout_problem(layout, roots["cluster"].num_chips, workload)
    if problem is not None:
        raise where.error("values", value, f"{problem[0]}: {problem[1]}")


def _numbers(values: Any, name: str, base: float, where: Where) -> list[float]:
    if values is None:
        return [base]
    try:
        return [rule_of(name).check(value) for value in values]
    except ValueError as error:
        raise where.error(name, values, f"a list of numbers, each {error}") from None


def _all_layouts(table: Any, roots: Roots, where: Where) -> Choice:
    """Every layout that runs: powers of two in a scale-up domain, pipelines of equal stages."""
    workload, base = roots["workload"], roots["parallelism"]
    if isinstance(workload, LayerList):
        raise where.error("values", "all", "a training workload, a layer list has no layouts")
    batches = _numbers(table.micro_batch, "micro_batch", base.micro_batch, where)
    recomputes = _numbers(
        table.recompute_fraction, "recompute_fraction", base.recompute_fraction, where
    )
    rows = valid_layouts(base, roots["cluster"], workload, batches, recomputes)
    if not rows:
        raise where.error(
            "values", "all", "chips, heads, layers and batch that allow at least one layout"
        )
    num_chips = roots["cluster"].num_chips
    labels = tuple(layout_label(row, num_chips) for row in rows)
    paths = tuple(f"parallelism.{name}" for name in _LAYOUT_FIELDS)
    return Choice("parallelism", paths, tuple(rows), labels)


def valid_layouts(
    base: Any,
    cluster: Any,
    training: TransformerTraining,
    micro_batches: list[float],
    recompute_fractions: list[float],
) -> list[tuple[float, ...]]:
    """Layouts (tensor, pipeline, micro batch, recompute) that the chips and the batch allow.

    `base` is a `Parallelism` and `cluster` a `Cluster`.
    Tensor degrees are powers of two within one scale-up domain that divide the heads; pipeline
    degrees divide the layers; data parallelism takes the other chips and divides the batch.
    """
    domain = math.prod(cluster.torus_sizes)
    tensors = [2.0**power for power in range(int(math.log2(domain)) + 1)]
    layers = int(training.model.num_layers)
    deepest = int(min(layers, cluster.num_chips, MAX_STAGES))
    pipelines = [float(p) for p in range(1, deepest + 1) if layers % p == 0]
    rows = []
    for row in itertools.product(tensors, pipelines, micro_batches, recompute_fractions):
        layout = base.replace(**dict(zip(_LAYOUT_FIELDS, row, strict=True)))
        if layout_problem(layout, cluster.num_chips, training) is None:
            rows.append(row)
    return rows


def layout_label(row: tuple[float, ...], num_chips: float) -> str:
    """A layout as people write it: `TP16 PP4 DP16, micro-batch 1, full recompute`."""
    tensor, pipeline, micro_batch, recompute = row
    share = {0.0: "no", 1.0: "full"}.get(recompute, f"{recompute:.0%}")
    data = num_chips / (tensor * pipeline)
    return f"TP{tensor:g} PP{pipeline:g} DP{data:g}, micro-batch {micro_batch:g}, {share} recompute"
