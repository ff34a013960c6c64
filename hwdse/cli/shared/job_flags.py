"""Flags that describe a job: every command with a CONFIG takes them in its place or over it."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, JobOrDefault, parse_count

FLAGS: dict[str, tuple[str, str, Any]] = {
    "system": ("NAME[:N]", "System preset or file, and their number.", str),
    "chip": ("NAME", "Chip in place of the chip of the system.", str),
    "model": ("NAME", "Model preset, TOML file or config.json.", str),
    "task": (
        "NAME",
        "Task preset or file: training, or requests to serve.  [default: pretraining]",
        str,
    ),
    "batch": ("N", "Sequences per step.", int),
    "seq": ("N", "Tokens per sequence.", int),
    "strategy": ("TEXT", 'best, or a text such as "TP8 PP4, ZeRO-1".', str),
    "software": ("NAME", "Training stack.", str),
    "engine": ("NAME", "Serving engine: the job is a service.", str),
    "precision": ("NAME", "Formats of a service: bf16, fp8, nvfp4, ...", str),
    "concurrency": ("N", "Requests in flight of a service.", float),
    "rate": ("1/s", "Arrivals per second of a service.", float),
    "core": ("NAME", "Core (accelerator) in place of a system.", str),
    "layers": ("NAME", "CSV of layers or operators in place of a model.", str),
}
"""Metavar, help and type of each flag, by name."""
KEYS = {"rate": "arrival_rate", "batch": "global_batch", "seq": "seq_len", "core": "accelerator"}
"""Keys of `[design]` of the flags with another name."""
OptionalConfig = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="Job or search: preset, TOML file; or give --system and --model.",
    ),
]


class JobParts(dict[str, Any]):
    """Arguments of `hwdse.job` that a command line gives; a parameter of this type gets flags."""


CONFIGS = (Config, JobOrDefault)
"""Types of a parameter that names a job."""
NOT_PARTS = ("system", "core")
"""Flags that a parameter of type `JobParts` leaves out: the command names the systems itself."""


def with_job_flags(run: Callable[..., Any]) -> Callable[..., Any]:
    """Command function whose parameter of type `Config`, `JobOrDefault` or `JobParts` is given by
    flags.

    It receives a `JobSource` in place of a config, which flags may replace or complete; `None` in
    place of a `JobOrDefault` that is not given.
    """
    parameters = list(inspect.signature(run).parameters.values())
    kinds = {one.annotation: one.name for one in parameters if one.annotation in CONFIGS}
    config = next(iter(kinds.values()), None)
    has_default = JobOrDefault in kinds
    parts = next((one.name for one in parameters if one.annotation is JobParts), None)
    if config is None and parts is None:
        return run
    names = [flag for flag in FLAGS if config is not None or flag not in NOT_PARTS]

    def command(**values: Any) -> Any:
        flags = {flag: values.pop(flag) for flag in names}
        if config is not None:
            is_default = has_default and values[config] is None and not any(flags.values())
            source = None if is_default else job_source(values[config], flags)
            return run(**{**values, config: source})
        given = {name: value for name, value in flags.items() if value is not None}
        return run(**{**values, str(parts): JobParts(given)})

    extra = [
        inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_of(flag))
        for flag in names
    ]
    made: list[inspect.Parameter] = []
    for one in parameters:
        one = one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        if one.name == config and not has_default:
            one = one.replace(annotation=OptionalConfig, default=None)
        made += extra if one.name == parts else [one]
    if config is not None:
        place = next((i for i, one in enumerate(made) if one.name == "sets"), len(made))
        made = [*made[:place], *extra, *made[place:]]
    command.__name__, command.__doc__, command.__module__ = (
        run.__name__,
        run.__doc__,
        run.__module__,
    )
    command.__annotations__ = {one.name: one.annotation for one in made}
    command.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    return command


def _of(flag: str) -> Any:
    metavar, text, kind = FLAGS[flag]
    parser = parse_count if kind is int else None
    option = typer.Option(f"--{flag}", metavar=metavar, help=text, parser=parser)
    return Annotated[kind | None, option]


_FLAG_OF = {"system": "system", "model": "model", "accelerator": "core", "operators": "layers"}
"""Flag that the first argument of a command stands for, by kind of item."""


def job_source(config: str | None, flags: dict[str, Any]) -> Any:
    """Source of the job of a command line. Raises `BadParameter` without a config and flags.

    A system, a model or a core beside flags is taken as its flag: `dgx_h100:4 --model llama3_8b`.
    """
    from hwdse.config.search.job_source import JobSource

    given = {name: value for name, value in flags.items() if value is not None}
    if config is None and not given:
        raise typer.BadParameter(
            "expected a CONFIG such as trn2_llama3_70b, or --system NAME --model NAME."
        )
    if config is not None and given:
        _with_count("", config)
    if config is not None and given and (item := item_of(JobSource(config))) is not None:
        flag = _FLAG_OF.get(item.kind)
        if flag is not None and flag not in given:
            given[flag], config = config, None
    design = {KEYS.get(name, name): value for name, value in given.items()}
    if "arrival_rate" in design:
        design["arrival_rate"] = f"{design['arrival_rate']!r} 1/s"
    if "system" in design:
        design["system"], count = _with_count("--system ", design["system"])
        if count is not None:
            design["num_systems"] = count
    return JobSource(config, {"design": design} if design else {})


def _with_count(place: str, text: str) -> tuple[str, int | None]:
    """Name and number of `NAME:COUNT`. Raises `BadParameter` for a wrong number."""
    from hwdse.config.files.named_items import system_and_count

    try:
        return system_and_count(text)
    except ValueError as error:
        raise typer.BadParameter(f"{place}{text}: expected {error}.") from None


def item_of(source: Any) -> Any:
    """The preset or file of a source if it is no job (a chip, a system, ...), else None."""
    from hwdse.config.files.errors import ConfigError
    from hwdse.config.files.named_items import find_item

    if source.path is None or source.tables:
        return None
    try:
        item = find_item(source.path)
    except ConfigError:  # reported by the loader of jobs
        return None
    return None if item.kind == "job" else item
