"""`hwdse serve-front`: interactivity against throughput over strategies, formats and batches."""

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.serve.serve_command import load_service
from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Sets,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say, tell_files
from hwdse.report.number_texts import significant

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.serving.serving_front import FrontPoint
    from hwdse.specs.serving.engine import ServingFormats

NAME = "serve-front"
SCALES = {
    "chip": ("chip_tokens_per_s", "output tokens/s per chip"),
    "watt": ("-energy_per_token_j", "chip energy per output token (J)"),
    "usd": ("-cost_per_token_usd", "cost per output token (USD)"),
}
"""Figures against interactivity, by value of `--per`."""
SHOWN = 24
"""Largest number of printed points."""


def run(
    config: Config,
    sets: Sets = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            "--precisions", metavar="NAMES", help="Formats, comma-separated.  [default: the job's]"
        ),
    ] = None,
    per: Annotated[
        str,
        typer.Option(
            "--per",
            metavar="NAME",
            help="Figure against interactivity: chip (throughput), watt (energy), usd (cost).",
        ),
    ] = "chip",
    max_ttft: Annotated[
        str | None,
        typer.Option("--max-ttft", metavar="TIME", help="Limit of the time to first token, p99."),
    ] = None,
    max_tpot: Annotated[
        str | None,
        typer.Option("--max-tpot", metavar="TIME", help="Limit of the time per output token, p99."),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option("--load", metavar="1/s", help="Requests per second: least chips for them."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write front.csv and plots.")
    ] = None,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Front of a service: tokens/s of a user against tokens/s of a chip.

    Evaluates closed loops of every parallelism strategy on the chips of the job, with the formats
    of --precisions and 1 to 4096 requests in flight per replica. With limits of latency, names the
    configuration with the most tokens/s per chip within them; with --load, the one that serves the
    load with the fewest chips.

    \b
    Examples:
      hwdse serve-front --system dgx_h100 --model llama3_70b --engine vllm --out front
      hwdse serve-front --system dgx_b200 --model deepseek_v3 --engine sglang
          --precisions fp8,nvfp4 --max-ttft "2 s" --max-tpot "25 ms" --load 40
    """
    from hwdse.serving import serving_front as fronts

    if per not in SCALES:
        raise CommandError(f"--per {per}: expected one of {', '.join(SCALES)}")
    kinds = parse_formats(formats)
    limits = _limits({"max-ttft": max_ttft, "max-tpot": max_tpot})
    if load is not None and not (load > 0.0 and math.isfinite(load)):
        raise CommandError(f"--load {load}: expected requests per second above 0")
    loaded = load_service(config, sets, NAME)
    design: Any = loaded.base
    task: Any = loaded.workload
    points = fronts.front_points(design, task, _formats(design, precisions))
    if not any(one.fits for one in points):
        raise CommandError(
            f"{NAME}: {loaded.title}: the weights fit in no strategy; "
            "expected more chips or narrower formats"
        )
    able = fronts.within_limits(points, limits["max-ttft"], limits["max-tpot"])
    figure, label = SCALES[per]
    front = fronts.pareto_points(able, figure)
    files = [] if out is None else _write(loaded, points, front, label, figure, out, kinds)
    best = fronts.best_goodput(able)
    fewest = None if load is None else fronts.least_chips(able, load)
    if json:
        print_json(
            {
                "title": loaded.title,
                "num_points": len(points),
                "front": [_row(one) for one in front],
                "best_within_limits": None if best is None else _row(best),
                "least_chips": None if fewest is None else {**_row(fewest[0]), "chips": fewest[1]},
                "files": files,
                "not_modeled": loaded.notes,
            }
        )
    else:
        _print(loaded, points, front, figure, label)
        has_limits = any(math.isfinite(value) for value in limits.values())
        if has_limits:
            _say_best("most output tokens/s per chip within the limits", best)
        if load is not None:
            one, chips = fewest or (None, None)
            _say_best(f"fewest chips for {load:g} requests/s", one, chips)
    tell_files(files)


def _limits(texts: dict[str, str | None]) -> dict[str, float]:
    """Limits of latencies in seconds by option; infinite without one."""
    from hwdse.units.parse_units import to_base

    limits = dict.fromkeys(texts, math.inf)
    for name, text in texts.items():
        if text is not None:
            try:
                limits[name] = to_base(text, "s")
            except ValueError as error:
                raise CommandError(f"--{name} {text}: {error}") from None
    return limits


def _formats(design: Any, names: str | None) -> "dict[str, ServingFormats]":
    from hwdse.config.files.errors import did_you_mean, listed
    from hwdse.workload.serving.format_names import FORMATS

    if names is None:
        return {"as given": design.formats}
    found = {}
    for name in (part.strip() for part in names.split(",")):
        if name not in FORMATS:
            raise CommandError(
                f"--precisions {name}: expected some of {listed(FORMATS)}"
                + did_you_mean(name, FORMATS)
            )
        found[name] = FORMATS[name]
    return found


def _row(one: "FrontPoint") -> dict[str, Any]:
    row = dataclasses.asdict(one)
    row["parallelism"] = row.pop("strategy")
    row["strategy"] = row.pop("label")
    return row


def _cells(one: "FrontPoint") -> list[str]:
    return [
        one.label,
        one.precision,
        *(
            significant(value)
            for value in (
                one.concurrency / one.num_replicas,
                one.user_tokens_per_s,
                one.chip_tokens_per_s,
                1e3 * one.ttft_s,
                1e3 * one.ttft_p99_s,
                1e3 * one.tpot_p99_s,
                one.energy_per_token_j,
                1e6 * one.cost_per_token_usd,
            )
        ),
    ]


HEADS = (
    "strategy of a replica", "formats", "requests in flight", "tokens/s of a user",
    "tokens/s per chip", "TTFT (ms)", "TTFT p99 (ms)", "TPOT p99 (ms)", "energy (J/token)",
    "cost (USD/M tokens)",
)  # fmt: skip


def _print(
    loaded: "LoadedSearch", points: "Sequence[FrontPoint]", front: "Sequence[FrontPoint]",
    figure: str, label: str,
) -> None:  # fmt: skip
    every = max(1, math.ceil(len(front) / SHOWN))
    shown = [one for index, one in enumerate(front) if index % every == 0 or one is front[-1]]
    title = f"{loaded.title}: interactivity against {label}"
    print_table(title, HEADS, [_cells(one) for one in shown], left=2)
    fitting = sum(one.fits for one in points)
    say(
        f"{len(front)} of {len(points):,} configurations on the front"
        f"{f', every {every}th shown' if every > 1 else ''}; {fitting:,} fit into memory"
    )


def _say_best(what: str, one: "FrontPoint | None", chips: float | None = None) -> None:
    if one is None:
        say(f"{what}: none; no configuration meets the limits")
        return
    many = "" if chips is None else f"{chips:,.0f} chips, "
    say(
        f"{what}: {many}{one.label}, {one.precision}, {one.concurrency / one.num_replicas:g} "
        f"requests in flight per replica: {significant(one.chip_tokens_per_s)} tokens/s per chip, "
        f"{significant(one.user_tokens_per_s)} of a user, TTFT p99 "
        f"{significant(1e3 * one.ttft_p99_s)} ms, TPOT p99 {significant(1e3 * one.tpot_p99_s)} ms"
    )


def _write(
    loaded: "LoadedSearch",
    points: "Sequence[FrontPoint]",
    front: "Sequence[FrontPoint]",
    label: str,
    figure: str,
    out: Path,
    kinds: tuple[str, ...],
) -> list[Path]:
    import numpy as np

    from hwdse.plots.figure_files import new_figure
    from hwdse.plots.fronts.serving_front_plots import plot_serving_front
    from hwdse.report.plot_targets import plot_files

    out.mkdir(parents=True, exist_ok=True)
    path = out / "front.csv"
    on_front = {id(one) for one in front}
    names = [field.name for field in dataclasses.fields(points[0]) if field.name not in _NOT_IN_CSV]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["strategy", *names, "is_front"])
        for one in points:
            values = [getattr(one, name) for name in names]
            writer.writerow([one.label, *values, int(id(one) in on_front)])
    name = figure.removeprefix("-")

    def at(some: "Sequence[FrontPoint]") -> "np.ndarray":
        return np.array([(one.user_tokens_per_s, getattr(one, name)) for one in some])

    able = [one for one in points if one.fits]
    clouds = {
        precision: at([one for one in able if one.precision == precision])
        for precision in dict.fromkeys(one.precision for one in able)
    }
    drawn, (axes,) = new_figure()
    plot_serving_front(axes, clouds, at(front), [one.label for one in front], label)
    target = plot_files(loaded, out, kinds)
    return [path, *target.save(drawn, "serving_front", "Interactivity against throughput")]


_NOT_IN_CSV = ("strategy", "label")
