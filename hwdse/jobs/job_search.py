"""Search of a job: gradient search, sweep and Pareto front in one line each."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hwdse.config.files.base_files import merge_tables
from hwdse.config.files.errors import ConfigError
from hwdse.config.schema.user_paths import format_value, is_static, resolve, short_path
from hwdse.config.search.job_source import JobSource
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.config.search.search_file_objectives import front_objectives_fn, objective_fn
from hwdse.config.search.write_toml import to_toml
from hwdse.jobs.job_interface import AnyJob
from hwdse.jobs.job_results import DEFAULT_FORMATS, ResultTable
from hwdse.objectives import OBJECTIVES
from hwdse.report.metrics import kind_of, metric_of
from hwdse.search.space.pytree_path import get_path


@dataclass(frozen=True)
class Search:
    """A job and what may change; made by `Job.search`."""

    job: AnyJob

    @property
    def loaded(self) -> LoadedSearch:
        """The checked search: base design, space, objective, limits."""
        return self.job.loaded

    def optimize(self, evaluations: int = 10_000, seed: int | None = None) -> "SearchOutcome":
        """Best design within the limits, rounded to the parameter steps, by gradient search."""
        from hwdse.search.descent.minimize import allocate_evaluations, minimize

        loaded = self._searched()
        variants = math.prod(len(variant.values) for variant in loaded.space.variants)
        with jax.enable_x64(True):
            found = minimize(
                objective_fn(loaded),
                loaded.space,
                loaded.base,
                seed=loaded.seed if seed is None else seed,
                **allocate_evaluations(evaluations, variants),
            )
        return outcome_of(self.job, found)

    def sweep(self, points: int = 100_000, method: str = "sobol") -> "FrontTable":
        """Pareto front of designs that fill the space: `sobol`, `random` or `grid`."""
        from hwdse.runs.sweep_job import job_of
        from hwdse.search.sweeps.chunked_sweep import sweep_chunks
        from hwdse.search.sweeps.sweep_plan import merge_chunk, plan_sweep

        loaded = self._searched()
        try:
            plan = plan_sweep(loaded.space, num_points=points, method=method, seed=loaded.seed)
        except ValueError as error:
            raise ConfigError(f"points = {points}, method = {method!r}: {error}") from None
        sweep_job, result = job_of(loaded, plan), None
        for chunk in sweep_chunks(sweep_job.runner(), plan):
            result = merge_chunk(result, chunk)
        if result is None:
            raise ConfigError(f"points = {points}: expected at least 1")
        return front_table(self.job, sweep_job, result.front, result.num_points)

    def front(self, evaluations: int = 10_000, seed: int | None = None) -> "FrontTable":
        """Pareto front of the front objectives by gradient search."""
        from hwdse.runs.sweep_job import job_of
        from hwdse.search.front.front_search import search_front

        loaded = self._searched()
        found = search_front(
            front_objectives_fn(loaded),
            loaded.space,
            loaded.base,
            seed=loaded.seed if seed is None else seed,
            num_evaluations=evaluations,
        )
        return front_table(self.job, job_of(loaded), found.front, found.num_evaluations)

    def _searched(self) -> LoadedSearch:
        if not (
            self.loaded.space.dimensions or self.loaded.space.choices or self.loaded.space.variants
        ):
            raise ConfigError(
                f"{self.job.title}: expected something to search, as in search({{...}})"
            )
        return self.loaded


@dataclass(frozen=True, repr=False)
class SearchOutcome(ResultTable):
    """Best design of a search beside the base design."""

    design: Any = field(kw_only=True)
    is_feasible: bool = field(kw_only=True)
    num_evaluations: int = field(kw_only=True)
    job: AnyJob = field(kw_only=True)

    def to_toml(self) -> str:
        """Search file of the design, input of `hwdse evaluate` and `hwdse.job`."""
        return to_toml(self.job.loaded, self.design)

    def write(self, path: str | Path) -> Path:
        """Write the search file of the design; its path."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")
        return Path(path)


@dataclass(frozen=True, repr=False)
class FrontTable(ResultTable):
    """Designs of a Pareto front, with all metrics in `columns`."""

    num_evaluations: int = field(kw_only=True)
    objectives: tuple[str, ...] = field(kw_only=True)
    objective_values: np.ndarray = field(kw_only=True)
    """Objectives in base units, shape (designs, objectives)."""
    job: AnyJob = field(kw_only=True)

    def plot(
        self, folder: str | Path = ".", formats: Sequence[str] = DEFAULT_FORMATS
    ) -> list[Path]:
        """Write the front and the base design to a folder; the paths of the files."""
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.plots.fronts.pareto_plots import FrontPoints, Marker
        from hwdse.report.evaluation_plots import save_pareto

        loaded, first = self.job.loaded, self.objectives[0]
        files = resting_plot_files(loaded, Path(folder), formats, loaded.base, first)
        base = self.job.evaluate().evaluation
        values = tuple(float(OBJECTIVES[name](base)) for name in self.objectives)
        is_front = np.ones(len(self.objective_values), dtype=bool)
        return save_pareto(
            [FrontPoints("Pareto front", self.objective_values, is_front)],
            self.objectives,
            [Marker(loaded.labels["system"], values, "baseline")],
            files,
            kind=kind_of(loaded),
        )


def search_of(
    job: AnyJob,
    variables: Mapping[str, Any],
    minimize: str | None,
    front: tuple[str, ...] | None,
    limits: Mapping[str, Any],
    strategy: str | None,
) -> Search:
    """Search of a job.

    `variables` maps paths to `(low, high)`, `(low, high, step)` or a list of values; texts have
    units, numbers are in SI base units. Names such as a dataflow are lists of texts. `strategy` is
    `"best"` or `"all"` to search the parallelism strategy as well. Values of a search file remain
    unless they are given. Raises `ConfigError`, one line.
    """
    if job.traced:
        raise ConfigError(
            f"{next(iter(job.traced))}: expected a number or a text; a search has no traced values"
        )
    tables: dict[str, Any] = {"variables": [], "choices": [], "variants": []}
    for path, values in variables.items():
        kind, table = _entry(job, path, values)
        tables[kind].append(table)
    if strategy is not None:
        tables["choices"].append({"path": "parallelism", "values": strategy})
    given = {key: value for key, value in tables.items() if value}
    objective: dict[str, Any] = {}
    if minimize is not None:
        objective["minimize"] = minimize
    if front is not None:
        objective["front"] = list(front)
    if front is None and len(job.loaded.front_objectives) < 2:
        objective["front"] = ["time_per_token", "energy_per_token"]
    if objective:
        given["objective"] = objective
    if limits:
        given["limits"] = dict(limits)
    source = JobSource(job.source.path, merge_tables(job.source.tables, given))
    searched: Any = job
    return Search(dataclasses.replace(searched, source=source))


def _entry(job: AnyJob, path: str, values: Any) -> tuple[str, dict[str, Any]]:
    """Kind of table and the table of one searched path."""
    if not isinstance(values, tuple | list) or len(values) < 2:
        raise ConfigError(f"{path} = {values!r}: expected (low, high), (low, high, step) or a list")
    roots = job.roots
    try:
        name = resolve(roots, path)
    except ValueError as error:
        raise ConfigError(f"{path}: expected {error}") from None
    if is_static(roots, name):
        return "variants", {"path": path, "values": list(values)}
    plain = [_with_unit(name, value) for value in values]
    if isinstance(values, list):
        return "choices", {"path": path, "values": plain}
    table = dict(zip(("low", "high", "step"), plain, strict=False))
    return "variables", {"path": path, **table}


def _with_unit(path: str, value: Any) -> Any:
    """A number in SI base units as text with its unit."""
    from hwdse.config.schema.user_paths import field_name
    from hwdse.units.parse_units import split_field

    unit = split_field(field_name(path))[1]
    is_bare = isinstance(value, int | float) and not isinstance(value, bool) and unit != "1"
    return f"{value!r} {unit}" if is_bare else value


def outcome_of(job: AnyJob, found: Any) -> SearchOutcome:
    """Table of the searched parameters before and after, and of the objective."""
    loaded = job.loaded
    paths = [dimension.path for dimension in loaded.space.dimensions]
    paths += [path for choice in loaded.space.choices for path in choice.paths]
    names = [variant.path for variant in loaded.space.variants]
    before = float(OBJECTIVES[loaded.objective](job.evaluate().evaluation))
    after = math.exp(found.log_objective)
    metric = metric_of(loaded.objective, kind=kind_of(loaded))
    rows: list[tuple[str, ...]] = [(metric.label, *metric.cells([before, after]))]
    for path in paths:
        pair = [float(get_path(design, path)) for design in (loaded.base, found.design)]
        rows.append((short_path(path), *(format_value(path, value) for value in pair)))
    for path in names:
        rows.append((short_path(path), *(get_path(d, path) for d in (loaded.base, found.design))))
    factor = f"{before / after:.3g}x lower" if after < before else f"{after / before:.3g}x higher"
    status = "" if found.is_feasible else ", no design meets the limits"
    columns = {
        "parameter": [loaded.objective, *paths, *names],
        "base": [before, *(get_path(loaded.base, path) for path in (*paths, *names))],
        "best": [after, *(get_path(found.design, path) for path in (*paths, *names))],
    }
    return SearchOutcome(
        f"{job.title}: {metric.name} {factor}{status}",
        ("parameter", "base", "best"),
        tuple(rows),
        columns,
        design=found.design,
        is_feasible=bool(found.is_feasible),
        num_evaluations=int(found.num_evaluations),
        job=job,
    )


def front_table(job: AnyJob, sweep_job: Any, rows: Any, num_evaluations: int) -> FrontTable:
    """Table of the designs of a front, sorted by the first objective."""
    from hwdse.runs.sweep_job import row_columns

    columns = row_columns(sweep_job, rows)
    objectives = tuple(sweep_job.objectives)
    values = np.exp(rows.log_objectives)
    order = np.argsort(values[:, 0])
    paths = [dimension.path for dimension in job.loaded.space.dimensions]
    metrics = [metric_of(name, kind=kind_of(job.loaded)) for name in objectives]
    texts = [
        metric.cells(column.tolist())
        for metric, column in zip(metrics, values[order].T, strict=True)
    ]
    texts += [[format_value(path, float(v)) for v in columns[path][order]] for path in paths]
    names = [choice.name for choice in job.loaded.space.choices]
    names += [variant.path for variant in job.loaded.space.variants]
    texts += [[_cell(value) for value in columns[name][order]] for name in names]
    cells = list(zip(*texts, strict=True))
    heads = [metric.label for metric in metrics]
    heads += [short_path(path) for path in (*paths, *names)]
    noun = "design" if len(order) == 1 else "designs"
    return FrontTable(
        f"{job.title}: Pareto front of {len(order)} {noun} from {num_evaluations:,} evaluations",
        tuple(heads),
        tuple(cells),
        {name: np.asarray(column)[order] for name, column in columns.items()},
        num_evaluations=num_evaluations,
        objectives=objectives,
        objective_values=values[order],
        job=job,
    )


def _cell(value: Any) -> str:
    """Text of a chosen number or name."""
    return value if isinstance(value, str) else f"{float(value):g}"
