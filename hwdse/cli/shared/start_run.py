"""Run folders of the commands and the message for a run without a feasible design."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.run_call import at_end_of_call, call_record, command_line
from hwdse.runs.folder_lock import lock_folder
from hwdse.runs.run_folder import Run, create_run, is_run_folder, open_run, run_hash

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.space.search_space import SearchSpace


def start_run(
    loaded: "LoadedSearch",
    options: Mapping[str, Any],
    config: str,
    out: Path | None,
    seed: int,
    *,
    resume: bool = False,
    overwrite: bool = False,
    extends: bool = False,
    is_shared: bool = False,
) -> Run:
    """Run folder of a command, created if needed and locked until the command ends.

    The default name contains a hash of the config, the options and the seed, so that a repeated
    command has the folder of the first. A folder named by `out` that holds an ended run is refused
    unless the command resumes, overwrites or `extends` it. A shared lock admits other shards.
    Raises `CommandError` or `RunError`.
    """
    requested = {**loaded.resolved, "options": dict(options)}
    is_named = out is not None
    if out is None:
        name = f"{Path(config).stem}-{options['command']}-{run_hash(requested, seed)[:8]}"
        out = Path("runs") / name
    out.mkdir(parents=True, exist_ok=True)
    at_end_of_call(lock_folder(out, is_shared=is_shared).release)
    if is_named and not (resume or overwrite or extends) and is_run_folder(out):
        _refuse_ended(out)
    return create_run(
        out, requested, command_line(), seed,
        resume=True, overwrite=overwrite, call=call_record(),
    )  # fmt: skip


def _refuse_ended(folder: Path) -> None:
    """Raise `CommandError` if the run in a folder has ended; a killed run may start again."""
    run = open_run(folder)
    if run.status == "running":
        return
    kind = f"{run.status} run" + (f" of {run.command}" if run.command else "")
    raise CommandError(
        f"{folder}: holds a {kind}; choose another --out, or add --resume to continue it or "
        "--overwrite to replace it"
    )


def stopped_run(record: Run) -> Callable[[], str]:
    """Function for a signal during a computation without a result so far: records the status."""

    def stop() -> str:
        record.finish("stopped")
        return f"{record.folder}: stopped before the result; --overwrite starts again"

    return stop


def searched_paths(space: "SearchSpace") -> list[str]:
    """Paths of all leaves and static fields that a search can change."""
    inner = [path for choice in space.choices for path in choice.paths]
    dims = [dimension.path for dimension in space.dimensions]
    return list(dict.fromkeys([*dims, *inner, *(variant.path for variant in space.variants)]))


def explain_infeasible(loaded: "LoadedSearch", constraint_values: np.ndarray) -> str:
    """Message: violated constraints of the nearest design, largest violation first."""
    from hwdse.config.schema.metric_fields import metric_unit
    from hwdse.report.metrics import format_metric
    from hwdse.report.number_texts import distance

    violated = sorted(
        (
            (value, name)
            for value, name in zip(constraint_values, loaded.limits, strict=True)
            if value > 0
        ),
        reverse=True,
    )
    if not violated:
        return "no design has only finite metrics"
    texts = []
    for value, name in violated:
        limit, unit = loaded.limits[name], metric_unit(name)
        reached = format_metric(limit * math.exp(value), unit)
        bound = format_metric(limit, unit)
        texts.append(f"{name} {reached} is {distance(math.exp(value))} its limit of {bound}")
    return f"no design meets the constraints; nearest: {'; '.join(texts)}"
