"""`hwdse solve`: minimum-norm change of the free parameters that meets targets."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Out, Overwrite, Seed, Sets
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files
from hwdse.report.number_texts import distance

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.config.search.metric_names import Target
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.answers.solve_targets import SolveResult

NAME = "solve"
NORM_TEXTS = {
    "l2": "root of the sum of squares of ln(after/before)",
    "l1": "sum of |ln(after/before)|",
}
END_OF_RANGE = 1e-6
"""Relative distance from the end of a range that counts as the end."""


def run(
    config: Config,
    target: Annotated[
        list[str],
        typer.Option(
            "--target", metavar="TEXT", help='Target, e.g. "chip_power <= 500 W". Repeatable.'
        ),
    ],
    free: Annotated[
        str,
        typer.Option("--free", metavar="PATHS", help="Parameters to vary, separated by commas."),
    ],
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="PATH=W",
            help="Cost weight of a parameter in the norm. Repeatable.  [default: 1]",
        ),
    ] = None,
    norm: Annotated[
        str,
        typer.Option(
            "--norm",
            metavar="NAME",
            help="Norm of the change: l2 (many small changes) or l1 (few changes).",
        ),
    ] = "l2",
    ignore_limits: Annotated[
        bool,
        typer.Option(
            "--ignore-limits", help="Drop the limits of the config, which hold otherwise."
        ),
    ] = False,
    starts: Annotated[
        int, typer.Option("--starts", min=1, max=64, metavar="N", help="Starting points.")
    ] = 4,
    sets: Sets = None,
    out: Out = None,
    overwrite: Overwrite = False,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Find the smallest change that meets targets.

    Minimizes the weighted norm of ln(after/before) of the free parameters within the limits of the
    config and reports the marginal change per +1 % of each target. Parameters searched by the
    config keep its ranges and steps; others may change by a factor of 1000. Writes best.toml to the
    run folder. Exit code 3: no change meets all targets and limits; there is no best.toml then.

    \b
    Examples:
      hwdse solve trn2_llama3_70b --target "effective_tokens_per_s >= 700e3" \\
        --free chip.sram.capacity,chip.link.bandwidth,chip.array.clock
      hwdse solve trn2_llama3_70b --target "chip_power <= 170 W" --target "step_time <= 13 s" \\
        --free chip.sram.capacity,chip.link.bandwidth,chip.array.clock --norm l1
    """
    import jax

    from hwdse.cli.shared.interrupts import on_interrupt
    from hwdse.cli.shared.start_run import start_run, stopped_run
    from hwdse.cli.solve.solve_inputs import free_parameters, limits_as_targets
    from hwdse.config import load_search, to_toml
    from hwdse.config.search.metric_names import parse_target, target_constraint_values
    from hwdse.search.answers.solve_targets import NORMS, solve

    if norm not in NORMS:
        raise CommandError(f"--norm {norm}: expected one of {', '.join(NORMS)}")
    loaded = load_search(config, sets or ())
    targets = tuple(parse_target(text) for text in target)
    if not ignore_limits:
        targets += limits_as_targets(loaded, targets)
    parts, coupled = free_parameters(loaded, free, weight or ())
    seed = loaded.seed if seed is None else seed
    options = {"command": NAME, "targets": [t.text for t in targets], "norm": norm,
               "starts": starts, "free": {p.path: p.weight for p in parts}}  # fmt: skip
    record = start_run(loaded, options, config, out, seed, overwrite=overwrite)
    with on_interrupt(stopped_run(record)), jax.enable_x64(True):
        constraint_values = target_constraint_values(targets, loaded.workload)
        solved = solve(
            constraint_values,
            loaded.base,
            parts,
            norm=norm,
            num_starts=starts,
            seed=seed,
            coupled=coupled,
        )
    files = []
    if solved.is_feasible:
        files = [record.write_text("best.toml", to_toml(loaded, solved.design))]
    record.finish("finished" if solved.is_feasible else "infeasible", change=solved.size)
    metrics = [target.metric.name for target in targets]
    if json:
        rests_on = reliance_json(loaded, solved.design, *metrics)
        print_json({**_as_json(loaded, targets, parts, solved, files), "rests_on": rests_on})
    else:
        _print(loaded, targets, parts, solved, norm)
        print_reliance(loaded, solved.design, *metrics)
    tell_files(files)
    if not solved.is_feasible:
        raise CommandError(conflicting_targets(targets, parts, solved), Exit.INFEASIBLE)


def _reached(target: "Target", log_violation: float) -> float:
    """Value of the metric of a target, from ln(value / limit)."""
    return target.limit * math.exp(target.sign * log_violation)


def conflicting_targets(
    targets: tuple["Target", ...], parts: tuple["FreeParameter", ...], solved: "SolveResult"
) -> str:
    """Line with the missed targets at the nearest design, largest violation first, and the
    parameters at the end of their range."""
    missed = sorted(
        ((v, t) for v, t in zip(solved.constraint_values, targets, strict=True) if v > 0.0),
        key=lambda item: -item[0],
    )
    texts = [
        f"{t.text}: reaches {t.metric.format(_reached(t, v))}, {distance(math.exp(t.sign * v))}"
        for v, t in missed
    ]
    head = "infeasible: no change of the free parameters meets all targets and limits"
    line = f"{head}; missed at the nearest design: {'; '.join(texts)}"
    ends = _at_ends(parts, solved)
    return f"{line}; at the end of the range: {', '.join(ends)}" if ends else line


def _at_ends(parts: tuple["FreeParameter", ...], solved: "SolveResult") -> list[str]:
    """Parameters at the end of their range, with their value."""
    from hwdse.config.schema.user_paths import format_value, short_path

    found = []
    for part, value in zip(parts, map(float, solved.values), strict=True):
        slack = END_OF_RANGE * value
        if value <= part.low + slack or value >= part.high - slack:
            found.append(f"{short_path(part.path)} {format_value(part.path, value)}")
    return found


def _print(
    loaded: "LoadedSearch",
    targets: tuple["Target", ...],
    parts: tuple["FreeParameter", ...],
    solved: "SolveResult",
    norm: str,
) -> None:
    status = "all targets and limits met" if solved.is_feasible else "infeasible; nearest design"
    size = f"{solved.size:.4f}, {solved.relaxed.size:.4f} before rounding"
    say(loaded.title)
    say(f"{status}; size of the change ({NORM_TEXTS[norm]}): {size}")
    say("")
    heads = ["free parameter", "unit", "before", "after", "change", "weight"]
    print_table("", heads, _parameter_rows(parts, solved))
    marginal = "marginal change (% per +1 % of target)"
    last = marginal if solved.is_feasible else "conflict weight"
    heads = ["target or limit", "unit", "before", "after", "status", last]
    print_table("", heads, _target_rows(loaded, targets, solved))


def _parameter_rows(parts: tuple["FreeParameter", ...], solved: "SolveResult") -> list[list[str]]:
    from hwdse.cli.shared.parameter_cells import parameter_row
    from hwdse.config.schema.user_paths import short_path
    from hwdse.report.number_texts import relative_change

    rows = []
    for part, value in zip(parts, solved.values, strict=True):
        unit, cells = parameter_row(part.path, [part.base, float(value)])
        change = relative_change(part.base, float(value))
        rows.append([short_path(part.path), unit, *cells, change, f"{part.weight:g}"])
    return rows


def _target_rows(
    loaded: "LoadedSearch", targets: tuple["Target", ...], solved: "SolveResult"
) -> list[list[str]]:
    from hwdse.cli.shared.parameter_cells import metric_row
    from hwdse.evaluation import evaluate_exact
    from hwdse.report.evaluation_json import BINDING_FRACTION
    from hwdse.report.metrics import kind_of

    before = evaluate_exact(loaded.base, loaded.workload)
    rows = []
    for target, violation, price in zip(
        targets, solved.constraint_values, solved.relaxed.multipliers, strict=True
    ):
        values = [float(target.metric.value(before)), _reached(target, violation)]
        label, cells = metric_row(target.metric, values, kind=kind_of(loaded))
        unit = label.rpartition(" (")[2].removesuffix(")") if label.endswith(")") else "-"
        status = "violated" if violation > 0.0 else "met"
        if -BINDING_FRACTION <= violation <= 0.0:
            status = "binding"
        last = f"{price:+.3f}" if solved.is_feasible else f"{price:.2f}"
        rows.append([target.text, unit, *cells, status, last])
    return rows


def _as_json(
    loaded: "LoadedSearch",
    targets: tuple["Target", ...],
    parts: tuple["FreeParameter", ...],
    solved: "SolveResult",
    files: list[Path],
) -> dict[str, Any]:
    return {
        "title": loaded.title,
        "is_feasible": solved.is_feasible,
        "change": solved.size,
        "relaxed_change": solved.relaxed.size,
        "parameters": {
            part.path: {"before": part.base, "after": value, "relaxed": part.base * math.exp(x),
                        "log_change": change, "weight": part.weight}
            for part, value, change, x in zip(
                parts, solved.values, solved.changes, solved.relaxed.changes, strict=True
            )
        },
        "targets": [
            {"target": t.text, "metric": t.metric.name, "limit": t.limit, "value": _reached(t, v),
             "is_met": bool(v <= 0.0), "relaxed_log_violation": r, "multiplier": m}
            for t, v, r, m in zip(
                targets, solved.constraint_values, solved.relaxed.constraint_values,
                solved.relaxed.multipliers, strict=True,
            )
        ],
        "evaluations": solved.num_evaluations,
        "files": files,
    }  # fmt: skip
