"""`hwdse sweep`: many designs, of which the front is kept."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.exits import CommandError, Exit
from hwdse.cli.options import Config, Json, Out, Seed, Sets, parse_count
from hwdse.cli.tables import human_count, note, print_json, progress_bar, say, tell_files

if TYPE_CHECKING:
    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.results import Run
    from hwdse.search.plan import SweepPlan, SweepResult

NAME = "sweep"
METHODS = ("sobol", "grid", "random")
SCREENS = ("float32", "float64")
CLOUD_POINTS = 4096
"""Designs of the sweep that a picture shows behind the front."""


def run(
    config: Config,
    points: Annotated[
        int, typer.Option("--points", parser=parse_count, metavar="N", help="Designs, e.g. 1e6.")
    ] = 1_000_000,
    method: Annotated[str, typer.Option("--method", help="sobol, grid or random.")] = "sobol",
    screen: Annotated[
        str, typer.Option("--screen", help="First verdict in float32 or float64; what is kept is "
                          "judged in float64 in any case.")
    ] = "float32",
    chunk: Annotated[
        int, typer.Option("--chunk", parser=parse_count, metavar="N", help="Designs of a chunk.")
    ] = 1 << 17,
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
      hwdse sweep trn2_llama3_70b --points 2e7 --method random --out runs/wide --resume
    """
    from hwdse.cli.fronts import front_columns, preset_markers, write_front
    from hwdse.cli.runs import NOTES, start_run
    from hwdse.config import load_search

    for name, value, allowed in (("method", method, METHODS), ("screen", screen, SCREENS)):
        if value not in allowed:
            raise CommandError(f"--{name} {value}: expected one of {', '.join(allowed)}")
    loaded = load_search(config, sets or ())
    seed = loaded.seed if seed is None else seed
    plan = _plan(loaded, points, method, seed, chunk)
    options = {
        "command": NAME, "points": points, "method": method, "screen": screen, "chunk": chunk,
    }  # fmt: skip
    record = start_run(loaded, options, config, out, seed, resume=resume)
    costs = _costs(loaded)
    result, is_complete = _sweep(loaded, plan, record, screen, costs)
    if result is None:
        record.finish("interrupted")
        raise CommandError(f"stopped before the first chunk of {record.folder}", Exit.ABORTED)
    markers = preset_markers(loaded, config, sets or ())
    files = write_front(loaded, record, result.front, _cloud(loaded, plan, costs), markers)
    summary = {name: getattr(result, name) for name in NOTES}
    is_feasible = len(result.front) > 0
    status = "finished" if is_feasible else "infeasible"
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
    _raise_if_incomplete(loaded, plan, record, result, is_complete)


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
        from hwdse.cli.runs import explain_infeasible

        nearest = result.least_violated.violations
        if not len(nearest):
            raise CommandError("no design has finite figures", Exit.INFEASIBLE)
        raise CommandError(explain_infeasible(loaded, nearest[0]), Exit.INFEASIBLE)


def _plan(loaded: "LoadedSearch", points: int, method: str, seed: int, chunk: int) -> "SweepPlan":
    from hwdse.search.plan import plan_sweep

    try:
        return plan_sweep(
            loaded.space, num_points=points, method=method, seed=seed, chunk_points=chunk
        )
    except ValueError as error:
        raise CommandError(f"--points {points} --method {method}: {error}") from error


def _costs(loaded: "LoadedSearch") -> Any:
    """One function object for the whole sweep: compiled programs are kept by it."""
    from hwdse.numerics import EXACT
    from hwdse.objectives import make_costs

    costs = make_costs(loaded.front_objectives, loaded.limits, loaded.workload)
    return lambda design: costs(design, EXACT)


def _cloud(loaded: "LoadedSearch", plan: "SweepPlan", costs: Any) -> "np.ndarray":
    """Logs of the objectives of a sample of the designs, feasible or not, of the first variant."""
    import jax
    import numpy as np

    from hwdse.compiling import quick_jit
    from hwdse.search.points import host_points

    count = min(CLOUD_POINTS, plan.variant_points[0])
    units = plan.space.snap_points(host_points(plan.sequence, np.arange(count)))
    base = plan.space.variant_bases(loaded.base)[0][1]
    with jax.enable_x64(True):
        sampled = quick_jit(jax.vmap(lambda unit: costs(plan.space.decode_buildable(unit, base))))
        logs, violations = jax.tree.map(np.asarray, sampled(units))
    return logs[np.all(violations <= 0.0, axis=1)]


def _sweep(
    loaded: "LoadedSearch", plan: "SweepPlan", record: "Run", screen: str, costs: Any
) -> tuple["SweepResult | None", bool]:
    """All chunks that are not on disk yet, each written when it is done; False if stopped."""
    from hwdse.cli.runs import chunk_columns, chunk_notes, read_chunk
    from hwdse.search.plan import merge_chunk
    from hwdse.search.sweep import sweep_chunks

    result = None
    for index in sorted(record.finished_parts()):
        result = merge_chunk(result, read_chunk(loaded, record, index))
    done = result.done if result else frozenset()
    known = result.front if result else None
    before = result.num_points if result else 0
    todo = plan.num_points - before
    if not todo:
        return result, True
    if before:
        note(f"going on after {len(done)} of {plan.num_chunks} chunks")
    chunks = sweep_chunks(costs, plan, loaded.base, screen=screen, done=done, front=known)
    with progress_bar(f"sweep of {human_count(plan.num_points)} designs", todo, "designs") as bar:
        bar(0, "compiling")
        try:
            for chunk in chunks:
                record.write_part(chunk.index, chunk_columns(loaded, chunk), chunk_notes(chunk))
                result = merge_chunk(result, chunk)
                bar(result.num_points - before, f"front {len(result.front)}")
        except KeyboardInterrupt:
            return result, False
    return result, True


def _print(loaded: "LoadedSearch", result: "SweepResult") -> None:
    from hwdse.cli.fronts import print_front

    print_front(loaded, result.front, f"of {result.num_points:,} designs")
    say(
        f"{result.num_feasible:,} designs meet the constraints; float64 changed "
        f"{result.num_changed_verdicts} verdicts of the screen; "
        f"{result.num_not_finite} designs had figures that are not finite"
    )
