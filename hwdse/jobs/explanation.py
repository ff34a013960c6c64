"""Explanation of one value of a job: meaning, origin, band, and elasticities of metrics to it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hwdse.analysis.metric_slopes import metric_elasticities
from hwdse.config.key_reference import field_docs
from hwdse.config.provenance import job_roots, origins
from hwdse.config.schema.range_ends import inside_ranges, range_ends
from hwdse.config.schema.user_paths import (
    field_name,
    format_value,
    get_value,
    resolve,
    short_path,
)
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.units.parse_units import split_field

METRICS = (
    "time_per_token",
    "energy_per_token",
    "cost_per_token",
    "carbon_per_token",
    "die_area",
    "chip_power",
    "chip_cost",
    "hbm_used_ratio",
)
"""Metrics whose elasticities are computed."""
DIGITS = 6
"""Significant digits of the value."""


@dataclass(frozen=True)
class Explanation:
    """One value of a job with its origin and its effect."""

    path: str
    """Path without the unit of its last word."""
    title: str
    """Title of the job."""
    value: Any
    """Number in SI base units, or name."""
    unit: str
    """Base unit; `1` for counts and ratios, empty for names."""
    text: str
    """Value with a unit that fits its size."""
    meaning: str
    """Meaning of the field; may be empty."""
    kind: str
    """Kind of the constant, an entry of `config.provenance.KINDS`."""
    note: str
    """Comment of the file; empty for a default."""
    place: str
    """File and line, `--set`, or `default of hwdse`."""
    band_ratio: float
    """Relative half-width of the band around the value; of a class the larger half."""
    low_text: str
    """Lower end of the band; empty for names."""
    high_text: str
    """Upper end of the band; empty for names."""
    one_sided: str | None
    """End of its range at which the value lies, `upper` or `lower`; derivatives are one-sided."""
    elasticities: dict[str, float] | None
    """d ln(metric) / d ln(value) by metric; none for names and values of the workload."""

    def as_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def explain(loaded: LoadedSearch, text: str, metrics: Sequence[str] = METRICS) -> Explanation:
    """Explanation of the value at a path of a job.

    Raises `ValueError` with the allowed paths.
    """
    roots, known = job_roots(loaded), origins(loaded)
    path = resolve(roots, text.removeprefix("design."))
    if path not in known:
        raise ValueError("a path that ends in a number or a name; found a table")
    origin, value = known[path], get_value(roots, path)
    is_number = isinstance(value, float | int)
    ends = [format_value(path, x) for x in origin.interval(path, value)] if is_number else ["", ""]
    slopes, end = None, None
    if is_number and not path.startswith("workload."):
        each = metric_elasticities(inside_ranges(loaded.base), loaded.workload, metrics)
        slopes = {name: each[name][path] for name in metrics if path in each[name]}
        end = range_ends(loaded.base).get(path)
    return Explanation(
        path=short_path(path),
        title=loaded.title,
        value=value,
        unit=split_field(field_name(path))[1] if is_number else "",
        text=format_value(path, value, DIGITS) if is_number else str(value),
        meaning=_meaning(roots, path),
        kind=origin.kind,
        note="" if origin.kind == "default" else origin.note,
        place=origin.place,
        band_ratio=origin.band if is_number else 0.0,
        low_text=ends[0],
        high_text=ends[1],
        one_sided=end,
        elasticities=slopes,
    )


def _meaning(roots: Any, path: str) -> str:
    """Docstring of the field at a path; empty without one."""
    above, _, last = path.rpartition(".")
    owner = get_value(roots, above) if above else None
    return field_docs(type(owner)).get(last, "") if hasattr(owner, "__dataclass_fields__") else ""
