"""`hwdse pareto`: the fronts of runs, merged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import percent, print_json, print_table, say, tell_files

if TYPE_CHECKING:
    import numpy as np

    from hwdse.plots.pareto_plots import Marker
    from hwdse.runs.run_folder import Run

NAME = "pareto"
MARGIN = 1.1
"""The reference point of the hypervolume is this factor beyond the worst value of any front."""


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of sweeps.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="ConfigLocation CSV and pictures go.")
    ] = Path("pareto"),
    json: Json = False,
) -> None:
    """Merge the fronts of sweeps: as CSV, as picture, and with the hypervolume of each.

    \b
    Examples:
      hwdse pareto runs/wide
      hwdse pareto runs/wide runs/narrow --out both
    """
    import numpy as np

    from hwdse.cli.shared import evaluation_plots
    from hwdse.runs.atomic_files import csv_text, replacing
    from hwdse.runs.run_folder import open_run
    from hwdse.search.pareto.pareto_set import merge_fronts

    records = [open_run(folder) for folder in runs]
    objectives = _shared_objectives(records)
    fronts = [_read_front(record, objectives) for record in records]
    log_objectives = [np.stack([front[name] for name in objectives], axis=1) for front in fronts]
    _, indices = merge_fronts(*log_objectives)
    owner = np.repeat(np.arange(len(runs)), [len(points) for points in log_objectives])
    merged = _merged_columns(records, fronts, indices, owner)
    table = _volumes(runs, log_objectives, indices, owner)
    out.mkdir(parents=True, exist_ok=True)
    everything = np.concatenate(log_objectives)
    with replacing(out / "front.csv") as temporary:
        temporary.write_text(csv_text(merged), encoding="utf-8")
    files = [out / "front.csv"]
    mask = np.isin(np.arange(len(everything)), indices)
    if len(objectives) > 1:
        files += evaluation_plots.save_pareto(
            everything,
            mask,
            objectives,
            _markers(records),
            out,
            "other designs of the fronts",
            of_core="accelerator" in (records[0].config.get("design") or {}),
            rule=_rule(records[0]),
        )
    if json:
        print_json({"objectives": objectives, "runs": table, "front": merged, "files": files})
    else:
        _print(table, objectives)
    tell_files(files)


def _print(table: list[dict[str, Any]], objectives: list[str]) -> None:
    rows = [[row["run"], row["designs"], row["on_merged_front"], percent(row["share"])]
            for row in table]  # fmt: skip
    print_table("fronts", ["run", "designs", "on the merged front", "hypervolume"], rows)
    say(f"hypervolume: of the merged front's, in logarithms of {', '.join(objectives)}")


def _shared_objectives(records: list["Run"]) -> list[str]:
    """Objectives of the fronts, which must be the same, for the same job."""
    first = records[0].config.get("front_objectives") or []
    for record in records:
        objectives = record.config.get("front_objectives")
        if not objectives or objectives != first:
            raise CommandError(
                f"{record.folder}: front of {objectives}, expected {first} as in "
                f"{records[0].folder}"
            )
        if record.config.get("workload") != records[0].config.get("workload"):
            raise CommandError(f"{record.folder}: another workload than {records[0].folder}")
        if _sample_of(record) != _sample_of(records[0]):
            kinds = [_rule(item) or "nominal" for item in (record, records[0])]
            raise CommandError(
                f"{record.folder}: front of {kinds[0]} figures, expected {kinds[1]} ones over the "
                f"same sample as in {records[0].folder}"
            )
    return list(first)


def _rule(record: "Run") -> str:
    """How robust objectives were taken over uncertain constants; empty for nominal ones."""
    from hwdse.search.uncertainty.robust import Robust

    return Robust(**record.config["robust"]).text if record.config.get("robust") else ""


def _sample_of(record: "Run") -> Any:
    """All that robust figures depend on beside the design; None for nominal ones."""
    names = ("robust", "seed", "uncertain")
    return [record.config.get(name) for name in names] if _rule(record) else None


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
        raise CommandError(f"{path}: no design on this front", Exit.INFEASIBLE)
    for name in objectives:
        if name not in columns or columns[name].dtype.kind != "f":
            raise CommandError(f"{path}: expected a column of numbers named {name}")
    if not len(columns[objectives[0]]):
        raise CommandError(f"{path}: no design on this front", Exit.INFEASIBLE)
    return columns


def _merged_columns(
    records: list["Run"],
    fronts: "list[dict[str, np.ndarray]]",
    indices: "np.ndarray",
    owner: "np.ndarray",
) -> "dict[str, np.ndarray]":
    """Rows of the merged front with the run they come from; columns that all runs have."""
    import numpy as np

    names = [name for name in fronts[0] if all(name in front for front in fronts)]
    columns: dict[str, Any] = {
        name: np.concatenate([front[name].astype(object) for front in fronts])[indices]
        for name in names
    }
    first = columns[names[0]].astype(float)
    columns["run"] = np.array([str(records[i].folder) for i in owner[indices]], dtype=object)
    return {name: values[np.argsort(first, kind="stable")] for name, values in columns.items()}


def _volumes(
    runs: list[Path], log_objectives: "list[np.ndarray]", indices: "np.ndarray", owner: "np.ndarray"
) -> list[dict[str, Any]]:
    """Hypervolume of each front in logarithms, also as a share of the merged front's."""
    import numpy as np

    from hwdse.search.pareto.pareto_set import hypervolume

    everything = np.log(np.concatenate(log_objectives))
    reference = everything.max(axis=0) + np.log(MARGIN)
    whole = hypervolume(everything, reference)
    rows = []
    for i, (folder, points) in enumerate(zip(runs, log_objectives, strict=True)):
        volume = hypervolume(np.log(points), reference)
        num_kept = int(np.sum(owner[indices] == i))
        rows.append({"run": str(folder), "designs": len(points), "on_merged_front": num_kept,
                     "hypervolume": volume, "share": volume / whole})  # fmt: skip
    return rows


def _markers(records: list["Run"]) -> list["Marker"]:
    """Presets that the runs evaluated, each once."""
    from hwdse.plots.pareto_plots import Marker

    found = {}
    for record in records:
        for item in record.record.get("summary", {}).get("markers", []):
            found.setdefault(
                item["label"], Marker(item["label"], tuple(item["cost"]), item["role"])
            )
    return list(found.values())
