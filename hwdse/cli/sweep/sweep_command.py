"""`hwdse sweep`: many designs, of which the front is kept."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Out, Seed, Sets, parse_count
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import (
    human_count,
    note,
    print_json,
    progress_bar,
    say,
    tell_files,
)

if TYPE_CHECKING:
    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.sweep.sweep_plan import SweepPlan, SweepResult

NAME = "sweep"
METHODS = ("sobol", "grid", "random", "latin", "list")
SCREENS = ("float32", "float64")
KEEPS = ("front", "top", "all")
CLOUD_POINTS = 4096
"""Designs of the sweep that a picture shows behind the front."""


def run(
    config: Config,
    points: Annotated[
        int, typer.Option("--points", parser=parse_count, metavar="N", help="Designs, e.g. 1e6.")
    ] = 1_000_000,
    method: Annotated[
        str, typer.Option("--method", help="sobol, grid, random, latin (hypercube) or list.")
    ] = "sobol",
    source: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="Designs of --method list.")
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="front, top (the front and the best by its first "
                          "objective) or all designs.")
    ] = "front",
    top: Annotated[
        int, typer.Option("--top", parser=parse_count, metavar="N", help="Designs of --keep top.")
    ] = 1000,
    screen: Annotated[
        str, typer.Option("--screen", help="First verdict in float32 or float64; what is kept is "
                          "judged in float64 in any case.")
    ] = "float32",
    chunk: Annotated[
        int, typer.Option("--chunk", parser=parse_count, metavar="N", help="Designs of a chunk.")
    ] = 1 << 17,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes; one already uses all cores.")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster, such "
                                 "as tcp://10.0.0.1:8786, that runs the chunks.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only this share of the chunks, "
                                 "from 1/N to N/N, into the same folder or one of its own.")
    ] = None,
    sets: Sets = None,
    out: Out = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped.")
    ] = False,
    seed: Seed = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Evaluate many designs of a search file and keep the Pareto front.

    Each chunk is on disk when it is done: stop at any time, and go on with --resume.

    \b
    Examples:
      hwdse sweep configs/searches/trn2_llama3_70b.toml --points 1e6
      hwdse sweep trn2_llama3_70b --points 1e9 --shard 3/10 --out runs/shared --resume
    """
    from hwdse.cli.shared.start_run import start_run
    from hwdse.config import load_search
    from hwdse.runs.run_chunks import run_sweep
    from hwdse.runs.sweep_job import job_of

    for name, value, allowed in (
        ("method", method, METHODS), ("screen", screen, SCREENS), ("keep", keep, KEEPS)
    ):  # fmt: skip
        if value not in allowed:
            raise CommandError(f"--{name} {value}: expected one of {', '.join(allowed)}")
    share = _parsed_shard(shard)
    loaded = load_search(config, sets or ())
    seed = loaded.seed if seed is None else seed
    plan = _plan(loaded, points, method, source, seed, chunk)
    top = top if keep == "top" else 0
    options = {
        "command": NAME, "points": plan.num_points if source else points, "method": method,
        "screen": screen, "chunk": chunk, "keep": keep, "top": top, "from": _digest(source),
    }  # fmt: skip
    record = start_run(loaded, options, config, out, seed, resume=resume or share is not None)
    job = job_of(loaded, plan, screen, keep, top)
    result, is_stopped = run_sweep(
        job, record, share, workers, scheduler, functools.partial(_progress, job)
    )
    _finish(loaded, job, record, result, is_stopped, shard, (config, sets or (), json))


@contextmanager
def _progress(
    job: "SweepJob", num_designs: int, num_chunks_before: int
) -> Iterator[Callable[[int | float, str], None]]:
    """Progress bar of the designs that are missing."""
    if num_chunks_before:
        note(f"going on after {num_chunks_before} of {job.plan.num_chunks} chunks")
    each = f" x {job.robust.num_samples} samples" if job.robust else ""
    title = f"sweep of {human_count(job.plan.num_points)} designs{each}"
    with progress_bar(title, num_designs, "designs") as bar:
        yield bar


def _finish(
    loaded: "LoadedSearch",
    job: "SweepJob",
    record: "Run",
    result: "SweepResult | None",
    is_stopped: bool,
    shard: str | None,
    asked: tuple[str, Any, bool],
) -> None:
    """Writes and tells what the sweep has found so far; ends with the exit code that fits."""
    from hwdse.cli.sweep.front_tables import front_columns, preset_markers, robust_json

    num_done = result.num_points if result else 0
    is_complete = num_done == job.plan.num_points
    if shard is not None and not is_complete and not is_stopped:
        # Others may be writing into this folder: the last one, or --resume, writes the front.
        say(f"shard {shard}: {num_done:,} of {job.plan.num_points:,} designs are in "
            f"{record.folder}; when all shards are done, the same command with --resume and "
            "without --shard merges them")  # fmt: skip
        return
    if result is None:
        record.finish("interrupted")
        raise CommandError(f"stopped before the first chunk of {record.folder}", Exit.ABORTED)
    config, sets, json = asked
    markers = preset_markers(loaded, config, sets)
    files = _write(loaded, job, record, result, markers)
    status = "finished" if len(result.front) else "infeasible"
    summary = {**_counts(result), **robust_json(loaded, result.num_points)}
    record.finish(
        status if is_complete else "interrupted",
        **summary, num_front=len(result.front), markers=[dataclasses.asdict(m) for m in markers],
    )  # fmt: skip
    if json:
        print_json(
            {
                "title": loaded.title, "folder": record.folder, "is_complete": is_complete,
                **summary, "front": front_columns(loaded, result.front), "files": files,
            }
        )  # fmt: skip
    else:
        _print(loaded, result)
    tell_files(files)
    _raise_if_incomplete(loaded, job.plan, record, result, is_complete)


def _write(
    loaded: "LoadedSearch", job: "SweepJob", record: "Run", result: "SweepResult", markers: Any
) -> list[Path]:
    from hwdse.cli.sweep.front_tables import front_columns, write_front
    from hwdse.runs.atomic_files import csv_text
    from hwdse.runs.sweep_job import row_columns

    files = write_front(loaded, job, record, result.front, _cloud(job), markers)
    if job.keep == "top":
        text = csv_text(front_columns(loaded, result.top))
        files.append(record.write_text("top.csv", text))
        files.append(record.write_table("top.parquet", row_columns(job, result.top)))
    return files


def _counts(result: "SweepResult") -> dict[str, int]:
    from hwdse.runs.sweep_job import NOTES

    return {name: getattr(result, name) for name in NOTES}


def _parsed_shard(text: str | None) -> tuple[int, int] | None:
    """Number of a share, from 1, and how many there are."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise CommandError(f"--shard {text}: expected a share from 1/N to N/N, such as 3/10")
    return int(number), int(count)


def _digest(source: Path | None) -> str:
    """What a list held, so that a run is not resumed with another one."""
    import hashlib

    return hashlib.sha256(source.read_bytes()).hexdigest() if source else ""


def _raise_if_incomplete(
    loaded: "LoadedSearch",
    plan: "SweepPlan",
    record: "Run",
    result: "SweepResult",
    is_complete: bool,
) -> None:
    if not is_complete:
        text = f"stopped after {result.num_points:,} of {plan.num_points:,} designs"
        raise CommandError(f"{text}; --resume goes on in {record.folder}", Exit.INTERRUPTED)
    if not len(result.front):
        from hwdse.cli.shared.start_run import explain_infeasible

        nearest = result.least_violated.constraint_values
        if not len(nearest):
            raise CommandError("no design has finite figures", Exit.INFEASIBLE)
        raise CommandError(explain_infeasible(loaded, nearest[0]), Exit.INFEASIBLE)


def _plan(
    loaded: "LoadedSearch", points: int, method: str, source: Path | None, seed: int, chunk: int
) -> "SweepPlan":
    from hwdse.config.search.design_csv import load_design_list
    from hwdse.search.sweep.sweep_plan import plan_list, plan_sweep

    if (method == "list") != (source is not None):
        raise CommandError("--method list takes its designs --from a CSV file; give both")
    if source is not None:
        return plan_list(loaded.space, *load_design_list(source, loaded), chunk_points=chunk)
    try:
        return plan_sweep(
            loaded.space, num_points=points, method=method, seed=seed, chunk_points=chunk
        )
    except ValueError as error:
        raise CommandError(f"--points {points} --method {method}: {error}") from error


def _cloud(job: "SweepJob") -> "np.ndarray":
    """Logs of the objectives of a sample of the feasible designs of the first variant.

    By the program that judged the front, so that none is compiled for the picture.
    """
    count = min(CLOUD_POINTS, job.plan.variant_points[0])
    rows = job.runner().judge.rows(0, job.plan.first_numbers(0, count))
    return rows.log_objectives[rows.is_feasible]


def _print(loaded: "LoadedSearch", result: "SweepResult") -> None:
    from hwdse.cli.sweep.front_tables import print_front, robust_line

    print_front(loaded, result.front, f"of {result.num_points:,} designs")
    say(
        f"{result.num_feasible:,} designs meet the constraints; float64 changed "
        f"{result.num_reclassified} verdicts of the screen; "
        f"{result.num_not_finite} designs had figures that are not finite"
    )
    if line := robust_line(loaded, result.num_points):
        say(line)
