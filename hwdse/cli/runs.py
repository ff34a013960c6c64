"""Run folders of the commands: where they lie, and what a chunk looks like in them."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.results import Run, create_run, run_hash

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.plan import SweepChunk
    from hwdse.search.space import SearchSpace

NOTES = ("num_points", "num_feasible", "num_not_finite", "num_changed_verdicts")


def start_run(
    loaded: "LoadedSearch",
    options: Mapping[str, Any],
    config: str,
    out: Path | None,
    seed: int,
    *,
    resume: bool,
) -> Run:
    """Run folder of a command; the default one is named after what is asked, to the last digit."""
    asked = {**loaded.resolved, "options": dict(options)}
    if out is None:
        name = f"{Path(config).stem}-{options['command']}-{run_hash(asked, seed)[:8]}"
        out = Path("runs") / name
    return create_run(out, asked, _command_line(), seed, resume=resume)


def _command_line() -> str:
    import shlex

    return shlex.join(["hwdse", *sys.argv[1:]])


def searched_paths(space: "SearchSpace") -> list[str]:
    """Every leaf and static field that a search may change."""
    inner = [path for choice in space.choices for path in choice.paths]
    dims = [dimension.path for dimension in space.dimensions]
    return list(dict.fromkeys([*dims, *inner, *(variant.path for variant in space.variants)]))


def explain_infeasible(loaded: "LoadedSearch", violations: np.ndarray) -> str:
    """Which constraints stand in the way, the worst first, and by how much."""
    from hwdse.cli.figures import METRIC_UNITS, format_metric

    broken = sorted(
        ((value, name) for value, name in zip(violations, loaded.limits, strict=True) if value > 0),
        reverse=True,
    )
    if not broken:
        return "no design has finite figures everywhere"
    texts = []
    for value, name in broken:
        limit, unit = loaded.limits[name], METRIC_UNITS[name]
        reached = format_metric(limit * math.exp(value), unit)
        texts.append(
            f"{name} {reached} is {100.0 * math.expm1(value):.3g} % over its limit of "
            f"{format_metric(limit, unit)}"
        )
    return f"no design meets the constraints; nearest: {'; '.join(texts)}"


def chunk_columns(loaded: "LoadedSearch", chunk: "SweepChunk") -> dict[str, np.ndarray]:
    """What a chunk leaves behind, as it goes to disk; the inverse is `read_chunk`."""
    from hwdse.search.front import Front

    both = Front(
        *(
            np.concatenate((getattr(chunk.front, name), getattr(chunk.least_violated, name)))
            for name in Front.__dataclass_fields__
        )
    )
    columns = {
        "is_front": np.arange(len(both)) < len(chunk.front),
        "variant": both.variants.astype(np.int64),
        "number": both.numbers.astype(np.int64),
    }
    groups = (
        ("log", loaded.front_objectives, both.costs),
        ("violation", tuple(loaded.limits), both.violations),
        ("unit", tuple(str(i) for i in range(loaded.space.num_dims)), both.units),
    )
    for prefix, names, values in groups:
        columns |= {f"{prefix}.{name}": values[:, i] for i, name in enumerate(names)}
    return columns


def chunk_notes(chunk: "SweepChunk") -> dict[str, int]:
    """Counts of a chunk."""
    return {name: int(getattr(chunk, name)) for name in NOTES}


def read_chunk(loaded: "LoadedSearch", record: Run, index: int) -> "SweepChunk":
    """A chunk as the sweep left it, bit for bit."""
    from hwdse.search.front import Front
    from hwdse.search.plan import SweepChunk

    columns, notes = record.read_part(index)
    size = len(columns["number"])

    def matrix(prefix: str, names: Sequence[str]) -> np.ndarray:
        parts = [columns[f"{prefix}.{name}"] for name in names]
        return np.stack(parts, axis=1) if parts else np.zeros((size, 0))

    both = Front(
        units=matrix("unit", [str(i) for i in range(loaded.space.num_dims)]),
        costs=matrix("log", loaded.front_objectives),
        violations=matrix("violation", list(loaded.limits)),
        variants=columns["variant"],
        numbers=columns["number"],
    )
    is_front = columns["is_front"].astype(bool)
    return SweepChunk(
        index=index,
        front=both.take(np.flatnonzero(is_front)),
        least_violated=both.take(np.flatnonzero(~is_front)),
        **{name: int(notes[name]) for name in NOTES},
    )
