"""`hwdse uncertainty --front`: percentiles of the designs of a front, and their share of samples
on the front."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_json, print_table, progress_bar, say, tell_files
from hwdse.cli.sweep.front_tables import shown_indices
from hwdse.config.schema.metric_fields import metric_unit
from hwdse.config.search.metric_names import objective_columns
from hwdse.report.metrics import format_metric, kind_of, metric_of

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.front.front_uncertainty import SampledDesigns

PERCENTILE_NAMES = ("p5", "p50", "p95")
CSV_NAME = "uncertainty.csv"
SAME = 1e-6
"""Relative difference up to which values of the CSV file and of the search file are equal."""


def run_front(
    loaded: "LoadedSearch",
    config: str,
    front: Path,
    *,
    num_samples: int,
    seed: int,
    out: Path | None,
    formats: tuple[str, ...],
    json: bool,
) -> None:
    """Print percentiles of each design of a front; write uncertainty.csv and plots.

    `front` is a run folder or a CSV file such as its front.csv.
    """
    from hwdse.config.search.design_csv import load_design_list, with_listed_values
    from hwdse.runs.atomic_files import csv_text, read_csv_columns, replacing
    from hwdse.runs.run_folder import RECORD_NAME, open_run

    if len(loaded.front_objectives) < 2:
        raise CommandError(f"{config}: [objective] front: expected two or more objectives")
    if (front / RECORD_NAME).exists():
        open_run(front)  # refuses a run of another format
    path = front / "front.csv" if front.is_dir() else front
    loaded = with_listed_values(path, loaded)
    points = load_design_list(path, loaded)
    sampled = _sampled(loaded, points, num_samples, seed)
    found = read_csv_columns(path.read_text(encoding="utf-8-sig"))
    _check_same(loaded, config, path, found, sampled, points)
    columns = uncertainty_columns(loaded, sampled)
    out = out or path.parent
    out.mkdir(parents=True, exist_ok=True)
    rest = {name: values for name, values in found.items() if name not in columns}
    with replacing(out / CSV_NAME) as temporary:
        temporary.write_text(csv_text({**columns, **rest}), encoding="utf-8")
    files = [out / CSV_NAME, *_draw(loaded, sampled, out / "plots", formats)]
    if json:
        rests_on = reliance_json(loaded, loaded.base, loaded.front_objectives[0])
        told = {"title": loaded.title, "samples": num_samples, "seed": seed}
        told |= {"front": {**columns, **rest}, "rests_on": rests_on, "files": files}
        print_json(told)
    else:
        _print(loaded, sampled)
        print_reliance(loaded, loaded.base, loaded.front_objectives[0])
    tell_files(files)


def _sampled(
    loaded: "LoadedSearch", points: tuple[np.ndarray, np.ndarray], num_samples: int, seed: int
) -> "SampledDesigns":
    from hwdse.objectives import make_objectives_fn
    from hwdse.search.front.front_uncertainty import sample_designs

    units, variants = points
    log_objectives = make_objectives_fn(loaded.front_objectives, loaded.limits, loaded.workload)
    title = f"{len(units):,} designs x {num_samples:,} samples"
    with progress_bar(title, len(units), "designs") as bar:
        bar(0, "compiling")
        return sample_designs(
            log_objectives, loaded.space, loaded.base, loaded.space.snap_points(units), variants,
            loaded.uncertain_constants, num_samples=num_samples, seed=seed,
            on_batch=lambda count: bar(count, ""),
        )  # fmt: skip


def uncertainty_columns(loaded: "LoadedSearch", sampled: "SampledDesigns") -> dict[str, np.ndarray]:
    """Nominal value and percentiles of each objective, and shares of samples, of each design.

    The shares count the samples in which a design meets the limits, and in which it is also on the
    front.
    """
    columns: dict[str, np.ndarray] = {}
    percentiles = sampled.percentiles
    for i, name in enumerate(objective_columns(loaded.front_objectives, is_robust=False)):
        columns[name] = np.exp(sampled.nominal[:, i])
        columns |= {f"{name}.{key}": percentiles[k, :, i] for k, key in enumerate(PERCENTILE_NAMES)}
    columns["meets_limits_fraction"] = sampled.meets_limits.mean(axis=0)
    columns["on_front_fraction"] = sampled.is_on_front.mean(axis=0)
    return columns


def _check_same(
    loaded: "LoadedSearch",
    config: str,
    path: Path,
    found: dict[str, np.ndarray],
    sampled: "SampledDesigns",
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    """Raise `CommandError` if the objectives in the file differ from those of this search file.

    Columns without prefix are nominal, robust columns are compared with the robust objectives. A
    difference means another search file, or other --set options than those of the run.
    """
    objectives = loaded.front_objectives
    for is_robust in (False, True):
        names = objective_columns(objectives, is_robust=is_robust)
        indices = [i for i, name in enumerate(names) if name in found]
        if not indices:
            continue
        if is_robust and loaded.robust is None:
            raise CommandError(
                f"{path}: {names[indices[0]]} is a robust objective, but {config} has nominal "
                "objectives; expected the --set options of the run"
            )
        in_file = [found[names[i]] for i in indices]
        if any(values.dtype.kind != "f" for values in in_file):
            texts = ", ".join(names[i] for i in indices)
            raise CommandError(f"{path}: expected numbers in the columns {texts}")
        logs = _robust_log_objectives(loaded, points) if is_robust else sampled.nominal
        here = np.exp(logs[:, indices]).T
        differs = np.abs(here / np.array(in_file) - 1.0) > SAME
        if np.any(differs):
            i, row = np.argwhere(differs)[0]
            unit = metric_unit(objectives[indices[i]])
            texts = [format_metric(float(values[i][row]), unit) for values in (in_file, here)]
            raise CommandError(
                f"{path}: {names[indices[i]]} of design {row + 1} is {texts[0]} in the file, "
                f"{texts[1]} with {config}; expected the --set options of the run"
            )


def _robust_log_objectives(
    loaded: "LoadedSearch", points: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    from hwdse.config.search.search_file_objectives import front_objectives_fn
    from hwdse.search.evaluation.evaluator import Evaluator

    units, variants = points
    evaluator = Evaluator(front_objectives_fn(loaded), loaded.space, loaded.base)
    return evaluator(loaded.space.snap_points(units), variants).log_objectives


def _draw(
    loaded: "LoadedSearch", sampled: "SampledDesigns", folder: Path, formats: tuple[str, ...]
) -> list[Path]:
    from hwdse.jobs.reliance import resting_plot_files
    from hwdse.report import evaluation_plots

    objectives = loaded.front_objectives
    files = resting_plot_files(loaded, folder, formats, loaded.base, objectives[0])
    return evaluation_plots.save_front_uncertainty(sampled, objectives, files, kind=kind_of(loaded))


def _print(loaded: "LoadedSearch", sampled: "SampledDesigns") -> None:
    """Print some designs at equal intervals of the front, one per column."""
    count, num_samples = sampled.nominal.shape[0], len(sampled.log_objectives)
    indices = shown_indices(count)
    columns = uncertainty_columns(loaded, sampled)
    rows = []
    names = objective_columns(loaded.front_objectives, is_robust=False)
    for objective, name in zip(loaded.front_objectives, names, strict=True):
        metric = metric_of(objective, kind=kind_of(loaded))
        keys = (name, *(f"{name}.{key}" for key in PERCENTILE_NAMES))
        cells = metric.cells([float(columns[key][i]) for key in keys for i in indices])
        for k, head in enumerate((metric.label, *(f"  {key}" for key in PERCENTILE_NAMES))):
            rows.append([head, *cells[k * len(indices) : (k + 1) * len(indices)]])
    for key, head in (("meets_limits_fraction", "within limits (% of samples)"),
                      ("on_front_fraction", "on the front (% of samples)")):  # fmt: skip
        rows.append([head, *(f"{100.0 * float(columns[key][i]):.1f}" for i in indices)])
    title = f"Pareto front: {count:,} designs, {num_samples:,} samples"
    print_table(title, [f"row of {CSV_NAME}", *(f"{index + 1}" for index in indices)], rows)
    num_robust = int(np.sum(columns["on_front_fraction"] >= 0.5))
    say(f"{num_robust:,} of {count:,} designs are on the front in at least 50 % of the samples")
