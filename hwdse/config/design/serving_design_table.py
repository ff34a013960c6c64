"""`[design]` table of a service: system, model, serving task, engine, formats, strategy."""

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.design.model_and_task import load_model_file
from hwdse.config.design.serving_files import (
    REQUEST_FIELDS,
    given_requests,
    load_engine_file,
    load_serving_task_file,
)
from hwdse.config.design.serving_strategy import with_serving_strategy
from hwdse.config.files.errors import ConfigLocation, Mistakes, did_you_mean, listed
from hwdse.config.hardware.load_specs import (
    BaseParts,
    DesignKind,
    NamedIn,
    load_chip_file,
    load_system,
)
from hwdse.config.schema.consistency_checks import check_chip, check_cluster
from hwdse.config.schema.schema import STRICT, number_field, spec_model, to_spec
from hwdse.config.schema.user_paths import Roots
from hwdse.serving.serving_strategies import serving_strategy_problem
from hwdse.specs.serving.engine import ServingDesign, ServingFormats, ServingStrategy
from hwdse.specs.serving.requests import Requests
from hwdse.workload.serving.format_names import FORMATS
from hwdse.workload.serving.serving_task import ServingTask

DEFAULT_ENGINE = "vllm"
DEFAULT_TASK = "chat"
"""Task of a service that names only its engine."""
_REQUESTS: Any = {name: number_field(name, is_optional=True) for name in REQUEST_FIELDS}
_STRATEGY: Any = spec_model(ServingStrategy)
_FORMATS: Any = spec_model(ServingFormats)
_OF_SERVICE: Any = {
    "formats": (_FORMATS | None, Field(None)),
    "parallelism": (_STRATEGY | None, Field(None)),
}
_TABLE = create_model(
    "ServingDesignTable",
    __config__=STRICT,
    system=(StrictStr, Field()),
    chip=(StrictStr | None, Field(None)),
    num_systems=number_field("num_systems", default=1.0),
    model=(StrictStr, Field()),
    task=(StrictStr, Field(DEFAULT_TASK)),
    engine=(StrictStr, Field(DEFAULT_ENGINE)),
    precision=(StrictStr, Field("bf16")),
    strategy=(StrictStr | None, Field(None)),
    **_OF_SERVICE,
    **_REQUESTS,
)


def _load(table: Any, folder: Path, where: ConfigLocation) -> BaseParts:
    mistakes = Mistakes()
    named = NamedIn(folder, where, "system")
    chip_file = None
    if table.chip is not None:
        chip_file = mistakes.run(load_chip_file, table.chip, NamedIn(folder, where, "chip"))
    system: Any = mistakes.run(load_system, table.system, named, chip_file)
    model: Any = mistakes.run(load_model_file, table.model, NamedIn(folder, where, "model"))
    task: Any = mistakes.run(load_serving_task_file, table.task, NamedIn(folder, where, "task"))
    engine: Any = mistakes.run(load_engine_file, table.engine, NamedIn(folder, where, "engine"))
    formats = mistakes.run(_formats, table, where)
    mistakes.finish()
    requests = mistakes.run(_requests, {**task.values, **given_requests(table)}, where)
    mistakes.finish()
    cluster = system.cluster
    strategy = ServingStrategy()
    if table.parallelism is not None:
        strategy = to_spec(ServingStrategy, table.parallelism)
    roots: Roots = {
        "chip": system.chip,
        "cluster": cluster.replace(num_chips=cluster.num_chips * table.num_systems),
        "kernels": system.kernels,
        "engine": engine.engine,
        "formats": formats,
        "strategy": strategy,
        "workload": ServingTask(model=model.model, requests=requests),
    }
    files = zip(("system", "chip", "class", "process"), system.files, strict=False)
    return BaseParts(
        roots=roots,
        mapping="",
        labels={
            "system": system.name,
            "chip": system.chip_name,
            "workload": f"{model.name} {task.name}",
            "software": engine.name,
        },
        files=(
            *files,
            ("model", model.files[0]),
            ("requests", task.files[0]),
            *(("engine", file) for file in engine.files),
        ),
        published={
            "system": dict(system.published),
            "chip": dict(system.chip_published),
            "workload": dict(model.published),
        },
        notes=model.notes,
    )


def _formats(table: Any, where: ConfigLocation) -> ServingFormats:
    """Formats of the name `precision`, with the values of the table `[design.formats]`."""
    if table.precision not in FORMATS:
        hint = did_you_mean(table.precision, FORMATS)
        raise where.error("precision", table.precision, f"one of {listed(FORMATS)}{hint}")
    formats = FORMATS[table.precision]
    if table.formats is None:
        return formats
    own = {name: getattr(table.formats, name) for name in table.formats.model_fields_set}
    return dataclasses.replace(formats, **own)


def _requests(values: dict[str, float], where: ConfigLocation) -> Requests:
    for name in ("input_tokens", "output_tokens"):
        if values.get(name, 0.0) < 1.0:
            raise where.error(name, values.get(name), "at least 1 token")
    if values.get("concurrency", 0.0) > 0.0 and values.get("arrival_rate_per_s", 0.0) > 0.0:
        expected = "either a concurrency (closed loop) or an arrival rate (open loop), the other 0"
        raise where.error("concurrency", values["concurrency"], expected)
    if not (values.get("concurrency", 0.0) or values.get("arrival_rate_per_s", 0.0)):
        raise where.missing("concurrency", "requests in flight, or arrival_rate in 1/s")
    if values.get("cached_input_tokens", 0.0) > values["input_tokens"]:
        expected = f"at most input_tokens, {values['input_tokens']:g}"
        raise where.error("cached_input_tokens", values["cached_input_tokens"], expected)
    return Requests(**values)


def _design_of(roots: Roots, mapping: str) -> ServingDesign:
    return ServingDesign(**{name: value for name, value in roots.items() if name != "workload"})


def _check(design: ServingDesign, task: ServingTask, where: ConfigLocation) -> None:
    check_chip(design.chip, where.table("chip"))
    check_cluster(design.cluster, where.table("cluster"))
    problem = serving_strategy_problem(design.strategy, float(design.cluster.num_chips), task.model)
    if problem is not None:
        key, expected = problem
        raise where.table("strategy").error(key, getattr(design.strategy, key), expected)


SERVING = DesignKind(
    table=_TABLE,
    load=_load,
    design_of=_design_of,
    with_strategy=with_serving_strategy,
    check=_check,
    check_variant=lambda design, where: check_cluster(design.cluster, where),
    file_keys=MappingProxyType(
        {
            "system": "systems",
            "chip": "chips",
            "model": "models",
            "task": "requests",
            "engine": "serving_engines",
        }
    ),
    no_objectives=("step_time",),
)
"""Chips of one kind that serve a model to a stream of requests."""
