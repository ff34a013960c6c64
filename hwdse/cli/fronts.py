"""Fronts as tables, CSV and pictures, with the presets beside them."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.figures import METRIC_UNITS, evaluate_exact, format_metric, is_core
from hwdse.cli.tables import print_table
from hwdse.results_files import csv_text

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.report.plots import Marker
    from hwdse.results import Run
    from hwdse.search.front import Front

SHOWN_DESIGNS = 6


def ordered(front: "Front") -> "Front":
    """The members by their first objective."""
    return front.take(np.lexsort(front.costs.T[::-1]))


def front_columns(loaded: "LoadedSearch", front: "Front") -> dict[str, np.ndarray]:
    """A front for people: objectives, use of the limits, then what each design is."""
    front = ordered(front)
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    columns: dict[str, Any] = {
        name: np.exp(front.costs[:, i]) for i, name in enumerate(loaded.front_objectives)
    }
    for i, name in enumerate(loaded.limits):
        columns[f"{name}_of_limit"] = np.exp(front.violations[:, i])
    designs = [
        loaded.space.describe(unit, bases[variant])
        for unit, variant in zip(front.units, front.variants, strict=True)
    ]
    for key in designs[0] if designs else ():
        values = [design[key] for design in designs]
        name = key if key not in columns else f"design.{key}"
        columns[name] = np.array(values, dtype=object if isinstance(values[0], str) else float)
    return columns


def print_front(loaded: "LoadedSearch", front: "Front", title: str) -> None:
    """Table of some members, evenly spread over the front, one a column."""
    front = ordered(front)
    if not len(front):
        return
    count = min(SHOWN_DESIGNS, len(front))
    places = np.unique(np.linspace(0, len(front) - 1, count).round().astype(int))
    columns = front_columns(loaded, front.take(places))
    inner = {path for choice in loaded.space.choices for path in choice.paths}
    rows = [
        [name, *(_cell(name, value) for value in values)]
        for name, values in columns.items()
        if name not in inner
    ]
    heads = ["", *(f"{place + 1}" for place in places)]
    print_table(f"front: {len(front):,} {title}", heads, rows)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in METRIC_UNITS:
        return format_metric(float(value), METRIC_UNITS[name])
    if name.endswith("_of_limit"):
        return f"{100.0 * value:.1f} %"
    from hwdse.config import format_value

    return format_value(name, float(value))


def write_front(
    loaded: "LoadedSearch",
    record: "Run",
    front: "Front",
    cloud: np.ndarray,
    markers: Sequence["Marker"],
) -> list[Path]:
    """front.csv, the best design of each objective as TOML, and the picture."""
    from hwdse.config import to_toml

    files = [record.write_text("front.csv", csv_text(front_columns(loaded, front)))]
    if not len(front):
        return files
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    for i, name in enumerate(loaded.front_objectives):
        place = int(np.argmin(front.costs[:, i]))
        base = bases[int(front.variants[place])]
        design = loaded.space.decode_buildable(front.units[place], base)
        files.append(record.write_text(f"best_{name}.toml", to_toml(loaded, design)))
    if len(loaded.front_objectives) > 1:
        from hwdse.cli import pictures

        points = np.exp(np.concatenate((front.costs, cloud)))
        mask = np.arange(len(points)) < len(front)
        folder = record.folder / "plots"
        label = "sampled designs within the limits"
        files += pictures.save_pareto(
            points, mask, loaded.front_objectives, markers, folder, label, of_core=is_core(loaded)
        )
    return files


def preset_markers(loaded: "LoadedSearch", config: str, sets: Sequence[str]) -> list["Marker"]:
    """The base design and the presets beside it that can do its job.

    For chips in a cluster these are the other systems with as many chips, all with the base's
    layout; of a system that cannot be put together to that number, its chip takes the place of
    the base's. For a core they are the other accelerators, with the best mappings. What does not
    fit in its memory is left out.
    """
    from hwdse.report.plots import Marker

    found: dict[str, Marker] = {}

    def add(label: str, design: Any, role: str) -> None:
        evaluation = evaluate_exact(design, loaded.workload)
        if label not in found and (role == "baseline" or evaluation.hbm_used_ratio <= 1.0):
            found[label] = Marker(label, objective_values(loaded, evaluation), role)

    add(loaded.labels["system"], loaded.base, "baseline")
    designs = _other_cores if is_core(loaded) else _other_systems
    for label, design in designs(loaded, config, sets):
        add(label, design, "preset")
    return list(found.values())


def _other_cores(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """The accelerators of the presets; one that the file's paths do not suit is left out."""
    from hwdse.config import ConfigError, list_presets, load_search

    for entry in list_presets():
        if entry.kind == "accelerator" and loaded.base.mapping == "optimise":
            try:
                change = f'design.accelerator="{entry.name}"'
                yield entry.title, load_search(config, [*sets, change]).base
            except ConfigError:
                continue


def _other_systems(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    from hwdse.config import ConfigError, list_presets, load_search, load_system

    base: Any = loaded.base
    for entry in list_presets():
        if entry.kind != "system":
            continue
        system = load_system(entry.name)
        count = float(base.cluster.num_chips) / float(system.cluster.num_chips)
        changes = [f'design.system="{entry.name}"', f"design.num_systems={count:g}"]
        try:
            yield system.name, load_search(config, [*sets, *changes]).base
        except ConfigError:
            label = f"{system.chip_name} in {loaded.labels['system']}"
            yield label, dataclasses.replace(base, chip=system.chip)


def objective_values(loaded: "LoadedSearch", evaluation: Any) -> tuple[float, ...]:
    """Values of the front's objectives in base units."""
    from hwdse.objectives import OBJECTIVES

    return tuple(float(OBJECTIVES[name](evaluation)) for name in loaded.front_objectives)
