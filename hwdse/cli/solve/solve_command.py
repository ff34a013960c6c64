"""`hwdse solve`: the least change of some parameters that meets targets."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Out, Seed, Sets
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import note, print_json, print_table, say

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.config.search.metric_names import Target
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.answers.solve_targets import SolveResult

NAME = "solve"


def run(
    config: Config,
    target: Annotated[
        list[str],
        typer.Option("--target", metavar="TEXT", help='Such as "chip_power <= 500 W"; repeatable.'),
    ],
    free: Annotated[
        str, typer.Option("--free", metavar="PATHS", help="What may change, separated by commas.")
    ],
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="PATH=W", help="How dear a change is; 1 by default."),
    ] = None,
    norm: Annotated[
        str, typer.Option("--norm", help="l2: all move a little; l1: as few as possible move.")
    ] = "l2",
    within_limits: Annotated[
        bool, typer.Option("--within-limits", help="The limits of the file are targets as well.")
    ] = False,
    starts: Annotated[int, typer.Option("--starts", min=1, max=64, help="Starting points.")] = 4,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """The least change of the free parameters that meets the targets, and what more would cost.

    The size of a change is the weighted norm of ln(after / before). Parameters that the file
    searches keep to its range and steps, others to a factor of 1000. Writes best.toml.

    \b
    Examples:
      hwdse solve trn2_llama3_70b --target "effective_tokens_per_s >= 700e3" \\
        --free chip.hbm.bandwidth,chip.link.bandwidth,chip.array.clock
      hwdse solve trn2_llama3_70b --target "chip_power <= 150 W" --target "step_time <= 7 s" \\
        --free chip.array.clock,chip.link.bandwidth --weight chip.link.bandwidth=2 --norm l1
    """
    import jax

    from hwdse.cli.shared.start_run import start_run
    from hwdse.cli.solve.solve_inputs import free_parameters, limits_as_targets
    from hwdse.config import load_search, to_toml
    from hwdse.config.search.metric_names import parse_target, target_constraint_values
    from hwdse.search.answers.solve_targets import NORMS, solve

    if norm not in NORMS:
        raise CommandError(f"--norm {norm}: expected one of {', '.join(NORMS)}")
    loaded = load_search(config, sets or ())
    targets = tuple(parse_target(text) for text in target)
    if within_limits:
        targets += limits_as_targets(loaded)
    parts = free_parameters(loaded, free, weight or ())
    seed = loaded.seed if seed is None else seed
    options = {"command": NAME, "targets": [t.text for t in targets], "norm": norm,
               "starts": starts, "free": {p.path: p.weight for p in parts}}  # fmt: skip
    record = start_run(loaded, options, config, out, seed, resume=True)
    with jax.enable_x64(True):
        constraint_values = target_constraint_values(targets, loaded.workload)
        solved = solve(
            constraint_values, loaded.base, parts, norm=norm, num_starts=starts, seed=seed
        )
    path = record.write_text("best.toml", to_toml(loaded, solved.design))
    record.finish("finished" if solved.is_feasible else "infeasible", change=solved.size)
    if json:
        print_json(_as_json(loaded, targets, parts, solved, path))
    else:
        _print(loaded, targets, parts, solved)
    note(f"wrote {path}")
    if not solved.is_feasible:
        raise CommandError(in_the_way(targets, solved), Exit.INFEASIBLE)


def _after(target: "Target", log_violation: float) -> float:
    """Value of a target's metric from by how much it is missed."""
    return target.limit * math.exp(target.sign * log_violation)


def in_the_way(targets: tuple["Target", ...], solved: "SolveResult") -> str:
    """Which targets stand in the way, the worst first, and by how much."""
    missed = sorted(
        ((v, t) for v, t in zip(solved.constraint_values, targets, strict=True) if v > 0.0),
        key=lambda item: -item[0],
    )
    texts = [
        f"{t.text}: reaches {t.metric.format(_after(t, v))}, "
        f"{100.0 * abs(math.expm1(t.sign * v)):.3g} % {'above' if t.is_upper else 'below'} it"
        for v, t in missed
    ]
    return f"no change of the free parameters meets all targets; nearest: {'; '.join(texts)}"


def _print(
    loaded: "LoadedSearch",
    targets: tuple["Target", ...],
    parts: tuple["FreeParameter", ...],
    solved: "SolveResult",
) -> None:
    from hwdse.cli.shared.metric_tables import evaluate_exact
    from hwdse.config import format_value

    before = evaluate_exact(loaded.base, loaded.workload)
    rows = [
        [part.path, format_value(part.path, part.base, 4), format_value(part.path, value, 4),
         f"{100.0 * math.expm1(change):+.2f} %", f"{part.weight:g}"]
        for part, value, change in zip(parts, solved.values, solved.changes, strict=True)
    ]  # fmt: skip
    print_table(loaded.title, ["parameter", "before", "after", "change", "weight"], rows)
    cells = []
    for target, violation, price in zip(
        targets, solved.constraint_values, solved.relaxed.multipliers, strict=True
    ):
        values = (float(target.metric.value(before)), _after(target, violation))
        cells.append(
            [
                target.text,
                *(target.metric.format(value) for value in values),
                "ok" if violation <= 0.0 else "missed",
                f"{price:+.3f} %" if solved.is_feasible else f"{price:.2f}",
            ]
        )
    last = "1 % more costs" if solved.is_feasible else "weight in the conflict"
    print_table("targets", ["", "before", "after", "", last], cells)
    text = (
        f"total change {100.0 * solved.size:.2f} % ({100.0 * solved.relaxed.size:.2f} % before "
        "rounding to what can be built), by logarithms: 100 ln(after / before)"
    )
    costs = "; 1 % more of a target adds the figure beside it to that"
    say(text + costs if solved.is_feasible else text)


def _as_json(
    loaded: "LoadedSearch",
    targets: tuple["Target", ...],
    parts: tuple["FreeParameter", ...],
    solved: "SolveResult",
    path: Path,
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
            {"target": t.text, "metric": t.metric.name, "limit": t.limit, "value": _after(t, v),
             "holds": bool(v <= 0.0), "relaxed_log_violation": r, "multiplier": m}
            for t, v, r, m in zip(
                targets, solved.constraint_values, solved.relaxed.constraint_values,
                solved.relaxed.multipliers, strict=True,
            )
        ],
        "evaluations": solved.num_evaluations,
        "files": [path],
    }  # fmt: skip
