"""Jobs side by side: metrics of each, relative to the first, at equal chips, power, cost or area.

The number of systems of every job but the first is chosen so that its total of the quantity is that
of the first. The totals are those of the whole cluster: chips; facility power, chips with hosts,
supplies and cooling; operating cost per hour; die area. Systems are whole and
need a valid strategy, so the totals differ by a few percent; they are rows of the table.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwdse.config.files.errors import ConfigError, listed
from hwdse.config.files.named_items import find_item, systems_with
from hwdse.jobs.compared_metrics import (
    TOTALS,
    columns_table,
    curve_metrics,
    is_on_core,
    metrics_of,
    num_chips,
    rows_table,
)
from hwdse.jobs.composed_job import Job, job
from hwdse.jobs.equal_totals import TOLERANCE, with_total
from hwdse.jobs.footing.figure_bands import (
    Footing,
    UnlikeConstant,
    bands_json,
    figure_texts,
    footing,
    unlike_constants,
)
from hwdse.jobs.job_results import DEFAULT_FORMATS, ResultTable
from hwdse.jobs.variants import Axis, parse_axis, short_axis, with_value
from hwdse.report.evaluation_json import warnings_json
from hwdse.report.metrics import kind_of
from hwdse.report.parameter_words import parameter_words

AXIS_WORDS = {
    "count": "number of systems",
    "batch": "sequences per step",
    "seq": "tokens per sequence",
}
"""Labels of varied parts of a job."""
MAX_BANDED = 6
"""Largest number of jobs whose bands are computed: a fifth of a second each."""
MAX_COLUMNS = 4
"""Largest number of jobs that are columns; more are rows."""


@dataclass(frozen=True, repr=False)
class Comparison(ResultTable):
    """Metrics of jobs, one column per job, with ratios to the first.

    >>> import hwdse
    >>> core = hwdse.job(core="gemmini", layers="bert_base")
    >>> pair = hwdse.compare([core, core.with_({"accelerator.clock": "2 GHz"})])
    >>> [f"{ratio:.2f}" for ratio in pair.ratios("die_area_mm2")]
    ['1.00', '1.00']
    >>> sorted(pair.as_json())
    ['equal', 'jobs', 'title', 'unlike_kinds']
    """

    labels: tuple[str, ...] = field(kw_only=True)
    jobs: tuple[Job, ...] = field(kw_only=True)
    values: Mapping[str, tuple[float, ...]] = field(kw_only=True)
    """Metrics in base units by name, one value per job."""
    results: tuple[Any, ...] = field(kw_only=True)
    equal: str | None = field(default=None, kw_only=True)
    axes: tuple[Axis, ...] = field(default=(), kw_only=True)
    """Varied parts and parameters; the jobs are all combinations, the last axis first."""

    def ratios(self, name: str) -> tuple[float, ...]:
        """Values of a metric over that of the first job."""
        values = self.values[name]
        return tuple(value / values[0] if values[0] else float("nan") for value in values)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines below the table: the strategy of each job, and why a job cannot run."""
        lines = []
        texts = [one.strategy for one in self.jobs]
        if len(set(texts)) == 1:
            lines += [f"strategy of all: {texts[0]}"] if texts[0] else []
        else:
            lines += [f"{label}: {text}" for label, text in zip(self.labels, texts, strict=True)]
        lines += self._unequal_totals()
        lines += self._footing_lines()
        for label, warnings in zip(self.labels, self.warnings, strict=True):
            lines += [f"{label}: {warning['text']}" for warning in warnings]
        for label, one in zip(self.labels, self.jobs, strict=True):
            lines += [f"{label}: not modeled: {note}" for note in one.loaded.notes]
        return tuple(lines)

    def _unequal_totals(self) -> list[str]:
        """A line for each job whose total that `equal` names differs from that of the first."""
        if self.equal is None:
            return []
        total = TOTALS[self.equal]
        each = [total(one, result) for one, result in zip(self.jobs, self.results, strict=True)]
        return [
            f"{label}: {value / each[0]:.2f}x the {self.equal} of {self.labels[0]}, the nearest "
            "with a whole number of systems"
            for label, value in zip(self.labels, each, strict=True)
            if abs(value / each[0] - 1.0) > TOLERANCE
        ]

    @functools.cached_property
    def footings(self) -> tuple[Footing, ...]:
        """Bands for the figures of each job; none for more than `MAX_BANDED` jobs."""
        if len(self.jobs) > MAX_BANDED:
            return ()
        return tuple(footing(one.loaded, one.design) for one in self.jobs)

    @property
    def unlike(self) -> list[UnlikeConstant]:
        """Constants that decide and are not of one kind in all jobs."""
        return unlike_constants(self.labels, self.footings) if self.footings else []

    def _footing_lines(self) -> list[str]:
        """Bands for the time per token or pass, and the constants of unlike kinds."""
        lines = []
        sides = [one.figures for one in self.footings]
        if sides and all(sides):
            kind = kind_of(self.jobs[0].loaded)
            texts = [figure_texts(one, kind=kind) for one in self.footings]
            name = next(iter(texts[0]))
            bands = [next(iter(figures.values())) for figures in sides]
            parts = [f"{label} {t[name]}" for label, t in zip(self.labels, texts, strict=True)]
            lines.append(f"bands for {name} from the kinds of all constants: {'; '.join(parts)}")
            overlapping = [
                label
                for label, band in zip(self.labels[1:], bands[1:], strict=True)
                if band.overlaps(bands[0])
            ]
            if overlapping and self.unlike:
                lines.append(
                    f"not told apart from {self.labels[0]}, with constants of unlike kinds and "
                    f"bands that overlap: {', '.join(overlapping)}"
                )
        return [*lines, *(one.text() for one in self.unlike)]

    @property
    def warnings(self) -> list[list[dict[str, str]]]:
        """Reasons why a job cannot run, one list per job."""
        return [
            warnings_json(one.design, result.evaluation)
            for one, result in zip(self.jobs, self.results, strict=True)
        ]

    def __repr__(self) -> str:
        return "\n".join((super().__repr__(), *self.notes))

    def as_json(self) -> dict[str, Any]:
        """Labels, metrics in SI base units, ratios to the first job, strategies."""
        points = list(itertools.product(*(axis.values for axis in self.axes)))
        jobs = [
            {
                "label": label,
                "title": one.title,
                "strategy": one.strategy or None,
                "varied": {
                    axis.path: value
                    for axis, value in zip(self.axes, points[index % len(points)], strict=True)
                },
                "metrics": {name: values[index] for name, values in self.values.items()},
                "ratios": {name: self.ratios(name)[index] for name in self.values},
                "bands": bands_json(self.footings[index]) if self.footings else {},
                "warnings": self.warnings[index],
                "not_modeled": list(one.loaded.notes),
            }
            for index, (label, one) in enumerate(zip(self.labels, self.jobs, strict=True))
        ]
        unlike = [one.as_json() for one in self.unlike]
        return {"title": self.title, "equal": self.equal, "jobs": jobs, "unlike_kinds": unlike}

    def plot(
        self, folder: str | Path = ".", formats: Sequence[str] = DEFAULT_FORMATS
    ) -> list[Path]:
        """Write the plot; the paths of the files.

        Curves over a varied parameter with numbers; else bars of the rates relative to the first
        job.
        """
        from hwdse.jobs.reliance import resting_plot_files

        first = self.jobs[0]
        files = resting_plot_files(
            first.loaded, Path(folder), formats, first.design, "time_per_token"
        )
        files = replace(files, job=self.title)
        if len(self.axes) == 1 and (scale := self.axes[0].numbers()) is not None:
            return self._plot_curves(files, *scale)
        return self._plot_bars(files)

    def _plot_bars(self, files: Any) -> list[Path]:
        from hwdse.plots.comparison_bars import plot_rates
        from hwdse.plots.figure_files import new_figure

        rates = {}
        for metric in metrics_of(self.jobs[0]):
            if metric.rate:
                rates[metric.rate] = [r**metric.sign for r in self.ratios(metric.name)]
        height = 1.4 + len(rates) * max(0.13 * len(self.jobs), 0.3)
        figure, (axes,) = new_figure(width_in=7.6, height_in=height)
        plot_rates(axes, self.labels, rates)
        return files.save(figure, "comparison", "Comparison")

    def _plot_curves(self, files: Any, numbers: np.ndarray, unit: str) -> list[Path]:
        from hwdse.plots.comparison_bars import Quantity, plot_curves
        from hwdse.plots.figure_files import new_figure

        quantities = []
        for metric in curve_metrics(self.jobs[0]):
            values = metric.scale * np.reshape(self.values[metric.name], (-1, len(numbers)))
            label = metric.label.replace("effective t", "t").replace(", facility included", "")
            quantities.append(Quantity(label[0].upper() + label[1:], values))
        sides = [one.loaded.labels["system"] for one in self.jobs[:: len(numbers)]]
        path = self.axes[0].path
        label = AXIS_WORDS.get(path) or parameter_words(path)
        label = f"{label} ({unit})" if unit else label
        figure, panels = new_figure(
            len(quantities), width_in=7.2, height_in=1.0 + 2.0 * len(quantities)
        )
        plot_curves(panels, label[0].upper() + label[1:], numbers, sides, quantities)
        return files.save(figure, "comparison", "Comparison")


def compare(
    jobs: Sequence[Job | str | Path], *, equal: str | None = None, **parts: Any
) -> Comparison:
    """Comparison of jobs, each with its own strategy (the best one, unless the job gives one).

    A text is a system with an optional number (`"dgx_h100:8"`), run with the model of `parts`, or
    the name or path of a job file. `parts` are arguments of `hwdse.job`. With `equal`, one of
    `TOTALS`, the number of systems follows from the first job. Raises `ConfigError`.

    >>> import hwdse
    >>> pair = hwdse.compare(
    ...     ["dgx_h100", "dgx_a100"], model="llama3_8b", batch=64, strategy="TP8, ZeRO-1"
    ... )
    >>> pair.labels
    ('DGX H100', 'DGX A100 80 GB')
    >>> pair.ratios("num_chips")
    (1.0, 1.0)
    """
    if equal is not None and equal not in TOTALS:
        raise ConfigError(f"equal = {equal!r}: expected one of {listed(TOTALS)}")
    if len(jobs) < 2:
        raise ConfigError("expected two or more jobs to compare")
    made = [_job_of(one, parts) for one in jobs]
    if len({is_on_core(one) for one in made}) > 1:
        raise ConfigError("expected only jobs on systems or only jobs on cores")
    if equal is not None and is_on_core(made[0]):
        raise ConfigError(f"equal = {equal!r}: expected jobs on systems, whose number can change")
    results = [one.evaluate() for one in made]
    if equal is not None:
        target = TOTALS[equal](made[0], results[0])
        for index in range(1, len(made)):
            found = with_total(made[index], results[index], equal, target)
            made[index], results[index] = found
    return comparison_of(made, results, equal)


def compare_named(
    names: Sequence[str],
    parts: Mapping[str, Any],
    sets: Sequence[str] = (),
    equal: str | None = None,
    vary: Sequence[str] = (),
) -> Comparison:
    """Comparison of a command line: every job of `names` in every variant of `vary`.

    A variant is a text such as `system=trn2_ultraserver,dgx_h100`, `strategy=TP8,TP16` or
    `chip.hbm.bandwidth=2..8TB/s:7`. Raises `ConfigError`.
    """
    every = [parse_axis(text) for text in vary]
    over = next((axis for axis in every if axis.path == "system"), None)
    axes = tuple(axis for axis in every if axis is not over)
    sides = list(over.values) if over is not None else list(names)
    if over is not None and names:
        raise ConfigError(f"--vary {vary[0]}: expected no other names beside varied systems")
    points = list(itertools.product(*(axis.values for axis in axes)))
    made = []
    for side in sides:
        base = _job_of(side, parts)
        base = Job(base.source, (*base.sets, *sets)) if sets else base
        for point in points:
            one = base
            for axis, value in zip(axes, point, strict=True):
                one = with_value(one, axis.path, value)
            made.append(one)
    found = compare(made, equal=equal)
    if not axes:
        return found
    texts = [
        ", ".join(f"{short_axis(axis.path)} {v}" for axis, v in zip(axes, point, strict=True))
        for point in points
    ]
    labels = [
        f"{one.loaded.labels['system']}, {text}" if len(sides) > 1 else text
        for one, text in zip(found.jobs, texts * len(sides), strict=True)
    ]
    return replace(comparison_of(found.jobs, found.results, equal, labels), axes=axes)


def comparison_of(
    jobs: Sequence[Job],
    results: Sequence[Any],
    equal: str | None = None,
    names: Sequence[str] | None = None,
) -> Comparison:
    """Table of jobs and their results, one column per job, or one row for many jobs."""
    labels, metrics = tuple(names or _labels(jobs)), metrics_of(jobs[0])
    values = {
        metric.name: tuple(metric.value(one, r) for one, r in zip(jobs, results, strict=True))
        for metric in metrics
    }
    title = f"{jobs[0].loaded.labels['workload']}"
    if equal is not None:
        title += f", at equal {equal}"
    table = rows_table if len(jobs) > MAX_COLUMNS else columns_table
    return Comparison(
        title,
        *table(metrics, labels, values),
        {"job": labels, **values, "strategy": [one.strategy for one in jobs]},
        labels=labels,
        jobs=tuple(jobs),
        values=values,
        results=tuple(results),
        equal=equal,
    )


def _labels(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Distinct short names of the jobs: system, then what else differs."""
    labels = [one.loaded.labels["system"] for one in jobs]
    for key in ("workload", "software"):
        names = [one.loaded.labels.get(key, "") for one in jobs]
        if len(set(names)) > 1:
            labels = [f"{label}, {name}" for label, name in zip(labels, names, strict=True)]
    if len(set(labels)) < len(labels):
        counts = ["" if is_on_core(one) else f"{num_chips(one, None):g} chips" for one in jobs]
        labels = [f"{label}, {n}" if n else label for label, n in zip(labels, counts, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({index})" for index, label in enumerate(labels, 1)]
    return tuple(labels)


def _job_of(one: Job | str | Path, parts: Mapping[str, Any]) -> Job:
    if isinstance(one, Job):
        return one.with_(**parts) if parts else one
    name = str(one)
    item = find_item(name)
    if item.kind == "job":
        return job(item.name, **parts)
    if item.kind == "accelerator":
        return job(core=item.name, **parts)
    if item.kind == "system":
        return job(system=name, **parts)
    hint = item.hint
    if item.kind == "chip" and (systems := systems_with(item.name)):
        hint = f"a system with it, such as {listed(systems[:3])}"
    raise ConfigError(f"{name} is a {item.kind}: expected a job, a system or a core; {hint}")
