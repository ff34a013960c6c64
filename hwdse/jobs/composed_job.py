"""Job: model, task, system, strategy and software, as one object with its answers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax.core import Tracer

from hwdse.config.files.errors import ConfigError
from hwdse.config.files.named_items import system_and_count
from hwdse.config.schema.user_paths import Roots, replace_value, resolve
from hwdse.config.search.job_source import JobSource
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.config.search.search_file import load_search
from hwdse.jobs.job_results import JobResult, ResultTable, metric_table
from hwdse.jobs.set_texts import set_text

if TYPE_CHECKING:
    from hwdse.jobs.job_search import Search

_DESIGN_KEYS = {
    "count": "num_systems",
    "core": "accelerator",
    "batch": "global_batch",
    "seq": "seq_len",
    "rate": "arrival_rate",
}
"""Keys of `[design]` by argument, where they differ."""


@dataclass(frozen=True)
class Job:
    """A question to the model: what runs on which system in which way.

    Made by `hwdse.job`. Immutable; `with_` returns a job that differs.

    >>> import hwdse
    >>> training = hwdse.job(system="dgx_h100", model="llama3_8b", strategy="TP8")
    >>> training.with_({"chip.hbm.bandwidth": "4 TB/s"}).design.chip.hbm.bandwidth_bytes_per_s
    4000000000000.0
    >>> training.with_(count=4, strategy="TP4 PP2").strategy
    'TP4 PP2 DP4, micro-batch 1, no recompute, ZeRO-1'
    """

    source: JobSource = field(repr=False)
    sets: tuple[str, ...] = ()
    """Overrides as texts of `--set`."""
    traced: Mapping[str, Any] = field(default_factory=dict)
    """Arrays and traced values by path; a searched strategy is not searched again for them."""
    loaded: LoadedSearch = field(init=False, repr=False, compare=False)
    """The checked job: base design, workload, labels, limits, search space."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "loaded", load_search(self.source, self.sets))

    def __repr__(self) -> str:
        return f"Job({self.title!r})"

    @property
    def title(self) -> str:
        """Workload and system in words."""
        return self.loaded.title

    @property
    def workload(self) -> Any:
        """Workload for `hwdse.evaluate`."""
        return self.roots["workload"]

    @property
    def design(self) -> Any:
        """Design for `hwdse.evaluate`, with the traced values."""
        roots = self.roots
        return dataclasses.replace(
            self.loaded.base, **{k: v for k, v in roots.items() if k != "workload"}
        )

    @property
    def is_traced(self) -> bool:
        """True if a value is a tracer or an array."""
        return bool(self.traced)

    @property
    def strategy(self) -> str:
        """Parallelism strategy as text; empty for layers and cores."""
        from hwdse.config.design.strategy import text_of

        return text_of(self.design, self.workload)

    def with_(self, changes: Mapping[str, Any] | None = None, **parts: Any) -> "Job":
        """Job with other values.

        `changes` maps paths to texts with units (`"4 TB/s"`), numbers in SI base units, arrays or
        traced values. `parts` are arguments of `hwdse.job`, such as `system` or `strategy`.
        Raises `ConfigError` with one line for an unknown path or a value that is not allowed.
        """
        source = self.source
        if parts:
            from hwdse.config.search.job_tables import with_new_job

            tables = with_new_job(source.tables, _tables(parts))
            source = JobSource(source.path, tables)
        sets, traced = list(self.sets), dict(self.traced)
        for path, value in (changes or {}).items():
            is_plain = isinstance(value, jax.Array) and not isinstance(value, Tracer)
            if is_plain and value.ndim == 0:
                value = value.item()
            if isinstance(value, jax.Array):
                traced[resolve(self.roots, path)] = value
            else:
                sets.append(set_text(self.roots, path, value))
        return Job(source, tuple(sets), traced)

    def evaluate(self) -> JobResult:
        """Metrics of the design by the exact model in float64; prints as a table.

        Within `jax.jit`, `jax.grad` or `jax.vmap` over a value of `with_`, the attributes of the
        result are traced values in the float type of the caller's scope.
        """
        from hwdse.evaluation import evaluate, evaluate_exact

        if self.is_traced:
            evaluation = evaluate(self.design, self.workload)
        else:
            evaluation = evaluate_exact(self.design, self.workload)
        return metric_table(evaluation, self)

    def strategies(self, top: int = 10, sort_by: str = "step_time", **options: Any) -> ResultTable:
        """Table of the parallelism strategies that fit the HBM, best first by `sort_by`.

        `options` are fields of `training.StrategyOptions`, such as `tensor=(8, 16)`.
        """
        from hwdse.jobs.strategy_ranks import strategy_table

        return strategy_table(self, top, sort_by, options)

    def gradient(self, metric: str = "time_per_token", top: int | None = 15) -> ResultTable:
        """Table of the elasticities of a metric to the parameters, largest first.

        Elasticity: d ln(metric) / d ln(parameter). One backward pass returns all of them; `columns`
        has every parameter with its derivative in SI base units.
        """
        from hwdse.jobs.elasticity_table import elasticity_table

        return elasticity_table(self, metric, top)

    def search(
        self,
        variables: Mapping[str, Any] | None = None,
        *,
        minimize: str | None = None,
        front: tuple[str, ...] | None = None,
        limits: Mapping[str, Any] | None = None,
        strategy: str | None = None,
    ) -> "Search":
        """Search of the job over `variables`.

        `variables` maps paths to `(low, high)`, `(low, high, step)` or a list of values: texts with
        units, or numbers in SI base units. `limits` maps names such as `die_area` to upper limits.
        `strategy` is `"best"` or `"all"` to search the parallelism strategy as well. Values of a
        search file remain unless they are given. Raises `ConfigError` with one line.

        >>> import hwdse
        >>> training = hwdse.job(system="dgx_h100", model="llama3_8b", strategy="TP8")
        >>> ranges = {"chip.hbm.bandwidth": ("2 TB/s", "8 TB/s"), "chip.array.rows": [32, 64]}
        >>> limits = {"die_area": "1100 mm^2"}
        >>> found = training.search(ranges, minimize="energy_delay", limits=limits)
        >>> len(found.loaded.space.dimensions)
        1
        """
        from hwdse.jobs.job_search import search_of

        return search_of(self, variables or {}, minimize, front, limits or {}, strategy)

    @property
    def roots(self) -> Roots:
        """Specs by the first words of paths: chip, cluster, ..., workload."""
        base = self.loaded.base
        roots: Roots = {one.name: getattr(base, one.name) for one in dataclasses.fields(base)}
        roots = {name: value for name, value in roots.items() if name != "mapping"}
        roots["workload"] = self.loaded.workload
        for path, value in self.traced.items():
            roots = replace_value(roots, path, value)
        return roots


def job(
    config: str | Path | None = None,
    *,
    system: str | None = None,
    count: int | None = None,
    model: str | None = None,
    task: str | None = None,
    strategy: str | None = None,
    software: str | None = None,
    batch: int | None = None,
    seq: int | None = None,
    chip: str | None = None,
    core: str | None = None,
    layers: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    concurrency: float | None = None,
    rate: float | str | None = None,
) -> Job:
    """Job of presets and files by name.

    `config` is a job or search file, or a preset of `configs/searches`; the other arguments take
    the place of its values, or are the whole job. Without a strategy it is the best one that fits.
    An `engine`, or a task of requests such as `chat`, makes a service of the job; `concurrency`
    (requests in flight) or `rate` (arrivals per second) is its load.
    Raises `ConfigError` with a line for each mistake.

    >>> import hwdse
    >>> training = hwdse.job(system="dgx_h100", count=2, model="llama3_8b", strategy="TP2 PP2")
    >>> training.title
    'Llama 3 8B pre-training on 2 x DGX H100'
    >>> training.evaluate().tokens_per_step
    8388608.0
    """
    parts = {
        "system": system,
        "count": count,
        "model": model,
        "task": task,
        "strategy": strategy,
        "software": software,
        "batch": batch,
        "seq": seq,
        "chip": chip,
        "core": core,
        "layers": layers,
        "engine": engine,
        "precision": precision,
        "concurrency": concurrency,
        "rate": rate,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    if config is None and not given:
        raise ConfigError("job(): expected a config such as 'trn2_llama3_70b', or system and model")
    tables = _tables(given) if given else {}
    return Job(JobSource(None if config is None else str(config), tables))


def _tables(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of a job with the arguments of `job`."""
    plain = ("system", "model", "task", "strategy", "software", "chip", "layers")
    known = (*plain, "engine", "precision", "concurrency", *_DESIGN_KEYS)
    unknown = [name for name in parts if name not in known]
    if unknown:
        raise ConfigError(f"{unknown[0]}: expected one of {', '.join(known)}")
    design = {_DESIGN_KEYS.get(name, name): value for name, value in parts.items()}
    if isinstance(design.get("system"), str):
        try:
            design["system"], number = system_and_count(design["system"])
        except ValueError as error:
            raise ConfigError(f"system = {parts['system']!r}: expected {error}") from None
        if number is not None:
            design.setdefault("num_systems", number)
    if isinstance(design.get("arrival_rate"), int | float):
        design["arrival_rate"] = f"{design['arrival_rate']!r} 1/s"
    return {"design": {key: _plain(value) for key, value in design.items()}}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
