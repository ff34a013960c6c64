"""`hwdse uncertainty --front`: bands of the designs of a front, and which of them stay on it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric, is_core
from hwdse.cli.shared.table_output import (
    percent,
    print_json,
    print_table,
    progress_bar,
    say,
    tell_files,
)

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.front.front_uncertainty import SampledDesigns

BAND_NAMES = ("p5", "p50", "p95")
SHOWN_DESIGNS = 6
SAME = 1e-6
"""Relative difference within which a figure of the file is the one of this search file."""


def run_front(
    loaded: "LoadedSearch",
    config: str,
    front: Path,
    *,
    num_samples: int,
    seed: int,
    out: Path | None,
    json: bool,
) -> None:
    """Bands of each design of a run folder, or of a CSV file as front.csv, as table or JSON, as
    bands.csv and as picture."""
    from hwdse.config.search.design_csv import load_design_list
    from hwdse.runs.atomic_files import csv_text, read_csv_columns, replacing

    if len(loaded.front_objectives) < 2:
        raise CommandError(f"{config}: [objective] front: expected two or more objectives")
    path = front / "front.csv" if front.is_dir() else front
    points = load_design_list(path, loaded)
    sampled = _sampled(loaded, points, num_samples, seed)
    found = read_csv_columns(path.read_text(encoding="utf-8-sig"))
    _check_same(loaded, config, path, found, sampled, points)
    columns = band_columns(loaded, sampled)
    out = out or path.parent
    out.mkdir(parents=True, exist_ok=True)
    rest = {name: values for name, values in found.items() if name not in columns}
    with replacing(out / "bands.csv") as temporary:
        temporary.write_text(csv_text({**columns, **rest}), encoding="utf-8")
    files = [out / "bands.csv", *_draw(loaded, sampled, out / "plots")]
    if json:
        print_json({"title": loaded.title, "samples": num_samples, "seed": seed,
                    "front": {**columns, **rest}, "files": files})  # fmt: skip
    else:
        _print(loaded, sampled)
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
            loaded.uncertain_constants, num_samples=num_samples, seed=seed, on_batch=lambda n: bar(n, ""),
        )  # fmt: skip


def band_columns(loaded: "LoadedSearch", sampled: "SampledDesigns") -> dict[str, np.ndarray]:
    """Of each design the nominal value and the band of each objective, the share of the samples
    in which it meets the limits, and of those in which it is on the front as well."""
    columns: dict[str, np.ndarray] = {}
    percentiles = sampled.percentiles
    for i, name in enumerate(loaded.front_objectives):
        columns[name] = np.exp(sampled.nominal[:, i])
        columns |= {f"{name}.{key}": percentiles[k, :, i] for k, key in enumerate(BAND_NAMES)}
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
    """Raises `CommandError` where the file's figures are neither the nominal nor the robust ones
    of this search file: then it came of another one, or of other --set."""
    names = [name for name in loaded.front_objectives if name in found]
    there = [found[name] for name in names if found[name].dtype.kind == "f"]
    if len(there) < len(names):
        raise CommandError(f"{path}: expected numbers in the columns {', '.join(names)}")
    if not names:
        return
    indices = [loaded.front_objectives.index(name) for name in names]
    kinds = [sampled.nominal]
    if loaded.robust is not None:
        kinds.append(_robust_figures(loaded, points))
    wrong = [np.abs(np.exp(kind[:, indices]).T / np.array(there) - 1.0) > SAME for kind in kinds]
    if all(np.any(kind) for kind in wrong):
        i, row = np.argwhere(wrong[0])[0]
        unit = METRIC_UNITS[names[i]]
        held, here = there[i][row], float(np.exp(sampled.nominal[row, indices[i]]))
        raise CommandError(
            f"{path}: {names[i]} of design {row + 1} is {format_metric(held, unit)} there and "
            f"{format_metric(here, unit)} by {config}; expected the --set of the run"
        )


def _robust_figures(loaded: "LoadedSearch", points: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    from hwdse.config.search.objective_functions import front_objectives_fn
    from hwdse.search.evaluation.evaluator import Evaluator

    units, variants = points
    evaluator = Evaluator(front_objectives_fn(loaded), loaded.space, loaded.base)
    return evaluator(loaded.space.snap_points(units), variants).log_objectives


def _draw(loaded: "LoadedSearch", sampled: "SampledDesigns", folder: Path) -> list[Path]:
    from hwdse.cli.shared import evaluation_plots

    return evaluation_plots.save_front_uncertainty(
        sampled, loaded.front_objectives, folder, of_core=is_core(loaded)
    )


def _print(loaded: "LoadedSearch", sampled: "SampledDesigns") -> None:
    """Table of some designs, evenly spread over the front, one a column."""
    count = sampled.nominal.shape[0]
    indices = np.unique(np.linspace(0, count - 1, min(SHOWN_DESIGNS, count)).round().astype(int))
    columns = band_columns(loaded, sampled)
    rows = []
    for name in loaded.front_objectives:
        for key, head in ((name, name), *((f"{name}.{p}", f"  {p[1:]} %") for p in BAND_NAMES)):
            cells = [format_metric(float(columns[key][i]), METRIC_UNITS[name]) for i in indices]
            rows.append([head, *cells])
    for key, head in (("meets_limits_fraction", "meets the limits"),
                      ("on_front_fraction", "on the front")):  # fmt: skip
        rows.append([head, *(percent(float(columns[key][i]), 0) for i in indices)])
    num_samples = len(sampled.log_objectives)
    print_table(
        f"front: {count:,} designs, {num_samples:,} samples",
        ["", *(f"{place + 1}" for place in indices)],
        rows,
    )
    firm = int(np.sum(columns["on_front_fraction"] >= 0.5))
    say(
        f"{firm:,} of {count:,} designs are on the front in half of the samples or more: they meet "
        "the limits there, and no other design that does is better in everything"
    )
