"""Jobs side by side: metrics of each, relative to the first, at equal chips, power, cost or area.

The number of systems of every job but the first is chosen so that its total of the quantity is as
near as possible to that of the first. The totals are those of the whole cluster: chips; facility
power, `num_chips` x `chip_power_w` x `power_overhead_ratio`; operating cost per hour; die area.
Systems are whole and need a valid strategy, so the totals differ by a few percent; they are rows
of the table, and rates per watt and per dollar do not depend on them.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hwdse.config.files.errors import ConfigError, listed
from hwdse.jobs.composed_job import Job, job
from hwdse.jobs.job_results import ResultTable
from hwdse.jobs.variants import parse_axis, short_axis, with_value

MAX_COLUMNS = 4
"""Largest number of jobs that are columns; more are rows."""
IN_ROWS = (
    "effective_tokens_per_s",
    "step_time_s",
    "mfu_fraction",
    "hbm_used_ratio",
    "chip_power_w",
    "energy_per_token_j",
    "step_energy_j",
    "cost_per_token_usd",
)
"""Metrics of a table with one row per job."""
MAX_TRIES = 40
"""Numbers of systems that are tried around the best one."""
ROUNDS = 2
"""Corrections of the number of systems: power per chip depends on the strategy."""
TOLERANCE = 0.06
"""Largest deviation of a total for a number of systems that divides the batch better."""
JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0


def _chips(one: Job, result: Any) -> float:
    return float(one.design.cluster.num_chips)


def _power_w(one: Job, result: Any) -> float:
    overhead = float(one.design.cluster.power_overhead_ratio)
    return _chips(one, result) * float(result.chip_power_w) * overhead


def _cost_usd_per_h(one: Job, result: Any) -> float:
    return _chips(one, result) * float(result.chip_operating_cost_usd_per_s) * SECONDS_PER_HOUR


def _area_mm2(one: Job, result: Any) -> float:
    return _chips(one, result) * float(result.die_area_mm2)


TOTALS: Mapping[str, Callable[[Job, Any], float]] = MappingProxyType(
    {"chips": _chips, "power": _power_w, "cost": _cost_usd_per_h, "area": _area_mm2}
)
"""Totals of a cluster that `equal` may hold, by name: function of a job and its result."""


@dataclass(frozen=True)
class _Row:
    """Row of the table: label with unit, value in that unit, decimals, and whether more is better
    (0: neither)."""

    name: str
    label: str
    value: Callable[[Job, Any], float]
    decimals: int
    sign: int


def _field(name: str, scale: float = 1.0) -> Callable[[Job, Any], float]:
    return lambda one, result: scale * float(getattr(result, name))


CLUSTER_ROWS = (
    _Row("num_chips", "chips", _chips, 0, 0),
    _Row("effective_tokens_per_s", "effective tokens/s", _field("effective_tokens_per_s"), 0, 1),
    _Row(
        "tokens_per_s_per_chip",
        "effective tokens/s per chip",
        lambda one, r: float(r.effective_tokens_per_s) / _chips(one, r),
        0,
        1,
    ),
    _Row("step_time_s", "step time (s)", _field("step_time_s"), 2, -1),
    _Row("mfu_fraction", "MFU (%)", _field("mfu_fraction", 100.0), 1, 1),
    _Row("goodput_fraction", "goodput (%)", _field("goodput_fraction", 100.0), 1, 1),
    _Row("hbm_used_ratio", "HBM usage (%)", _field("hbm_used_ratio", 100.0), 1, 0),
    _Row("chip_power_w", "mean chip power (W)", _field("chip_power_w"), 0, 0),
    _Row("power_w", "facility power (kW)", lambda o, r: 1e-3 * _power_w(o, r), 1, 0),
    _Row("energy_per_token_j", "chip energy (mJ/token)", _field("energy_per_token_j", 1e3), 1, -1),
    _Row("cost_usd_per_h", "cost (USD/h)", _cost_usd_per_h, 0, 0),
    _Row("cost_per_token_usd", "cost (USD/Mtoken)", _field("cost_per_token_usd", 1e6), 3, -1),
    _Row("carbon_per_token_g", "CO2e (g/Mtoken)", _field("carbon_per_token_g", 1e6), 1, -1),
    _Row("die_area_mm2", "die area per chip (mm²)", _field("die_area_mm2"), 0, 0),
)
"""Metrics of jobs on clusters."""
CORE_ROWS = (
    _Row("step_time_s", "time per pass (ms)", _field("step_time_s", 1e3), 3, -1),
    _Row("mfu_fraction", "MAC utilization (%)", _field("mfu_fraction", 100.0), 1, 1),
    _Row("step_energy_j", "energy per pass (mJ)", _field("step_energy_j", 1e3), 3, -1),
    _Row("chip_power_w", "mean power (W)", _field("chip_power_w"), 3, 0),
    _Row("hbm_used_ratio", "peak memory usage (%)", _field("hbm_used_ratio", 100.0), 1, 0),
    _Row("die_area_mm2", "die area (mm²)", _field("die_area_mm2"), 2, 0),
)
"""Metrics of jobs on cores."""


@dataclass(frozen=True, repr=False)
class Comparison(ResultTable):
    """Metrics of jobs, one column per job, with ratios to the first."""

    labels: tuple[str, ...] = field(kw_only=True)
    jobs: tuple[Job, ...] = field(kw_only=True)
    values: Mapping[str, tuple[float, ...]] = field(kw_only=True)
    """Metrics in the units of `units`, one value per job."""
    results: tuple[Any, ...] = field(kw_only=True)
    units: Mapping[str, str] = field(kw_only=True)
    """Labels with units of the metrics, by name."""
    equal: str | None = field(kw_only=True)

    def ratios(self, name: str) -> tuple[float, ...]:
        """Values of a metric over that of the first job."""
        values = self.values[name]
        return tuple(value / values[0] if values[0] else float("nan") for value in values)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines below the table: the strategy of each job, and jobs that do not fit."""
        lines = []
        texts = [one.strategy for one in self.jobs]
        if len(set(texts)) == 1:
            lines += [f"strategy of all: {texts[0]}"] if texts[0] else []
        else:
            lines += [f"{label}: {text}" for label, text in zip(self.labels, texts, strict=True)]
        for label, one in zip(self.labels, self.jobs, strict=True):
            lines += [f"{label}: not modeled: {note}" for note in one.loaded.notes]
        used = self.values["hbm_used_ratio"]
        lines += [
            f"{label}: DOES NOT FIT, memory usage {ratio:.0f} %"
            for label, ratio in zip(self.labels, used, strict=True)
            if ratio > 100.0
        ]
        return tuple(lines)

    def __repr__(self) -> str:
        return "\n".join((super().__repr__(), *self.notes))

    def as_json(self) -> dict[str, Any]:
        """Labels, metrics in the units of their labels, ratios to the first job, strategies."""
        jobs = [
            {
                "label": label,
                "title": one.title,
                "strategy": one.strategy or None,
                "metrics": {name: values[index] for name, values in self.values.items()},
                "ratios": {name: self.ratios(name)[index] for name in self.values},
            }
            for index, (label, one) in enumerate(zip(self.labels, self.jobs, strict=True))
        ]
        return {"title": self.title, "equal": self.equal, "units": dict(self.units), "jobs": jobs}

    def plot(self, folder: str | Path = ".", formats: Sequence[str] = ("png", "svg")) -> list[Path]:
        """Write bars of the rates relative to the first job; the paths of the files."""
        from hwdse.plots.comparison_bars import save_comparison

        shown = [row for row in _rows(self.jobs) if row.sign and row.name in self.values]
        groups = {row.label: self.ratios(row.name) for row in shown if row.sign > 0}
        groups |= {
            f"1 / {row.label}": tuple(1.0 / value for value in self.ratios(row.name))
            for row in shown
            if row.sign < 0
        }
        return save_comparison(self.title, self.labels, groups, Path(folder), formats)


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
    ('DGX H100', 'DGX A100')
    >>> pair.ratios("num_chips")
    (1.0, 1.0)
    """
    if equal is not None and equal not in TOTALS:
        raise ConfigError(f"equal = {equal!r}: expected one of {listed(TOTALS)}")
    if len(jobs) < 2:
        raise ConfigError("expected two or more jobs to compare")
    made = [_job_of(one, parts) for one in jobs]
    if len({hasattr(one.design, "accelerator") for one in made}) > 1:
        raise ConfigError("expected only jobs on systems or only jobs on cores")
    results = [one.evaluate() for one in made]
    if equal is not None:
        target = TOTALS[equal](made[0], results[0])
        for index in range(1, len(made)):
            for _ in range(ROUNDS):
                made[index] = _scaled(made[index], results[index], equal, target)
                results[index] = made[index].evaluate()
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
    axes = [parse_axis(text) for text in vary]
    over = next((axis for axis in axes if axis.path == "system"), None)
    sides = list(over.values) if over is not None else list(names)
    if over is not None and names:
        raise ConfigError(f"--vary {vary[0]}: expected no other names beside varied systems")
    made = []
    for side in sides:
        base = _job_of(side, parts)
        base = Job(base.source, (*base.sets, *sets)) if sets else base
        for point in itertools.product(*(axis.values for axis in axes if axis is not over)):
            one = base
            for axis, value in zip((a for a in axes if a is not over), point, strict=True):
                one = with_value(one, axis.path, value)
            made.append(one)
    varied = [axis for axis in axes if axis is not over]
    found = compare(made, equal=equal)
    if not varied:
        return found
    points = [
        ", ".join(f"{short_axis(axis.path)} {v}" for axis, v in zip(varied, point, strict=True))
        for _ in sides
        for point in itertools.product(*(axis.values for axis in varied))
    ]
    many = len(sides) > 1
    labels = [
        f"{one.loaded.labels['system']}, {point}" if many else point
        for one, point in zip(found.jobs, points, strict=True)
    ]
    return comparison_of(found.jobs, found.results, equal, labels)


def comparison_of(
    jobs: Sequence[Job],
    results: Sequence[Any],
    equal: str | None = None,
    names: Sequence[str] | None = None,
) -> Comparison:
    """Table of jobs and their results, one column per job, or one row for many jobs."""
    labels = tuple(names or _labels(jobs))
    rows = _rows(jobs)
    values = {
        row.name: tuple(row.value(one, r) for one, r in zip(jobs, results, strict=True))
        for row in rows
    }
    cells: list[tuple[str, ...]] = []
    for row in rows:
        numbers = values[row.name]
        texts = [f"{number:,.{row.decimals}f}" for number in numbers]
        ratios = [f"{n / numbers[0]:.2f}x" if numbers[0] else "-" for n in numbers[1:]]
        pairs = [f"{text} ({ratio})" for text, ratio in zip(texts[1:], ratios, strict=True)]
        cells.append((row.label, texts[0], *pairs))
    strategies = [one.strategy for one in jobs]
    title = f"{jobs[0].loaded.labels['workload']}"
    if equal is not None:
        title += f", at equal {equal}"
    heads: tuple[str, ...] = ("metric", *labels)
    if len(jobs) > MAX_COLUMNS:
        heads, cells = _transposed(rows, labels, values)
    return Comparison(
        title,
        heads,
        tuple(cells),
        {"job": labels, **values, "strategy": strategies},
        labels=labels,
        jobs=tuple(jobs),
        values=values,
        results=tuple(results),
        units={row.name: row.label for row in rows},
        equal=equal,
    )


def _transposed(
    rows: Sequence[_Row],
    labels: Sequence[str],
    values: Mapping[str, tuple[float, ...]],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows of a table with one row per job; ratios for the first rate only."""
    shown = [row for row in rows if row.name in IN_ROWS]
    first = shown[0]
    heads = ("job", *(row.label for row in shown), "relative")
    cells = []
    for index, label in enumerate(labels):
        numbers = [f"{values[row.name][index]:,.{row.decimals}f}" for row in shown]
        base = values[first.name][0]
        better = values[first.name][index] / base if base else float("nan")
        ratio = better if first.sign > 0 else 1.0 / better
        cells.append((label, *numbers, f"{ratio:.2f}x"))
    return heads, cells


def _rows(jobs: Sequence[Job]) -> tuple[_Row, ...]:
    return CORE_ROWS if hasattr(jobs[0].design, "accelerator") else CLUSTER_ROWS


def _labels(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Distinct short names of the jobs: system, then what else differs."""
    labels = [one.loaded.labels["system"] for one in jobs]
    for key in ("workload", "software"):
        names = [one.loaded.labels.get(key, "") for one in jobs]
        if len(set(names)) > 1:
            labels = [f"{label}, {name}" for label, name in zip(labels, names, strict=True)]
    if len(set(labels)) < len(labels):
        counts = [f"{_chips(one, None):g} chips" if _is_cluster(one) else "" for one in jobs]
        labels = [f"{label}, {n}" if n else label for label, n in zip(labels, counts, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({index})" for index, label in enumerate(labels, 1)]
    return tuple(labels)


def _is_cluster(one: Job) -> bool:
    return not hasattr(one.design, "accelerator")


def _job_of(one: Job | str | Path, parts: Mapping[str, Any]) -> Job:
    from hwdse.config.files.named_items import find_item, systems_with

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


def _scaled(one: Job, result: Any, equal: str, target: float) -> Job:
    """The job with the number of systems whose total is near the target.

    Candidates are the nearest number and the one within `TOLERANCE` whose chips divide the batch
    best; that with the higher throughput per unit of the total is taken.
    """
    if not _is_cluster(one):
        raise ConfigError(f"equal = {equal!r}: expected jobs on systems, whose number can change")
    chips_per_system = int(_chips(one, result) / _count(one))
    ideal = target / (TOTALS[equal](one, result) / _count(one))
    batch = int(getattr(one.workload, "global_batch", 1.0))

    def common(count: int) -> int:
        return math.gcd(count * chips_per_system, batch)

    near = [n for n in range(1, int(ideal * 1.5) + 2) if abs(n / ideal - 1.0) <= TOLERANCE]
    nearest = sorted(range(max(round(ideal) - MAX_TRIES, 1), round(ideal) + MAX_TRIES + 1),
                     key=lambda n: abs(n - ideal))  # fmt: skip
    found = [_first_valid(one, sorted(near, key=lambda n: (-common(n), abs(n - ideal))))]
    found.append(_first_valid(one, nearest))
    made = {_count(each): each for each in found if each is not None}
    if not made:
        raise ConfigError(
            f"{one.title}: no number of systems near {ideal:.3g} has a valid strategy"
        )

    def rate(each: Job) -> float:
        its = each.evaluate()
        return float(its.effective_tokens_per_s) / TOTALS[equal](each, its)

    return max(made.values(), key=rate) if len(made) > 1 else next(iter(made.values()))


def _first_valid(one: Job, counts: Sequence[int]) -> Job | None:
    """The job with the first number of systems that has a valid strategy, or None."""
    for count in counts[:MAX_TRIES]:
        try:
            return one.with_(count=count)
        except ConfigError:
            continue
    return None


def _count(one: Job) -> float:
    return float(one.loaded.tables["design"].get("num_systems", 1.0))
