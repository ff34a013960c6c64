"""`hwdse optimize --front`: gradient search of a Pareto front; run folder as of a sweep."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.interrupts import uninterrupted
from hwdse.cli.shared.table_output import print_json, progress_bar, say, tell_files

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.front.front_search import FrontResult
    from hwdse.search.pareto.pareto_archive import DesignSet

CLOUD_POINTS = 4096
"""Designs of the search that a plot shows behind the front."""


def run_front(
    loaded: "LoadedSearch",
    config: str,
    start: "Callable[[dict[str, Any]], Run]",
    *,
    num_evaluations: int,
    sets: list[str],
    seed: int,
    formats: tuple[str, ...],
    resume: bool,
    json: bool,
) -> None:
    """Search the Pareto front of [objective] front and write the run folder, which
    `start(options)` returns."""
    from hwdse.cli.shared.interrupts import on_interrupt
    from hwdse.cli.sweep.front_tables import preset_markers, robust_json, write_front
    from hwdse.runs.sweep_job import job_of

    if not 2 <= len(loaded.front_objectives) <= 4:
        given = ", ".join(loaded.front_objectives)
        raise CommandError(
            f"{config}: [objective] front = {given}: expected two to four objectives; without "
            "--front, optimize minimizes one"
        )
    record = start({"command": "optimize", "evaluations": num_evaluations, "front": True})
    keeper = FrontKeeper(loaded, record, resume=resume)
    with on_interrupt(keeper.stop):
        result = _search(loaded, keeper, num_evaluations, seed)
        job = job_of(loaded)
        result = _with_metrics(job, result)
        markers = preset_markers(loaded, config, sets)
        with uninterrupted():
            _write_part(job, record, result)
            files = write_front(loaded, job, record, result.front, keeper.cloud(), markers, formats)
            record.finish(
                "finished" if len(result.front) else "infeasible",
                num_points=result.num_evaluations,
                num_feasible=result.num_feasible,
                num_front=len(result.front),
                markers=[dataclasses.asdict(marker) for marker in markers],
                **robust_json(loaded, result.num_evaluations),
            )
            keeper.checkpoint.remove()
    _tell(loaded, record, result, files, json)
    tell_files(files)
    if not len(result.front):
        from hwdse.cli.shared.start_run import explain_infeasible

        nearest = result.least_violated.constraint_values[0]
        raise CommandError(explain_infeasible(loaded, nearest), Exit.INFEASIBLE)


class FrontKeeper:
    """Log and feasible designs of a front search; writes the front so far if a signal arrives."""

    def __init__(self, loaded: "LoadedSearch", record: "Run", *, resume: bool) -> None:
        from hwdse.runs.search_checkpoint import SearchCheckpoint
        from hwdse.search.evaluation.search_log import SearchLog

        self._loaded, self._record = loaded, record
        self._feasible: list[DesignSet] = []
        self._num_evaluations = 0
        self.checkpoint = SearchCheckpoint(record)
        self.log = SearchLog(self.checkpoint.load()[0] if resume else None)

    def add(self, rows: "DesignSet", num_evaluations: int) -> int:
        """Keep the feasible rows of a batch; the number of all of them."""
        import numpy as np

        self._feasible.append(rows.take(np.flatnonzero(rows.is_feasible)))
        self._num_evaluations = num_evaluations
        with uninterrupted():
            self.checkpoint.save_if_due(self.log, 0.0)
        return sum(map(len, self._feasible))

    def cloud(self) -> Any:
        """Logs of the objectives of a part of the feasible designs."""
        import numpy as np

        logs = np.concatenate([rows.log_objectives for rows in self._feasible])
        return logs[:: max(len(logs) // CLOUD_POINTS, 1)]

    def stop(self) -> str:
        """Write the front so far, the checkpoint and the status; the line for the user."""
        from hwdse.cli.sweep.front_tables import write_designs
        from hwdse.search.pareto.pareto_archive import merge

        folder, found = self._record.folder, list(self._feasible)
        self.checkpoint.save(self.log, 0.0)
        front = functools.reduce(merge, found) if found else None
        num_front = 0 if front is None else len(front)
        if front is not None:
            write_designs(self._loaded, self._record, front)
        self._record.finish("stopped", num_points=self._num_evaluations, num_front=num_front)
        return (
            f"{folder}: stopped after {self._num_evaluations:,} evaluations; front so far, "
            f"{num_front:,} designs, in front.csv; continue with: hwdse optimize --resume {folder}"
        )


def _tell(
    loaded: "LoadedSearch", record: "Run", result: "FrontResult", files: list[Path], json: bool
) -> None:
    from hwdse.cli.sweep.front_tables import (
        front_columns,
        front_reliance_json,
        print_front,
        print_front_reliance,
        robust_json,
        robust_line,
    )

    if json:
        print_json(
            {
                "title": loaded.title,
                "folder": record.folder,
                "evaluations": result.num_evaluations,
                **robust_json(loaded, result.num_evaluations),
                "front": front_columns(loaded, result.front),
                "rests_on": front_reliance_json(loaded, result.front),
                "files": files,
            }
        )
    else:
        print_front(loaded, result.front)
        say(f"{result.num_feasible:,} of {result.num_evaluations:,} evaluations feasible")
        if line := robust_line(loaded, result.num_evaluations):
            say(line)
        print_front_reliance(loaded, result.front)


def _search(
    loaded: "LoadedSearch", keeper: FrontKeeper, num_evaluations: int, seed: int
) -> "FrontResult":
    from hwdse.config.search.search_file_objectives import front_objectives_fn
    from hwdse.search.front.front_search import search_front

    with progress_bar("searching the Pareto front", num_evaluations, "evaluations") as update:

        def report(rows: "DesignSet", spent: int) -> None:
            update(spent, f"{keeper.add(rows, spent):,} feasible")

        return search_front(
            front_objectives_fn(loaded),
            loaded.space,
            loaded.base,
            seed=seed,
            num_evaluations=num_evaluations,
            report=report,
            log=keeper.log,
        )


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
