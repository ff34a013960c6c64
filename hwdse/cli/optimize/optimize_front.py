"""`hwdse optimize --front`: gradient search of a Pareto front; run folder as of a sweep."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import print_json, progress_bar, say, tell_files

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.front.front_search import FrontResult

CLOUD_POINTS = 4096
"""Designs of the search that a plot shows behind the front."""


def run_front(
    loaded: "LoadedSearch",
    config: str,
    *,
    num_evaluations: int,
    sets: list[str],
    out: Path | None,
    seed: int,
    formats: tuple[str, ...],
    json: bool,
) -> None:
    """Search the Pareto front of [objective] front and write the run folder."""
    from hwdse.cli.shared.start_run import start_run
    from hwdse.cli.sweep.front_tables import preset_markers, robust_json, write_front
    from hwdse.runs.sweep_job import job_of

    if not 2 <= len(loaded.front_objectives) <= 4:
        given = ", ".join(loaded.front_objectives)
        raise CommandError(f"{config}: [objective] front = {given}: expected two to four")
    options = {"command": "optimize", "evaluations": num_evaluations, "front": True}
    record = start_run(loaded, options, config, out, seed, resume=True)
    result, cloud = _search(loaded, num_evaluations, seed)
    job = job_of(loaded)
    result = _with_metrics(job, result)
    _write_part(job, record, result)
    markers = preset_markers(loaded, config, sets)
    files = write_front(loaded, job, record, result.front, cloud, markers, formats)
    record.finish(
        "finished" if len(result.front) else "infeasible",
        num_points=result.num_evaluations,
        num_feasible=result.num_feasible,
        num_front=len(result.front),
        markers=[dataclasses.asdict(marker) for marker in markers],
        **robust_json(loaded, result.num_evaluations),
    )
    _tell(loaded, record, result, files, json)
    tell_files(files)
    if not len(result.front):
        from hwdse.cli.shared.start_run import explain_infeasible

        nearest = result.least_violated.constraint_values[0]
        raise CommandError(explain_infeasible(loaded, nearest), Exit.INFEASIBLE)


def _tell(
    loaded: "LoadedSearch", record: "Run", result: "FrontResult", files: list[Path], json: bool
) -> None:
    from hwdse.cli.sweep.front_tables import front_columns, print_front, robust_json, robust_line

    if json:
        print_json(
            {
                "title": loaded.title,
                "folder": record.folder,
                "evaluations": result.num_evaluations,
                **robust_json(loaded, result.num_evaluations),
                "front": front_columns(loaded, result.front),
                "files": files,
            }
        )
    else:
        print_front(loaded, result.front)
        say(f"{result.num_feasible:,} of {result.num_evaluations:,} evaluations feasible")
        if line := robust_line(loaded, result.num_evaluations):
            say(line)


def _search(loaded: "LoadedSearch", num_evaluations: int, seed: int) -> "tuple[FrontResult, Any]":
    """Front, and logs of the objectives of other evaluated designs."""
    import numpy as np

    from hwdse.config.search.search_file_objectives import front_objectives_fn
    from hwdse.search.front.front_search import search_front

    seen: list[np.ndarray] = []
    with progress_bar("searching the Pareto front", num_evaluations, "evaluations") as update:

        def report(rows: Any, spent: int) -> None:
            seen.append(rows.log_objectives[rows.is_feasible])
            update(spent, f"{sum(map(len, seen)):,} feasible")

        result = search_front(
            front_objectives_fn(loaded),
            loaded.space,
            loaded.base,
            seed=seed,
            num_evaluations=num_evaluations,
            report=report,
        )
    cloud = np.concatenate(seen)
    return result, cloud[:: max(len(cloud) // CLOUD_POINTS, 1)]


def _write_part(job: "SweepJob", record: "Run", result: "FrontResult") -> None:
    from hwdse.runs.sweep_job import chunk_columns, chunk_notes
    from hwdse.search.sweeps.sweep_plan import SweepChunk

    chunk = SweepChunk(
        index=0,
        num_points=result.num_evaluations,
        num_feasible=result.num_feasible,
        num_not_finite=result.num_not_finite,
        num_reclassified=0,
        front=result.front,
        least_violated=result.least_violated,
    )
    record.write_part(0, chunk_columns(job, chunk), chunk_notes(chunk))


def _with_metrics(job: "SweepJob", result: "FrontResult") -> "FrontResult":
    """Result with all metrics of its designs, as a sweep records them."""
    import numpy as np

    from hwdse.config.search.metric_names import SCALARS
    from hwdse.search.sweeps.sweep_plan import plan_list

    rows, num_front = result.front.joined(result.least_violated), len(result.front)
    plan = plan_list(job.space, rows.units, rows.variants)
    evaluator = dataclasses.replace(job, plan=plan).runner().evaluator
    metrics = np.empty((len(rows), len(SCALARS)))
    for variant, indices in enumerate(plan.listed):
        if len(indices):
            metrics[indices] = evaluator.evaluate(variant, indices).metrics
    rows = dataclasses.replace(rows, metrics=metrics)
    return dataclasses.replace(
        result,
        front=rows.take(np.arange(num_front)),
        least_violated=rows.take(np.arange(num_front, len(rows))),
    )
