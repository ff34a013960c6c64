"""Constants that a result rests on: elasticity times band, of constants without a source."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdse.analysis.metric_slopes import METRICS
from hwdse.config.provenance import UNSURE, Origin, origins
from hwdse.config.schema.metric_fields import metric_field
from hwdse.config.schema.range_ends import range_ends
from hwdse.config.schema.user_paths import format_value, short_path
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.evaluation import evaluate_exact
from hwdse.report.metrics import TRAINING, kind_of, metric_of
from hwdse.search.space.pytree_path import get_path, set_path

if TYPE_CHECKING:
    from hwdse.plots.figure_files import PlotFiles

NUM_NAMED = 3
"""Constants in the line of a command."""
STEP = 1e-5
"""Relative step of differences: rounding error 1e-11, curvature 1e-5 of an elasticity."""
MIN_EFFECT = 1e-3
"""Smallest effect of a constant, elasticity times band, that is named."""


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
        percent = 100.0 * self.effect
        size = f"{percent:.0f}" if percent >= 10.0 else f"{percent:.2g}"
        return f"{short_path(self.path)} {value} ({self.origin.kind}, {size} %)"


_latest: list[tuple[LoadedSearch, Any, str, list[Reliance]]] = []
"""Last question and answer: the pictures and the page of a command name the same constants."""


def reliances(loaded: LoadedSearch, design: Any, metric: str) -> list[Reliance]:
    """Assumed and default constants of a job by their effect on a metric, largest first.

    Elasticities are one-sided differences in float64, into the range of the constant: one
    evaluation per constant by the compiled program of `evaluate_exact`, so that nothing else is
    compiled. Constants of zero have no elasticity.
    """
    for last_loaded, last_design, last_metric, answer in _latest:
        if last_loaded is loaded and last_design == design and last_metric == metric:
            return answer
    known = origins(loaded)
    unsure = [path for path, origin in known.items() if origin.kind in UNSURE and origin.band > 0]
    leaves = {path: get_path(design, path) for path in unsure if not path.startswith("workload.")}
    ends = range_ends(design)
    before = _log_metric(design, loaded.workload, metric)
    found = []
    for path, value in leaves.items():
        if isinstance(value, str | bool | tuple) or value is None or float(value) == 0.0:
            continue
        step = -STEP if ends.get(path) == "upper" else STEP
        changed = set_path(design, path, float(value) * (1.0 + step))
        change = _log_metric(changed, loaded.workload, metric) - before
        found.append(Reliance(path, float(value), known[path], change / math.log1p(step)))
    shown = [one for one in found if math.isfinite(one.effect) and one.effect >= MIN_EFFECT]
    answer = sorted(shown, key=lambda one: -one.effect)
    _latest[:] = [(loaded, design, metric, answer)]
    return answer


def _log_metric(design: Any, workload: Any, metric: str) -> float:
    value = float(METRICS[metric](evaluate_exact(design, workload)))
    return math.log(value) if value > 0.0 else math.nan


def reliance_line(found: Sequence[Reliance], metric: str, *, kind: str = TRAINING) -> str:
    """One line: the constants without a source that change a metric most; may be empty.

    The percentages are elasticity times band: by how much the metric changes over the band.
    """
    if not found:
        return ""
    named = ", ".join(one.text() for one in found[:NUM_NAMED])
    rest = len(found) - NUM_NAMED
    more = f"; {rest} more" if rest > 0 else ""
    return f"{metric_of(metric, kind=kind).name} rests on: {named}{more}"


def relied_constants(
    loaded: LoadedSearch, design: Any, *metrics: str
) -> tuple[str, list[Reliance]]:
    """Metric and its `reliances`; the metric is the first of `metrics` that is an objective or a
    limit, else the objective."""
    by_field = {metric_field(name): name for name in METRICS}
    known = [by_field[metric_field(name)] for name in metrics if metric_field(name) in by_field]
    name = known[0] if known else loaded.objective
    return name, reliances(loaded, design, name)


def resting_plot_files(
    loaded: LoadedSearch, folder: Path, formats: Sequence[str], design: Any, *metrics: str
) -> "PlotFiles":
    """Target of plots whose small print names the constants that a metric of a design rests on."""
    from hwdse.report.plot_targets import plot_files

    name, found = relied_constants(loaded, design, *metrics)
    line = as_sentence(reliance_line(found, name, kind=kind_of(loaded)))
    return plot_files(loaded, folder, formats, line)


def as_sentence(line: str) -> str:
    """A line with a capital letter and a period; empty for no line."""
    return f"{line[0].upper()}{line[1:]}." if line else ""


def reliance_rows(found: Sequence[Reliance]) -> list[dict[str, Any]]:
    """The constants as rows of JSON, in SI base units."""
    return [
        {
            "path": one.path,
            "value": one.value,
            "kind": one.origin.kind,
            "band_ratio": one.origin.band,
            "elasticity": one.elasticity,
            "effect_ratio": one.effect,
        }
        for one in found
    ]
