"""Constants that a result rests on: elasticity times band, of constants without a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.config.provenance import UNSURE, Origin, origins
from hwdse.config.schema.range_ends import inside_ranges
from hwdse.config.schema.user_paths import format_value, short_path
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import safe_log
from hwdse.objectives import CONSTRAINTS, OBJECTIVES
from hwdse.search.space.pytree_path import readable

NUM_NAMED = 3
"""Constants in the line of a command."""
METRICS = ("time_per_token", "energy_per_token", "cost_per_token")
"""Metrics whose elasticities `hwdse explain` prints."""
MIN_EFFECT = 1e-3
"""Smallest effect of a constant, elasticity times band, that is named."""


def metric_elasticities(
    design: Any, workload: Any, names: Sequence[str] = METRICS
) -> dict[str, dict[str, float]]:
    """$d ln v / d ln x$ of metrics to every leaf of a design, by metric and path, in float64."""
    functions = [{**CONSTRAINTS, **OBJECTIVES}[name] for name in names]

    def logs(leaves: Any, work: Any) -> jax.Array:
        evaluation = evaluate(leaves, work)
        return jnp.stack([safe_log(jnp.asarray(one(evaluation))) for one in functions])

    with jax.enable_x64(True):
        inside = inside_ranges(design)
        leaves = jax.tree.map(jnp.asarray, jax.tree.map(float, inside))
        slopes = quick_jit(jax.jacrev(logs))(leaves, workload)
        paths = jax.tree_util.tree_flatten_with_path(slopes)[0]
        values = jax.tree.leaves(leaves)
        return {
            name: {
                readable(design, path): float(value) * float(slope[index])
                for (path, slope), value in zip(paths, values, strict=True)
            }
            for index, name in enumerate(names)
        }


@dataclass(frozen=True)
class Reliance:
    """A constant without a source, and its effect on a metric."""

    path: str
    value: float
    origin: Origin
    elasticity: float

    @property
    def effect(self) -> float:
        """Relative change of the metric over the half-width of the band."""
        return abs(self.elasticity) * self.origin.band

    def text(self) -> str:
        """The constant in words: `parallelism.tensor_overlap_fraction 0.5 (assumed, 15 %)`."""
        value = format_value(self.path, self.value)
        return f"{short_path(self.path)} {value} ({self.origin.kind}, {100.0 * self.effect:.0f} %)"


def reliances(loaded: Any, design: Any, slopes: Mapping[str, float]) -> list[Reliance]:
    """Assumed and default constants of a job by their effect on a metric, largest first."""
    from hwdse.search.space.pytree_path import get_path

    known = origins(loaded)
    found = [
        Reliance(path, float(get_path(design, path)), known[path], slope)
        for path, slope in slopes.items()
        if path in known and known[path].kind in UNSURE
    ]
    shown = [one for one in found if one.effect >= MIN_EFFECT]
    return sorted(shown, key=lambda one: -one.effect)


def reliance_line(loaded: Any, design: Any, metric: str | None = None) -> str:
    """One line: the constants without a source that change a metric most; may be empty.

    The percentages are elasticity times band: by how much the metric changes over the band.
    """
    name = metric or loaded.objective
    found = reliances(loaded, design, metric_elasticities(design, loaded.workload, (name,))[name])
    if not found:
        return ""
    named = ", ".join(one.text() for one in found[:NUM_NAMED])
    rest = len(found) - NUM_NAMED
    more = f"; {rest} more" if rest > 0 else ""
    return f"{name.replace('_', ' ')} rests on: {named}{more}"


def explanation(loaded: Any, text: str, names: Sequence[str] = METRICS) -> dict[str, Any]:
    """Value, unit, origin, band and elasticities of one constant of a job, for JSON.

    Raises `ValueError` with the allowed paths.
    """
    from hwdse.config.key_reference import field_docs
    from hwdse.config.provenance import job_roots
    from hwdse.config.schema.user_paths import field_name, get_value, resolve
    from hwdse.units.parse_units import split_field

    roots = job_roots(loaded)
    path = resolve(roots, text.removeprefix("design."))
    known = origins(loaded)
    if path not in known:
        raise ValueError("a path that ends in a number or a name; found a table")
    origin, value = known[path], get_value(roots, path)
    owner = get_value(roots, path.rpartition(".")[0]) if "." in path else None
    docs = field_docs(type(owner)) if hasattr(owner, "__dataclass_fields__") else {}
    is_number = isinstance(value, float | int)
    is_of_design = not path.startswith("workload.") and is_number
    slopes: dict[str, float | None] = {}
    if is_of_design:
        each = metric_elasticities(loaded.base, loaded.workload, names)
        slopes = {name: each[name].get(path) for name in names}
    ends = [value * (1.0 - origin.band), value * (1.0 + origin.band)] if is_number else []
    return {
        "path": short_path(path),
        "title": loaded.title,
        "value": value,
        "unit": split_field(field_name(path))[1] if is_number else "",
        "text": format_value(path, value) if is_number else str(value),
        "meaning": docs.get(path.rpartition(".")[2], ""),
        "kind": origin.kind,
        "note": origin.note,
        "place": origin.place,
        "band_ratio": origin.band if is_number else 0.0,
        "low_text": format_value(path, ends[0]) if ends else "",
        "high_text": format_value(path, ends[1]) if ends else "",
        "elasticities": slopes,
    }
