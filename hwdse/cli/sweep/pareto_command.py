"""`hwdse pareto`: merged Pareto front of several runs, and the hypervolume of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import DEFAULT_FORMATS, Formats, Json, parse_formats
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import note, print_json, print_table, say, tell_files

if TYPE_CHECKING:
    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.jobs.footing.figure_bands import UnlikeConstant
    from hwdse.jobs.reliance import Reliance
    from hwdse.plots.figure_files import PlotFiles
    from hwdse.plots.fronts.pareto_plots import FrontPoints, Marker, PointBand
    from hwdse.runs.run_folder import Run

NAME = "pareto"
MARGIN = 1.1
"""Ratio of the hypervolume reference point to the worst value of all fronts, per objective."""


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder of front.csv and plots.")
    ] = Path("pareto"),
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Merge Pareto fronts and compare their hypervolumes.

    Runs of `hwdse sweep` and `hwdse optimize --front` with the same objectives and workload are
    merged. A run of `hwdse optimize` adds its optimum to the plot. Writes front.csv and plots.

    \b
    Examples:
      hwdse pareto runs/wide
      hwdse pareto runs/wide runs/narrow runs/optimum --out merged
    """
    import numpy as np

    from hwdse.jobs.reliance import as_sentence, reliance_line, reliance_rows
    from hwdse.report import evaluation_plots
    from hwdse.report.metrics import CORE, TRAINING
    from hwdse.runs.atomic_files import csv_text, replacing
    from hwdse.runs.run_folder import open_run
    from hwdse.search.pareto.dominance_and_hypervolume import merge_fronts

    everyone = [open_run(folder) for folder in runs]
    objectives = _shared_objectives(everyone)
    _tell_incomplete(everyone)
    records = [record for record in everyone if not _is_optimum(record)]
    if not records:
        raise CommandError(f"{runs[0]}: no front; expected a run of sweep or of optimize --front")
    fronts = [_read_front(record, objectives) for record in records]
    names = _columns_of(records[0], objectives)
    values = [np.stack([front[name] for name in names], axis=1) for front in fronts]
    _, indices = merge_fronts(*values)
    owner = np.repeat(np.arange(len(records)), [len(points) for points in values])
    merged = _merged_columns(records, fronts, indices, owner)
    table = _volumes(records, values, indices, owner)
    out.mkdir(parents=True, exist_ok=True)
    everything = np.concatenate(values)
    with replacing(out / "front.csv") as temporary:
        temporary.write_text(csv_text(merged), encoding="utf-8")
    files = [out / "front.csv"]
    mask = np.isin(np.arange(len(everything)), indices)
    kind = CORE if "accelerator" in (records[0].config.get("design") or {}) else TRAINING
    rests_on = _reliances(str(merged["run"][0]), objectives[0])
    line = reliance_line(rests_on, objectives[0], kind=kind)
    unlike = _unlike(everyone, objectives[0])
    if len(objectives) > 1:
        target = _plot_files(records[0], out, parse_formats(formats), as_sentence(line))
        is_banded = bool(unlike) and len(objectives) == 2 and not _rule(records[0])
        bands = {one.folder: _bands(one, objectives) for one in everyone if is_banded}
        files += evaluation_plots.save_pareto(
            _front_points(records, values, mask, bands), objectives, _markers(everyone, bands),
            target, kind=kind, rule=_rule(records[0]),
        )  # fmt: skip
    if json:
        told = {"objectives": objectives, "runs": table, "front": merged, "files": files}
        told["unlike_kinds"] = [one.as_json() for one in unlike]
        print_json({**told, "rests_on": reliance_rows(rests_on)})
    else:
        _print(table, objectives)
        for text in filter(None, (line, *(one.text() for one in unlike))):
            say(text)
    tell_files(files)


def _reliances(folder: str, objective: str) -> "list[Reliance]":
    """Constants without a source that the best design of a run rests on; none without its file."""
    from hwdse.jobs.reliance import reliances

    best = _best_of(Path(folder), objective)
    return [] if best is None else reliances(best, best.base, objective)


def _best_of(folder: Path, objective: str) -> "LoadedSearch | None":
    """Best design of a run; None without its file."""
    from hwdse.config import ConfigError, load_search

    for name in (f"best_{objective}.toml", "best.toml"):
        try:
            return load_search(folder / name)
        except ConfigError:  # of an interrupted run, or with files that have moved
            continue
    return None


def _unlike(records: "list[Run]", objective: str) -> "list[UnlikeConstant]":
    """Constants that decide and are not of one kind in the best designs of all runs."""
    from hwdse.jobs.footing.figure_bands import footing, unlike_constants

    sides = {}
    for record in records if len(records) > 1 else ():
        if (best := _best_of(record.folder, objective)) is not None:
            sides[record.folder.name] = footing(best, best.base)
    return unlike_constants(list(sides), list(sides.values()))


def _bands(record: "Run", objectives: list[str]) -> "tuple[PointBand, ...]":
    """Bands for the objectives of the best design of a run for each of them."""
    from hwdse.jobs.footing.figure_bands import objective_bands
    from hwdse.plots.fronts.pareto_plots import PointBand

    bands = {}
    for objective in objectives:
        if (best := _best_of(record.folder, objective)) is None:
            continue
        found = objective_bands(best, best.base, objectives)
        if len(found) == len(objectives):
            each = [found[name] for name in objectives]
            band = PointBand(
                tuple(one.value for one in each),
                tuple(one.low for one in each),
                tuple(one.high for one in each),
            )
            bands[band.objectives] = band
    return tuple(bands.values())


def _print(table: list[dict[str, Any]], objectives: list[str]) -> None:
    rows = [
        [row["run"], f"{row['designs']:,}", f"{row['on_merged_front']:,}",
         f"{100.0 * row['share']:.1f}"]
        for row in table
    ]  # fmt: skip
    heads = ["run", "designs", "on merged front", "hypervolume (% of merged)"]
    print_table("Pareto fronts", heads, rows)
    names = " and ".join(name.replace("_", " ") for name in objectives)
    say(f"hypervolume in the logarithms of {names}")


def _shared_objectives(records: list["Run"]) -> list[str]:
    """Objectives of the fronts. Raises `CommandError` for different objectives or workloads."""
    first = records[0].config.get("front_objectives") or []
    for record in records:
        objectives = record.config.get("front_objectives")
        if not objectives or objectives != first:
            raise CommandError(
                f"{record.folder}: front of {objectives}, expected {first} as in "
                f"{records[0].folder}"
            )
        if record.config.get("workload") != records[0].config.get("workload"):
            raise CommandError(f"{record.folder}: workload differs from {records[0].folder}")
        if _sample_of(record) != _sample_of(records[0]):
            kinds = [_rule(item) or "nominal" for item in (record, records[0])]
            raise CommandError(
                f"{record.folder}: front of {kinds[0]} values, expected {kinds[1]} values of the "
                f"same sample as in {records[0].folder}"
            )
    return list(first)


def _is_optimum(record: "Run") -> bool:
    """True for a run of `hwdse optimize`, which has one design and no front."""
    options = record.config.get("options") or {}
    return options.get("command") == "optimize" and not options.get("front")


def _rule(record: "Run") -> str:
    """Name of the robust statistic of the objectives; empty for nominal objectives."""
    from hwdse.search.uncertainty.robust import Robust

    return Robust(**record.config["robust"]).text if record.config.get("robust") else ""


def _sample_of(record: "Run") -> Any:
    """Statistic, seed and constants of robust objectives; None for nominal objectives."""
    names = ("robust", "seed", "uncertain")
    return [record.config.get(name) for name in names] if _rule(record) else None


def _columns_of(record: "Run", objectives: list[str]) -> tuple[str, ...]:
    """Columns of the objectives in front.csv."""
    from hwdse.config.search.metric_names import objective_columns

    return objective_columns(objectives, is_robust=bool(record.config.get("robust")))


def _read_front(record: "Run", objectives: list[str]) -> "dict[str, np.ndarray]":
    from hwdse.runs.atomic_files import read_csv_columns

    path = record.folder / "front.csv"
    if not path.exists():
        from hwdse.runs.partial_front import front_of_parts

        return front_of_parts(record, objectives)
    try:
        columns = read_csv_columns(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error
    if not columns:
        raise CommandError(f"{path}: the front is empty", Exit.INFEASIBLE)
    names = _columns_of(record, objectives)
    for name in names:
        if name not in columns or columns[name].dtype.kind != "f":
            raise CommandError(f"{path}: expected a column of numbers named {name}")
    if not len(columns[names[0]]):
        raise CommandError(f"{path}: the front is empty", Exit.INFEASIBLE)
    return columns


def _merged_columns(
    records: list["Run"],
    fronts: "list[dict[str, np.ndarray]]",
    indices: "np.ndarray",
    owner: "np.ndarray",
) -> "dict[str, np.ndarray]":
    """Rows of the merged front with their run folder; only columns present in all runs."""
    import numpy as np

    names = [name for name in fronts[0] if all(name in front for front in fronts)]
    columns: dict[str, Any] = {
        name: np.concatenate([front[name].astype(object) for front in fronts])[indices]
        for name in names
    }
    first = columns[names[0]].astype(float)
    columns["run"] = np.array([str(records[i].folder) for i in owner[indices]], dtype=object)
    return {name: values[np.argsort(first, kind="stable")] for name, values in columns.items()}


def _tell_incomplete(records: list["Run"]) -> None:
    """Tell which runs have not ended, and which have lost designs."""
    from hwdse.runs.partial_front import missing_designs, progress_text

    for record in records:
        if text := progress_text(record):
            note(f"{record.folder}: partial run ({text}); its front so far is merged")
        elif not (record.folder / "front.csv").exists() and (lost := missing_designs(record)):
            note(f"{record.folder}: {lost:,} designs are missing; sweep --resume repeats them")


def _volumes(
    records: list["Run"], values: "list[np.ndarray]", indices: "np.ndarray", owner: "np.ndarray"
) -> list[dict[str, Any]]:
    """Hypervolume of each front in logarithms, absolute and relative to the merged front."""
    import numpy as np

    from hwdse.search.pareto.dominance_and_hypervolume import hypervolume

    everything = np.log(np.concatenate(values))
    reference = everything.max(axis=0) + np.log(MARGIN)
    merged_volume = hypervolume(everything, reference)
    rows = []
    for i, (record, points) in enumerate(zip(records, values, strict=True)):
        volume = hypervolume(np.log(points), reference)
        num_kept = int(np.sum(owner[indices] == i))
        rows.append({"run": str(record.folder), "status": record.status, "designs": len(points),
                     "on_merged_front": num_kept, "hypervolume": volume,
                     "share": volume / merged_volume})  # fmt: skip
    return rows


def _markers(records: list["Run"], bands: "Mapping[Path, tuple[PointBand, ...]]") -> list["Marker"]:
    """Presets evaluated by the runs and optima, each once; optima with their bands."""
    from hwdse.plots.fronts.pareto_plots import Marker

    found = {}
    for record in records:
        own = bands.get(record.folder, ()) if _is_optimum(record) else ()
        for item in record.record.get("summary", {}).get("markers", []):
            marker = Marker(
                item["label"], tuple(item["objectives"]), item["role"], item.get("note", ""),
                own[0] if own else None,
            )  # fmt: skip
            found.setdefault(marker.label, marker)
    return list(found.values())


def _front_points(
    records: list["Run"],
    values: "list[np.ndarray]",
    mask: "np.ndarray",
    bands: "Mapping[Path, tuple[PointBand, ...]]",
) -> list["FrontPoints"]:
    """Designs of each run with its name; of one run, all are the Pareto front."""
    import numpy as np

    from hwdse.plots.fronts.pareto_plots import FrontPoints

    parts = np.split(mask, np.cumsum([len(points) for points in values])[:-1])
    names = [record.folder.name for record in records]
    if len(set(names)) < len(names):
        names = [str(record.folder) for record in records]
    if len(records) == 1:
        names = [f"Pareto front of {names[0]}"]
    ends = [bands.get(record.folder, ()) for record in records]
    return [FrontPoints(*each) for each in zip(names, values, parts, ends, strict=True)]


def _plot_files(record: "Run", folder: Path, formats: tuple[str, ...], footer: str) -> "PlotFiles":
    """Target of the plot, with the title of the first run."""
    from hwdse.plots.figure_files import PlotFiles
    from hwdse.report.plot_targets import provenance

    small_print = f"{provenance(record.config)} {footer}".strip()
    return PlotFiles(folder, formats, str(record.config["title"]), small_print)
