"""`hwdse parallelism`: ranking of the parallelism strategies of a training job on a cluster."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Overwrite,
    Sets,
    parse_count,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.refusals import refuse_service
from hwdse.cli.shared.table_output import print_json, say, tell_files

if TYPE_CHECKING:
    from hwdse.cli.parallelism.strategy_tables import Found
    from hwdse.config import LoadedSearch
    from hwdse.training.strategy_enumeration import StrategyOptions

NAME = "parallelism"
METRIC_NAMES = ("step_time", "time_per_token", "cost_per_token", "energy_per_token", "memory")
"""Metrics for the ranking; `memory` is the peak HBM usage."""
SEQUENCE = {"on": 1, "off": 0}
ALL = "  [default: all possible]"


def run(
    config: Config,
    sort_by: Annotated[
        str,
        typer.Option("--sort-by", metavar="NAME", help=f"Metric: {', '.join(METRIC_NAMES)}."),
    ] = "step_time",
    top: Annotated[
        int,
        typer.Option(
            "--top", parser=parse_count, metavar="N", help="Number of printed strategies."
        ),
    ] = 10,
    tensor: Annotated[
        str | None, typer.Option("--tensor", metavar="LIST", help=f"TP degrees, e.g. 8,16.{ALL}")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="LIST", help=f"PP degrees.{ALL}")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="LIST", help=f"CP degrees.{ALL}")
    ] = None,
    expert: Annotated[
        str | None, typer.Option("--expert", metavar="LIST", help=f"EP degrees.{ALL}")
    ] = None,
    expert_tensor: Annotated[
        str | None,
        typer.Option(
            "--expert-tensor",
            metavar="LIST",
            help="Ranks that shard each expert (ETP); 0: the TP ranks.  [default: 0,1]",
        ),
    ] = None,
    micro_batch: Annotated[
        str | None,
        typer.Option("--micro-batch", metavar="LIST", help=f"Sequences per micro-batch.{ALL}"),
    ] = None,
    virtual_pipeline: Annotated[
        str | None,
        typer.Option(
            "--virtual-pipeline",
            metavar="LIST",
            help=f"Virtual pipeline stages per rank (VPP).{ALL}",
        ),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="LIST",
            help="Pipeline schedules: 1f1b, zero_bubble (ZB-H1), dual_pipe (DualPipe).",
        ),
    ] = "1f1b",
    recompute: Annotated[
        str, typer.Option("--recompute", metavar="LIST", help="Recompute modes.")
    ] = "none,selective,full",
    zero: Annotated[
        str, typer.Option("--zero", metavar="LIST", help="ZeRO stages, from 0 to 3.")
    ] = "1,2,3",
    sequence: Annotated[
        str,
        typer.Option("--sequence", metavar="LIST", help="Sequence parallelism (SP)."),
    ] = "on,off",
    even_stages: Annotated[
        bool, typer.Option("--even-stages", help="Only stages with equal numbers of layers.")
    ] = False,
    ignore_limits: Annotated[
        bool,
        typer.Option("--ignore-limits", help="Rank all that fit the HBM, also beyond the limits."),
    ] = False,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Write strategies.csv, best.toml and a plot to this folder.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    formats: Formats = DEFAULT_FORMATS,
    json: Json = False,
) -> None:
    """Rank the parallelism strategies of a training job.

    Evaluates every valid strategy on the chips of a config and ranks those that fit the HBM and
    meet the limits of the config. --out writes all of these to strategies.csv, the first to
    best.toml (input of `hwdse evaluate`) and a plot of HBM usage and step time.

    \b
    Examples:
      hwdse parallelism trn2_llama3_70b
      hwdse parallelism trn2_llama3_70b --tensor 8,16 --zero 1 --sort-by cost_per_token --out runs/s
    """
    from hwdse.training.strategy_enumeration import RECOMPUTE, SCHEDULES, StrategyOptions

    if sort_by not in METRIC_NAMES:
        raise typer.BadParameter(f"--sort-by {sort_by}: expected one of {', '.join(METRIC_NAMES)}.")
    options = StrategyOptions(
        tensor=_counts("--tensor", tensor),
        pipeline=_counts("--pipeline", pipeline),
        context=_counts("--context", context),
        expert=_counts("--expert", expert),
        expert_tensor=_counts("--expert-tensor", expert_tensor, least=0),
        micro_batch=_counts("--micro-batch", micro_batch),
        virtual_pipeline=_counts("--virtual-pipeline", virtual_pipeline),
        schedule=_words("--schedule", schedule, tuple(SCHEDULES)),
        recompute=_words("--recompute", recompute, tuple(RECOMPUTE)),
        zero=tuple(int(x) for x in _words("--zero", zero, ("0", "1", "2", "3"))),
        sequence=tuple(SEQUENCE[x] for x in _words("--sequence", sequence, tuple(SEQUENCE))),
        even_stages=even_stages,
    )
    kinds = parse_formats(formats)
    _run(
        config, sets, options, sort_by, top, out, kinds, json=json, ignore_limits=ignore_limits,
        overwrite=overwrite,
    )  # fmt: skip


def _run(
    config: str,
    sets: list[str] | None,
    options: "StrategyOptions",
    sort_by: str,
    top: int,
    out: Path | None,
    formats: tuple[str, ...],
    *,
    json: bool,
    ignore_limits: bool,
    overwrite: bool,
) -> None:
    from hwdse.cli.parallelism import strategy_tables
    from hwdse.cli.shared.reliance_output import (
        print_notes,
        print_reliance,
        print_unfitted,
        reliance_json,
    )
    from hwdse.config import load_search
    from hwdse.jobs.footing.figure_bands import bands_json, footing

    loaded = load_search(config, sets or ())
    found = _find(loaded, options, sort_by, ignore_limits=ignore_limits)
    files = []
    if out is not None:
        from hwdse.cli.parallelism import strategy_files

        files = strategy_files.save(loaded, found, config, out, formats, overwrite=overwrite)
    best, metric = found.best, "hbm_used_ratio" if sort_by == "memory" else sort_by
    if json:
        told = {**strategy_tables.as_json(loaded, found, top), "files": files}
        rests_on = [] if best is None else reliance_json(loaded, best, metric)
        bands = {} if best is None else bands_json(footing(loaded, best))
        print_json({**told, "not_modeled": loaded.notes, "rests_on": rests_on, "bands": bands})
    else:
        if best is not None:
            strategy_tables.print_strategies(loaded, found, top)
        say(strategy_tables.summary(found))
        if best is not None:
            print_reliance(loaded, best, metric)
            print_unfitted(loaded)
        print_notes(loaded)
    tell_files(files)
    if not len(found.order):
        raise CommandError(strategy_tables.explain_infeasible(found), Exit.INFEASIBLE)


def _find(
    loaded: "LoadedSearch", options: "StrategyOptions", sort_by: str, *, ignore_limits: bool
) -> "Found":
    """Ranked strategies of the base design of a config."""
    from hwdse.cli.parallelism.strategy_limits import strategy_limits
    from hwdse.cli.parallelism.strategy_tables import Found
    from hwdse.specs.design import Design
    from hwdse.training.strategy_enumeration import enumerate_strategies
    from hwdse.training.strategy_ranking import evaluate_strategies, ranked
    from hwdse.workload.transformer.model_config import TransformerTraining

    refuse_service(loaded, "a training job")
    design, job = loaded.base, loaded.workload
    if not isinstance(design, Design) or not isinstance(job, TransformerTraining):
        raise CommandError(
            f"{loaded.title}: needs a training workload; '{loaded.labels['workload']}' is an "
            "operator network"
        )
    start = time.perf_counter()
    strategies = enumerate_strategies(job, design.cluster.num_chips, options)
    if not len(strategies):
        raise CommandError(
            f"no strategy of {loaded.labels['workload']} on {design.cluster.num_chips:g} chips: "
            f"{job.model.num_heads:g} heads, {job.model.num_layers:g} layers and "
            f"{job.global_batch:g} sequences per step allow none with these options"
        )
    metrics = evaluate_strategies(design, job, strategies)
    limit = min(1.0, loaded.limits.get("hbm_used_ratio", 1.0))
    fitting = ranked(metrics, sort_by, limit)
    limits = strategy_limits(metrics, {} if ignore_limits else loaded.limits)
    return Found(
        design=design,
        strategies=strategies,
        metrics=metrics,
        order=fitting[limits.is_met[fitting]],
        sort_by=sort_by,
        max_hbm_ratio=limit,
        fitting=fitting,
        limits=limits,
        elapsed_s=time.perf_counter() - start,
    )


def _counts(option: str, text: str | None, least: int = 1) -> tuple[float, ...] | None:
    """Integers of at least `least` of a comma-separated list; `None` without the option."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and least <= int(part) <= 10**9 for part in parts):
        allowed = "positive integers, such as 1,2,4" if least else "integers, such as 0,1"
        raise typer.BadParameter(f"{option} {text}: expected {allowed}.")
    return tuple(float(part) for part in dict.fromkeys(parts))


def _words(option: str, text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Words of a comma-separated list, checked against the allowed ones."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in allowed for part in parts):
        raise typer.BadParameter(f"{option} {text}: expected some of {','.join(allowed)}.")
    return tuple(dict.fromkeys(parts))
