"""Run folders of the commands and the message for a run without a feasible design."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.runs.run_folder import Run, create_run, run_hash

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
    resume: bool,
) -> Run:
    """Run folder of a command, created if needed.

    The default name contains a hash of the config, the options and the seed.
    """
    requested = {**loaded.resolved, "options": dict(options)}
    if out is None:
        name = f"{Path(config).stem}-{options['command']}-{run_hash(requested, seed)[:8]}"
        out = Path("runs") / name
    return create_run(out, requested, _command_line(), seed, resume=resume)


def _command_line() -> str:
    import shlex

    return shlex.join(["hwdse", *sys.argv[1:]])


def searched_paths(space: "SearchSpace") -> list[str]:
    """Paths of all leaves and static fields that a search can change."""
    inner = [path for choice in space.choices for path in choice.paths]
    dims = [dimension.path for dimension in space.dimensions]
    return list(dict.fromkeys([*dims, *inner, *(variant.path for variant in space.variants)]))


def explain_infeasible(loaded: "LoadedSearch", constraint_values: np.ndarray) -> str:
    """Message: violated constraints of the nearest design, largest violation first."""
    from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric

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
        limit, unit = loaded.limits[name], METRIC_UNITS[name]
        reached = format_metric(limit * math.exp(value), unit)
        texts.append(
            f"{name} {reached} is {100.0 * math.expm1(value):.3g} % over its limit of "
            f"{format_metric(limit, unit)}"
        )
    return f"no design meets the constraints; nearest: {'; '.join(texts)}"
