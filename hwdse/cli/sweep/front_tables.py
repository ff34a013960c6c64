"""Fronts as tables, CSV and pictures, with the presets beside them."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.metric_tables import METRIC_UNITS, evaluate_exact, format_metric, is_core
from hwdse.cli.shared.table_output import print_table
from hwdse.runs.atomic_files import csv_text

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.plots.pareto_plots import Marker
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.pareto.pareto_archive import DesignSet

SHOWN_DESIGNS = 6


def ordered(front: "DesignSet") -> "DesignSet":
    """The members by their first objective."""
    return front.take(np.lexsort(front.log_objectives.T[::-1]))


def front_columns(loaded: "LoadedSearch", front: "DesignSet") -> dict[str, np.ndarray]:
    """A front for people: objectives, use of the limits, then what each design is."""
    front = ordered(front)
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    columns: dict[str, Any] = {
        name: np.exp(front.log_objectives[:, i]) for i, name in enumerate(loaded.front_objectives)
    }
    for i, name in enumerate(loaded.limits):
        columns[f"{name}_limit_ratio"] = np.exp(front.constraint_values[:, i])
    designs = [
        loaded.space.describe(unit, bases[variant])
        for unit, variant in zip(front.units, front.variants, strict=True)
    ]
    for key in designs[0] if designs else ():
        values = [design[key] for design in designs]
        name = key if key not in columns else f"design.{key}"
        columns[name] = np.array(values, dtype=object if isinstance(values[0], str) else float)
    return columns


def print_front(loaded: "LoadedSearch", front: "DesignSet", title: str) -> None:
    """Table of some members, evenly spread over the front, one a column."""
    front = ordered(front)
    if not len(front):
        return
    count = min(SHOWN_DESIGNS, len(front))
    indices = np.unique(np.linspace(0, len(front) - 1, count).round().astype(int))
    columns = front_columns(loaded, front.take(indices))
    inner = {path for choice in loaded.space.choices for path in choice.paths}
    rows = [
        [name, *(_cell(name, value) for value in values)]
        for name, values in columns.items()
        if name not in inner
    ]
    heads = ["", *(f"{place + 1}" for place in indices)]
    print_table(f"front: {len(front):,} {title}", heads, rows)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in METRIC_UNITS:
        return format_metric(float(value), METRIC_UNITS[name])
    if name.endswith("_limit_ratio"):
        return f"{100.0 * value:.1f} %"
    from hwdse.config import format_value

    return format_value(name, float(value))


def write_front(
    loaded: "LoadedSearch",
    job: "SweepJob",
    record: "Run",
    front: "DesignSet",
    cloud: np.ndarray,
    markers: Sequence["Marker"],
) -> list[Path]:
    """front.csv and, with all figures, front.parquet; the best design of each objective as TOML;
    the picture."""
    from hwdse.config import to_toml
    from hwdse.runs.sweep_job import row_columns

    files = [record.write_text("front.csv", csv_text(front_columns(loaded, front)))]
    files.append(record.write_table("front.parquet", row_columns(job, front)))
    if not len(front):
        return files
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    for i, name in enumerate(loaded.front_objectives):
        place = int(np.argmin(front.log_objectives[:, i]))
        base = bases[int(front.variants[place])]
        design = loaded.space.decode_rounded(front.units[place], base)
        files.append(record.write_text(f"best_{name}.toml", to_toml(loaded, design)))
    if len(loaded.front_objectives) > 1:
        from hwdse.cli.shared import evaluation_plots

        points = np.exp(np.concatenate((front.log_objectives, cloud)))
        mask = np.arange(len(points)) < len(front)
        folder = record.folder / "plots"
        label = "sampled designs within the limits"
        files += evaluation_plots.save_pareto(
            points, mask, loaded.front_objectives, markers, folder, label,
            of_core=is_core(loaded), rule=loaded.robust.text if loaded.robust else "",
        )  # fmt: skip
    return files


def preset_markers(loaded: "LoadedSearch", config: str, sets: Sequence[str]) -> list["Marker"]:
    """The base design and the presets beside it that can do its job.

    For chips in a cluster these are the other systems with as many chips, all with the base's
    layout; of a system that cannot be put together to that number, its chip takes the place of
    the base's. For a core they are the other accelerators, with the best mappings. What does not
    fit in its memory is left out.
    """
    from hwdse.plots.pareto_plots import Marker

    found: dict[str, Marker] = {}

    def add(label: str, design: Any, role: str) -> None:
        if label in found:
            return
        is_base_or_core = role == "baseline" or is_core(loaded)
        evaluation = (evaluate_exact if is_base_or_core else _evaluate_once)(
            design, loaded.workload
        )
        if role != "baseline" and evaluation.hbm_used_ratio > 1.0:
            return
        if (values := objective_values(loaded, design, evaluation)) is not None:
            found[label] = Marker(label, values, role)

    add(loaded.labels["system"], loaded.base, "baseline")
    designs = _other_cores if is_core(loaded) else _other_systems
    for label, design in designs(loaded, config, sets):
        add(label, design, "preset")
    return list(found.values())


def _evaluate_once(design: Any, workload: Any) -> Any:
    """As `evaluate_exact`, to rounding, operation by operation.

    Chips and networks of presets differ in structure, and to compile a program for each takes
    seconds; the operations are small, and compile once for all of them.
    """
    import jax

    from hwdse.evaluation import evaluate

    with jax.enable_x64(True):
        return jax.tree.map(float, evaluate(jax.tree.map(float, design), workload))


def _other_cores(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """The accelerators of the presets; one that the file's paths do not suit is left out."""
    from hwdse.config import ConfigError, list_presets, load_search

    for entry in list_presets():
        if entry.kind == "accelerator" and loaded.base.mapping == "optimize":
            try:
                change = f'design.accelerator="{entry.name}"'
                yield entry.title, load_search(config, [*sets, change]).base
            except ConfigError:
                continue


def _other_systems(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    from hwdse.config import ConfigError, load_search, load_system
    from hwdse.config.files.toml_files import preset_names

    base: Any = loaded.base
    for name in preset_names("clusters"):
        system = load_system(name)
        count = float(base.cluster.num_chips) / float(system.cluster.num_chips)
        changes = [f'design.system="{name}"', f"design.num_systems={count:g}"]
        try:
            yield system.name, load_search(config, [*sets, *changes]).base
        except ConfigError:
            label = f"{system.chip_name} in {loaded.labels['system']}"
            yield label, dataclasses.replace(base, chip=system.chip)


def objective_values(
    loaded: "LoadedSearch", design: Any, evaluation: Any
) -> tuple[float, ...] | None:
    """Values of the front's objectives in base units, robust where the file asks so; None for a
    design that lacks an uncertain constant."""
    import jax

    from hwdse.config.search.objective_functions import front_objectives_fn
    from hwdse.objectives import OBJECTIVES
    from hwdse.search.space.pytree_path import get_path

    if loaded.robust is None:
        return tuple(float(OBJECTIVES[name](evaluation)) for name in loaded.front_objectives)
    if any(get_path(design, spread.path) is None for spread in loaded.uncertain_constants):
        return None
    with jax.enable_x64(True):
        logs = _compiled_costs(front_objectives_fn(loaded))(jax.tree.map(float, design))
        return tuple(np.exp(np.asarray(logs)).tolist())


@functools.cache
def _compiled_costs(log_objectives: Any) -> Any:
    """Logs of the objectives of designs, one compiled program for all of the same structure."""
    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import EXACT

    return quick_jit(lambda design: log_objectives(design, EXACT)[0])


def robust_line(loaded: "LoadedSearch", num_designs: int) -> str:
    """What was minimized and what it cost; only where the search file asks for it."""
    if loaded.robust is None:
        return ""
    count = loaded.robust.num_samples
    noun = "constant" if len(loaded.uncertain_constants) == 1 else "constants"
    return (
        f"robust: objectives and limits are the {loaded.robust.text} over {count} samples of "
        f"{len(loaded.uncertain_constants)} uncertain {noun}, the same for every design: "
        f"{num_designs:,} x {count} = {count * num_designs:,} evaluations"
    )


def robust_json(loaded: "LoadedSearch", num_designs: int) -> dict[str, Any]:
    """The same for programs; empty where figures are at the nominal constants."""
    if loaded.robust is None:
        return {}
    count = loaded.robust.num_samples
    return {"robust": loaded.robust.text, "samples": count,
            "sample_evaluations": count * num_designs}  # fmt: skip
