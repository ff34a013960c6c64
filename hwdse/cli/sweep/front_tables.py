"""Pareto fronts as tables, CSV and plots, with presets for comparison."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.parameter_cells import parameter_row, printed_unit, wrapped
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_table, say
from hwdse.config.search.metric_names import objective_columns
from hwdse.evaluation import evaluate_exact
from hwdse.report.evaluation_json import limit_rows
from hwdse.report.metrics import CORE, kind_of, metric_of
from hwdse.report.number_texts import number_cells
from hwdse.runs.atomic_files import csv_text

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.plots.fronts.pareto_plots import Marker
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.pareto.pareto_archive import DesignSet
    from hwdse.search.space.search_space import Choice
    from hwdse.specs.results.evaluation_result import Evaluation

SHOWN_DESIGNS = 5
LIMIT_WORDS = {"die_area": "area", "chip_power": "power", "chip_cost": "cost",
               "hbm_used_ratio": "HBM", "memory_used_ratio": "memory",
               "reticle_used_ratio": "reticle"}  # fmt: skip
"""Short names of limits in plots."""


def ordered(front: "DesignSet") -> "DesignSet":
    """Designs of a front sorted by the first objective."""
    return front.take(np.lexsort(front.log_objectives.T[::-1]))


def front_columns(loaded: "LoadedSearch", front: "DesignSet") -> dict[str, np.ndarray]:
    """Columns of front.csv: objectives, limit ratios, parameters."""
    front = ordered(front)
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    names = objective_columns(loaded.front_objectives, is_robust=loaded.robust is not None)
    columns: dict[str, Any] = {
        name: np.exp(front.log_objectives[:, i]) for i, name in enumerate(names)
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


def print_front(loaded: "LoadedSearch", front: "DesignSet") -> None:
    """Print some designs at equal intervals of the front, one per column."""
    front = ordered(front)
    if not len(front):
        return
    indices = shown_indices(len(front))
    columns = front_columns(loaded, front.take(indices))
    rows = [*_objective_rows(loaded, columns), *_parameter_rows(loaded, columns)]
    names = _name_rows(loaded, columns)
    rows += [[label, "-", *map(wrapped, values)] for label, values in names if len(set(values)) > 1]
    heads = ["row of front.csv", "unit", *(f"{index + 1}" for index in indices)]
    noun = "design" if len(front) == 1 else "designs"
    print_table(f"Pareto front: {len(front):,} {noun}", heads, rows)
    same: dict[str, list[str]] = {}
    for label, values in names:
        if len(set(values)) == 1:
            same.setdefault(label, []).append(values[0])
    if same:
        texts = [f"{label} {', '.join(values)}" for label, values in same.items()]
        say(f"equal in the designs shown: {'; '.join(texts)}")


def shown_indices(count: int) -> np.ndarray:
    """At most `SHOWN_DESIGNS` indices at equal intervals."""
    shown = min(SHOWN_DESIGNS, count)
    return np.unique(np.linspace(0, count - 1, shown).round().astype(int))


def _objective_rows(loaded: "LoadedSearch", columns: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Rows of objectives and limit ratios."""
    kind, rule = kind_of(loaded), loaded.robust.text if loaded.robust else ""
    names = objective_columns(loaded.front_objectives, is_robust=bool(rule))
    rows = []
    for objective, column in zip(loaded.front_objectives, names, strict=True):
        metric = metric_of(objective, kind=kind)
        label = f"{metric.name}, {rule}" if rule else metric.name
        rows.append([label, printed_unit(metric.unit), *metric.cells(list(columns[column]))])
    for limit in loaded.limits:
        label = f"{metric_of(limit, kind=kind).name}, of limit"
        values = [100.0 * value for value in columns[f"{limit}_limit_ratio"]]
        rows.append([label, "%", *number_cells(values, 1, 0)])
    return rows


def _parameter_rows(loaded: "LoadedSearch", columns: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Rows of the searched numbers."""
    from hwdse.config.schema.user_paths import short_path

    paths = [dimension.path for dimension in loaded.space.dimensions]
    paths += [choice.name for choice in loaded.space.choices if choice.name in choice.paths]
    rows = []
    for path in paths:
        unit, cells = parameter_row(path, [float(value) for value in _values_of(columns, path)])
        rows.append([short_path(path), unit, *cells])
    return rows


def _name_rows(
    loaded: "LoadedSearch", columns: Mapping[str, np.ndarray]
) -> list[tuple[str, list[str]]]:
    """Rows of choices, one per part of their labels, and of variants."""
    rows = []
    for choice in loaded.space.choices:
        if choice.name in choice.paths:  # numbers, whose column has no labels
            continue
        parts = [label.split(", ") for label in _values_of(columns, choice.name)]
        if len({len(part) for part in parts}) > 1:
            parts = [[", ".join(part)] for part in parts]
        rows += [_part_row(choice, list(values)) for values in zip(*parts, strict=True)]
    for variant in loaded.space.variants:
        rows.append((variant.path, [str(value) for value in _values_of(columns, variant.path)]))
    return rows


def _part_row(choice: "Choice", values: list[str]) -> tuple[str, list[str]]:
    """Row of one part of the labels; a part that begins with a path is a row of that path."""
    from hwdse.config.schema.user_paths import short_path

    words = {value.partition(" ")[0] for value in values}
    if len(words) == 1 and words <= set(map(short_path, choice.paths)):
        return words.pop(), [value.partition(" ")[2] for value in values]
    return choice.name, values


def _values_of(columns: Mapping[str, np.ndarray], name: str) -> list[Any]:
    key = f"design.{name}" if f"design.{name}" in columns else name
    return list(columns[key])


def write_designs(loaded: "LoadedSearch", record: "Run", front: "DesignSet") -> list[Path]:
    """Write front.csv and the best design per objective."""
    from hwdse.config import to_toml

    files = [record.write_text("front.csv", csv_text(front_columns(loaded, front)))]
    for i, name in enumerate(loaded.front_objectives if len(front) else ()):
        text = to_toml(loaded, best_design(loaded, front, i))
        files.append(record.write_text(f"best_{name}.toml", text))
    return files


def best_design(loaded: "LoadedSearch", front: "DesignSet", objective: int = 0) -> Any:
    """Design of a front with the lowest value of an objective."""
    best = int(np.argmin(front.log_objectives[:, objective]))
    bases = [base for _, base in loaded.space.variant_bases(loaded.base)]
    return loaded.space.decode_rounded(front.units[best], bases[int(front.variants[best])])


def front_reliance_json(loaded: "LoadedSearch", front: "DesignSet") -> list[dict[str, Any]]:
    """Assumed and default constants that the first objective of its best design rests on."""
    if not len(front):
        return []
    return reliance_json(loaded, best_design(loaded, front), loaded.front_objectives[0])


def print_front_reliance(loaded: "LoadedSearch", front: "DesignSet") -> None:
    """Print the constants that the first objective of its best design rests on."""
    if len(front):
        print_reliance(loaded, best_design(loaded, front), loaded.front_objectives[0])


def write_front(
    loaded: "LoadedSearch",
    job: "SweepJob",
    record: "Run",
    front: "DesignSet",
    cloud: np.ndarray,
    markers: Sequence["Marker"],
    formats: Sequence[str],
) -> list[Path]:
    """Write front.csv, front.parquet with all metrics, the best design per objective, and plots."""
    from hwdse.runs.sweep_job import row_columns

    files = write_designs(loaded, record, front)
    files.insert(1, record.write_table("front.parquet", row_columns(job, front)))
    if not len(front):
        return files
    if len(loaded.front_objectives) > 1:
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.plots.fronts.pareto_plots import FrontPoints
        from hwdse.report import evaluation_plots

        is_front = np.ones(len(front), dtype=bool)
        points = FrontPoints("Pareto front", np.exp(front.log_objectives), is_front)
        named = [*markers, *_best_markers(loaded, row_columns(job, front), points.objectives)]
        files += evaluation_plots.save_pareto(
            [points], loaded.front_objectives, named,
            resting_plot_files(
                loaded, record.folder / "plots", formats, best_design(loaded, front),
                loaded.front_objectives[0],
            ),
            np.exp(cloud), "sampled feasible designs", kind=kind_of(loaded),
            rule=loaded.robust.text if loaded.robust else "",
        )  # fmt: skip
    return files


def _best_markers(
    loaded: "LoadedSearch", columns: Mapping[str, np.ndarray], objectives: np.ndarray
) -> list["Marker"]:
    """Marker of the design of a front with the smallest objective of the search file.

    None if that objective is one of the front, whose end it is, or not recorded.
    """
    from hwdse.config.schema.metric_fields import metric_field
    from hwdse.plots.fronts.pareto_plots import Marker

    name = loaded.objective
    if loaded.robust is not None or name in loaded.front_objectives:
        return []
    if name == "energy_delay":
        parts = [columns.get(metric_field(f"{part}_per_token")) for part in ("time", "energy")]
        values = None if parts[0] is None or parts[1] is None else parts[0] * parts[1]
    else:
        values = columns.get(metric_field(name))
    if values is None:
        return []
    label = f"lowest {metric_of(name, kind=kind_of(loaded)).name}"
    return [Marker(label, tuple(objectives[int(np.argmin(values))].tolist()), "best")]


def preset_markers(loaded: "LoadedSearch", config: str, sets: Sequence[str]) -> list["Marker"]:
    """Objectives of the base design and of the presets that can run its workload.

    For a cluster: other systems with the same number of chips and the parallelism strategy of the
    base design. Systems that cannot have that number of chips are left out. For a core: other
    accelerators with optimized mappings. Designs that exceed their memory are left out. The note of
    a marker names the other limits that the design exceeds. If the efficiencies of the chips are
    not of one kind, its label names the kind.
    """
    from hwdse.jobs.footing.figure_bands import efficiency_kind
    from hwdse.plots.fronts.pareto_plots import Marker

    found: dict[str, Marker] = {}
    kinds: dict[str, str] = {}

    def add(label: str, one: "LoadedSearch", role: str) -> None:
        design = one.base
        if label in found:
            return
        evaluation = evaluate_exact(design, loaded.workload)
        if role != "baseline" and evaluation.hbm_used_ratio > 1.0:
            return
        if (values := objective_values(loaded, design, evaluation)) is not None:
            found[label] = Marker(label, values, role, limits_note(loaded, evaluation))
            kinds[label] = efficiency_kind(one)

    add(loaded.labels["system"], loaded, "baseline")
    designs = _other_cores if kind_of(loaded) == CORE else _other_systems
    for label, one in designs(loaded, config, sets):
        add(label, one, "preset")
    if len(set(kinds.values())) < 2:
        return list(found.values())
    return [
        dataclasses.replace(one, label=f"{label} ({kinds[label]})") for label, one in found.items()
    ]


def optimum_markers(
    loaded: "LoadedSearch", design: Any, evaluation: "Evaluation"
) -> list[dict[str, Any]]:
    """Marker of an optimum for run.json, with which `hwdse pareto` draws it beside fronts."""
    from hwdse.plots.fronts.pareto_plots import Marker

    if len(loaded.front_objectives) < 2:
        return []
    values = objective_values(loaded, design, evaluation)
    if values is None:
        return []
    name = metric_of(loaded.objective, kind=kind_of(loaded)).name
    return [dataclasses.asdict(Marker(f"optimum of the {name}", values, "best"))]


def _other_cores(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, "LoadedSearch"]]:
    """Accelerator presets that have all paths of the search file."""
    from hwdse.config import ConfigError, list_presets, load_search

    for entry in list_presets():
        if entry.kind == "accelerator" and loaded.base.mapping == "optimize":
            try:
                change = f'design.accelerator="{entry.name}"'
                yield entry.title, load_search(config, [*sets, change])
            except ConfigError:
                continue


def _other_systems(
    loaded: "LoadedSearch", config: str, sets: Sequence[str]
) -> Iterator[tuple[str, "LoadedSearch"]]:
    """System presets with the chips of the base design, without the choices of the search: for
    each system, the best of thousands of strategies would be ranked once more."""
    from hwdse.config import ConfigError, load_search, load_system
    from hwdse.config.files.toml_files import preset_names
    from hwdse.config.search.job_source import JobSource

    base: Any = loaded.base
    source = config if isinstance(config, JobSource) else JobSource(config)
    source = JobSource(source.path, {**source.tables, "choices": []})
    for name in preset_names("systems"):
        system = load_system(name)
        count = float(base.cluster.num_chips) / float(system.cluster.num_chips)
        changes = [f'design.system="{name}"', f"design.num_systems={count:g}"]
        try:
            yield system.name, load_search(source, [*sets, *changes])
        except ConfigError:
            continue


def limits_note(loaded: "LoadedSearch", evaluation: "Evaluation") -> str:
    """The limits of the search file that an evaluation exceeds: `over area and power limits`."""
    over = [str(row["name"]) for row in limit_rows(loaded, evaluation) if not row["is_met"]]
    names = [LIMIT_WORDS.get(name, name.replace("_", " ")) for name in over]
    noun = "limit" if len(names) == 1 else "limits"
    return f"over {' and '.join(names)} {noun}" if names else ""


def objective_values(
    loaded: "LoadedSearch", design: Any, evaluation: Any
) -> tuple[float, ...] | None:
    """Objectives of the front in base units, robust if the search file is robust.

    None for a design that lacks an uncertain constant.
    """
    import jax

    from hwdse.config.search.search_file_objectives import front_objectives_fn
    from hwdse.objectives import OBJECTIVES
    from hwdse.search.space.pytree_path import get_path

    if loaded.robust is None:
        return tuple(float(OBJECTIVES[name](evaluation)) for name in loaded.front_objectives)
    if any(get_path(design, constant.path) is None for constant in loaded.uncertain_constants):
        return None
    with jax.enable_x64(True):
        logs = _compiled_objectives(front_objectives_fn(loaded))(jax.tree.map(float, design))
        return tuple(np.exp(np.asarray(logs)).tolist())


@functools.cache
def _compiled_objectives(log_objectives: Any) -> Any:
    """Compiled function from a design to the logs of its objectives, cached per objectives."""
    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import EXACT

    return quick_jit(lambda design: log_objectives(design, EXACT)[0])


def robust_line(loaded: "LoadedSearch", num_designs: int) -> str:
    """Line on robust objectives and their number of evaluations; empty for nominal objectives."""
    if loaded.robust is None:
        return ""
    count = loaded.robust.num_samples
    noun = "constant" if len(loaded.uncertain_constants) == 1 else "constants"
    return (
        f"robust: {loaded.robust.text} of objectives and limits over {count} samples of "
        f"{len(loaded.uncertain_constants)} uncertain {noun}, equal for all designs: "
        f"{num_designs:,} x {count} = {count * num_designs:,} evaluations"
    )


def robust_json(loaded: "LoadedSearch", num_designs: int) -> dict[str, Any]:
    """Robust statistic and numbers of evaluations; empty for nominal objectives."""
    if loaded.robust is None:
        return {}
    count = loaded.robust.num_samples
    return {"robust": loaded.robust.text, "samples": count,
            "sample_evaluations": count * num_designs}  # fmt: skip
