"""Bands for the figures of a design from the kinds of its constants, and sides of unlike kinds.

Each constant moves alone to both ends of its band; the changes of ln(figure) are added as squares,
those up and those down apart: independent constants, to first order in each band
(JCGM 100:2008, GUM, equation 10). The bands for the kinds are conventions; that of a figure is an
order of magnitude, not a confidence interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwdse.config.provenance import UNSURE, Origin, origins
from hwdse.config.schema.user_paths import format_value, short_path
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.evaluation import evaluate_exact
from hwdse.objectives import OBJECTIVES
from hwdse.search.space.pytree_path import get_path, set_path

FIGURES = ("time_per_token_s", "energy_per_token_j", "chip_power_w", "cost_per_token_usd")
"""Figures of a job on a cluster."""
Figures = Callable[[Any], dict[str, float]]
"""Figures by name of an evaluation."""
CORE_FIGURES = ("step_time_s", "step_energy_j", "chip_power_w")
"""Figures of a job on a core."""
MIN_EFFECT = 0.02
"""Change of a figure over a band from which on a constant decides a comparison."""
MAX_UNLIKE = 4
"""Constants of unlike kinds that are named."""


@dataclass(frozen=True)
class FigureBand:
    """Value of a figure with the ends of its band, in base units."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "FigureBand") -> bool:
        """True if a value is possible for both."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class BandedConstant:
    """A constant with its origin, the ends of its band, and its largest effect on a figure."""

    value: float
    low: float
    high: float
    origin: Origin
    effect: float


@dataclass(frozen=True)
class Footing:
    """Bands for the figures of a design, and the constants that make them."""

    figures: Mapping[str, FigureBand]
    constants: Mapping[str, BandedConstant]


_latest: list[tuple[LoadedSearch, Any, Footing]] = []
"""Last questions and answers: table, JSON and picture of a command ask the same."""


EFFICIENCIES = (
    "chip.matrix_efficiency_fraction",
    "chip.attention_efficiency_fraction",
    "chip.hbm_efficiency_fraction",
)
"""Constants of a chip that a class gives; those that decide between chips."""


def efficiency_kind(loaded: LoadedSearch) -> str:
    """Kind of the matrix efficiency of the chip of a job; empty for a core."""
    found = origins(loaded).get(EFFICIENCIES[0])
    return "" if found is None else found.kind


def unfitted_efficiencies(loaded: LoadedSearch) -> list[str]:
    """Texts of the efficiencies of the chip of a job that have no source, with their bands."""
    texts = []
    known = origins(loaded)
    for path in EFFICIENCIES:
        origin = known.get(path)
        if origin is None or origin.kind not in UNSURE:
            continue
        value = float(get_path(loaded.base, path))
        low, high = (format_value(path, end, 3) for end in origin.interval(path, value))
        text = f"{short_path(path)} {format_value(path, value, 3)}"
        texts.append(f"{text} ({origin.kind}, {low} to {high})")
    return texts


def footing(loaded: LoadedSearch, design: Any) -> Footing:
    """Bands for the figures of a design; none for a core with an optimized mapping, which takes
    long."""
    for last_loaded, last_design, answer in _latest:
        if last_loaded is loaded and last_design == design:
            return answer
    answer = _footing(loaded, design)
    _latest[:] = [*_latest[-7:], (loaded, design, answer)]
    return answer


def _footing(loaded: LoadedSearch, design: Any) -> Footing:
    names = CORE_FIGURES if hasattr(design, "accelerator") else FIGURES
    return _bands(
        loaded, design, lambda found: {name: float(getattr(found, name)) for name in names}
    )


def objective_bands(
    loaded: LoadedSearch, design: Any, objectives: Sequence[str]
) -> dict[str, FigureBand]:
    """Bands for objectives by name, as for figures; without those that are not positive."""
    found = _bands(
        loaded, design, lambda found: {name: float(OBJECTIVES[name](found)) for name in objectives}
    )
    return dict(found.figures)


def _bands(loaded: LoadedSearch, design: Any, figures: Figures) -> Footing:
    """Bands for the figures that a function reads from an evaluation."""
    if getattr(design, "runs_long", False):
        return Footing({}, {})
    nominal = _logs(design, loaded.workload, figures)
    up = dict.fromkeys(nominal, 0.0)
    down = dict.fromkeys(nominal, 0.0)
    constants = {}
    for path, origin in origins(loaded).items():
        value = None if path.startswith("workload.") else get_path(design, path)
        if isinstance(value, str | bool | tuple) or value is None or not origin.band:
            continue
        if not float(value):
            continue
        ends = origin.interval(path, float(value))
        changes = {name: [0.0] for name in nominal}
        for end in ends:
            if end == value:
                continue
            moved = _logs(set_path(design, path, end), loaded.workload, figures)
            for name in nominal:
                change = moved.get(name, math.nan) - nominal[name]
                if math.isfinite(change):
                    changes[name].append(change)
        for name, found in changes.items():
            up[name] += max(found) ** 2
            down[name] += min(found) ** 2
        effect = max((abs(c) for found in changes.values() for c in found), default=0.0)
        constants[path] = BandedConstant(float(value), *ends, origin, effect)
    bands = {
        name: FigureBand(
            math.exp(log),
            math.exp(log - math.sqrt(down[name])),
            math.exp(log + math.sqrt(up[name])),
        )
        for name, log in nominal.items()
    }
    return Footing(bands, constants)


def _logs(design: Any, workload: Any, figures: Figures) -> dict[str, float]:
    """ln of each positive figure."""
    values = figures(evaluate_exact(design, workload))
    return {name: math.log(value) for name, value in values.items() if value > 0.0}


def figure_texts(found: Footing, *, kind: str) -> dict[str, str]:
    """Band for each figure in the unit of its table, such as `1.9 to 4.1 µs`, by its name."""
    from hwdse.report.metrics import HEADLINES

    metrics = {metric.field: metric for metric in HEADLINES[kind]}
    texts = {}
    for field, band in found.figures.items():
        metric = metrics[field]
        low, high = metric.cells([band.low, band.high])
        texts[metric.name] = f"{low} to {high} {metric.unit}"
    return texts


def bands_json(found: Footing) -> dict[str, dict[str, float]]:
    """Ends of the band for each figure in base units."""
    return {name: {"low": one.low, "high": one.high} for name, one in found.figures.items()}


@dataclass(frozen=True)
class UnlikeConstant:
    """A constant that decides and is not of one kind on all sides."""

    path: str
    sides: tuple[tuple[str, BandedConstant], ...]
    """Label and constant of each side that has it."""

    def text(self) -> str:
        """Line with kind, value and band for each side."""
        parts = [
            f"{label} {format_value(self.path, one.value, 3)} ({one.origin.kind}, "
            f"{format_value(self.path, one.low, 3)} to {format_value(self.path, one.high, 3)})"
            for label, one in self.sides
        ]
        return f"unlike kinds of {short_path(self.path)}: {'; '.join(parts)}"

    def as_json(self) -> dict[str, Any]:
        """Path, and kind, value and band for each side in base units."""
        return {
            "path": self.path,
            "sides": [
                {"label": label, "kind": one.origin.kind, "value": one.value, "low": one.low,
                 "high": one.high, "effect_ratio": one.effect}
                for label, one in self.sides
            ],
        }  # fmt: skip


def unlike_constants(labels: Sequence[str], sides: Sequence[Footing]) -> list[UnlikeConstant]:
    """Constants with a source on some sides and without one (`UNSURE`) on others that move a figure
    of one of them by `MIN_EFFECT` or more, largest effect first."""
    found = []
    for path in dict.fromkeys(path for side in sides for path in side.constants):
        pairs = tuple(
            (label, side.constants[path])
            for label, side in zip(labels, sides, strict=True)
            if path in side.constants
        )
        has_source = {one.origin.kind not in UNSURE for _, one in pairs}
        effect = max(one.effect for _, one in pairs)
        if len(has_source) > 1 and effect >= MIN_EFFECT:
            found.append((-effect, UnlikeConstant(path, pairs)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])][:MAX_UNLIKE]
