"""`hwdse sweep`: evaluation of many designs of a search space; the Pareto front is kept."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.background import in_background
from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Out,
    Overwrite,
    Resume,
    Seed,
    Sets,
    parse_count,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.interrupts import (
    is_interrupted,
    is_interruptible,
    on_interrupt,
)
from hwdse.cli.shared.table_output import note, print_json, progress_bar, say, tell_files
from hwdse.report.number_texts import human_count

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.plots.fronts.pareto_plots import Marker
    from hwdse.runs.run_folder import Run
    from hwdse.runs.sweep_job import SweepJob
    from hwdse.search.sweeps.sweep_plan import SweepPlan, SweepResult

NAME = "sweep"
METHODS = ("sobol", "grid", "random", "latin", "list")
SCREEN_DTYPES = ("float32", "float64")
KEEPS = ("front", "top", "all")
CLOUD_POINTS = 4096
"""Designs of the sweep that a plot shows behind the front."""


def run(
    config: Config,
    points: Annotated[
        int, typer.Option("--points", parser=parse_count, metavar="N", help="Designs, e.g. 1e6.")
    ] = 1_000_000,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="Point sequence: sobol, grid, random, "
                          "latin (Latin hypercube), or list with --designs.")
    ] = "sobol",
    designs: Annotated[
        Path | None, typer.Option("--designs", metavar="CSV", help="Designs of --method "
                                  "list, such as a front.csv.")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Take values of --designs between the parameter steps "
                           "as they are; by default they are refused.")
    ] = False,
    keep: Annotated[
        str, typer.Option("--keep", metavar="NAME", help="Designs kept: front; top (front and best "
                          "designs by its first objective); all.")
    ] = "front",
    top: Annotated[
        int, typer.Option("--top", parser=parse_count, metavar="N", help="Best designs with --keep "
                          "top.")
    ] = 1000,
    screen_dtype: Annotated[
        str, typer.Option("--screen-dtype", metavar="NAME", help="Number format of the screening "
                          "pass: float32 or float64. Kept designs are re-evaluated in float64.")
    ] = "float32",
    chunk: Annotated[
        int, typer.Option("--chunk", parser=parse_count, metavar="N", help="Designs per chunk.")
    ] = 1 << 17,
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Local processes; one already uses "
                          "all cores.")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler that "
                                 "runs the chunks, e.g. tcp://10.0.0.1:8786.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Run only this share of the "
                                 "chunks, from 1/N to N/N. Shards may use the same folder.")
    ] = None,
    sets: Sets = None,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    seed: Seed = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:  # fmt: skip
    """Evaluate many designs and keep the Pareto front.

    Designs are screened in float32; kept designs are re-evaluated in float64 with the exact model.
    Each finished chunk is on disk: interrupt at any time, continue with --resume.

    \b
    Examples:
      hwdse sweep configs/searches/trn2_llama3_70b.toml --points 1e6
      hwdse sweep trn2_llama3_70b --points 1e9 --shard 3/10 --out runs/shared --resume
    """
    from hwdse.cli.shared.run_call import repeat_if_folder
    from hwdse.cli.shared.start_run import start_run
    from hwdse.config import load_search
    from hwdse.runs.run_chunks import run_sweep
    from hwdse.runs.sweep_job import job_of

    for name, value, allowed in (
        ("method", method, METHODS), ("screen-dtype", screen_dtype, SCREEN_DTYPES),
        ("keep", keep, KEEPS),
    ):  # fmt: skip
        if value not in allowed:
            raise CommandError(f"--{name} {value}: expected one of {', '.join(allowed)}")
    share, kinds = _parsed_shard(shard), parse_formats(formats)
    repeat_if_folder(config, NAME, resume=resume)
    loaded = load_search(config, sets or ())
    seed = loaded.seed if seed is None else seed
    loaded = _as_listed(loaded, designs) if as_is else loaded
    plan = _plan(loaded, points, method, designs, seed, chunk)
    top = top if keep == "top" else 0
    options = {
        "command": NAME, "points": plan.num_points if designs else points, "method": method,
        "screen_dtype": screen_dtype, "chunk": chunk, "keep": keep, "top": top,
        "designs": _digest(designs), "as_is": as_is,
    }  # fmt: skip
    record = start_run(
        loaded, options, config, out, seed, resume=resume, overwrite=overwrite,
        extends=share is not None, is_shared=share is not None,
    )  # fmt: skip
    job = job_of(loaded, plan, screen_dtype, keep, top)
    prepare = functools.partial(_prepared, loaded, config, sets or ())
    prepared = in_background(prepare) if share is None else None
    with on_interrupt(lambda: None):  # ends by itself, with the chunks that are complete
        result, is_stopped = run_sweep(
            job, record, share, workers, scheduler, functools.partial(_progress, job),
            is_interrupted if is_interruptible() else None,
        )  # fmt: skip
        markers = prepare if prepared is None else functools.partial(_awaited, prepared)
        _finish(loaded, job, record, result, is_stopped, shard, markers, (kinds, json))


def _prepared(loaded: "LoadedSearch", config: str, sets: Sequence[str]) -> "list[Marker]":
    """Markers of the plots, and modules that draw them, while the sweep compiles and runs."""
    from hwdse.cli.sweep.front_tables import preset_markers
    from hwdse.report import evaluation_plots  # noqa: F401  # takes half a second

    return preset_markers(loaded, config, sets)


def _awaited(prepared: "Future[list[Marker]]") -> "list[Marker]":
    """Markers that a thread prepares; a line on stderr if the sweep has ended before it."""
    if not prepared.done():
        note("evaluating the preset systems of the plot")
    return prepared.result()


@contextmanager
def _progress(
    job: "SweepJob", num_designs: int, num_chunks_before: int
) -> Iterator[Callable[[int | float, str], None]]:
    """Show a progress bar of the missing designs."""
    if num_chunks_before:
        note(f"resuming after {num_chunks_before} of {job.plan.num_chunks} chunks")
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
    markers_of: Callable[[], "list[Marker]"],
    call: tuple[tuple[str, ...], bool],
) -> None:
    """Write and print the result so far; raises `CommandError` if incomplete or infeasible."""
    from hwdse.cli.sweep.front_tables import (
        front_columns,
        front_reliance_json,
        robust_json,
    )

    num_done = result.num_points if result else 0
    is_complete = num_done == job.plan.num_points
    if shard is not None and not is_complete and not is_stopped:
        # Other shards may write into this folder: the last one, or --resume, writes the front.
        _tell_share(loaded, job, record, shard, num_done, json=call[-1])
        return
    if result is None:
        record.finish("interrupted")
        raise CommandError(f"{record.folder}: stopped before the first chunk", Exit.ABORTED)
    formats, json = call
    markers = markers_of()
    files = _write(loaded, job, record, result, markers, formats)
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
                **summary, "front": front_columns(loaded, result.front),
                "rests_on": front_reliance_json(loaded, result.front), "files": files,
            }
        )  # fmt: skip
    else:
        _print(loaded, result)
    tell_files(files)
    _raise_if_incomplete(loaded, job.plan, record, result, is_complete)


def _tell_share(
    loaded: "LoadedSearch", job: "SweepJob", record: "Run", shard: str, num_done: int, *, json: bool
) -> None:
    """Print the state of a run whose other shares are missing."""
    if json:
        told = {"title": loaded.title, "folder": record.folder, "is_complete": False}
        print_json({**told, "shard": shard, "num_points": num_done})
        return
    say(
        f"shard {shard}: {num_done:,} of {job.plan.num_points:,} designs are in {record.folder}; "
        "when all shards are done, repeat the command with --resume and without --shard to merge "
        "them"
    )


def _write(
    loaded: "LoadedSearch",
    job: "SweepJob",
    record: "Run",
    result: "SweepResult",
    markers: Any,
    formats: tuple[str, ...],
) -> list[Path]:
    from hwdse.cli.sweep.front_tables import front_columns, write_front
    from hwdse.runs.atomic_files import csv_text
    from hwdse.runs.sweep_job import row_columns

    files = write_front(loaded, job, record, result.front, _cloud(job), markers, formats)
    if job.keep == "top":
        text = csv_text(front_columns(loaded, result.top))
        files.append(record.write_text("top.csv", text))
        files.append(record.write_table("top.parquet", row_columns(job, result.top)))
    return files


def _counts(result: "SweepResult") -> dict[str, int]:
    from hwdse.runs.sweep_job import NOTES

    return {name: getattr(result, name) for name in NOTES}


def _parsed_shard(text: str | None) -> tuple[int, int] | None:
    """Number of a share, from 1, and number of shares."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise CommandError(f"--shard {text}: expected a share from 1/N to N/N, such as 3/10")
    return int(number), int(count)


def _digest(designs: Path | None) -> str:
    """SHA-256 of a list of designs, so that a run is not resumed with another list."""
    import hashlib

    return hashlib.sha256(designs.read_bytes()).hexdigest() if designs else ""


def _raise_if_incomplete(
    loaded: "LoadedSearch",
    plan: "SweepPlan",
    record: "Run",
    result: "SweepResult",
    is_complete: bool,
) -> None:
    if not is_complete:
        text = f"stopped after {result.num_points:,} of {plan.num_points:,} designs"
        raise CommandError(f"{record.folder}: {text}; continue with --resume", Exit.INTERRUPTED)
    if not len(result.front):
        from hwdse.cli.shared.start_run import explain_infeasible

        nearest = result.least_violated.constraint_values
        if not len(nearest):
            raise CommandError("no design has finite metrics", Exit.INFEASIBLE)
        raise CommandError(explain_infeasible(loaded, nearest[0]), Exit.INFEASIBLE)


def _plan(
    loaded: "LoadedSearch", points: int, method: str, designs: Path | None, seed: int, chunk: int
) -> "SweepPlan":
    from hwdse.config.search.design_csv import load_design_list
    from hwdse.search.sweeps.sweep_plan import plan_list, plan_sweep

    if (method == "list") != (designs is not None):
        raise CommandError("--method list needs --designs CSV, and the reverse; give both")
    if designs is not None:
        return plan_list(loaded.space, *load_design_list(designs, loaded), chunk_points=chunk)
    try:
        return plan_sweep(
            loaded.space, num_points=points, method=method, seed=seed, chunk_points=chunk
        )
    except ValueError as error:
        raise CommandError(f"--points {points} --method {method}: {error}") from error


def _as_listed(loaded: "LoadedSearch", designs: Path | None) -> "LoadedSearch":
    """The search with the values of a list as they are."""
    from hwdse.config.search.design_csv import with_listed_values

    if designs is None:
        raise CommandError("--as-is needs --method list and --designs CSV")
    return with_listed_values(designs, loaded)


def _cloud(job: "SweepJob") -> "np.ndarray":
    """Logs of the objectives of a sample of feasible designs of the first variant.

    The program of the front is reused, so that the plot needs no further compilation.
    """
    count = min(CLOUD_POINTS, job.plan.variant_points[0])
    rows = job.runner().evaluator.evaluate(0, job.plan.first_sequence_indices(0, count))
    return rows.log_objectives[rows.is_feasible]


def _print(loaded: "LoadedSearch", result: "SweepResult") -> None:
    from hwdse.cli.sweep.front_tables import print_front, print_front_reliance, robust_line

    print_front(loaded, result.front)
    say(
        f"{result.num_feasible:,} of {result.num_points:,} feasible; "
        f"{result.num_reclassified:,} reclassified in float64; "
        f"{result.num_not_finite:,} non-finite"
    )
    if line := robust_line(loaded, result.num_points):
        say(line)
    print_front_reliance(loaded, result.front)
